//! Circuits of the outside things that steps talk to, shared by all workers. A row is there while a circuit
//! is not closed; workers write only at a change. A probe is out while its lease runs and the worker that has it lives.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::pool::Pool;
use super::{Result, statements};

/// The longest reason that is kept.
const LONGEST_REASON: usize = 500;

/// A circuit that is not closed.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Circuit {
    /// The target's name: `host:port` or what a template calls it.
    pub target: String,
    /// What the last failure said.
    pub reason: String,
    pub opened_at: DateTime<Utc>,
    /// From when on a probe may go out.
    pub retry_at: DateTime<Utc>,
    /// Probes that failed since it opened.
    pub failures: i32,
    /// Whether a probe is out now.
    pub probing: bool,
}

/// The right to send one step of a parked target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    pub worker: Uuid,
    /// The fence: another probe has another number.
    pub number: i64,
}

statements! {
    OPEN, "open_circuit" =
        "WITH opened AS (INSERT INTO tasker.circuits (target, reason, opened_at, retry_at)
                         VALUES ($1, $2, now(), now() + $3 * interval '1 ms') ON CONFLICT DO NOTHING RETURNING 1)
         SELECT pg_notify('tasker_lanes', '') IS NOT NULL FROM opened";
    LIST, "list_circuits" =
        "SELECT c.target, c.reason, c.opened_at, c.retry_at, c.failures,
                coalesce(c.probe_until > now(), false)
                AND EXISTS (SELECT 1 FROM tasker.workers w WHERE w.worker = c.probe AND w.stopped_at IS NULL AND w.lease_until > now()) AS probing
           FROM tasker.circuits c
          WHERE $2::text[] IS NULL OR EXISTS (SELECT 1 FROM tasker.lanes l WHERE l.target = c.target AND l.target <> '' AND l.namespace = ANY ($2))
          ORDER BY c.opened_at, c.target LIMIT $1";
    BEGIN, "begin_probe" =
        "UPDATE tasker.circuits c SET probe = $2, probe_no = probe_no + 1, probe_until = now() + $3 * interval '1 ms'
          WHERE target = $1 AND retry_at <= now()
            AND (probe_until IS NULL OR probe_until <= now()
                 -- whose worker is gone will not bring it back
                 OR NOT EXISTS (SELECT 1 FROM tasker.workers w WHERE w.worker = c.probe AND w.stopped_at IS NULL AND w.lease_until > now()))
            -- no probe is lent where there is nothing to send
            AND EXISTS (SELECT 1 FROM unnest($4::int4[]) AS l(lane), LATERAL (SELECT 1 FROM tasker.ready r WHERE r.lane = l.lane AND r.worker IS NULL LIMIT 1) waiting)
         RETURNING probe_no";
    EXTEND, "extend_probe" =
        "UPDATE tasker.circuits SET probe_until = now() + $4 * interval '1 ms' WHERE target = $1 AND probe = $2 AND probe_no = $3";
    GIVE_BACK, "give_probe_back" =
        "UPDATE tasker.circuits SET probe = NULL, probe_until = NULL WHERE target = $1 AND probe = $2 AND probe_no = $3";
    FAILED, "fail_probe" =
        "UPDATE tasker.circuits SET probe = NULL, probe_until = NULL, successes = 0, failures = failures + 1, reason = $4,
                retry_at = now() + greatest(least($5 * (2 ^ least(failures + 1, 30)), $6), $7) * interval '1 ms'
          WHERE target = $1 AND probe = $2 AND probe_no = $3
         RETURNING (extract(epoch FROM retry_at - now()) * 1000)::int8";
    SUCCEEDED, "pass_probe" =
        "WITH closed AS (DELETE FROM tasker.circuits WHERE target = $1 AND probe = $2 AND probe_no = $3 AND successes + 1 >= $4 RETURNING 1),
              passed AS (UPDATE tasker.circuits SET probe = NULL, probe_until = NULL, successes = successes + 1, retry_at = now()
                          WHERE target = $1 AND probe = $2 AND probe_no = $3 AND successes + 1 < $4 RETURNING 1),
              told AS (SELECT pg_notify('tasker_lanes', '') FROM closed UNION ALL SELECT pg_notify('tasker_lanes', '') FROM passed)
         -- what nobody reads is not run: this reads the notification
         SELECT CASE WHEN EXISTS (SELECT 1 FROM told) THEN EXISTS (SELECT 1 FROM closed) END";
    CLOSE, "close_circuit" =
        "WITH closed AS (DELETE FROM tasker.circuits WHERE target = $1 RETURNING 1)
         SELECT pg_notify('tasker_lanes', '') IS NOT NULL FROM closed";
    FORGET, "delete_old_circuits" =
        "DELETE FROM tasker.circuits WHERE retry_at < now() - interval '1 day' AND (probe_until IS NULL OR probe_until < now())";
}

