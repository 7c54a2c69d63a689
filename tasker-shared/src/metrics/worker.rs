//! What a worker records on a step's way: claimed, executed, its result submitted.

use std::time::Duration;

use super::Correlation;
use super::definition::{Definition, Kind, MILLISECONDS, Recorded, SIZES};
use super::instrument::{Counter, Gauge, Histogram, instruments};
use crate::name::Name;

instruments! {
    EXECUTIONS: Counter = Definition {
        otel: "tasker.steps.executions.total",
        prom: "tasker_steps_executions_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["correlation_id"],
        values: &[],
        recorded: Recorded::Worker,
        when: "a claimed step is handed to execution, before anything about it is looked up",
        example: "sum(rate(tasker_steps_executions_total[5m]))",
    };
    SUCCESSES: Counter = Definition {
        otel: "tasker.steps.successes.total",
        prom: "tasker_steps_successes_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["correlation_id", "namespace"],
        values: &[],
        recorded: Recorded::Worker,
        when: "a handler returned success",
        example: "sum(rate(tasker_steps_successes_total[5m])) / sum(rate(tasker_steps_executions_total[5m]))",
    };
    FAILURES: Counter = Definition {
        otel: "tasker.steps.failures.total",
        prom: "tasker_steps_failures_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["correlation_id", "namespace", "error_type"],
        values: &[("error_type", &["claim_failed", "database_error", "step_not_found", "message_deletion_failed", "handler_not_found", "handler_error", "handler_panic", "timeout", "cancelled", "result_invalid", "result_too_large", "lease_lost"])],
        recorded: Recorded::Worker,
        when: "an execution ended in failure; namespace is `unknown` where it failed before the step was known",
        example: "topk(5, sum by (error_type) (rate(tasker_steps_failures_total[5m])))",
    };
    CLAIMED: Counter = Definition {
        otel: "tasker.steps.claimed.total",
        prom: "tasker_steps_claimed_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["namespace", "claim_method"],
        values: &[("claim_method", &["event", "poll"])],
        recorded: Recorded::Worker,
        when: "a step is claimed; event = a notification woke the claim, poll = the timer did",
        example: "sum by (claim_method) (rate(tasker_steps_claimed_total[5m]))",
    };
    SUBMITTED: Counter = Definition {
        otel: "tasker.steps.results_submitted.total",
        prom: "tasker_steps_results_submitted_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["correlation_id", "result_type"],
        values: &[("result_type", &["completion"])],
        recorded: Recorded::Worker,
        when: "a result has been committed to the orchestration side",
        example: "sum(rate(tasker_steps_results_submitted_total[5m]))",
    };
    EXECUTION: Histogram = Definition {
        otel: "tasker.step.execution.duration",
        prom: "tasker_step_execution_duration_milliseconds",
        kind: Kind::Histogram(MILLISECONDS),
        unit: "ms",
        labels: &["correlation_id", "namespace", "result"],
        values: &[("result", &["success", "error"])],
        recorded: Recorded::Worker,
        when: "the handler's own run time",
        example: "histogram_quantile(0.95, sum by (le) (rate(tasker_step_execution_duration_milliseconds_bucket[5m])))",
    };
    CLAIM: Histogram = Definition {
        otel: "tasker.step.claim.duration",
        prom: "tasker_step_claim_duration_milliseconds",
        kind: Kind::Histogram(MILLISECONDS),
        unit: "ms",
        labels: &["namespace", "claim_method"],
        values: &[("claim_method", &["event", "poll"])],
        recorded: Recorded::Worker,
        when: "one claim round-trip that returned work",
        example: "histogram_quantile(0.95, sum by (le) (rate(tasker_step_claim_duration_milliseconds_bucket[5m])))",
    };
    SUBMISSION: Histogram = Definition {
        otel: "tasker.step_result.submission.duration",
        prom: "tasker_step_result_submission_duration_milliseconds",
        kind: Kind::Histogram(MILLISECONDS),
        unit: "ms",
        labels: &["correlation_id", "result_type"],
        values: &[("result_type", &["completion"])],
        recorded: Recorded::Worker,
        when: "from the handler's return to its result being committed",
        example: "histogram_quantile(0.95, sum by (le) (rate(tasker_step_result_submission_duration_milliseconds_bucket[5m])))",
    };
    ACTIVE: Gauge = Definition {
        otel: "tasker.steps.active_executions",
        prom: "tasker_steps_active_executions",
        kind: Kind::Gauge,
        unit: "",
        labels: &["namespace", "handler_type"],
        values: &[("handler_type", &["rust", "command", "python", "ruby", "typescript"])],
        recorded: Recorded::Worker,
        when: "number of handlers running now",
        example: "sum by (namespace) (tasker_steps_active_executions)",
    };
    QUEUE_WAIT: Histogram = Definition {
        otel: "tasker.step.queue_wait.duration",
        prom: "tasker_step_queue_wait_duration_milliseconds",
        kind: Kind::Histogram(MILLISECONDS),
        unit: "ms",
        labels: &["namespace"],
        values: &[],
        recorded: Recorded::Worker,
        when: "from the step being claimable to being claimed",
        example: "histogram_quantile(0.95, sum by (le) (rate(tasker_step_queue_wait_duration_milliseconds_bucket[5m])))",
    };
    BUSY: Gauge = Definition {
        otel: "tasker.worker.busy_ratio",
        prom: "tasker_worker_busy_ratio",
        kind: Kind::Gauge,
        unit: "1",
        labels: &["namespace"],
        values: &[],
        recorded: Recorded::Worker,
        when: "share of this worker's slots that were executing since the last collection, 0 to 1",
        example: "tasker_worker_busy_ratio",
    };
    CLAIM_BATCH: Histogram = Definition {
        otel: "tasker.worker.claim_batch.size",
        prom: "tasker_worker_claim_batch_size",
        kind: Kind::Histogram(SIZES),
        unit: "",
        labels: &["namespace"],
        values: &[],
        recorded: Recorded::Worker,
        when: "steps returned by one claim that returned work",
        example: "histogram_quantile(0.95, sum by (le) (rate(tasker_worker_claim_batch_size_bucket[5m])))",
    };
}

