//! Tasks stored without being asked for: a backlog that waits, and a history that has ended. A statement stores some
//! thousands, in the tables as acceptance and the engine leave them.

use chrono::{DateTime, Utc};

use super::super::pool::Pool;
use super::super::{Result, statements};

/// Whose tasks to store, and which: their contexts are `{"n":first}` to `{"n":last}`.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub first: i64,
    pub last: i64,
}

statements! {
    WAITING, "fill_waiting" =
        "WITH /* tasker bench */
         lanes AS (SELECT * FROM unnest($5::int2[], $6::int4[]) WITH ORDINALITY AS l(priority, lane, nth)),
         made AS (INSERT INTO tasker.tasks (task_uuid, template_id, state, priority, sampled, context, correlation_id, tags, created_at, updated_at)
                  SELECT tasker.new_task_uuid(), t.template_id, 3, l.priority, false, ('{\"n\":' || n || '}')::json, gen_random_uuid(), '{}', now(), now()
                    FROM generate_series($3::int8, $4::int8) AS n
                    JOIN lanes l ON l.nth = n % cardinality($6::int4[]) + 1
                    JOIN tasker.templates t ON t.namespace = $1 AND t.name = $2 AND t.version = '1.0.0'
                  RETURNING task_uuid, template_id, priority, correlation_id),
         -- the roots are enqueued, all in the lane of their task's priority
         graph AS (INSERT INTO tasker.steps (task_uuid, step_no, state, waiting_on, failed, attempt, tries, lost, lane, message_id, changed_at)
                   SELECT m.task_uuid, s.step_no, r.root, s.waiting_on, 0, r.root, 0, 0, CASE r.root WHEN 1 THEN l.lane END,
                          CASE r.root WHEN 1 THEN nextval('tasker.message_ids') END, now()
                     FROM made m JOIN tasker.template_steps s USING (template_id) JOIN lanes l USING (priority),
                          LATERAL (SELECT CASE WHEN s.waiting_on = 0 THEN 1 ELSE 0 END) AS r(root)
                   RETURNING task_uuid, step_no, lane, message_id),
         queued AS (INSERT INTO tasker.ready (lane, id, task_uuid, correlation_id, enqueued_at, step_no, attempt, tries, lost, template_id, shard, priority, sampled)
                    SELECT g.lane, g.message_id, g.task_uuid, m.correlation_id, now(), g.step_no, 1, 0, 0, m.template_id,
                           tasker.shard_of(g.task_uuid), m.priority, false
                      FROM graph g JOIN made m USING (task_uuid) WHERE g.lane IS NOT NULL)
         INSERT INTO tasker.task_counts (state, change) SELECT 3, count(*) FROM made";
    ENDED, "fill_ended" =
        "WITH /* tasker bench */
         -- uuids of their time, as tasker.new_task_uuid makes them
         given AS (SELECT n, at, (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0')
                                  || '7' || substr(r, 14, 3) || substr(r, 17, 11) || '00000')::uuid AS task_uuid
                     FROM (SELECT n, $5::timestamptz + (n - $3::int8) * ($6::timestamptz - $5::timestamptz) / greatest($4::int8 - $3::int8, 1) AS at, replace(gen_random_uuid()::text, '-', '') AS r
                             FROM generate_series($3::int8, $4::int8) AS n) AS s),
         made AS (INSERT INTO tasker.tasks (task_uuid, template_id, state, priority, sampled, context, correlation_id, tags, created_at, updated_at, completed_at)
                  SELECT g.task_uuid, t.template_id, 8, 0, false, ('{\"n\":' || g.n || '}')::json, gen_random_uuid(), '{}', g.at, g.at, g.at
                    FROM given g JOIN tasker.templates t ON t.namespace = $1 AND t.name = $2 AND t.version = '1.0.0'
                  RETURNING task_uuid, template_id, created_at, context::text AS context),
         graph AS (INSERT INTO tasker.steps (task_uuid, step_no, state, waiting_on, failed, attempt, tries, lost, changed_at)
                   SELECT m.task_uuid, s.step_no, 6, 0, 0, p.ran, p.ran, 0, m.created_at
                     FROM made m JOIN tasker.template_steps s USING (template_id) JOIN tasker.templates t USING (template_id),
                          LATERAL (SELECT CASE WHEN s.step_no <= t.step_count THEN 1 ELSE 0 END) AS p(ran)
                   RETURNING task_uuid, step_no, attempt)
         INSERT INTO tasker.attempts (task_uuid, step_no, attempt, outcome, worker, enqueued_at, claimed_at, started_at, finished_at, result)
         SELECT g.task_uuid, g.step_no, 1, 0, '00000000-0000-7000-8000-000000000000', m.created_at, m.created_at, m.created_at, m.created_at,
                ('{\"context\":' || m.context || ',\"attempt\":1}')::json
           FROM graph g JOIN made m USING (task_uuid) WHERE g.attempt = 1";
}

/// Stores tasks whose first steps wait, in turn in each of these lanes, (priority, lane) each.
pub async fn waiting(pool: &Pool, batch: Batch<'_>, lanes: &[(i16, i32)]) -> Result<()> {
    let query = sqlx::query(WAITING.sql)
        .bind(batch.namespace)
        .bind(batch.name)
        .bind(batch.first)
        .bind(batch.last)
        .bind(lanes.iter().map(|lane| lane.0).collect::<Vec<_>>())
        .bind(lanes.iter().map(|lane| lane.1).collect::<Vec<_>>());
    WAITING.run_at_length(query.execute(pool)).await.map(drop)
}

/// Stores tasks that have ended well between these times.
pub async fn ended(
    pool: &Pool,
    batch: Batch<'_>,
    (since, until): (DateTime<Utc>, DateTime<Utc>),
) -> Result<()> {
    let query = sqlx::query(ENDED.sql)
        .bind(batch.namespace)
        .bind(batch.name)
        .bind(batch.first)
        .bind(batch.last)
        .bind(since)
        .bind(until);
    ENDED.run_at_length(query.execute(pool)).await.map(drop)
}
