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
         SELECT count(*), (SELECT correlation_id FROM due LIMIT 1), (SELECT sampled FROM due LIMIT 1),
                (SELECT ceil(extract(epoch FROM min(d.due_at) - clock_timestamp()) * 1000)::int8
                   FROM unnest($1::int2[]) AS s(shard),
                        LATERAL (SELECT due_at FROM tasker.delayed WHERE shard = s.shard AND due_at > now() ORDER BY due_at LIMIT 1) d)
           FROM due";
}

/// What was due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promoted {
    pub count: i64,
    /// In how many milliseconds the next thing is due that was not; `None` where there is none.
    pub next_due_ms: Option<i64>,
}

/// Makes messages of what is due in some shards, up to `most` a shard.
pub async fn promote(pool: &Pool, shards: &[i16], most: i64) -> Result<Promoted> {
    let query = sqlx::query_as(PROMOTE.sql).bind(shards).bind(most);
    let (count, id, sampled, next_due_ms): (i64, _, _, _) =
        PROMOTE.run(query.fetch_one(pool)).await?;
    messaging::sent(Queue::Results, count.unsigned_abs(), recent(id, sampled));
    Ok(Promoted { count, next_due_ms })
}
