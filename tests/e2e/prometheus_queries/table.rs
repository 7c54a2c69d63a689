//! The queries that people know from the reference of these metrics, each with its verdict: whether it answers as it
//! is written there, and what it has to be where not.

use Verdict::{Alert, AsWritten, Corrected};

/// What becomes of a query.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It answers with data.
    AsWritten,
    /// It errs; this is right.
    Corrected(&'static str),
    /// It answers only while something is wrong; its left side always does.
    Alert { left: &'static str, fault: Fault },
}

/// What makes an alert fire.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// More submissions than a channel holds.
    Crowd,
    /// A database that is away.
    Outage,
    /// More than a test can bring about in its time.
    Flood,
}

pub(super) const QUERIES: &[(&str, Verdict)] = &[
    ("tasker_tasks_requests_total", AsWritten),
    (
        "sum by (namespace) (tasker_tasks_requests_total)",
        AsWritten,
    ),
    (
        "tasker_tasks_requests_total{correlation_id=\"0199c3e0-ccdb-7581-87ab-3f67daeaa4a5\"}",
        AsWritten,
    ),
    ("tasker_tasks_completions_total", AsWritten),
    ("rate(tasker_tasks_completions_total[5m])", AsWritten),
    ("tasker_tasks_failures_total", AsWritten),
    ("rate(tasker_tasks_failures_total[5m])", AsWritten),
    ("tasker_steps_enqueued_total", AsWritten),
    (
        "sum by (step_name) (tasker_steps_enqueued_total)",
        AsWritten,
    ),
    (
        "tasker_steps_enqueued_total{correlation_id=\"0199c3e0-ccdb-7581-87ab-3f67daeaa4a5\"}",
        AsWritten,
    ),
    ("tasker_step_results_processed_total", AsWritten),
    (
        "sum by (result_type) (tasker_step_results_processed_total)",
        AsWritten,
    ),
    (
        "rate(tasker_step_results_processed_total{result_type=\"success\"}[5m])",
        AsWritten,
    ),
    (
        "tasker_task_initialization_duration_milliseconds_sum / tasker_task_initialization_duration_milliseconds_count",
        AsWritten,
    ),
    (
        "histogram_quantile(0.95, sum by (le) (tasker_task_initialization_duration_milliseconds_bucket))",
        AsWritten,
    ),
    (
        "histogram_quantile(0.99, sum by (le) (tasker_task_initialization_duration_milliseconds_bucket))",
        AsWritten,
    ),
    (
        "rate(tasker_task_initialization_duration_milliseconds_sum[5m]) / rate(tasker_task_initialization_duration_milliseconds_count[5m])",
        AsWritten,
    ),
    (
        "histogram_quantile(0.95, sum by (le) (rate(tasker_task_initialization_duration_milliseconds_bucket[5m])))",
        AsWritten,
    ),
    (
        "tasker_task_finalization_duration_milliseconds_sum / tasker_task_finalization_duration_milliseconds_count",
        AsWritten,
    ),
    (
        "histogram_quantile(0.95, sum by (final_state, le) (tasker_task_finalization_duration_milliseconds_bucket))",
        AsWritten,
    ),
    (
        "rate(tasker_task_finalization_duration_milliseconds_sum[5m]) / rate(tasker_task_finalization_duration_milliseconds_count[5m])",
        AsWritten,
    ),
    (
        "histogram_quantile(0.95, sum by (final_state, le) (rate(tasker_task_finalization_duration_milliseconds_bucket[5m])))",
        AsWritten,
    ),
    (
        "tasker_step_result_processing_duration_milliseconds_sum / tasker_step_result_processing_duration_milliseconds_count",
        AsWritten,
    ),
    (
        "histogram_quantile(0.50, sum by (le) (tasker_step_result_processing_duration_milliseconds_bucket))",
        AsWritten,
    ),
    (
        "histogram_quantile(0.95, sum by (le) (tasker_step_result_processing_duration_milliseconds_bucket))",
        AsWritten,
    ),
    (
        "histogram_quantile(0.99, sum by (le) (tasker_step_result_processing_duration_milliseconds_bucket))",
        AsWritten,
    ),
    (
        "rate(tasker_step_result_processing_duration_milliseconds_sum[5m]) / rate(tasker_step_result_processing_duration_milliseconds_count[5m])",
        AsWritten,
    ),
    (
        "histogram_quantile(0.95, sum by (le) (rate(tasker_step_result_processing_duration_milliseconds_bucket[5m])))",
        AsWritten,
    ),
    ("tasker_steps_executions_total", AsWritten),
    ("rate(tasker_steps_executions_total[5m])", AsWritten),
    (
        "tasker_steps_executions_total{correlation_id=\"0199c3e0-ccdb-7581-87ab-3f67daeaa4a5\"}",
        AsWritten,
    ),
    ("tasker_steps_successes_total", AsWritten),
    (
        "rate(tasker_steps_successes_total[5m]) / rate(tasker_steps_executions_total[5m])",
        Corrected(
            "sum(rate(tasker_steps_successes_total[5m])) / sum(rate(tasker_steps_executions_total[5m]))",
        ),
    ),
    (
        "sum by (namespace) (tasker_steps_successes_total)",
        AsWritten,
    ),
    ("tasker_steps_failures_total", AsWritten),
    (
        "rate(tasker_steps_failures_total[5m]) / rate(tasker_steps_executions_total[5m])",
        Corrected(
            "sum(rate(tasker_steps_failures_total[5m])) / sum(rate(tasker_steps_executions_total[5m]))",
        ),
    ),
    (
        "sum by (error_type) (tasker_steps_failures_total)",
        AsWritten,
    ),
    (
        "topk(5, sum by (error_type) (tasker_steps_failures_total))",
        AsWritten,
    ),
    ("tasker_steps_claimed_total", AsWritten),
    (
        "sum by (claim_method) (tasker_steps_claimed_total)",
        AsWritten,
    ),
    ("rate(tasker_steps_claimed_total[5m])", AsWritten),
    ("tasker_steps_results_submitted_total", AsWritten),
    ("rate(tasker_steps_results_submitted_total[5m])", AsWritten),
    (
        "tasker_steps_results_submitted_total{correlation_id=\"0199c3e0-ccdb-7581-87ab-3f67daeaa4a5\"}",
        AsWritten,
    ),
    (
        "tasker_step_execution_duration_milliseconds_sum / tasker_step_execution_duration_milliseconds_count",
        AsWritten,
    ),
    (
        "histogram_quantile(0.95, sum by (namespace, le) (tasker_step_execution_duration_milliseconds_bucket))",
        AsWritten,
    ),
    (
        "histogram_quantile(0.99, sum by (le) (tasker_step_execution_duration_milliseconds_bucket))",
        AsWritten,
    ),
    (
        "rate(tasker_step_execution_duration_milliseconds_sum[5m]) / rate(tasker_step_execution_duration_milliseconds_count[5m])",
        AsWritten,
    ),
    (
        "histogram_quantile(0.95, sum by (namespace, le) (rate(tasker_step_execution_duration_milliseconds_bucket[5m])))",
        AsWritten,
    ),
    (
        "tasker_step_claim_duration_milliseconds_sum / tasker_step_claim_duration_milliseconds_count",
        AsWritten,
    ),
    (
        "histogram_quantile(0.95, sum by (claim_method, le) (tasker_step_claim_duration_milliseconds_bucket))",
        AsWritten,
    ),
    (
        "rate(tasker_step_claim_duration_milliseconds_sum[5m]) / rate(tasker_step_claim_duration_milliseconds_count[5m])",
        AsWritten,
    ),
    (
        "histogram_quantile(0.95, sum by (claim_method, le) (rate(tasker_step_claim_duration_milliseconds_bucket[5m])))",
        AsWritten,
    ),
    (
        "tasker_step_result_submission_duration_milliseconds_sum / tasker_step_result_submission_duration_milliseconds_count",
        AsWritten,
    ),
    (
        "histogram_quantile(0.95, sum by (le) (tasker_step_result_submission_duration_milliseconds_bucket))",
        AsWritten,
    ),
    (
        "rate(tasker_step_result_submission_duration_milliseconds_sum[5m]) / rate(tasker_step_result_submission_duration_milliseconds_count[5m])",
        AsWritten,
    ),
    (
        "histogram_quantile(0.95, sum by (le) (rate(tasker_step_result_submission_duration_milliseconds_bucket[5m])))",
        AsWritten,
    ),
    ("api_circuit_breaker_state", AsWritten),
    (
        "api_circuit_breaker_state == 2",
        Alert {
            left: "api_circuit_breaker_state",
            fault: Fault::Outage,
        },
    ),
    ("tasker_circuit_breaker_state", AsWritten),
    (
        "tasker_circuit_breaker_state{component=\"ffi_completion\"}",
        AsWritten,
    ),
    (
        "count(tasker_circuit_breaker_state == 2)",
        Alert {
            left: "tasker_circuit_breaker_state",
            fault: Fault::Outage,
        },
    ),
    ("api_requests_rejected_total", AsWritten),
    ("rate(api_requests_rejected_total[5m])", AsWritten),
    ("sum by (endpoint) (api_requests_rejected_total)", AsWritten),
    ("ffi_completion_slow_sends_total", AsWritten),
    (
        "rate(ffi_completion_slow_sends_total[5m]) > 10",
        Alert {
            left: "rate(ffi_completion_slow_sends_total[5m])",
            fault: Fault::Flood,
        },
    ),
    ("ffi_completion_circuit_open_rejections_total", AsWritten),
    (
        "rate(ffi_completion_circuit_open_rejections_total[5m])",
        AsWritten,
    ),
    ("mpsc_channel_usage_percent", AsWritten),
    (
        "mpsc_channel_usage_percent > 80",
        Alert {
            left: "mpsc_channel_usage_percent",
            fault: Fault::Crowd,
        },
    ),
    ("max by (component) (mpsc_channel_usage_percent)", AsWritten),
    ("mpsc_channel_capacity", AsWritten),
    (
        "mpsc_channel_usage_percent / 100 * mpsc_channel_capacity",
        AsWritten,
    ),
    ("mpsc_channel_full_events_total", AsWritten),
    ("rate(mpsc_channel_full_events_total[5m])", AsWritten),
    (
        "sum by (channel) (mpsc_channel_full_events_total)",
        AsWritten,
    ),
    ("rate(ffi_completion_slow_sends_total[5m])", AsWritten),
    ("max(mpsc_channel_usage_percent)", AsWritten),
    (
        "tasker_steps_successes_total{correlation_id=\"0199c3e0-ccdb-7581-87ab-3f67daeaa4a5\"}",
        AsWritten,
    ),
    (
        "tasker_step_results_processed_total{correlation_id=\"0199c3e0-ccdb-7581-87ab-3f67daeaa4a5\"}",
        AsWritten,
    ),
    (
        "tasker_tasks_completions_total{correlation_id=\"0199c3e0-ccdb-7581-87ab-3f67daeaa4a5\"}",
        AsWritten,
    ),
    (
        "histogram_quantile(0.50, sum by (le) (tasker_task_initialization_duration_milliseconds_bucket))",
        AsWritten,
    ),
    (
        "histogram_quantile(0.50, sum by (le) (rate(tasker_task_initialization_duration_milliseconds_bucket[5m])))",
        AsWritten,
    ),
    (
        "histogram_quantile(0.99, sum by (le) (rate(tasker_task_initialization_duration_milliseconds_bucket[5m])))",
        AsWritten,
    ),
    (
        "rate(tasker_tasks_failures_total[5m]) / (rate(tasker_tasks_completions_total[5m]) + rate(tasker_tasks_failures_total[5m]))",
        Corrected(
            "sum(rate(tasker_tasks_failures_total[5m])) / (sum(rate(tasker_tasks_completions_total[5m])) + sum(rate(tasker_tasks_failures_total[5m])))",
        ),
    ),
    ("rate(tasker_tasks_requests_total[1m])", AsWritten),
    ("rate(tasker_tasks_requests_total[5m])", AsWritten),
    ("rate(tasker_tasks_requests_total[15m])", AsWritten),
    ("sum(rate(tasker_steps_executions_total[5m]))", AsWritten),
    (
        "sum(rate(tasker_steps_successes_total[5m])) + sum(rate(tasker_steps_failures_total[5m]))",
        AsWritten,
    ),
    (
        "histogram_quantile(0.95, rate(tasker_task_initialization_duration_bucket[5m]))",
        Corrected(
            "histogram_quantile(0.95, rate(tasker_task_initialization_duration_milliseconds_bucket[5m]))",
        ),
    ),
    ("rate(tasker_steps_enqueued_total[5m])", AsWritten),
    (
        "sum by (namespace) (rate(tasker_steps_executions_total[5m]))",
        Corrected(
            "sum by (namespace) (rate(tasker_step_execution_duration_milliseconds_count[5m]))",
        ),
    ),
    (
        "histogram_quantile(0.50, rate(tasker_step_execution_duration_bucket[5m]))",
        Corrected(
            "histogram_quantile(0.50, rate(tasker_step_execution_duration_milliseconds_bucket[5m]))",
        ),
    ),
    (
        "histogram_quantile(0.95, rate(tasker_step_execution_duration_bucket[5m]))",
        Corrected(
            "histogram_quantile(0.95, rate(tasker_step_execution_duration_milliseconds_bucket[5m]))",
        ),
    ),
    (
        "histogram_quantile(0.99, rate(tasker_step_execution_duration_bucket[5m]))",
        Corrected(
            "histogram_quantile(0.99, rate(tasker_step_execution_duration_milliseconds_bucket[5m]))",
        ),
    ),
    (
        "histogram_quantile(0.95, sum by (claim_method, le) (rate(tasker_step_claim_duration_bucket[5m])))",
        Corrected(
            "histogram_quantile(0.95, sum by (claim_method, le) (rate(tasker_step_claim_duration_milliseconds_bucket[5m])))",
        ),
    ),
    (
        "sum by (error_type) (rate(tasker_steps_failures_total[5m]))",
        AsWritten,
    ),
    (
        "rate(tasker_tasks_completions_total[5m]) / (rate(tasker_tasks_completions_total[5m]) + rate(tasker_tasks_failures_total[5m]))",
        Corrected(
            "sum(rate(tasker_tasks_completions_total[5m])) / (sum(rate(tasker_tasks_completions_total[5m])) + sum(rate(tasker_tasks_failures_total[5m])))",
        ),
    ),
    (
        "rate(tasker_step_result_processing_duration_sum[5m]) / rate(tasker_step_result_processing_duration_count[5m])",
        Corrected(
            "rate(tasker_step_result_processing_duration_milliseconds_sum[5m]) / rate(tasker_step_result_processing_duration_milliseconds_count[5m])",
        ),
    ),
    (
        "tasker_task_initialization_duration_bucket",
        Corrected("tasker_task_initialization_duration_milliseconds_bucket"),
    ),
    (
        "tasker_step_execution_duration_bucket",
        Corrected("tasker_step_execution_duration_milliseconds_bucket"),
    ),
];
