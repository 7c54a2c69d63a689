//! How much waits to be worked on, looked at every second by each server to know whether to take in more. Reads few
//! rows however many there are.

use super::pool::Pool;
use super::{Result, statements};

/// How much waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, sqlx::FromRow)]
pub struct Waiting {
    /// For how many seconds the oldest submission from a user's transaction has waited for a server; absent where
    /// there is none.
    pub oldest_request_s: Option<f64>,
    /// Steps enqueued or claimed, counted up to twice what was asked for; absent where nothing was.
    pub steps: Option<i64>,
}

statements! {
    WAITING, "measure_waiting" =
        "SELECT (SELECT extract(epoch FROM clock_timestamp() - requested_at)::float8 FROM tasker.requests ORDER BY id LIMIT 1) AS oldest_request_s,
                CASE WHEN $1::int8 IS NOT NULL THEN (SELECT count(*) FROM (SELECT 1 FROM tasker.ready LIMIT 2 * $1::int8) r) END AS steps";
}

/// How much waits; steps are counted only where `most_steps` says how many may be there.
pub async fn waiting(pool: &Pool, most_steps: Option<u32>) -> Result<Waiting> {
    let query = sqlx::query_as(WAITING.sql).bind(most_steps.map(i64::from));
    WAITING.run(query.fetch_one(pool)).await
}
