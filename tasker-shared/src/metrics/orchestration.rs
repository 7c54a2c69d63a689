//! What the server records on a task's way: requests, steps enqueued, results processed, tasks ended.

use std::time::Duration;

use super::Correlation;
use super::definition::{Definition, Kind, MILLISECONDS, Recorded};
use super::instrument::{Counter, Gauge, Histogram, instruments};
use crate::name::Name;
use crate::plan::Outcome;
use crate::plan::dead_letter::Reason;
use crate::state::task::TaskState;

instruments! {
    REQUESTS: Counter = Definition {
        otel: "tasker.tasks.requests.total",
        prom: "tasker_tasks_requests_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["correlation_id", "task_type", "namespace"],
        values: &[],
        recorded: Recorded::Server,
        when: "a request begins initialisation: once each request that names a known template; a replayed idempotency key does not count again",
        example: "sum by (namespace) (rate(tasker_tasks_requests_total[5m]))",
    };
    COMPLETIONS: Counter = Definition {
        otel: "tasker.tasks.completions.total",
        prom: "tasker_tasks_completions_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["correlation_id"],
        values: &[],
        recorded: Recorded::Server,
        when: "a task reaches complete",
        example: "sum(rate(tasker_tasks_completions_total[5m]))",
    };
    FAILURES: Counter = Definition {
        otel: "tasker.tasks.failures.total",
        prom: "tasker_tasks_failures_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["correlation_id"],
        values: &[],
        recorded: Recorded::Server,
        when: "a task reaches error",
        example: "sum(rate(tasker_tasks_failures_total[5m])) / (sum(rate(tasker_tasks_completions_total[5m])) + sum(rate(tasker_tasks_failures_total[5m])))",
    };
    ENQUEUED: Counter = Definition {
        otel: "tasker.steps.enqueued.total",
        prom: "tasker_steps_enqueued_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["correlation_id", "namespace", "step_name"],
        values: &[],
        recorded: Recorded::Server,
        when: "a ready step is put on its namespace's queue (a retry counts again)",
        example: "sum by (step_name) (rate(tasker_steps_enqueued_total[5m]))",
    };
    PROCESSED: Counter = Definition {
        otel: "tasker.step_results.processed.total",
        prom: "tasker_step_results_processed_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["correlation_id", "result_type"],
        values: &[("result_type", &["success", "error", "timeout", "cancelled", "skipped"])],
        recorded: Recorded::Server,
        when: "a worker's result has been applied to the task's graph",
        example: "sum by (result_type) (rate(tasker_step_results_processed_total[5m]))",
    };
    INITIALIZATION: Histogram = Definition {
        otel: "tasker.task.initialization.duration",
        prom: "tasker_task_initialization_duration_milliseconds",
        kind: Kind::Histogram(MILLISECONDS),
        unit: "ms",
        labels: &["correlation_id", "task_type"],
        values: &[],
        recorded: Recorded::Server,
        when: "from the request's arrival to its task, steps and first messages being committed",
        example: "histogram_quantile(0.95, sum by (le) (rate(tasker_task_initialization_duration_milliseconds_bucket[5m])))",
    };
    FINALIZATION: Histogram = Definition {
        otel: "tasker.task.finalization.duration",
        prom: "tasker_task_finalization_duration_milliseconds",
        kind: Kind::Histogram(MILLISECONDS),
        unit: "ms",
        labels: &["correlation_id", "final_state"],
        values: &[("final_state", &["complete", "error", "cancelled"])],
        recorded: Recorded::Server,
        when: "from the last step's result arriving (or the cancel request) to the task's final state being committed",
        example: "histogram_quantile(0.95, sum by (le) (rate(tasker_task_finalization_duration_milliseconds_bucket[5m])))",
    };
    PROCESSING: Histogram = Definition {
        otel: "tasker.step_result.processing.duration",
        prom: "tasker_step_result_processing_duration_milliseconds",
        kind: Kind::Histogram(MILLISECONDS),
        unit: "ms",
        labels: &["correlation_id", "result_type"],
        values: &[("result_type", &["success", "error", "timeout", "cancelled", "skipped"])],
        recorded: Recorded::Server,
        when: "from a result being received to its effects being committed",
        example: "histogram_quantile(0.95, sum by (le) (rate(tasker_step_result_processing_duration_milliseconds_bucket[5m])))",
    };
    ACTIVE: Gauge = Definition {
        otel: "tasker.tasks.active",
        prom: "tasker_tasks_active",
        kind: Kind::Gauge,
        unit: "",
        labels: &["state"],
        values: &[("state", &["pending", "initializing", "enqueuing_steps", "steps_in_process", "evaluating_results", "waiting_for_dependencies", "waiting_for_retry", "blocked_by_failures"])],
        recorded: Recorded::Server,
        when: "number of tasks in each non-final state",
        example: "sum by (state) (tasker_tasks_active)",
    };
    READY: Gauge = Definition {
        otel: "tasker.steps.ready",
        prom: "tasker_steps_ready",
        kind: Kind::Gauge,
        unit: "",
        labels: &["namespace"],
        values: &[],
        recorded: Recorded::Server,
        when: "number of steps enqueued and not yet claimed",
        example: "tasker_steps_ready > 1000",
    };
    WHOLE: Histogram = Definition {
        otel: "tasker.task.duration",
        prom: "tasker_task_duration_milliseconds",
        kind: Kind::Histogram(MILLISECONDS),
        unit: "ms",
        labels: &["namespace", "task_type", "final_state"],
        values: &[("final_state", &["complete", "error", "cancelled", "resolved_manually"])],
        recorded: Recorded::Server,
        when: "end to end, from accepted request to committed final state",
        example: "histogram_quantile(0.95, sum by (le) (rate(tasker_task_duration_milliseconds_bucket[5m])))",
    };
    RETRIES: Counter = Definition {
        otel: "tasker.steps.retries.total",
        prom: "tasker_steps_retries_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["namespace", "error_type"],
        values: &[],
        recorded: Recorded::Server,
        when: "a failed attempt was scheduled to run again",
        example: "sum by (error_type) (rate(tasker_steps_retries_total[5m]))",
    };
    DEAD_LETTERS: Counter = Definition {
        otel: "tasker.dlq.entries.total",
        prom: "tasker_dlq_entries_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["namespace", "reason"],
        values: &[("reason", &["exhausted", "permanent", "poison", "stale", "unroutable", "invalid_input", "manual"])],
        recorded: Recorded::Server,
        when: "a step or task was put in the dead letter queue",
        example: "sum by (reason) (increase(tasker_dlq_entries_total[1h]))",
    };
    DEAD_LETTERS_OPEN: Gauge = Definition {
        otel: "tasker.dlq.depth",
        prom: "tasker_dlq_depth",
        kind: Kind::Gauge,
        unit: "",
        labels: &["namespace"],
        values: &[],
        recorded: Recorded::Server,
        when: "dead letters not resolved",
        example: "sum(tasker_dlq_depth) > 0",
    };
}

