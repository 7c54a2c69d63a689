//! Steps that no worker can run: those that wait in a lane which no live worker has served for too long. They end by
//! a message to the owner of their shard, as if a worker had handed in that they failed.

use super::pool::Pool;
use super::transaction::recent;
use super::{Result, statements};
use crate::metrics::messaging::{self, Queue};

statements! {
    LANES, "list_unserved_lanes" =
        // looked at by its oldest step first: who has none that is old enough is not unserved
        "SELECT l.lane
           FROM tasker.lanes l,
                LATERAL (SELECT enqueued_at FROM tasker.ready WHERE lane = l.lane AND worker IS NULL ORDER BY id LIMIT 1) r
          WHERE r.enqueued_at < now() - $1 * interval '1 second'
            -- a worker that stopped not longer ago might come back
            AND NOT EXISTS (SELECT 1 FROM tasker.workers w
                             WHERE l.callable = ANY (w.callables) AND (cardinality(w.namespaces) = 0 OR l.namespace = ANY (w.namespaces))
                               AND coalesce(w.stopped_at, w.lease_until) > now() - $1 * interval '1 second')
          ORDER BY r.enqueued_at LIMIT $2";
    FAIL, "fail_unroutable_steps", [Delete Steps, Send Results] =
        "WITH
         lost AS (DELETE FROM tasker.ready WHERE ctid = ANY (ARRAY (
                      SELECT r.ctid FROM unnest($1::int4[]) AS l(lane),
                          LATERAL (SELECT ctid FROM tasker.ready WHERE lane = l.lane AND worker IS NULL AND enqueued_at < now() - $2 * interval '1 second'
                                    ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED) r LIMIT $3)) RETURNING *),
         history AS (INSERT INTO tasker.attempts (task_uuid, step_no, attempt, outcome, enqueued_at, finished_at, error)
                     SELECT r.task_uuid, r.step_no, r.attempt, 9, r.enqueued_at, clock_timestamp(),
                            json_build_object('error_type', 'unroutable', 'retryable', false,
                                'message', format('no worker has served handler %s in namespace %s for %s s', l.callable, l.namespace, $2))
                       FROM lost r JOIN tasker.lanes l USING (lane)
                     ON CONFLICT DO NOTHING),
         sent AS (INSERT INTO tasker.results (shard, kind, task_uuid, correlation_id, sent_at, step_no, attempt, tries, lost, template_id, priority, sampled, traced)
                  SELECT shard, 9, task_uuid, correlation_id, clock_timestamp(), step_no, attempt, tries, lost, template_id, priority, sampled, traced FROM lost),
         woken AS (SELECT pg_notify('tasker_results', '') WHERE EXISTS (SELECT 1 FROM lost))
         -- what nobody reads is not run: this reads the notification
         SELECT count(*), (SELECT correlation_id FROM lost LIMIT 1), (SELECT sampled FROM lost LIMIT 1)
           FROM lost JOIN (SELECT count(*) AS n FROM woken) w ON w.n >= 0";
}

/// Lanes whose first step has waited, and that no worker has served, for `after_seconds`.
pub async fn list_lanes(pool: &Pool, after_seconds: i64, most: i64) -> Result<Vec<i32>> {
    let query = sqlx::query_scalar(LANES.sql).bind(after_seconds).bind(most);
    LANES.run(query.fetch_all(pool)).await
}

/// Ends up to `most` steps that have waited in these lanes for `after_seconds`, and returns how many.
pub async fn fail(pool: &Pool, lanes: &[i32], after_seconds: i64, most: i64) -> Result<i64> {
    let query = sqlx::query_as(FAIL.sql)
        .bind(lanes)
        .bind(after_seconds)
        .bind(most);
    let (failed, id, sampled): (i64, _, _) = FAIL.run(query.fetch_one(pool)).await?;
    let (steps, recent) = (failed.unsigned_abs(), recent(id, sampled));
    messaging::deleted(Queue::Steps, steps, recent);
    messaging::sent(Queue::Results, steps, recent);
    Ok(failed)
}
