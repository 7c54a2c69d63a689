//! What is due at a time: retries and tasks with `run_at`. When due, it becomes a message to the owner of
//! its shard.

use sqlx::postgres::PgPool;

use super::{Result, statements};

statements! {
    PROMOTE, "promote_delayed" =
        "WITH
         due AS (DELETE FROM tasker.delayed WHERE ctid = ANY (ARRAY (
                     SELECT d.ctid FROM unnest($1::int2[]) AS s(shard),
                         LATERAL (SELECT ctid FROM tasker.delayed WHERE shard = s.shard AND due_at <= now()
                                   ORDER BY due_at, id LIMIT $2 FOR UPDATE SKIP LOCKED) d)) RETURNING *),
         sent AS (INSERT INTO tasker.results (shard, kind, task_uuid, correlation_id, sent_at, step_no, attempt, tries, lost, template_id, priority, sampled)
                  SELECT shard, CASE WHEN step_no = 0 THEN 20 ELSE 22 END, task_uuid, correlation_id, clock_timestamp(), step_no, attempt, tries, lost,
                         template_id, priority, sampled FROM due)
         SELECT count(*) FROM due";
    NEXT, "get_next_due" =
        "SELECT ceil(extract(epoch FROM min(d.due_at) - clock_timestamp()) * 1000)::int8
           FROM unnest($1::int2[]) AS s(shard),
                LATERAL (SELECT due_at FROM tasker.delayed WHERE shard = s.shard ORDER BY due_at LIMIT 1) d";
}

/// Makes messages of what is due in some shards, up to `most` a shard, and returns how many.
pub async fn promote(pool: &PgPool, shards: &[i16], most: i64) -> Result<i64> {
    let query = sqlx::query_scalar(PROMOTE.sql).bind(shards).bind(most);
    PROMOTE.run(query.fetch_one(pool)).await
}

/// In how many milliseconds the next thing of some shards is due; `None` where there is none.
pub async fn next_due_ms(pool: &PgPool, shards: &[i16]) -> Result<Option<i64>> {
    let query = sqlx::query_scalar(NEXT.sql).bind(shards);
    NEXT.run(query.fetch_one(pool)).await
}
