//! Workers. A worker's row is the lease of everything it runs: one update a heartbeat renews it all. When
//! the row has expired, rescue takes back what the worker had claimed.

use sqlx::PgExecutor;
use uuid::Uuid;

use super::pool::{Pinned, Pool};
use super::transaction::recent;
use super::{Result, statements};
use crate::cursor::Span;
use crate::metrics::messaging::{self, Queue};

/// What a worker says of itself at its start.
#[derive(Debug, Clone)]
pub struct Registration {
    pub worker: Uuid,
    /// Host and process, for people.
    pub name: String,
    pub namespaces: Vec<String>,
    pub callables: Vec<String>,
    pub slots: i32,
    pub lease_ms: i64,
}

/// What a heartbeat brings back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Beat {
    /// Whether the lease was still there to renew: nobody has taken it as run out. Where not, everything
    /// claimed under this id is lost.
    pub alive: bool,
    /// Tasks among those asked about that go on no more: cancelled, or given up for being stale.
    pub ended: Vec<Uuid>,
}

/// What came of looking for workers that are not alive.
#[derive(Debug, Clone, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Expired {
    /// Those to rescue from.
    pub workers: Vec<Uuid>,
    /// The id that was given out last.
    pub newest: i64,
}

/// What came of looking for steps that a worker claimed without knowing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GivenBack {
    pub steps: i64,
    /// The id that was given out last.
    pub newest: i64,
}

