//! Handing in results: an attempt's row, the message to the server and the claimed step's end, in one
//! statement. A result counts only while the step is still this worker's and this delivery's.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::wake::Notice;
use super::{Result, statements};
use crate::metrics::Correlation;
use crate::metrics::messaging::{self, Queue};
use crate::plan::Outcome;

/// The end of an attempt.
#[derive(Debug, Clone)]
pub struct Ended {
    pub lane: i32,
    pub id: i64,
    pub attempt: i32,
    /// When its step was enqueued, which tells it from another step that was given the same id: ids that a crash of the
    /// database lost are given away again.
    pub enqueued_at: DateTime<Utc>,
    /// The task's.
    pub correlation: Correlation,
    pub outcome: Outcome,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: DateTime<Utc>,
    /// JSON text.
    pub result: Option<String>,
    /// JSON text: `error_type`, `message`, `retryable`, …
    pub error: Option<String>,
    pub retry_after_ms: Option<i64>,
}

statements! {
    SUBMIT, "submit_results", [Delete Steps, Send Results] =
        "WITH
         -- the claimed steps, gone; one that was taken away is not ours any more, so its result goes nowhere
         gone AS (DELETE FROM tasker.ready r
                   USING unnest($2::int4[], $3::int8[], $4::int4[], $5::timestamptz[], $6::int2[], $7::timestamptz[], $8::timestamptz[], $9::text[], $10::text[], $11::int8[])
                         AS e(lane, id, attempt, enqueued_at, outcome, started_at, finished_at, result, error, retry_after_ms)
                   WHERE r.lane = ANY (ARRAY[e.lane]) AND r.id = e.id AND r.worker = $1 AND r.attempt = e.attempt AND r.enqueued_at = e.enqueued_at
                  RETURNING r.*, e.outcome, e.started_at, e.finished_at, e.result, e.error, e.retry_after_ms),
         history AS (INSERT INTO tasker.attempts (task_uuid, step_no, attempt, outcome, worker, enqueued_at, claimed_at, started_at, finished_at, result, error)
                     SELECT task_uuid, step_no, attempt, outcome, worker, enqueued_at, claimed_at, started_at, finished_at, result::json, error::json FROM gone),
         sent AS (INSERT INTO tasker.results (shard, kind, task_uuid, correlation_id, sent_at, step_no, attempt, tries, lost, template_id, retry_after_ms, priority, sampled, traced)
                  SELECT shard, outcome, task_uuid, correlation_id, clock_timestamp(), step_no, attempt, tries, lost, template_id, retry_after_ms, priority, sampled, traced FROM gone
                  RETURNING shard, id, kind, task_uuid, correlation_id, step_no, attempt, tries, lost, template_id, priority, sampled, traced),
         woken AS (SELECT pg_notify('tasker_results',
                                    CASE WHEN $13 THEN (SELECT string_agg(concat_ws(',', shard, id, kind, task_uuid, correlation_id, step_no, attempt, tries, lost,
                                                                                    template_id, priority, sampled, traced), ';') FROM sent)
                                         ELSE '' END)
                    WHERE $12 AND EXISTS (SELECT 1 FROM gone))
         -- what nobody reads is not run: this reads the notification
         SELECT g.lane, g.id FROM gone g JOIN (SELECT count(*) AS n FROM woken) w ON w.n >= 0";
}

/// Hands in the ends of attempts by `worker` and returns (lane, id) of those that counted. `notice` is for
/// the servers.
pub async fn submit(
    connection: &mut PgConnection,
    worker: Uuid,
    ended: &[Ended],
    notice: Notice,
) -> Result<Vec<(i32, i64)>> {
    let query = sqlx::query_as(SUBMIT.sql)
        .bind(worker)
        .bind(ended.iter().map(|e| e.lane).collect::<Vec<_>>())
        .bind(ended.iter().map(|e| e.id).collect::<Vec<_>>())
        .bind(ended.iter().map(|e| e.attempt).collect::<Vec<_>>())
        .bind(ended.iter().map(|e| e.enqueued_at).collect::<Vec<_>>())
        .bind(ended.iter().map(|e| e.outcome as i16).collect::<Vec<_>>())
        .bind(ended.iter().map(|e| e.started_at).collect::<Vec<_>>())
        .bind(ended.iter().map(|e| e.finished_at).collect::<Vec<_>>())
        .bind(
            ended
                .iter()
                .map(|e| e.result.as_deref())
                .collect::<Vec<_>>(),
        )
        .bind(ended.iter().map(|e| e.error.as_deref()).collect::<Vec<_>>())
        .bind(ended.iter().map(|e| e.retry_after_ms).collect::<Vec<_>>())
        .bind(notice != Notice::None)
        .bind(notice == Notice::Tell);
    let counted: Vec<(i32, i64)> = SUBMIT.run(query.fetch_all(connection)).await?;
    let recent = ended.last().map(|end| end.correlation);
    messaging::deleted(Queue::Steps, counted.len() as u64, recent);
    messaging::sent(Queue::Results, counted.len() as u64, recent);
    Ok(counted)
}
