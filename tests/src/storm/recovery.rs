//! How long a fault takes to be got over: tasks asked for the moment it ends are complete, and what a worker or server
//! held that was killed or frozen is with another.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use sqlx::PgPool;
use uuid::Uuid;

use super::load::Accepted;
use super::shapes::NAMESPACE;
use crate::{Process, until};

/// So many are asked for that some belong to each server.
const PROBES: i64 = 24;
/// Longer than anything may take here; what takes longer does not come at all.
const PATIENCE: Duration = Duration::from_secs(90);
/// What takes longer than this is told more of.
const LONG: Duration = Duration::from_secs(8);

/// What a worker had claimed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// The worker's ids.
    pub(super) workers: Vec<Uuid>,
    /// Task, number and delivery.
    pub(super) steps: Vec<(Uuid, i32, i32)>,
}

/// Which server has which shard.
pub(super) type Owners = BTreeMap<i16, Uuid>;

/// Asks for probes, and waits until they are complete. Answers them, and how long that took.
///
/// # Panics
/// When they do not become complete.
pub(super) async fn probe(pool: &PgPool, number: usize) -> (Vec<(String, Accepted)>, Duration) {
    let began = Instant::now();
    let probes = until(PATIENCE, async || {
        ask(pool, number).await.map_err(|error| error.to_string())
    })
    .await;
    let tasks: Vec<Uuid> = probes.iter().map(|(_, probe)| probe.task).collect();
    let open = "SELECT count(*) FROM unnest($1::uuid[]) AS p(task_uuid)
                 WHERE NOT EXISTS (SELECT 1 FROM tasker.tasks AS t WHERE t.task_uuid = p.task_uuid AND t.state = 8)";
    let mut was_told = false;
    until(PATIENCE, async || {
        if began.elapsed() > LONG && !was_told {
            was_told = true;
            eprintln!("after {LONG:?} there runs:\n{}", what_runs(pool).await);
        }
        let open = sqlx::query_scalar(open).bind(&tasks);
        none(open.fetch_one(pool).await, "probes are not complete")
    })
    .await;
    (probes, began.elapsed())
}

/// What the database does for servers and workers at the moment, and who keeps whom from it: for people.
pub(super) async fn what_runs(pool: &PgPool) -> String {
    let lines = sqlx::query_scalar(
        "SELECT format('%s %s, %s for %s, waits for %s %s: %s', pid, application_name, state, now() - state_change, wait_event,
                       pg_blocking_pids(pid), regexp_replace(left(query, 160), '[[:space:]]+', ' ', 'g'))
           FROM pg_stat_activity WHERE application_name LIKE 'tasker-%' AND state <> 'idle'
         UNION ALL SELECT format('%s requests wait', count(*)) FROM tasker.requests
         UNION ALL SELECT format('%s results wait', count(*)) FROM tasker.results
         UNION ALL SELECT format('%s steps wait, %s are claimed', count(*) - count(worker), count(worker)) FROM tasker.ready",
    );
    let lines: sqlx::Result<Vec<String>> = lines.fetch_all(pool).await;
    lines.map_or_else(|error| error.to_string(), |lines| lines.join("\n"))
}

/// All in one transaction, high in priority.
async fn ask(pool: &PgPool, number: usize) -> sqlx::Result<Vec<(String, Accepted)>> {
    let rows: Vec<(i64, Uuid)> = sqlx::query_as(
        "SELECT n, tasker.submit_task($1, 'probe', json_build_object('n', n), priority => 100, idempotency_key => $2 || n)
           FROM generate_series(1, $3) AS n",
    )
    .bind(NAMESPACE)
    .bind(format!("probe-{number}-"))
    .bind(PROBES)
    .fetch_all(pool)
    .await?;
    let accepted = rows.into_iter().map(|(n, task)| {
        let shape = "probe";
        (format!("probe-{number}-{n}"), Accepted { task, shape, n })
    });
    Ok(accepted.collect())
}