statements! {
    REGISTER, "register_worker" =
        "INSERT INTO tasker.workers (worker, name, version, namespaces, callables, slots, busy, started_at, seen_at, lease_until)
         VALUES ($1, $2, $3, $4, $5, $6, 0, now(), now(), now() + $7 * interval '1 ms')";
    BEAT, "renew_worker", [Extend Steps] =
        "WITH beat AS (UPDATE tasker.workers SET seen_at = now(), lease_until = now() + $2 * interval '1 ms', busy = $3
                        WHERE worker = $1 AND stopped_at IS NULL RETURNING worker)
         SELECT EXISTS (SELECT 1 FROM beat) AS alive,
                ARRAY (SELECT t.task_uuid FROM unnest($4::uuid[]) AS w(task_uuid),
                              LATERAL (SELECT task_uuid FROM tasker.tasks WHERE task_uuid = w.task_uuid AND task_uuid BETWEEN $5 AND $6 AND state IN (7, 9, 10) OFFSET 0) t) AS ended";
    STOP, "stop_worker" =
        "UPDATE tasker.workers SET stopped_at = now(), lease_until = least(lease_until, now()), busy = 0 WHERE worker = $1 AND stopped_at IS NULL";
    EXPIRE, "expire_workers" =
        "WITH expired AS (UPDATE tasker.workers SET stopped_at = now() WHERE stopped_at IS NULL AND lease_until <= now() RETURNING worker),
         -- a claim that began before its worker expired may be committed after it: looked for a while longer
         recent AS (SELECT worker FROM tasker.workers WHERE stopped_at > now() - $1 * interval '1 ms'),
         -- and whoever has claimed anything of these ids and is not alive, however long ago that was; lane by lane, as `OFFSET 0`
         -- has it: the rows of all lanes at once would be found by reading all of the index
         gone AS (SELECT c.worker
                    FROM (SELECT DISTINCT r.worker
                            FROM tasker.lanes l,
                                 LATERAL (SELECT worker FROM tasker.ready WHERE lane = l.lane AND id > $2 AND id <= $3 AND worker IS NOT NULL OFFSET 0) r
                           WHERE $2 < $3) c
                   WHERE NOT EXISTS (SELECT 1 FROM tasker.workers w WHERE w.worker = c.worker AND w.stopped_at IS NULL)),
         forgotten AS (DELETE FROM tasker.workers WHERE stopped_at < now() - interval '1 day')
         SELECT ARRAY (SELECT worker FROM expired UNION SELECT worker FROM recent UNION SELECT worker FROM gone) AS workers,
                (SELECT last_value FROM tasker.message_ids) AS newest";
    RESCUE, "rescue_steps", [Delete Steps, Send Results] =
        "WITH
         -- what the workers had claimed; a scan, but only while there are workers to look after
         lost AS (DELETE FROM tasker.ready WHERE ctid = ANY (ARRAY (
                      SELECT ctid FROM tasker.ready WHERE worker = ANY ($1) LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING *),
         history AS (INSERT INTO tasker.attempts (task_uuid, step_no, attempt, outcome, worker, enqueued_at, claimed_at, finished_at, error)
                     SELECT task_uuid, step_no, attempt, 6, worker, enqueued_at, claimed_at, clock_timestamp(),
                            json_build_object('error_type', 'lease_lost', 'retryable', true,
                                              'message', 'the worker stopped before it handed in a result') FROM lost
                     ON CONFLICT DO NOTHING),
         sent AS (INSERT INTO tasker.results (shard, kind, task_uuid, correlation_id, sent_at, step_no, attempt, tries, lost, template_id, priority, sampled, traced)
                  SELECT shard, 6, task_uuid, correlation_id, clock_timestamp(), step_no, attempt, tries, lost, template_id, priority, sampled, traced FROM lost),
         woken AS (SELECT pg_notify('tasker_results', '') WHERE EXISTS (SELECT 1 FROM lost))
         -- what nobody reads is not run: this reads the notification
         SELECT count(*), (SELECT correlation_id FROM lost LIMIT 1), (SELECT sampled FROM lost LIMIT 1)
           FROM lost JOIN (SELECT count(*) AS n FROM woken) w ON w.n >= 0";
    GIVE_BACK, "give_back_unheard", [Delete Steps, Send Results] =
        "WITH
         -- claimed by the worker, and unknown to it
         unheard AS (DELETE FROM tasker.ready WHERE ctid = ANY (ARRAY (
                         SELECT r.ctid
                           FROM unnest($4::int4[]) AS l(lane),
                                LATERAL (SELECT ctid FROM tasker.ready
                                          WHERE lane = l.lane AND id > $5 AND id <= $6 AND worker = $1 AND id <> ALL ($2)
                                          ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED) r
                          LIMIT $3)) RETURNING *),
         history AS (INSERT INTO tasker.attempts (task_uuid, step_no, attempt, outcome, worker, enqueued_at, claimed_at, finished_at, error)
                     SELECT task_uuid, step_no, attempt, 7, worker, enqueued_at, claimed_at, clock_timestamp(),
                            json_build_object('error_type', 'claim_unheard', 'retryable', true,
                                              'message', 'the worker never heard that it had claimed the step') FROM unheard
                     ON CONFLICT DO NOTHING),
         sent AS (INSERT INTO tasker.results (shard, kind, task_uuid, correlation_id, sent_at, step_no, attempt, tries, lost, template_id, priority, sampled, traced)
                  SELECT shard, 7, task_uuid, correlation_id, clock_timestamp(), step_no, attempt, tries, lost, template_id, priority, sampled, traced FROM unheard),
         woken AS (SELECT pg_notify('tasker_results', '') WHERE EXISTS (SELECT 1 FROM unheard))
         -- what nobody reads is not run: this reads the notification
         SELECT count(*), (SELECT correlation_id FROM unheard LIMIT 1), (SELECT sampled FROM unheard LIMIT 1),
                (SELECT last_value FROM tasker.message_ids)
           FROM unheard JOIN (SELECT count(*) AS n FROM woken) w ON w.n >= 0";
    LIVE, "list_served" =
        "SELECT DISTINCT namespaces, callables FROM tasker.workers WHERE stopped_at IS NULL AND lease_until > now()";
}

/// Makes the worker's row; its lease begins.
pub async fn register<'c>(on: impl PgExecutor<'c>, registration: &Registration) -> Result<()> {
    let query = sqlx::query(REGISTER.sql)
        .bind(registration.worker)
        .bind(&registration.name)
        .bind(env!("CARGO_PKG_VERSION"))
        .bind(&registration.namespaces)
        .bind(&registration.callables)
        .bind(registration.slots)
        .bind(registration.lease_ms);
    REGISTER.run(query.execute(on)).await.map(drop)
}

