//! Reading steps with what is known of their messages and attempts. Nothing here changes anything.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row};
use uuid::Uuid;

use super::pool::Pool;
use super::task_views::step_state;
use super::{Result, statements};
use crate::plan::Outcome;
use crate::state::step::StepState;

/// A step as stored, with its message while it is enqueued and its attempts in short.
#[derive(Debug, Clone)]
pub struct StepRow {
    pub step_no: i32,
    pub state: StepState,
    /// Parents that have not ended.
    pub waiting_on: i32,
    /// Parents that ended badly.
    pub failed: i32,
    /// The current delivery.
    pub attempt: i32,
    /// Attempts of the handler that counted.
    pub tries: i32,
    pub lost: i32,
    pub changed_at: DateTime<Utc>,
    /// While it waits for a retry: until when.
    pub due_at: Option<DateTime<Utc>>,
    /// Who runs it, and since when.
    pub worker: Option<Uuid>,
    pub claimed_at: Option<DateTime<Utc>>,
    /// The last delivery that ended.
    pub last_attempt: Option<i32>,
    pub last_outcome: Option<Outcome>,
    pub last_began_at: Option<DateTime<Utc>>,
    /// The last one that failed.
    pub failed_at: Option<DateTime<Utc>>,
    /// JSON text.
    pub error: Option<String>,
    /// JSON text of what it ended well with, where asked for.
    pub result: Option<String>,
}

/// A delivery of a step that has ended.
#[derive(Debug, Clone)]
pub struct AttemptRow {
    pub attempt: i32,
    pub outcome: Outcome,
    pub worker: Option<Uuid>,
    pub enqueued_at: Option<DateTime<Utc>>,
    pub claimed_at: Option<DateTime<Utc>>,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: DateTime<Utc>,
    /// JSON text.
    pub result: Option<String>,
    /// JSON text.
    pub error: Option<String>,
}

statements! {
    LIST, "list_steps" =
        "SELECT s.step_no, s.state, s.waiting_on, s.failed, s.attempt, s.tries, s.lost, s.changed_at, s.due_at,
                r.worker, r.claimed_at, l.attempt AS last_attempt, l.outcome AS last_outcome,
                coalesce(l.started_at, l.claimed_at) AS last_began_at, f.finished_at AS failed_at, f.error::text AS error, w.result::text AS result
           FROM tasker.steps s
           LEFT JOIN tasker.ready r ON s.state = 1 AND r.lane = ANY (ARRAY[s.lane]) AND r.id = s.message_id
           -- the last attempt
           LEFT JOIN LATERAL (SELECT * FROM tasker.attempts a WHERE s.attempt > 0 AND a.task_uuid = $1 AND a.step_no = s.step_no
                               ORDER BY a.attempt DESC LIMIT 1) l ON true
           -- the last that failed
           LEFT JOIN LATERAL (SELECT * FROM tasker.attempts a WHERE s.attempt > 0 AND a.task_uuid = $1 AND a.step_no = s.step_no
                                 AND a.outcome IN (1, 2, 3, 4, 6, 9, 10) ORDER BY a.attempt DESC LIMIT 1) f ON true
           -- the one that it ended well with
           LEFT JOIN LATERAL (SELECT a.result FROM tasker.attempts a WHERE $4::bool AND s.state = 6 AND a.task_uuid = $1 AND a.step_no = s.step_no
                                 AND a.outcome IN (0, 8) ORDER BY a.attempt DESC LIMIT 1) w ON true
          WHERE s.task_uuid = $1 AND s.step_no BETWEEN $2 AND $3
          ORDER BY s.step_no";
    RESULTS, "list_step_results" =
        "SELECT s.step_no, w.result::text
           FROM tasker.steps s,
                LATERAL (SELECT a.result FROM tasker.attempts a WHERE a.task_uuid = $1 AND a.step_no = s.step_no
                            AND a.outcome IN (0, 8) ORDER BY a.attempt DESC LIMIT 1) w
          WHERE s.task_uuid = $1 AND s.step_no BETWEEN $2 AND $3 AND s.state = 6 AND w.result IS NOT NULL";
    ATTEMPTS, "list_attempts" =
        "SELECT attempt, outcome, worker, enqueued_at, claimed_at, started_at, finished_at, result::text AS result, error::text AS error
           FROM tasker.attempts WHERE task_uuid = $1 AND step_no = $2 ORDER BY attempt DESC LIMIT $3";
}

/// A task's steps from number `first` to `last`, with their results where asked for.
pub async fn list(
    pool: &Pool,
    task_uuid: Uuid,
    first: i32,
    last: i32,
    results: bool,
) -> Result<Vec<StepRow>> {
    let query = sqlx::query_as(LIST.sql)
        .bind(task_uuid)
        .bind(first)
        .bind(last)
        .bind(results);
    LIST.run(query.fetch_all(pool)).await
}

/// What the steps from number `first` to `last` ended well with, by number, as JSON text.
pub async fn list_results(
    pool: &Pool,
    task_uuid: Uuid,
    first: i32,
    last: i32,
) -> Result<Vec<(i32, String)>> {
    let query = sqlx::query_as(RESULTS.sql)
        .bind(task_uuid)
        .bind(first)
        .bind(last);
    RESULTS.run(query.fetch_all(pool)).await
}

/// The attempts of a step that have ended, the last one first, at most `most`.
pub async fn list_attempts(
    pool: &Pool,
    task_uuid: Uuid,
    step_no: i32,
    most: i64,
) -> Result<Vec<AttemptRow>> {
    let query = sqlx::query_as(ATTEMPTS.sql)
        .bind(task_uuid)
        .bind(step_no)
        .bind(most);
    ATTEMPTS.run(query.fetch_all(pool)).await
}

fn outcome(number: i16) -> sqlx::Result<Outcome> {
    Outcome::from_i16(number).ok_or_else(|| {
        sqlx::Error::Decode(
            format!("an attempt has outcome {number}, which this version does not know").into(),
        )
    })
}

impl FromRow<'_, PgRow> for StepRow {
    fn from_row(row: &PgRow) -> sqlx::Result<StepRow> {
        Ok(StepRow {
            step_no: row.try_get("step_no")?,
            state: step_state(row.try_get("state")?)?,
            waiting_on: row.try_get("waiting_on")?,
            failed: row.try_get("failed")?,
            attempt: row.try_get("attempt")?,
            tries: row.try_get("tries")?,
            lost: row.try_get("lost")?,
            changed_at: row.try_get("changed_at")?,
            due_at: row.try_get("due_at")?,
            worker: row.try_get("worker")?,
            claimed_at: row.try_get("claimed_at")?,
            last_attempt: row.try_get("last_attempt")?,
            last_outcome: row
                .try_get::<Option<i16>, _>("last_outcome")?
                .map(outcome)
                .transpose()?,
            last_began_at: row.try_get("last_began_at")?,
            failed_at: row.try_get("failed_at")?,
            error: row.try_get("error")?,
            result: row.try_get("result")?,
        })
    }
}

impl FromRow<'_, PgRow> for AttemptRow {
    fn from_row(row: &PgRow) -> sqlx::Result<AttemptRow> {
        Ok(AttemptRow {
            attempt: row.try_get("attempt")?,
            outcome: outcome(row.try_get("outcome")?)?,
            worker: row.try_get("worker")?,
            enqueued_at: row.try_get("enqueued_at")?,
            claimed_at: row.try_get("claimed_at")?,
            started_at: row.try_get("started_at")?,
            finished_at: row.try_get("finished_at")?,
            result: row.try_get("result")?,
            error: row.try_get("error")?,
        })
    }
}
