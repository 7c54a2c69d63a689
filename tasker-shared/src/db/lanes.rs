//! Lanes: what a step is enqueued in and a worker claims from.

use super::pool::Pool;
use super::{Result, statements};

/// What makes a lane: work of one namespace, handler, priority and target.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneKey {
    pub namespace: String,
    pub callable: String,
    pub priority: i16,
    /// What the handler talks to, where that is known; empty otherwise.
    pub target: String,
}

/// A lane that a worker may claim from.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Lane {
    pub lane: i32,
    pub namespace: String,
    pub callable: String,
    pub priority: i16,
    /// Empty where the handler talks to nothing that is known.
    pub target: String,
    /// Where the target's circuit is not closed, and so the lane is parked: in how many milliseconds a probe may go out.
    pub parked_ms: Option<i64>,
}

statements! {
    ENSURE, "ensure_lanes" =
        "WITH
         -- what is asked for
         wanted AS (SELECT * FROM unnest($1::text[], $2::text[], $3::int2[], $4::text[]) AS w(namespace, callable, priority, target)),
         -- lanes seen for the first time; sorted, so that two servers making the same do not deadlock
         made AS (INSERT INTO tasker.lanes (namespace, callable, priority, target)
                  SELECT DISTINCT w.* FROM wanted w
                   WHERE NOT EXISTS (SELECT 1 FROM tasker.lanes l WHERE (l.namespace, l.callable, l.priority, l.target) = (w.namespace, w.callable, w.priority, w.target))
                   ORDER BY 1, 2, 3, 4
                  ON CONFLICT DO NOTHING RETURNING lane)
         SELECT pg_notify('tasker_lanes', '') IS NOT NULL FROM made LIMIT 1";
    FIND, "find_lanes" =
        "SELECT l.lane, l.namespace, l.callable, l.priority, l.target
           FROM unnest($1::text[], $2::text[], $3::int2[], $4::text[]) AS w(namespace, callable, priority, target)
           JOIN tasker.lanes l USING (namespace, callable, priority, target)";
    LIST, "list_lanes" =
        "SELECT l.lane, l.namespace, l.callable, l.priority, l.target,
                CASE WHEN c.target IS NOT NULL
                     THEN greatest(ceil(extract(epoch FROM greatest(c.retry_at, CASE WHEN w.worker IS NOT NULL THEN c.probe_until END)
                                                           - clock_timestamp()) * 1000), 0)::int8 END AS parked_ms
           FROM tasker.lanes l LEFT JOIN tasker.circuits c ON c.target = l.target
           -- a probe keeps others out only while the worker that has it lives
           LEFT JOIN tasker.workers w ON w.worker = c.probe AND w.stopped_at IS NULL AND w.lease_until > now()
          WHERE l.callable = ANY ($1) AND (cardinality($2::text[]) = 0 OR l.namespace = ANY ($2))
          ORDER BY l.priority DESC, l.lane";
}

/// The ids of the lanes with these keys, in their order; lanes that are new are made and announced.
pub async fn ensure(pool: &Pool, keys: &[LaneKey]) -> Result<Vec<i32>> {
    let found = find(pool, keys).await?;
    if let Some(lanes) = in_order(keys, &found) {
        return Ok(lanes);
    }
    let (namespaces, callables, priorities, targets) = columns(keys);
    let query = sqlx::query(ENSURE.sql)
        .bind(namespaces)
        .bind(callables)
        .bind(priorities)
        .bind(targets);
    ENSURE.run(query.execute(pool)).await?;
    let found = find(pool, keys).await?;
    in_order(keys, &found).ok_or_else(|| super::Error::new(ENSURE.name, sqlx::Error::RowNotFound))
}

/// The lanes that a worker with these handlers serves, highest priority first; no namespaces means all.
pub async fn list(pool: &Pool, callables: &[String], namespaces: &[String]) -> Result<Vec<Lane>> {
    let query = sqlx::query_as(LIST.sql).bind(callables).bind(namespaces);
    LIST.run(query.fetch_all(pool)).await
}

type Found = std::collections::HashMap<LaneKey, i32>;

async fn find(pool: &Pool, keys: &[LaneKey]) -> Result<Found> {
    let (namespaces, callables, priorities, targets) = columns(keys);
    let query = sqlx::query_as::<_, (i32, String, String, i16, String)>(FIND.sql)
        .bind(namespaces)
        .bind(callables)
        .bind(priorities)
        .bind(targets);
    let rows = FIND.run(query.fetch_all(pool)).await?;
    Ok(rows
        .into_iter()
        .map(|(lane, namespace, callable, priority, target)| {
            (
                LaneKey {
                    namespace,
                    callable,
                    priority,
                    target,
                },
                lane,
            )
        })
        .collect())
}

fn in_order(keys: &[LaneKey], found: &Found) -> Option<Vec<i32>> {
    keys.iter().map(|key| found.get(key).copied()).collect()
}

type Columns<'a> = (Vec<&'a str>, Vec<&'a str>, Vec<i16>, Vec<&'a str>);

/// The distinct keys as columns.
fn columns(keys: &[LaneKey]) -> Columns<'_> {
    let distinct: std::collections::BTreeSet<&LaneKey> = keys.iter().collect();
    let mut columns = Columns::default();
    for key in distinct {
        columns.0.push(&key.namespace);
        columns.1.push(&key.callable);
        columns.2.push(key.priority);
        columns.3.push(&key.target);
    }
    columns
}