/// What a process that does nothing at the moment has claimed.
pub(super) async fn held(pool: &PgPool, process: &Process) -> sqlx::Result<Held> {
    let name = format!("{}@{}", process.pid(), process.address());
    let workers = sqlx::query_scalar(
        "SELECT worker FROM tasker.workers WHERE name = $1 AND stopped_at IS NULL",
    );
    let workers: Vec<Uuid> = workers.bind(name).fetch_all(pool).await?;
    let steps = sqlx::query_as(
        "SELECT task_uuid, step_no, attempt FROM tasker.ready WHERE worker = ANY ($1)",
    );
    let steps = steps.bind(&workers).fetch_all(pool).await?;
    Ok(Held { workers, steps })
}

/// Waits until the leases of a worker are known to have run out.
///
/// # Panics
/// When they do not.
pub(super) async fn expired(pool: &PgPool, held: &Held) {
    let open = "SELECT count(*) FROM tasker.workers WHERE worker = ANY ($1) AND stopped_at IS NULL";
    until(PATIENCE, async || {
        let open = sqlx::query_scalar(open).bind(&held.workers);
        none(open.fetch_one(pool).await, "leases have not run out")
    })
    .await;
}

/// Waits until what a worker held has been claimed again, or has ended.
///
/// # Panics
/// When it is not.
pub(super) async fn taken_over(pool: &PgPool, held: &Held) {
    let tasks: Vec<Uuid> = held.steps.iter().map(|(task, ..)| *task).collect();
    let steps: Vec<i32> = held.steps.iter().map(|(_, step, _)| *step).collect();
    let attempts: Vec<i32> = held.steps.iter().map(|(.., attempt)| *attempt).collect();
    let open = "SELECT count(*) FROM unnest($1::uuid[], $2::int[], $3::int[]) AS h(task_uuid, step_no, attempt)
                  JOIN tasker.steps AS s USING (task_uuid, step_no)
                 WHERE s.state = 1 AND (s.attempt = h.attempt OR EXISTS (
                       SELECT 1 FROM tasker.ready AS r WHERE r.lane = s.lane AND r.id = s.message_id AND r.worker IS NULL))";
    until(PATIENCE, async || {
        let open = sqlx::query_scalar(open)
            .bind(&tasks)
            .bind(&steps)
            .bind(&attempts);
        none(open.fetch_one(pool).await, "held steps are with nobody")
    })
    .await;
}

/// Waits until so many servers share the shards among them.
///
/// # Panics
/// When they do not.
pub(super) async fn shared(pool: &PgPool, servers: usize) -> Owners {
    until(PATIENCE, async || match owners(pool).await {
        Ok(owners) if distinct(&owners).len() == servers => Ok(owners),
        other => Err(format!("{servers} servers do not share: {other:?}")),
    })
    .await
}

/// Waits until one of the servers that had shards has none any more, and all of its are with others. Answers how many
/// those were.
///
/// # Panics
/// When that does not come about.
pub(super) async fn moved(pool: &PgPool, before: &Owners) -> usize {
    until(PATIENCE, async || {
        let now = owners(pool).await.map_err(|error| error.to_string())?;
        let (here, all) = (distinct(&now), now.len() == before.len());
        let gone = before.values().filter(|owner| !here.contains(owner));
        match gone.count() {
            shards @ 1.. if all => Ok(shards),
            shards => Err(format!(
                "{shards} shards have moved, owned are {}",
                now.len()
            )),
        }
    })
    .await
}

async fn owners(pool: &PgPool) -> sqlx::Result<Owners> {
    let sql = "SELECT shard, owner FROM tasker.shards WHERE owner IS NOT NULL AND until > now()";
    let rows: Vec<(i16, Uuid)> = sqlx::query_as(sql).fetch_all(pool).await?;
    Ok(rows.into_iter().collect())
}

fn distinct(owners: &Owners) -> BTreeSet<&Uuid> {
    owners.values().collect()
}

/// Nothing where the count is zero, otherwise what is still missing.
fn none(count: sqlx::Result<i64>, what: &str) -> Result<(), String> {
    match count {
        Ok(0) => Ok(()),
        other => Err(format!("{what}: {other:?}")),
    }
}
