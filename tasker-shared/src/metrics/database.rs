//! What the database does for a process: statements, the pool's connections, transactions.

use std::time::Duration;

use super::definition::{Definition, Kind, MILLISECONDS, Recorded};
use super::instrument::{Counter, Gauge, Histogram, instruments};
use crate::name::Name;

instruments! {
    QUERIES: Counter = Definition {
        otel: "tasker.sql.queries.total",
        prom: "tasker_sql_queries_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["operation", "result"],
        values: &[("result", &["ok", "error"])],
        recorded: Recorded::Both,
        when: "a statement ran; operation is the name of the query function, a closed set",
        example: "topk(10, sum by (operation) (rate(tasker_sql_queries_total[5m])))",
    };
    QUERY: Histogram = Definition {
        otel: "tasker.sql.query.duration",
        prom: "tasker_sql_query_duration_milliseconds",
        kind: Kind::Histogram(MILLISECONDS),
        unit: "ms",
        labels: &["operation"],
        values: &[],
        recorded: Recorded::Both,
        when: "one statement's round-trip",
        example: "histogram_quantile(0.95, sum by (le) (rate(tasker_sql_query_duration_milliseconds_bucket[5m])))",
    };
    ACTIVE: Gauge = Definition {
        otel: "tasker.db.pool.connections_active",
        prom: "tasker_db_pool_connections_active",
        kind: Kind::Gauge,
        unit: "",
        labels: &["pool"],
        values: &[],
        recorded: Recorded::Both,
        when: "connections in use",
        example: "tasker_db_pool_connections_active",
    };
    IDLE: Gauge = Definition {
        otel: "tasker.db.pool.connections_idle",
        prom: "tasker_db_pool_connections_idle",
        kind: Kind::Gauge,
        unit: "",
        labels: &["pool"],
        values: &[],
        recorded: Recorded::Both,
        when: "connections idle in the pool",
        example: "tasker_db_pool_connections_idle",
    };
    WAIT: Histogram = Definition {
        otel: "tasker.db.pool.wait_duration",
        prom: "tasker_db_pool_wait_duration_milliseconds",
        kind: Kind::Histogram(MILLISECONDS),
        unit: "ms",
        labels: &["pool"],
        values: &[],
        recorded: Recorded::Both,
        when: "time to get a connection from the pool",
        example: "histogram_quantile(0.95, sum by (le) (rate(tasker_db_pool_wait_duration_milliseconds_bucket[5m])))",
    };
    TRANSACTIONS: Counter = Definition {
        otel: "tasker.db.transactions.total",
        prom: "tasker_db_transactions_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["result"],
        values: &[("result", &["commit", "rollback"])],
        recorded: Recorded::Both,
        when: "an explicit transaction ended",
        example: "sum by (result) (rate(tasker_db_transactions_total[5m]))",
    };
    TRANSACTION: Histogram = Definition {
        otel: "tasker.db.transaction.duration",
        prom: "tasker_db_transaction_duration_milliseconds",
        kind: Kind::Histogram(MILLISECONDS),
        unit: "ms",
        labels: &["result"],
        values: &[("result", &["commit", "rollback"])],
        recorded: Recorded::Both,
        when: "an explicit transaction, from begin to its end",
        example: "histogram_quantile(0.95, sum by (le) (rate(tasker_db_transaction_duration_milliseconds_bucket[5m])))",
    };
}

/// A statement ran; `operation` is the name of the function that it belongs to.
pub fn query(operation: &'static str, ok: bool, took: Duration) {
    let operation = Name::fixed(operation);
    let result = Name::fixed(if ok { "ok" } else { "error" });
    QUERIES.add(1, None, &[operation, result]);
    QUERY.time(took, None, &[operation]);
}

/// Connections of a pool.
#[derive(Debug, Clone, Copy)]
pub struct PoolUse {
    pub active: u64,
    pub idle: u64,
}

/// Shows a pool's connections, as `read` says it when it is collected.
pub fn watch_pool(pool: &'static str, read: impl Fn() -> PoolUse + Send + Sync + 'static) {
    let pool = Name::fixed(pool);
    let read = std::sync::Arc::new(read);
    let again = read.clone();
    ACTIVE.watch(move || vec![(vec![pool], read().active as f64)]);
    IDLE.watch(move || vec![(vec![pool], again().idle as f64)]);
}

/// A connection came from a pool after so long.
pub fn pool_waited(pool: &'static str, took: Duration) {
    WAIT.time(took, None, &[Name::fixed(pool)]);
}

/// How an explicit transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Commit,
    Rollback,
}

/// An explicit transaction ended, `took` after it began.
pub fn transaction(end: End, took: Duration) {
    let result = Name::fixed(match end {
        End::Commit => "commit",
        End::Rollback => "rollback",
    });
    TRANSACTIONS.add(1, None, &[result]);
    TRANSACTION.time(took, None, &[result]);
}
