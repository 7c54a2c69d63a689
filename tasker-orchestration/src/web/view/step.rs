//! A step as it is shown, from its row and its template. Pure.

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use tasker_shared::db::step_views::StepRow;
use tasker_shared::db::task_views::TaskRow;
use tasker_shared::ids;
use tasker_shared::plan::{Blueprint, Outcome};
use tasker_shared::state::step::StepState;
use tasker_shared::state::task::TaskState;
use tasker_shared::wire::status::StepCounts;
use tasker_shared::wire::{
    BlockedBy, GraphNode, RawJson, StepErrorDetail, StepProgress, StepReadiness, StepResponse,
    SummaryStep,
};
use uuid::Uuid;

use super::super::served::Handlers;
use super::blocked;

/// A step, ready to be shown.
#[derive(Debug, Clone)]
pub(in crate::web) struct StepView {
    pub(in crate::web) number: i32,
    pub(in crate::web) uuid: Uuid,
    pub(in crate::web) name: String,
    pub(in crate::web) handler: String,
    pub(in crate::web) state: StepState,
    pub(in crate::web) is_ready: bool,
    pub(in crate::web) dependencies_satisfied: bool,
    pub(in crate::web) retry_eligible: bool,
    pub(in crate::web) total_parents: i32,
    pub(in crate::web) completed_parents: i32,
    pub(in crate::web) attempts: i32,
    pub(in crate::web) max_attempts: i32,
    pub(in crate::web) lost_leases: i32,
    pub(in crate::web) created_at: DateTime<Utc>,
    pub(in crate::web) updated_at: DateTime<Utc>,
    pub(in crate::web) completed_at: Option<DateTime<Utc>>,
    pub(in crate::web) last_failure_at: Option<DateTime<Utc>>,
    pub(in crate::web) next_retry_at: Option<DateTime<Utc>>,
    pub(in crate::web) last_attempted_at: Option<DateTime<Utc>>,
    pub(in crate::web) last_error: Option<StepErrorDetail>,
    pub(in crate::web) blocked_by: Option<BlockedBy>,
    /// JSON text.
    pub(in crate::web) result: Option<String>,
}

/// The views of the steps from one number to another, from the rows there are of them, in order. A step
/// without a row (its task is still a submission) has not begun.
pub(super) fn views(
    task: &TaskRow,
    blueprint: &Blueprint,
    (first, last): (i32, i32),
    rows: Vec<StepRow>,
    handlers: &Handlers,
    now: DateTime<Utc>,
) -> Vec<StepView> {
    let mut rows = rows.into_iter().peekable();
    let rows: Vec<StepRow> = (first..=last)
        .map(|number| {
            rows.next_if(|row| row.step_no == number)
                .unwrap_or_else(|| not_begun(task, blueprint, number))
        })
        .collect();
    let about = blocked::About {
        task,
        blueprint,
        handlers,
        first,
        rows: &rows,
        now,
    };
    let blocked: Vec<Option<BlockedBy>> = rows.iter().map(|row| about.reason(row)).collect();
    rows.into_iter()
        .zip(blocked)
        .map(|(row, blocked_by)| view(task, blueprint, row, blocked_by, now))
        .collect()
}

/// The views of all steps of a task that was stored a moment ago; where it `begins_now` its roots are enqueued.
pub(super) fn new_views(
    task: &TaskRow,
    blueprint: &Blueprint,
    begins_now: bool,
    handlers: &Handlers,
    now: DateTime<Utc>,
) -> Vec<StepView> {
    let last = blueprint.graph.join() - 1;
    let rows = (1..=last).map(|number| {
        let mut row = not_begun(task, blueprint, number);
        if begins_now && row.waiting_on == 0 {
            (row.state, row.attempt) = (StepState::Enqueued, 1);
        }
        row
    });
    views(task, blueprint, (1, last), rows.collect(), handlers, now)
}

/// The row of a step that has none.
fn not_begun(task: &TaskRow, blueprint: &Blueprint, number: i32) -> StepRow {
    StepRow {
        step_no: number,
        state: StepState::Pending,
        waiting_on: blueprint.graph.waiting_on(number),
        failed: 0,
        attempt: 0,
        tries: 0,
        lost: 0,
        changed_at: task.created_at,
        due_at: None,
        worker: None,
        claimed_at: None,
        last_attempt: None,
        last_outcome: None,
        last_began_at: None,
        failed_at: None,
        error: None,
        result: None,
    }
}