/// What a worker's result was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultType {
    Success,
    Error,
    Timeout,
    Cancelled,
    Skipped,
}

impl ResultType {
    /// The type of a result with this outcome; `None` where it is not a worker's.
    pub fn of(outcome: Outcome) -> Option<ResultType> {
        match outcome {
            Outcome::Success => Some(ResultType::Success),
            Outcome::Retryable | Outcome::Permanent | Outcome::Panic | Outcome::Released => {
                Some(ResultType::Error)
            }
            Outcome::Timeout => Some(ResultType::Timeout),
            Outcome::Cancelled => Some(ResultType::Cancelled),
            Outcome::Lost | Outcome::Manual | Outcome::Unroutable | Outcome::Stale => None,
        }
    }

    /// As the label and the spans say it.
    pub fn as_str(self) -> &'static str {
        match self {
            ResultType::Success => "success",
            ResultType::Error => "error",
            ResultType::Timeout => "timeout",
            ResultType::Cancelled => "cancelled",
            ResultType::Skipped => "skipped",
        }
    }

    fn name(self) -> Name {
        Name::fixed(self.as_str())
    }
}

/// A request that names a known template begins to become a task.
pub fn task_requested(task: Correlation, namespace: Name, task_type: Name) {
    REQUESTS.add(1, Some(task), &[task_type, namespace]);
}