/// What began the run of claims that a claim belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimMethod {
    /// A notification.
    Event,
    /// The timer.
    Poll,
}

impl ClaimMethod {
    fn name(self) -> Name {
        Name::fixed(match self {
            ClaimMethod::Event => "event",
            ClaimMethod::Poll => "poll",
        })
    }
}

/// How an execution failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorType {
    ClaimFailed,
    DatabaseError,
    StepNotFound,
    MessageDeletionFailed,
    HandlerNotFound,
    HandlerError,
    HandlerPanic,
    Timeout,
    Cancelled,
    ResultInvalid,
    ResultTooLarge,
    LeaseLost,
}

impl ErrorType {
    /// As the label and the spans say it.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorType::ClaimFailed => "claim_failed",
            ErrorType::DatabaseError => "database_error",
            ErrorType::StepNotFound => "step_not_found",
            ErrorType::MessageDeletionFailed => "message_deletion_failed",
            ErrorType::HandlerNotFound => "handler_not_found",
            ErrorType::HandlerError => "handler_error",
            ErrorType::HandlerPanic => "handler_panic",
            ErrorType::Timeout => "timeout",
            ErrorType::Cancelled => "cancelled",
            ErrorType::ResultInvalid => "result_invalid",
            ErrorType::ResultTooLarge => "result_too_large",
            ErrorType::LeaseLost => "lease_lost",
        }
    }
}

/// The namespace of what failed before its step was known.
pub const UNKNOWN: Name = Name::fixed("unknown");

/// A claim brought `steps` of a namespace, in a round-trip that took so long.
pub fn steps_claimed(namespace: Name, method: ClaimMethod, steps: u64, took: Duration) {
    CLAIMED.add(steps, None, &[namespace, method.name()]);
    CLAIM.time(took, None, &[namespace, method.name()]);
    CLAIM_BATCH.record(steps as f64, None, &[namespace]);
}

/// A step was claimed, `waited` after it could be.
pub fn step_waited(task: Correlation, namespace: Name, waited: Duration) {
    QUEUE_WAIT.time(waited, Some(task), &[namespace]);
}

/// A claimed step is handed to execution.
pub fn step_executed(task: Correlation) {
    EXECUTIONS.add(1, Some(task), &[]);
}

/// A handler returned success.
pub fn step_succeeded(task: Correlation, namespace: Name) {
    SUCCESSES.add(1, Some(task), &[namespace]);
}

/// A claim failed, so that whatever it would have brought was not known.
pub fn claim_failed() {
    FAILURES.add(
        1,
        None,
        &[UNKNOWN, Name::fixed(ErrorType::ClaimFailed.as_str())],
    );
}

/// An execution ended in failure.
pub fn step_failed(task: Correlation, namespace: Name, error: ErrorType) {
    FAILURES.add(1, Some(task), &[namespace, Name::fixed(error.as_str())]);
}

/// A handler ran for so long.
pub fn handler_ran(task: Correlation, namespace: Name, succeeded: bool, took: Duration) {
    let result = Name::fixed(if succeeded { "success" } else { "error" });
    EXECUTION.time(took, Some(task), &[namespace, result]);
}

/// A result is committed, `took` after the handler returned.
pub fn result_submitted(task: Correlation, took: Duration) {
    let completion = Name::fixed("completion");
    SUBMITTED.add(1, Some(task), &[completion]);
    SUBMISSION.time(took, Some(task), &[completion]);
}

/// Shows what runs now, as `read` says it when it is collected: handlers by (namespace, type).
pub fn watch_executions(read: impl Fn() -> Vec<((Name, Name), u64)> + Send + Sync + 'static) {
    ACTIVE.watch(move || {
        let now = read().into_iter();
        now.map(|((namespace, handler_type), n)| (vec![namespace, handler_type], n as f64))
            .collect()
    });
}

/// Shows the share of slots that were executing since the last collection, 0 to 1 for each namespace.
pub fn watch_busy(read: impl Fn() -> Vec<(Name, f64)> + Send + Sync + 'static) {
    BUSY.watch(move || {
        read()
            .into_iter()
            .map(|(namespace, ratio)| (vec![namespace], ratio))
            .collect()
    });
}