/// The state to show: a claim and a submitted result never write the step's row.
pub(super) fn shown_state(row: &StepRow) -> StepState {
    if row.state != StepState::Enqueued {
        row.state
    } else if row.worker.is_some() {
        StepState::InProgress
    } else if row.last_attempt == Some(row.attempt) {
        match row.last_outcome {
            Some(Outcome::Success | Outcome::Manual) => StepState::EnqueuedForOrchestration,
            _ => StepState::EnqueuedAsErrorForOrchestration,
        }
    } else {
        StepState::Enqueued
    }
}

/// Attempts begun: those that ended and counted, and the one that is under way or whose end is not counted yet.
fn attempts(row: &StepRow, state: StepState) -> i32 {
    let uncounted = match state {
        StepState::InProgress => true,
        StepState::EnqueuedForOrchestration | StepState::EnqueuedAsErrorForOrchestration => {
            !matches!(
                row.last_outcome,
                Some(
                    Outcome::Lost
                        | Outcome::Released
                        | Outcome::Cancelled
                        | Outcome::Unroutable
                        | Outcome::Stale
                )
            )
        }
        _ => false,
    };
    row.tries + i32::from(uncounted)
}

fn view(
    task: &TaskRow,
    blueprint: &Blueprint,
    row: StepRow,
    blocked_by: Option<BlockedBy>,
    now: DateTime<Utc>,
) -> StepView {
    let state = shown_state(&row);
    let attempts = attempts(&row, state);
    let definition = blueprint.step(row.step_no);
    let (retryable, most) = definition.map_or((false, 0), |step| {
        (step.retry.retryable, step.retry.max_attempts)
    });
    let max_attempts = i32::try_from(most).unwrap_or(i32::MAX);
    let total_parents = blueprint.graph.waiting_on(row.step_no);
    StepView {
        number: row.step_no,
        uuid: ids::step_uuid(task.task_uuid, row.step_no),
        name: blueprint.graph.name(row.step_no).to_owned(),
        handler: definition
            .map(|step| step.handler.callable.clone())
            .unwrap_or_default(),
        state,
        is_ready: is_ready(task, &row, now),
        dependencies_satisfied: row.waiting_on == 0 && row.failed == 0,
        retry_eligible: attempts == 0 || (retryable && attempts < max_attempts),
        total_parents,
        completed_parents: (total_parents - row.waiting_on - row.failed).max(0),
        attempts,
        max_attempts,
        lost_leases: row.lost,
        created_at: task.created_at,
        updated_at: row
            .claimed_at
            .map_or(row.changed_at, |at| at.max(row.changed_at)),
        completed_at: state.satisfies().then_some(row.changed_at),
        last_failure_at: row.failed_at,
        next_retry_at: row.due_at.filter(|_| state == StepState::WaitingForRetry),
        last_attempted_at: row.claimed_at.or(row.last_began_at),
        last_error: row
            .error
            .as_deref()
            .filter(|_| !state.satisfies())
            .map(error_detail),
        blocked_by,
        result: row.result,
    }
}

/// Whether it could be enqueued at once.
fn is_ready(task: &TaskRow, row: &StepRow, now: DateTime<Utc>) -> bool {
    match row.state {
        StepState::Pending => row.waiting_on == 0 && row.failed == 0 && !is_scheduled(task, now),
        StepState::WaitingForRetry => row.due_at.is_none_or(|at| at <= now),
        _ => false,
    }
}

/// Whether the task's start lies ahead.
pub(super) fn is_scheduled(task: &TaskRow, now: DateTime<Utc>) -> bool {
    task.state == TaskState::Pending && task.run_at.is_some_and(|at| at > now)
}

/// What a worker reported; where that is in no known form, as it is.
fn error_detail(text: &str) -> StepErrorDetail {
    serde_json::from_str(text).unwrap_or_else(|_| StepErrorDetail {
        message: text.chars().take(1_000).collect(),
        ..StepErrorDetail::default()
    })
}

/// JSON text from the database, as it is.
pub(in crate::web) fn raw(text: String) -> Option<RawJson> {
    RawValue::from_string(text).ok()
}

