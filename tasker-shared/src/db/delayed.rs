//! What is due at a time: retries and tasks with `run_at`. When due, it becomes a message to the owner of
//! its shard.

use super::pool::Pool;
use super::transaction::recent;
use super::{Result, statements};
use crate::metrics::messaging::{self, Queue};

statements! {
    PROMOTE, "promote_delayed", [Send Results] =
        "WITH
         due AS (DELETE FROM tasker.delayed WHERE ctid = ANY (ARRAY (
                     SELECT d.ctid FROM unnest($1::int2[]) AS s(shard),
                         LATERAL (SELECT ctid FROM tasker.delayed WHERE shard = s.shard AND due_at <= now()
                                   ORDER BY due_at, id LIMIT $2 FOR UPDATE SKIP LOCKED) d)) RETURNING *),
         sent AS (INSERT INTO tasker.results (shard, kind, task_uuid, correlation_id, sent_at, step_no, attempt, tries, lost, template_id, priority, sampled, traced)
                  SELECT shard, CASE WHEN step_no = 0 THEN 20 ELSE 22 END, task_uuid, correlation_id, clock_timestamp(), step_no, attempt, tries, lost,
                         template_id, priority, sampled, traced FROM due)
         SELECT count(*), (SELECT correlation_id FROM due LIMIT 1), (SELECT sampled FROM due LIMIT 1) FROM due";
    NEXT, "get_next_due" =
        "SELECT ceil(extract(epoch FROM min(d.due_at) - clock_timestamp()) * 1000)::int8
           FROM unnest($1::int2[]) AS s(shard),
                LATERAL (SELECT due_at FROM tasker.delayed WHERE shard = s.shard ORDER BY due_at LIMIT 1) d";
}

/// Makes messages of what is due in some shards, up to `most` a shard, and returns how many.
pub async fn promote(pool: &Pool, shards: &[i16], most: i64) -> Result<i64> {
    let query = sqlx::query_as(PROMOTE.sql).bind(shards).bind(most);
    let (promoted, id, sampled): (i64, _, _) = PROMOTE.run(query.fetch_one(pool)).await?;
    messaging::sent(Queue::Results, promoted.unsigned_abs(), recent(id, sampled));
    Ok(promoted)
}

/// In how many milliseconds the next thing of some shards is due; `None` where there is none.
pub async fn next_due_ms(pool: &Pool, shards: &[i16]) -> Result<Option<i64>> {
    let query = sqlx::query_scalar(NEXT.sql).bind(shards);
    NEXT.run(query.fetch_one(pool)).await
}
