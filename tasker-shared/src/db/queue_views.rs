//! Reading how much waits in the queues. Nothing here changes anything.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;

use super::{Result, statements};

/// A queue is counted up to this many messages.
pub const COUNTED: i64 = 10_000;

/// How much waits, each count exact up to [`COUNTED`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct Depth {
    /// Steps enqueued or claimed.
    pub ready: i64,
    /// Messages to the servers.
    pub results: i64,
    /// Retries and later starts.
    pub delayed: i64,
    /// When the oldest message to the servers of each shard was sent, the oldest of them.
    pub oldest_result_at: Option<DateTime<Utc>>,
}

statements! {
    DEPTH, "get_queue_depth" =
        "SELECT (SELECT count(*) FROM (SELECT 1 FROM tasker.ready LIMIT $1::int8) r) AS ready,
                (SELECT count(*) FROM (SELECT 1 FROM tasker.results LIMIT $1::int8) r) AS results,
                (SELECT count(*) FROM (SELECT 1 FROM tasker.delayed LIMIT $1::int8) d) AS delayed,
                (SELECT min(o.sent_at) FROM tasker.shards s,
                        LATERAL (SELECT sent_at FROM tasker.results WHERE shard = s.shard ORDER BY id LIMIT 1) o) AS oldest_result_at";
}

/// How much waits.
pub async fn depth<'c>(on: impl PgExecutor<'c>) -> Result<Depth> {
    let query = sqlx::query_as(DEPTH.sql).bind(COUNTED);
    DEPTH.run(query.fetch_one(on)).await
}