/// Stands for step `number` of a template: equal for all its tasks. A UUID of version 8.
fn definition_uuid(template_id: i32, number: i32) -> Uuid {
    let (template, number) = (
        u128::from(template_id.unsigned_abs()),
        u128::from(number.unsigned_abs()),
    );
    Uuid::from_u128((template << 96) | (0x8 << 76) | (0b10 << 62) | number)
}

/// Counts the steps by state.
pub(in crate::web) fn count(steps: &[StepView]) -> StepCounts {
    let mut counts = StepCounts::default();
    for step in steps {
        counts.add(step.state, 1);
        counts.ready += i64::from(step.is_ready);
    }
    counts
}

impl StepView {
    /// As the step resource shows it.
    pub(in crate::web) fn response(self, task_uuid: Uuid, blueprint: &Blueprint) -> StepResponse {
        StepResponse {
            step_uuid: self.uuid,
            task_uuid,
            dependencies: blueprint
                .graph
                .parents(self.number)
                .iter()
                .map(|&parent| blueprint.graph.name(parent).to_owned())
                .collect(),
            name: self.name,
            created_at: self.created_at,
            updated_at: self.updated_at,
            completed_at: self.completed_at,
            results: self.result.and_then(raw),
            current_state: self.state.as_str().to_owned(),
            dependencies_satisfied: self.dependencies_satisfied,
            retry_eligible: self.retry_eligible,
            ready_for_execution: self.is_ready,
            total_parents: self.total_parents,
            completed_parents: self.completed_parents,
            attempts: self.attempts,
            max_attempts: self.max_attempts,
            last_failure_at: self.last_failure_at,
            next_retry_at: self.next_retry_at,
            last_attempted_at: self.last_attempted_at,
            handler: self.handler,
            lost_leases: self.lost_leases,
            last_error: self.last_error,
            blocked_by: self.blocked_by,
        }
    }

    /// As the task resource shows it.
    pub(in crate::web) fn readiness(&self, task_uuid: Uuid, template_id: i32) -> StepReadiness {
        StepReadiness {
            workflow_step_uuid: self.uuid,
            task_uuid,
            named_step_uuid: definition_uuid(template_id, self.number),
            name: self.name.clone(),
            current_state: self.state.as_str().to_owned(),
            dependencies_satisfied: self.dependencies_satisfied,
            retry_eligible: self.retry_eligible,
            ready_for_execution: self.is_ready,
            total_parents: self.total_parents,
            completed_parents: self.completed_parents,
            attempts: self.attempts,
            max_attempts: self.max_attempts,
            backoff_request_seconds: None,
            last_failure_at: self.last_failure_at,
            next_retry_at: self.next_retry_at,
            last_attempted_at: self.last_attempted_at,
            blocked_by: self.blocked_by.clone(),
        }
    }

    /// As a task's summary shows it.
    pub(in crate::web) fn summary(&self) -> SummaryStep {
        SummaryStep {
            step_uuid: self.uuid,
            name: self.name.clone(),
            current_state: self.state.as_str().to_owned(),
            created_at: Some(self.created_at),
            completed_at: self.completed_at,
            last_attempted_at: self.last_attempted_at,
            attempts: self.attempts,
            max_attempts: self.max_attempts,
            dependencies_satisfied: self.dependencies_satisfied,
            retry_eligible: self.retry_eligible,
            error: self.last_error.clone(),
        }
    }

    /// As the event stream shows it.
    pub(in crate::web) fn progress(&self) -> StepProgress {
        StepProgress {
            step_uuid: self.uuid,
            name: self.name.clone(),
            current_state: self.state.as_str().to_owned(),
            attempts: self.attempts,
            max_attempts: self.max_attempts,
            updated_at: self.updated_at,
            next_retry_at: self.next_retry_at,
            last_error: self.last_error.clone(),
            blocked_by: self.blocked_by.clone(),
        }
    }

    /// As the graph shows it.
    pub(in crate::web) fn node(&self, layer: u32) -> GraphNode {
        GraphNode {
            step_uuid: self.uuid,
            name: self.name.clone(),
            handler: self.handler.clone(),
            current_state: self.state.as_str().to_owned(),
            attempts: self.attempts,
            max_attempts: self.max_attempts,
            layer,
        }
    }
}