/// A task, its steps and first messages are committed, `took` after its request arrived.
pub fn task_initialized(task: Correlation, task_type: Name, took: Duration) {
    INITIALIZATION.time(took, Some(task), &[task_type]);
}

/// A step was put on its queue.
pub fn step_enqueued(task: Correlation, namespace: Name, step_name: Name) {
    ENQUEUED.add(1, Some(task), &[namespace, step_name]);
}

/// A worker's result was applied, `took` after it was received.
pub fn result_processed(task: Correlation, result: ResultType, took: Duration) {
    PROCESSED.add(1, Some(task), &[result.name()]);
    PROCESSING.time(took, Some(task), &[result.name()]);
}

/// A failed attempt was scheduled to run again.
pub fn step_retried(task: Correlation, namespace: Name, outcome: Outcome) {
    let error_type = Name::fixed(match outcome {
        Outcome::Timeout => "timeout",
        Outcome::Panic => "handler_panic",
        _ => "handler_error",
    });
    RETRIES.add(1, Some(task), &[namespace, error_type]);
}

/// How a task came to its end.
#[derive(Debug, Clone, Copy)]
pub struct TaskEnd {
    pub namespace: Name,
    pub task_type: Name,
    pub state: TaskState,
    /// Since the result, or the request to cancel, that ended it.
    pub finalization: Duration,
    /// Since its request was accepted.
    pub whole: Duration,
}

/// A task's final state is committed. Nothing is recorded for a state that is not final.
pub fn task_ended(task: Correlation, end: &TaskEnd) {
    let state = Name::fixed(end.state.as_str());
    match end.state {
        TaskState::Complete => COMPLETIONS.add(1, Some(task), &[]),
        TaskState::Error => FAILURES.add(1, Some(task), &[]),
        TaskState::Cancelled | TaskState::ResolvedManually => {}
        _ => return,
    }
    if end.state != TaskState::ResolvedManually {
        FINALIZATION.time(end.finalization, Some(task), &[state]);
    }
    WHOLE.time(
        end.whole,
        Some(task),
        &[end.namespace, end.task_type, state],
    );
}

/// A task became a dead letter.
pub fn dead_letter(namespace: Name, reason: Reason) {
    DEAD_LETTERS.add(1, None, &[namespace, Name::fixed(reason.as_str())]);
}

/// Shows how many tasks are in each state that is not final; none where another server shows it.
pub fn show_active(tasks: &[(TaskState, u64)]) {
    let readings = tasks
        .iter()
        .map(|(state, n)| (vec![Name::fixed(state.as_str())], *n as f64));
    ACTIVE.set(readings.collect());
}

/// Shows how many steps wait to be claimed in each namespace; none where another server shows it.
pub fn show_ready(steps: &[(Name, u64)]) {
    READY.set(
        steps
            .iter()
            .map(|(namespace, n)| (vec![*namespace], *n as f64))
            .collect(),
    );
}

/// Shows how many dead letters wait in each namespace; none where another server shows it.
pub fn show_dead_letters(open: &[(Name, u64)]) {
    DEAD_LETTERS_OPEN.set(
        open.iter()
            .map(|(namespace, n)| (vec![*namespace], *n as f64))
            .collect(),
    );
}
