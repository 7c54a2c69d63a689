//! Every attempt at a step.

use axum::Json;
use axum::extract::State;
use tasker_shared::db::step_views::{self, AttemptRow};
use tasker_shared::db::task_views::TaskRow;
use tasker_shared::plan::Outcome;
use tasker_shared::state::step::StepState;
use tasker_shared::wire::{ErrorResponse, StepAuditResponse};
use uuid::Uuid;

use super::App;
use super::error::ApiError;
use super::extract::StepPath;
use super::view::Results;
use super::view::step::{StepView, raw};

/// Attempts shown; a step has more only where it lost its workers or was put back very often.
const MOST: i64 = 1_000;

/// Lists the attempts at a step that have ended, newest first.
#[utoipa::path(
    get, operation_id = "list_step_attempts", path = "/v1/tasks/{task_uuid}/workflow_steps/{step_uuid}/audit", tag = "steps",
    params(("task_uuid" = uuid::Uuid, Path), ("step_uuid" = uuid::Uuid, Path)),
    responses(
        (status = 200, body = Vec<StepAuditResponse>),
        (status = 404, body = ErrorResponse, description = "No such task, or not a step of it"),
    )
)]
pub(super) async fn audit(
    State(app): State<App>,
    path: StepPath,
) -> Result<Json<Vec<StepAuditResponse>>, ApiError> {
    let of = app.step_of(path, Results::Without).await?;
    let attempts = step_views::list_attempts(&app.pool, path.task_uuid, path.number, MOST).await?;
    let mut later = false;
    let mut audit = Vec::with_capacity(attempts.len());
    for attempt in attempts {
        audit.push(response(&of.task, &of.step, attempt, later));
        later = true;
    }
    Ok(Json(audit))
}

fn response(task: &TaskRow, step: &StepView, row: AttemptRow, later: bool) -> StepAuditResponse {
    let took = row
        .started_at
        .map(|at| (row.finished_at - at).num_milliseconds().max(0));
    StepAuditResponse {
        audit_uuid: attempt_uuid(step.uuid, row.attempt, 0),
        workflow_step_uuid: step.uuid,
        transition_uuid: attempt_uuid(step.uuid, row.attempt, 1),
        task_uuid: task.task_uuid,
        recorded_at: row.finished_at,
        worker_uuid: row.worker,
        correlation_id: Some(task.correlation_id),
        success: matches!(row.outcome, Outcome::Success | Outcome::Manual),
        execution_time_ms: took,
        result: row.result.and_then(raw),
        step_name: step.name.clone(),
        from_state: Some(from_state(row.outcome).as_str().to_owned()),
        to_state: to_state(row.outcome, step.state, later).as_str().to_owned(),
        attempt: row.attempt,
        outcome: name(row.outcome).to_owned(),
        enqueued_at: row.enqueued_at,
        claimed_at: row.claimed_at,
        started_at: row.started_at,
        error: row.error.and_then(raw),
    }
}

fn from_state(outcome: Outcome) -> StepState {
    match outcome {
        Outcome::Manual => StepState::Pending,
        Outcome::Unroutable => StepState::Enqueued,
        _ => StepState::InProgress,
    }
}

/// What the attempt's end made of the step, which stands in `now` if no attempt came `later`.
fn to_state(outcome: Outcome, now: StepState, later: bool) -> StepState {
    match outcome {
        Outcome::Success => StepState::Complete,
        Outcome::Manual if now == StepState::ResolvedManually => StepState::ResolvedManually,
        Outcome::Manual => StepState::Complete,
        _ if !later && now.has_ended() => now,
        Outcome::Retryable | Outcome::Timeout | Outcome::Panic => StepState::WaitingForRetry,
        Outcome::Permanent | Outcome::Unroutable | Outcome::Stale => StepState::Error,
        Outcome::Cancelled | Outcome::Lost | Outcome::Released => StepState::Enqueued,
    }
}

/// The outcome as it is shown.
pub(super) fn name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Success => "success",
        Outcome::Retryable => "retryable",
        Outcome::Permanent => "permanent",
        Outcome::Timeout => "timeout",
        Outcome::Panic => "panic",
        Outcome::Cancelled => "cancelled",
        Outcome::Lost => "lost",
        Outcome::Released => "released",
        Outcome::Manual => "manual",
        Outcome::Unroutable => "unroutable",
        Outcome::Stale => "stale",
    }
}

/// An id of an attempt, always the same for the same one: the step's with the attempt folded into the bits
/// above it, as a UUID of version 8. `kind` tells its ids apart.
fn attempt_uuid(step: Uuid, attempt: i32, kind: u128) -> Uuid {
    let attempt = u128::from(attempt.unsigned_abs());
    let (low, high) = (attempt & 0xfff, attempt >> 12);
    let version = 0xf << 76;
    let folded = step.as_u128() ^ (low << 64) ^ (high << 80) ^ (kind << 127);
    Uuid::from_u128((folded & !version) | (0x8 << 76))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use tasker_shared::ids;

    use super::*;

    #[test]
    fn every_attempt_has_ids_of_its_own() {
        let task = ids::new_task_uuid(chrono::Utc::now());
        let mut seen = HashSet::new();
        for number in 1..20 {
            let step = ids::step_uuid(task, number);
            for attempt in 1..5_000 {
                assert!(seen.insert(attempt_uuid(step, attempt, 0)));
                assert!(seen.insert(attempt_uuid(step, attempt, 1)));
            }
        }
        assert!(seen.iter().all(|id| id.get_version_num() == 8));
    }

    #[test]
    fn an_attempt_leads_where_its_outcome_says() {
        use Outcome as O;
        use StepState as S;
        let table = [
            (O::Success, S::Complete, false, S::Complete),
            (O::Retryable, S::Complete, true, S::WaitingForRetry),
            (O::Retryable, S::Error, false, S::Error),
            (O::Retryable, S::WaitingForRetry, false, S::WaitingForRetry),
            (O::Permanent, S::Pending, true, S::Error),
            (O::Lost, S::Complete, true, S::Enqueued),
            (O::Unroutable, S::Complete, true, S::Error),
            (O::Stale, S::Error, false, S::Error),
            (O::Lost, S::Error, false, S::Error),
            (O::Cancelled, S::Cancelled, false, S::Cancelled),
            (O::Manual, S::ResolvedManually, false, S::ResolvedManually),
            (O::Manual, S::Complete, false, S::Complete),
        ];
        for (outcome, now, later, expected) in table {
            assert_eq!(
                to_state(outcome, now, later),
                expected,
                "{outcome:?} {now:?}"
            );
        }
    }
}
