//! What `tasker bench` reads of a database before, while and after it is loaded: PostgreSQL's own counters, what is
//! under way, and when tasks began and ended. Every text here says `tasker bench`, so that these statements can be told
//! from those that are measured. What it checks is in `verdict`, what it stores in `fill`.

pub mod calls;
pub mod fill;
pub mod verdict;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::pool::Pool;
use super::{Result, statements};

/// What PostgreSQL has counted since it was made. Commits, rows and dead tuples come from its statistics, which a
/// connection passes on a second after it has last done so, or when it ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Counters {
    /// Transactions of this database that ended well, those that only read too.
    pub commits: i64,
    /// Rows of Tasker's tables inserted, updated and deleted.
    pub row_writes: i64,
    /// Bytes of the write-ahead log, of all databases.
    pub wal_bytes: i64,
    /// Rows of Tasker's tables that wait for vacuum.
    pub dead_tuples: i64,
}

/// Who else there is in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct Others {
    /// Servers and workers that are alive.
    pub processes: i64,
    /// Whether there are templates of other namespaces than the ones given.
    pub used: bool,
}

/// Where the server runs, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Whereabouts {
    /// The process of the connection that asks.
    pub backend: i32,
    /// The data directory, where this role may know it.
    pub data: Option<String>,
}

/// When what happened to a task, by the database's clock; `None` where it has not.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct Times {
    pub task_uuid: Uuid,
    /// The first handler was called.
    pub started_at: Option<DateTime<Utc>>,
    /// The task's end was committed, or, where PostgreSQL does not track that, the statement that ended it began.
    pub ended_at: Option<DateTime<Utc>>,
    /// What its handlers took, altogether.
    pub handlers_ms: f64,
}

statements! {
    COUNTERS, "read_counters" =
        "SELECT /* tasker bench */
                (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()) AS commits,
                coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::int8 AS row_writes,
                pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::int8 AS wal_bytes,
                coalesce(sum(n_dead_tup), 0)::int8 AS dead_tuples
           FROM pg_stat_user_tables WHERE schemaname = 'tasker'";
    COUNTED, "are_rows_counted" =
        // each of these is written on another connection: acceptance, claim, submission, advance
        "SELECT /* tasker bench */
                coalesce(sum(n_tup_ins) FILTER (WHERE relname ~ '^tasks_'), 0) >= (SELECT count(*) FROM tasker.tasks)
                AND coalesce(sum(n_tup_upd) FILTER (WHERE relname = 'ready'), 0) >= a.n
                AND coalesce(sum(n_tup_ins) FILTER (WHERE relname ~ '^attempts_'), 0) >= a.n
                AND coalesce(sum(n_tup_del) FILTER (WHERE relname = 'results'), 0) >= a.n
           FROM pg_stat_user_tables, (SELECT count(*) AS n FROM tasker.attempts) a WHERE schemaname = 'tasker' GROUP BY a.n";
    SETTINGS, "list_server_settings" =
        "SELECT /* tasker bench */ name, setting || coalesce(' ' || unit, '') FROM pg_settings WHERE name = ANY ($1) ORDER BY name";
    WHEREABOUTS, "get_whereabouts" =
        "SELECT /* tasker bench */ pg_backend_pid() AS backend, (SELECT setting FROM pg_settings WHERE name = 'data_directory') AS data";
    OTHERS, "count_other_processes" =
        "SELECT /* tasker bench */
                (SELECT count(*) FROM tasker.servers WHERE until > now())
                    + (SELECT count(*) FROM tasker.workers WHERE stopped_at IS NULL AND lease_until > now()) AS processes,
                EXISTS (SELECT 1 FROM tasker.templates WHERE namespace <> ALL ($1)) AS used";
    CLOCK, "read_clock" = "SELECT /* tasker bench */ clock_timestamp()";
    OPEN, "count_open_tasks" =
        "SELECT /* tasker bench */ (coalesce(sum(change), 0) + (SELECT count(*) FROM tasker.requests))::int8
           FROM tasker.task_counts WHERE state < 8";
    TIMES, "list_task_times" =
        // the commit is that of the row's last change, which is the task's end
        "SELECT /* tasker bench */ t.task_uuid, a.started_at, a.handlers_ms,
                CASE WHEN t.completed_at IS NULL THEN NULL
                     WHEN current_setting('track_commit_timestamp') = 'on' THEN pg_xact_commit_timestamp(t.xmin)
                     ELSE t.completed_at END AS ended_at
           FROM tasker.tasks t,
                LATERAL (SELECT min(started_at) AS started_at,
                                (coalesce(extract(epoch FROM sum(finished_at - started_at)), 0) * 1000)::float8 AS handlers_ms
                           FROM tasker.attempts WHERE task_uuid = t.task_uuid) a
          WHERE t.task_uuid = ANY ($1)";
    NTH_END, "find_nth_end" =
        "SELECT /* tasker bench */ finished_at FROM tasker.attempts WHERE finished_at >= $1 ORDER BY finished_at OFFSET $2 LIMIT 1";
    PIN, "pin_snapshot" = "SELECT /* tasker bench */ count(*) FROM tasker.shards";
    STAY, "stay_in_transaction" = "SET LOCAL /* tasker bench */ idle_in_transaction_session_timeout = 0";
    ISOLATE, "isolate_transaction" = "SET TRANSACTION /* tasker bench */ ISOLATION LEVEL REPEATABLE READ";
    SUBMIT, "submit_in_sql" =
        "SELECT /* tasker bench */ count(tasker.submit_task($1, $2, ('{\"n\":' || n || '}')::json)) FROM generate_series($3::int8, $4::int8) AS n";
    VACUUM, "vacuum_all" = "VACUUM /* tasker bench */ (ANALYZE)";
}

