//! Tasks whose templates limit their life: when they are looked at, how they stand, and the end of those that are
//! past a limit. A step that waits or runs is taken from wherever it lies and ends by a message to the owner of its
//! shard, as if a worker had handed in that it failed.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row};
use uuid::Uuid;

use super::pool::Pool;
use super::transaction::recent;
use super::{Result, statements};
use crate::ids;
use crate::metrics::messaging::{self, Queue};
use crate::plan::stale::Life;
use crate::state::task::TaskState;

/// A task that is looked at.
#[derive(Debug, Clone)]
pub struct Due {
    pub task_uuid: Uuid,
    pub template_id: i32,
    /// How far it has come; none where its rows are gone.
    pub life: Option<Life>,
    /// Since when it runs, as the deadline has it: the fence for what is written of it.
    pub since: DateTime<Utc>,
}

/// A task that is past a limit.
#[derive(Debug, Clone)]
pub struct Stale {
    pub task_uuid: Uuid,
    /// JSON text: the error that its steps end with.
    pub error: String,
}

/// A live task that may have been where it is for long.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub task_uuid: Uuid,
    pub template_id: i32,
    pub priority: i16,
    pub life: Life,
}

/// The state of a task `t` in process as it is shown and when one of its steps last changed, by its template `p`. As
/// `wire::status::task_state` has it.
macro_rules! progress {
    () => {
        "LATERAL (SELECT CASE WHEN bool_or(s.state = 1) THEN 3 WHEN bool_or(s.state = 5) THEN 6 WHEN bool_or(s.state = 0) THEN 5 ELSE 4 END::int2 AS state,
                         max(s.changed_at) AS changed_at
                    FROM tasker.steps s WHERE t.state = 3 AND s.task_uuid = t.task_uuid AND s.step_no <= p.step_count) v"
    };
}

