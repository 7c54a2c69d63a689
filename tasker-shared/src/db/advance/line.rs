//! The statement for batches in which every step ends well and whatever it tells waits for it alone: its next step, or
//! its task's end. Nothing has to be counted then, nor can anything be skipped.

use super::APPLY;
use crate::db::Statement;

/// What `APPLY` does of that. The parameters are those of `PLAIN` without `$7`: what blocks a task is a failure. A lone
/// step costs a fifth less than by `PLAIN`.
pub(in crate::db) const LINE: Statement = Statement {
    sql: "WITH
         -- the messages, each applied by whoever deletes it; only of shards that are still this server's
         gone AS (DELETE FROM tasker.results r
                   USING unnest($2::int2[], $3::int8[], $4::int4[], $5::int4[], $6::int4[], $10::int4[], $11::int2[])
                         AS m(shard, id, step_no, lo, hi, template_id, priority)
                   WHERE r.shard = ANY (ARRAY[m.shard]) AND r.id = m.id
                     AND r.kind IN (0, 8) AND r.step_no = m.step_no AND r.template_id = m.template_id AND r.priority = m.priority
                     AND m.shard = ANY (ARRAY (SELECT shard FROM tasker.shards WHERE owner = $1 AND until > now()))
                  RETURNING r.shard, r.id, r.task_uuid, r.correlation_id, r.step_no, r.attempt, r.tries, r.template_id, r.priority, r.sampled, r.traced, m.lo, m.hi),
         -- the steps they are about, where the delivery is the current one
         ended AS (UPDATE tasker.steps s SET tries = g.tries + 1, changed_at = now(), state = 6
                     FROM gone g
                    WHERE s.task_uuid = ANY (ARRAY[g.task_uuid]) AND s.step_no = g.step_no AND s.attempt = g.attempt AND s.state = 1
                   RETURNING g.*),
         -- the steps that waited for them, enqueued, unless they do not wait (any more)
         moved AS (UPDATE tasker.steps s
                      SET waiting_on = s.waiting_on - 1, lane = c.lane,
                          state = CASE WHEN s.state = 0 AND s.waiting_on = 1 THEN 1 ELSE s.state END,
                          attempt = s.attempt + CASE WHEN s.state = 0 AND s.waiting_on = 1 THEN 1 ELSE 0 END,
                          message_id = CASE WHEN s.state = 0 AND s.waiting_on = 1 THEN nextval('tasker.message_ids') END,
                          changed_at = CASE WHEN s.state = 0 AND s.waiting_on = 1 THEN now() ELSE s.changed_at END
                     FROM ended e, LATERAL unnest(($7::int4[])[e.lo:e.hi], ($8::int4[])[e.lo:e.hi]) AS c(number, lane)
                    WHERE c.number > 0 AND s.task_uuid = ANY (ARRAY[e.task_uuid]) AND s.step_no = c.number
                   RETURNING s.task_uuid, s.step_no, s.state, s.attempt, s.tries, s.lost, s.lane, s.message_id,
                             e.correlation_id, e.template_id, e.priority, e.sampled, e.traced, e.shard),
         queued AS (INSERT INTO tasker.ready (lane, id, task_uuid, correlation_id, enqueued_at, step_no, attempt, tries, lost, template_id, shard, priority, sampled, traced)
                    SELECT lane, message_id, task_uuid, correlation_id, clock_timestamp(), step_no, attempt, tries, lost, template_id, shard, priority, sampled, traced
                      FROM moved WHERE state = 1
                    RETURNING task_uuid, step_no, attempt),
         -- the tasks whose end was told (`plan::advance::END`)
         finished AS (UPDATE tasker.tasks t SET state = 8, updated_at = now(), completed_at = now()
                        FROM ended e
                       WHERE e.hi >= e.lo AND ($7::int4[])[e.lo] = 0 AND t.task_uuid = ANY (ARRAY[e.task_uuid]) AND t.state = 3
                      RETURNING t.task_uuid, t.state, t.created_at),
         counted AS (INSERT INTO tasker.task_counts (state, change) SELECT 3, -n FROM (SELECT count(*) AS n FROM finished) f WHERE n > 0)
         -- one row, as of `APPLY`; the end of a task is flushed
         SELECT g.gone, e.changed, q.step_tasks, q.step_numbers, q.attempts, f.tasks, f.states, f.ages_ms, 0::int8 AS again,
                CASE WHEN $9 AND q.step_tasks IS NOT NULL THEN pg_notify('tasker_steps', '') END AS woken,
                CASE WHEN f.tasks IS NULL THEN set_config('synchronous_commit', 'off', true) END AS lazily
           FROM (SELECT array_agg(id) AS gone FROM gone) g, (SELECT array_agg(id) AS changed FROM ended) e,
                (SELECT array_agg(task_uuid) AS step_tasks, array_agg(step_no) AS step_numbers, array_agg(attempt) AS attempts FROM queued) q,
                (SELECT array_agg(task_uuid) AS tasks, array_agg(state) AS states,
                        array_agg((extract(epoch FROM clock_timestamp() - created_at) * 1000)::float8) AS ages_ms
                   FROM finished) f",
    ..APPLY
};