/// What has been counted so far.
pub async fn counters(pool: &Pool) -> Result<Counters> {
    COUNTERS
        .run(sqlx::query_as(COUNTERS.sql).fetch_one(pool))
        .await
}

/// Whether every row that is there has been counted: none is, where a connection has not told of it yet. Never so where
/// statistics were reset.
pub async fn are_rows_counted(pool: &Pool) -> Result<bool> {
    COUNTED
        .run_at_length(sqlx::query_scalar(COUNTED.sql).fetch_one(pool))
        .await
}

/// Settings of the server by name, with their units.
pub async fn settings(pool: &Pool, names: &[&str]) -> Result<Vec<(String, String)>> {
    let query = sqlx::query_as(SETTINGS.sql).bind(names);
    SETTINGS.run(query.fetch_all(pool)).await
}

/// Where the server runs.
pub async fn whereabouts(pool: &Pool) -> Result<Whereabouts> {
    let query = sqlx::query_as(WHEREABOUTS.sql);
    WHEREABOUTS.run(query.fetch_one(pool)).await
}

/// Who else there is, apart from what these namespaces hold.
pub async fn others(pool: &Pool, namespaces: &[&str]) -> Result<Others> {
    let query = sqlx::query_as(OTHERS.sql).bind(namespaces);
    OTHERS.run(query.fetch_one(pool)).await
}

/// The time by the database's clock.
pub async fn clock(pool: &Pool) -> Result<DateTime<Utc>> {
    CLOCK
        .run(sqlx::query_scalar(CLOCK.sql).fetch_one(pool))
        .await
}

/// Tasks that have not ended, and submissions that are not tasks yet.
pub async fn open(pool: &Pool) -> Result<i64> {
    OPEN.run(sqlx::query_scalar(OPEN.sql).fetch_one(pool)).await
}

/// When what happened to these tasks; those that do not exist are left out.
pub async fn times(pool: &Pool, tasks: &[Uuid]) -> Result<Vec<Times>> {
    let query = sqlx::query_as(TIMES.sql).bind(tasks);
    TIMES.run_at_length(query.fetch_all(pool)).await
}

/// When the handler of so many attempts had ended since then; `None` where there are fewer. Reads every attempt.
pub async fn nth_end(pool: &Pool, since: DateTime<Utc>, nth: i64) -> Result<Option<DateTime<Utc>>> {
    let query = sqlx::query_scalar(NTH_END.sql).bind(since).bind(nth - 1);
    NTH_END.run_at_length(query.fetch_optional(pool)).await
}

/// Takes a snapshot that lasts as long as the transaction, which must just have begun and is not ended for being idle:
/// vacuum removes nothing that has died since.
pub async fn pin(transaction: &mut PgConnection) -> Result<()> {
    let isolate = sqlx::query(ISOLATE.sql).execute(&mut *transaction);
    ISOLATE.run(isolate).await?;
    let stay = sqlx::query(STAY.sql).execute(&mut *transaction);
    STAY.run(stay).await?;
    let pin = sqlx::query_scalar::<_, i64>(PIN.sql).fetch_one(&mut *transaction);
    PIN.run(pin).await.map(drop)
}

/// Asks for tasks with contexts `{"n":first}` to `{"n":last}` as a user's own transaction would; answers how many.
pub async fn submit(
    pool: &Pool,
    (namespace, name): (&str, &str),
    (first, last): (i64, i64),
) -> Result<i64> {
    let query = sqlx::query_scalar(SUBMIT.sql)
        .bind(namespace)
        .bind(name)
        .bind(first)
        .bind(last);
    SUBMIT.run(query.fetch_one(pool)).await
}

/// Vacuums and analyses every table.
pub async fn vacuum(pool: &Pool) -> Result<()> {
    VACUUM
        .run_at_length(sqlx::query(VACUUM.sql).execute(pool))
        .await
        .map(drop)
}