statements! {
    DUE, "list_due_deadlines" =
        concat!("SELECT d.task_uuid, d.template_id, d.since, t.state AS stored, v.state, v.changed_at, t.updated_at, now() AS now
           FROM tasker.shards o,
                LATERAL (SELECT * FROM tasker.deadlines WHERE shard = o.shard AND due_at <= now() ORDER BY due_at LIMIT $2) d
           JOIN tasker.templates p ON p.template_id = d.template_id
           LEFT JOIN tasker.tasks t ON t.task_uuid = ANY (ARRAY[d.task_uuid])
           LEFT JOIN ", progress!(), " ON true
          WHERE o.owner = $1 AND o.until > now()");
    MOVE, "move_deadlines" =
        "UPDATE tasker.deadlines d SET due_at = m.due_at FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[]) AS m(task_uuid, since, due_at)
          WHERE d.task_uuid = ANY (ARRAY[m.task_uuid]) AND d.since = m.since";
    DELETE, "delete_deadlines" =
        "DELETE FROM tasker.deadlines d USING unnest($1::uuid[], $2::timestamptz[]) AS m(task_uuid, since)
          WHERE d.task_uuid = ANY (ARRAY[m.task_uuid]) AND d.since = m.since";
    BEGIN, "begin_deadline" =
        "INSERT INTO tasker.deadlines (task_uuid, shard, due_at, since, template_id) VALUES ($1, $2, now() + $3 * interval '1 second', now(), $4)
         ON CONFLICT (task_uuid) DO UPDATE SET due_at = excluded.due_at, since = excluded.since";
    FAIL, "fail_stale_steps", [Delete Steps, Send Results] =
        "WITH
         -- tasks in process, of shards that are still this server's; locked, so that nobody changes one by hand meanwhile
         stale AS (SELECT t.task_uuid, t.correlation_id, t.template_id, t.priority, t.sampled, t.traced, tasker.shard_of(t.task_uuid) AS shard, g.error, p.step_count
                     FROM unnest($2::uuid[], $3::text[]) AS g(task_uuid, error)
                     JOIN tasker.tasks t ON t.task_uuid = ANY (ARRAY[g.task_uuid]) JOIN tasker.templates p ON p.template_id = ANY (ARRAY[t.template_id])
                    WHERE t.state = 3 AND tasker.shard_of(t.task_uuid) = ANY (ARRAY (SELECT shard FROM tasker.shards WHERE owner = $1 AND until > now()))
                      FOR UPDATE OF t SKIP LOCKED),
         -- their steps that wait for something; those that wait for others only where none does anything else and nothing is on its way
         live AS (SELECT s.task_uuid, s.step_no, s.state, s.attempt, s.lane, s.message_id, s.due_at, t.shard
                    FROM stale t JOIN tasker.steps s ON s.task_uuid = ANY (ARRAY[t.task_uuid]) AND s.step_no <= t.step_count
                   WHERE s.state IN (1, 5)
                      OR s.state = 0 AND NOT EXISTS (SELECT 1 FROM tasker.steps o WHERE o.task_uuid = t.task_uuid AND o.state IN (1, 5))
                         AND NOT EXISTS (SELECT 1 FROM tasker.results r WHERE r.shard = t.shard AND r.task_uuid = t.task_uuid)
                         -- and of those the topmost: what is below one ends by its end
                         AND NOT EXISTS (SELECT 1 FROM tasker.template_steps g JOIN tasker.steps p ON p.task_uuid = s.task_uuid AND p.step_no = ANY (g.parents)
                                          WHERE g.template_id = t.template_id AND g.step_no = s.step_no AND p.state = 0)
                   LIMIT $4),
         -- what is enqueued or runs: whoever runs it can no longer hand it in
         queued AS (DELETE FROM tasker.ready r USING live l WHERE l.state = 1 AND r.lane = ANY (ARRAY[l.lane]) AND r.id = l.message_id
                    RETURNING r.task_uuid, r.step_no, r.attempt, r.tries, r.lost, r.worker, r.enqueued_at, r.claimed_at),
         -- retries that are not due yet
         retries AS (DELETE FROM tasker.delayed d USING live l
                      WHERE l.state = 5 AND d.shard = ANY (ARRAY[l.shard]) AND d.due_at = l.due_at AND d.task_uuid = l.task_uuid AND d.step_no = l.step_no AND d.attempt = l.attempt
                     RETURNING d.task_uuid, d.step_no, d.attempt),
         -- what nobody has had since its last attempt gets an attempt that can fail
         raised AS (UPDATE tasker.steps s SET state = 1, attempt = s.attempt + 1, due_at = NULL, changed_at = now()
                      FROM (SELECT * FROM retries UNION ALL SELECT task_uuid, step_no, attempt FROM live WHERE state = 0) w
                     WHERE s.task_uuid = ANY (ARRAY[w.task_uuid]) AND s.step_no = w.step_no AND s.attempt = w.attempt AND s.state IN (0, 5)
                    RETURNING s.task_uuid, s.step_no, s.attempt, s.tries, s.lost, NULL::uuid, NULL::timestamptz, NULL::timestamptz),
         gone AS (SELECT g.*, t.correlation_id, t.template_id, t.priority, t.sampled, t.traced, t.shard, t.error
                    FROM (SELECT * FROM queued UNION ALL SELECT * FROM raised) g JOIN stale t USING (task_uuid)),
         history AS (INSERT INTO tasker.attempts (task_uuid, step_no, attempt, outcome, worker, enqueued_at, claimed_at, finished_at, error)
                     SELECT task_uuid, step_no, attempt, 10, worker, enqueued_at, claimed_at, clock_timestamp(), error::json FROM gone
                     ON CONFLICT DO NOTHING),
         sent AS (INSERT INTO tasker.results (shard, kind, task_uuid, correlation_id, sent_at, step_no, attempt, tries, lost, template_id, priority, sampled, traced)
                  SELECT shard, 10, task_uuid, correlation_id, clock_timestamp(), step_no, attempt, tries, lost, template_id, priority, sampled, traced FROM gone),
         woken AS (SELECT pg_notify('tasker_results', '') WHERE EXISTS (SELECT 1 FROM gone))
         -- what nobody reads is not run: this reads the notification
         SELECT count(*), (SELECT count(*) FROM queued), (SELECT correlation_id FROM gone LIMIT 1), (SELECT sampled FROM gone LIMIT 1)
           FROM gone JOIN (SELECT count(*) AS n FROM woken) w ON w.n >= 0";
    CANDIDATES, "list_stale_candidates" =
        concat!("WITH
         -- where work waits or is at work for longest: the heads of the lanes, retries, and tasks with limits that are to be looked at next
         old AS (SELECT r.task_uuid, r.enqueued_at AS at FROM tasker.lanes l, LATERAL (SELECT task_uuid, enqueued_at FROM tasker.ready WHERE lane = l.lane ORDER BY id LIMIT $1) r
                 UNION ALL
                 SELECT d.task_uuid, s.changed_at
                   FROM tasker.shards o, LATERAL (SELECT task_uuid, step_no FROM tasker.delayed WHERE shard = o.shard AND step_no > 0 ORDER BY due_at DESC LIMIT $1) d
                   JOIN tasker.steps s ON s.task_uuid = ANY (ARRAY[d.task_uuid]) AND s.step_no = d.step_no
                 UNION ALL
                 SELECT d.task_uuid, d.since FROM tasker.shards o, LATERAL (SELECT task_uuid, since FROM tasker.deadlines WHERE shard = o.shard ORDER BY due_at LIMIT $1) d),
         picked AS (SELECT task_uuid, min(at) AS at FROM old GROUP BY task_uuid ORDER BY 2 LIMIT $1)
         SELECT t.task_uuid, t.template_id, t.priority, coalesce(d.since, greatest(t.run_at, t.created_at)) AS since, t.state AS stored, v.state, v.changed_at, t.updated_at, now() AS now
           FROM picked c JOIN tasker.tasks t ON t.task_uuid = ANY (ARRAY[c.task_uuid]) JOIN tasker.templates p ON p.template_id = ANY (ARRAY[t.template_id])
           LEFT JOIN tasker.deadlines d ON d.task_uuid = ANY (ARRAY[t.task_uuid])
           LEFT JOIN ", progress!(), " ON true
          WHERE t.state < 7 AND ($2::text[] IS NULL OR p.namespace = ANY ($2))");
}

/// The tasks of a server's shards that are to be looked at, up to `most` a shard.
pub async fn list_due(connection: &mut PgConnection, server: Uuid, most: i64) -> Result<Vec<Due>> {
    let query = sqlx::query_as(DUE.sql).bind(server).bind(most);
    DUE.run(query.fetch_all(connection)).await
}

/// Looks at tasks again at other times. One that has begun anew meanwhile keeps its new time.
pub async fn look_again(
    connection: &mut PgConnection,
    tasks: &[(&Due, DateTime<Utc>)],
) -> Result<()> {
    let query = sqlx::query(MOVE.sql)
        .bind(tasks.iter().map(|t| t.0.task_uuid).collect::<Vec<_>>())
        .bind(tasks.iter().map(|t| t.0.since).collect::<Vec<_>>())
        .bind(tasks.iter().map(|t| t.1).collect::<Vec<_>>());
    MOVE.run(query.execute(connection)).await.map(drop)
}

/// Looks at tasks no more. One that has begun anew meanwhile is still looked at.
pub async fn forget(connection: &mut PgConnection, tasks: &[&Due]) -> Result<()> {
    let query = sqlx::query(DELETE.sql)
        .bind(tasks.iter().map(|t| t.task_uuid).collect::<Vec<_>>())
        .bind(tasks.iter().map(|t| t.since).collect::<Vec<_>>());
    DELETE.run(query.execute(connection)).await.map(drop)
}

/// A task runs from now on: it is looked at `after_seconds` from now.
pub async fn begin(
    connection: &mut PgConnection,
    task_uuid: Uuid,
    template_id: i32,
    after_seconds: i64,
) -> Result<()> {
    let query = sqlx::query(BEGIN.sql)
        .bind(task_uuid)
        .bind(ids::shard_of(task_uuid))
        .bind(after_seconds as f64)
        .bind(template_id);
    BEGIN.run(query.execute(connection)).await.map(drop)
}

/// Ends up to `most` steps of stale tasks on shards that are still `server`'s, and returns how many. Steps whose
/// results are on their way are left to them.
pub async fn fail(
    connection: &mut PgConnection,
    server: Uuid,
    stale: &[Stale],
    most: i64,
) -> Result<i64> {
    let query = sqlx::query_as(FAIL.sql)
        .bind(server)
        .bind(stale.iter().map(|s| s.task_uuid).collect::<Vec<_>>())
        .bind(stale.iter().map(|s| s.error.as_str()).collect::<Vec<_>>())
        .bind(most);
    let (failed, queued, id, sampled): (i64, i64, _, _) =
        FAIL.run(query.fetch_one(connection)).await?;
    let recent = recent(id, sampled);
    messaging::deleted(Queue::Steps, queued.unsigned_abs(), recent);
    messaging::sent(Queue::Results, failed.unsigned_abs(), recent);
    Ok(failed)
}

/// Live tasks of which something has waited for longest, about `most` of them however many there are.
pub async fn list_candidates(
    pool: &Pool,
    namespaces: Option<&[String]>,
    most: i64,
) -> Result<Vec<Candidate>> {
    let query = sqlx::query_as(CANDIDATES.sql).bind(most).bind(namespaces);
    CANDIDATES.run(query.fetch_all(pool)).await
}

/// A task's life; `None` where the task is gone.
fn life(row: &PgRow) -> sqlx::Result<Option<Life>> {
    let stored: Option<i16> = row.try_get("stored")?;
    let (Some(stored), Some(updated_at)) = (stored, row.try_get("updated_at")?) else {
        return Ok(None);
    };
    let shown: Option<i16> = row.try_get("state")?;
    // Without a task in process there are no steps to look at.
    let number = match shown {
        Some(shown) if stored == TaskState::StepsInProcess as i16 => shown,
        _ => stored,
    };
    let state = TaskState::from_i16(number).ok_or_else(|| {
        sqlx::Error::Decode(
            format!("a task has state {number}, which this version does not know").into(),
        )
    })?;
    let changed_at: Option<DateTime<Utc>> = row.try_get("changed_at")?;
    Ok(Some(Life {
        state,
        since: row.try_get("since")?,
        changed_at: changed_at.unwrap_or(updated_at),
        now: row.try_get("now")?,
    }))
}

impl FromRow<'_, PgRow> for Due {
    fn from_row(row: &PgRow) -> sqlx::Result<Due> {
        Ok(Due {
            task_uuid: row.try_get("task_uuid")?,
            template_id: row.try_get("template_id")?,
            life: life(row)?,
            since: row.try_get("since")?,
        })
    }
}

impl FromRow<'_, PgRow> for Candidate {
    fn from_row(row: &PgRow) -> sqlx::Result<Candidate> {
        Ok(Candidate {
            task_uuid: row.try_get("task_uuid")?,
            template_id: row.try_get("template_id")?,
            priority: row.try_get("priority")?,
            life: life(row)?.ok_or(sqlx::Error::RowNotFound)?,
        })
    }
}