/// Opens the circuit of `target`; the first probe may go out after `wait`. `false` where it was open already.
pub async fn open(pool: &Pool, target: &str, reason: &str, wait: Duration) -> Result<bool> {
    let query = sqlx::query_scalar::<_, bool>(OPEN.sql)
        .bind(target)
        .bind(shortened(reason))
        .bind(milliseconds(wait));
    OPEN.run(query.fetch_optional(pool))
        .await
        .map(|opened| opened.is_some())
}

/// The circuits that are not closed, the longest open first, `most` of them: those of what steps of these namespaces talk
/// to; `None` for all.
pub async fn list(pool: &Pool, most: i64, namespaces: Option<&[String]>) -> Result<Vec<Circuit>> {
    let query = sqlx::query_as(LIST.sql).bind(most).bind(namespaces);
    LIST.run(query.fetch_all(pool)).await
}

/// Lends `worker` the probe of `target` for `lease`, where it is due, not lent, and one of `lanes` has work.
pub async fn begin_probe(
    pool: &Pool,
    target: &str,
    worker: Uuid,
    lease: Duration,
    lanes: &[i32],
) -> Result<Option<Probe>> {
    let query = sqlx::query_scalar::<_, i64>(BEGIN.sql)
        .bind(target)
        .bind(worker)
        .bind(milliseconds(lease))
        .bind(lanes);
    let number = BEGIN.run(query.fetch_optional(pool)).await?;
    Ok(number.map(|number| Probe { worker, number }))
}

/// Lets a probe run for `lease` from now on.
pub async fn extend_probe(pool: &Pool, target: &str, probe: Probe, lease: Duration) -> Result<()> {
    let query = sqlx::query(EXTEND.sql)
        .bind(target)
        .bind(probe.worker)
        .bind(probe.number)
        .bind(milliseconds(lease));
    EXTEND.run(query.execute(pool)).await.map(drop)
}

/// Gives a probe back that said nothing of its target.
pub async fn give_probe_back(pool: &Pool, target: &str, probe: Probe) -> Result<()> {
    let query = sqlx::query(GIVE_BACK.sql)
        .bind(target)
        .bind(probe.worker)
        .bind(probe.number);
    GIVE_BACK.run(query.execute(pool)).await.map(drop)
}

/// How long a circuit waits before its next probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// Before the first probe; twice as long after each that fails.
    pub first: Duration,
    /// And never longer than this.
    pub longest: Duration,
    /// But as long as the target asked for.
    pub asked: Duration,
}

/// A probe failed: says for how long none goes out; `None` where it was not out any more.
pub async fn fail_probe(
    pool: &Pool,
    target: &str,
    probe: Probe,
    reason: &str,
    wait: Wait,
) -> Result<Option<Duration>> {
    let query = sqlx::query_scalar::<_, i64>(FAILED.sql)
        .bind(target)
        .bind(probe.worker)
        .bind(probe.number)
        .bind(shortened(reason))
        .bind(milliseconds(wait.first))
        .bind(milliseconds(wait.longest))
        .bind(milliseconds(wait.asked));
    let left = FAILED.run(query.fetch_optional(pool)).await?;
    Ok(left.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0))))
}

/// What an answer to a probe led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed {
    Closed,
    /// Another one is to follow.
    Open,
    /// Nothing: it was not out any more.
    Late,
}

/// A probe succeeded: with `threshold` in a row the circuit is closed.
pub async fn pass_probe(pool: &Pool, target: &str, probe: Probe, threshold: i32) -> Result<Passed> {
    let query = sqlx::query_scalar::<_, Option<bool>>(SUCCEEDED.sql)
        .bind(target)
        .bind(probe.worker)
        .bind(probe.number)
        .bind(threshold);
    let closed = SUCCEEDED.run(query.fetch_one(pool)).await?;
    Ok(match closed {
        Some(true) => Passed::Closed,
        Some(false) => Passed::Open,
        None => Passed::Late,
    })
}

/// Closes a circuit by hand; `false` where it was closed.
pub async fn close(pool: &Pool, target: &str) -> Result<bool> {
    let query = sqlx::query_scalar::<_, bool>(CLOSE.sql).bind(target);
    CLOSE
        .run(query.fetch_optional(pool))
        .await
        .map(|closed| closed.is_some())
}

/// Closes circuits that nothing has tried for a day: the next step tells.
pub async fn delete_old(pool: &Pool) -> Result<u64> {
    let done = FORGET.run(sqlx::query(FORGET.sql).execute(pool)).await?;
    Ok(done.rows_affected())
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn shortened(reason: &str) -> String {
    reason
        .chars()
        .filter(|c| *c != '\0')
        .take(LONGEST_REASON)
        .collect()
}