/// Renews the lease, and asks which of the tasks being run go on no more. Where there is no connection, that has failed
/// as any statement has.
pub async fn beat(
    connection: &mut Pinned,
    worker: Uuid,
    lease_ms: i64,
    busy: i32,
    running: &[Uuid],
) -> Result<Beat> {
    let query = sqlx::query_as(BEAT.sql)
        .bind(worker)
        .bind(lease_ms)
        .bind(busy)
        .bind(running)
        .bind(running.iter().min().copied().unwrap_or_default())
        .bind(running.iter().max().copied().unwrap_or_default());
    let renewed = async { query.fetch_one(connection.open().await?).await };
    let (alive, ended) = BEAT.run(renewed).await?;
    Ok(Beat { alive, ended })
}

/// Ends the lease: nothing of the worker's runs any more.
pub async fn stop<'c>(on: impl PgExecutor<'c>, worker: Uuid) -> Result<()> {
    STOP.run(sqlx::query(STOP.sql).bind(worker).execute(on))
        .await
        .map(drop)
}

/// Ends the leases that ran out and finds the workers to rescue from: those, any that stopped within the last
/// `recent_ms`, and, where ids are to be gone through, whoever has claimed anything of those and is not alive.
pub async fn expire(pool: &Pool, recent_ms: i64, within: Option<Span>) -> Result<Expired> {
    let Span { behind, until } = within.unwrap_or(Span::behind(i64::MAX));
    let query = sqlx::query_as(EXPIRE.sql)
        .bind(recent_ms)
        .bind(behind)
        .bind(until);
    EXPIRE.run(query.fetch_one(pool)).await
}

/// Takes up to `most` claimed steps back from workers that stopped, and returns how many.
pub async fn rescue(pool: &Pool, workers: &[Uuid], most: i64) -> Result<i64> {
    let query = sqlx::query_as(RESCUE.sql).bind(workers).bind(most);
    let (rescued, id, sampled): (i64, _, _) = RESCUE.run(query.fetch_one(pool)).await?;
    let (steps, recent) = (rescued.unsigned_abs(), recent(id, sampled));
    messaging::leases_expired(Queue::Steps, steps);
    messaging::deleted(Queue::Steps, steps, recent);
    messaging::sent(Queue::Results, steps, recent);
    Ok(rescued)
}

/// Hands back up to `most` steps that `worker` claimed without knowing: all whose messages, among these ids of these
/// lanes, are not among those that it `knows`.
pub async fn give_back_unheard(
    pool: &Pool,
    worker: Uuid,
    knows: &[i64],
    lanes: &[i32],
    within: Span,
    most: i64,
) -> Result<GivenBack> {
    let query = sqlx::query_as(GIVE_BACK.sql)
        .bind(worker)
        .bind(knows)
        .bind(most)
        .bind(lanes)
        .bind(within.behind)
        .bind(within.until);
    let (steps, id, sampled, newest): (i64, _, _, _) = GIVE_BACK.run(query.fetch_one(pool)).await?;
    let (given_back, recent) = (steps.unsigned_abs(), recent(id, sampled));
    messaging::deleted(Queue::Steps, given_back, recent);
    messaging::sent(Queue::Results, given_back, recent);
    Ok(GivenBack { steps, newest })
}

/// What live workers serve: (namespaces, callables) of each kind of worker; no namespaces means all.
pub async fn list_served(pool: &Pool) -> Result<Vec<(Vec<String>, Vec<String>)>> {
    LIVE.run(sqlx::query_as(LIVE.sql).fetch_all(pool)).await
}
