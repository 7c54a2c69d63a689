//! The published client's wire format as tables, and a checker that holds any answer against them. The tables
//! say for each field what the client needs: R required and not null, O may be missing or null, D may be
//! missing but not null.

use chrono::{DateTime, NaiveDateTime};
use serde_json::{Map, Value};
use uuid::Uuid;

/// Objects by name; a line has fields, a colon, their type and their mark. A type in brackets is an array of it; one
/// that begins with a capital is an object; one with bars is a closed set.
const TABLES: &str = "
TaskResponse
task_uuid: ustr R
name namespace version status: str R
created_at updated_at: ts R
completed_at: ts O
context: json R
initiator source_system reason: str R
priority: i32 O
tags: [str] O
correlation_id: uuid R
parent_correlation_id: uuid O
total_steps pending_steps in_progress_steps completed_steps failed_steps ready_steps: i64 R
execution_status recommended_action health_status: str R
completion_percentage: f64 R
steps: [StepReadiness] R

StepReadiness
workflow_step_uuid task_uuid named_step_uuid: uuid R
name current_state: str R
dependencies_satisfied retry_eligible ready_for_execution: bool R
total_parents completed_parents attempts max_attempts: i32 R
backoff_request_seconds: i32 O
last_failure_at next_retry_at last_attempted_at: nts O

TaskListResponse
tasks: [TaskResponse] R
pagination: Pagination R

Pagination
page per_page total_pages: u32 R
total_count: u64 R
has_next has_previous: bool R

TaskSummaryResponse
task: SummaryTask R
template: SummaryTemplate R
steps: [SummaryStep] R
dlq: SummaryDlq R
links: SummaryLinks R

SummaryTask
task_uuid: ustr R
name namespace version status: str R
created_at updated_at: ts R
completed_at: ts O
initiator source_system reason: str R
correlation_id: uuid R
total_steps pending_steps in_progress_steps completed_steps failed_steps: i64 R
completion_percentage: f64 R
health_status execution_status: str R
recommended_action: str O

SummaryTemplate
steps: [SummaryTemplateStep] R

SummaryTemplateStep
name step_type handler: str R
dependencies: [str] R
retryable: bool R
max_attempts: u32 R

SummaryStep
step_uuid: ustr R
name current_state: str R
created_at completed_at last_attempted_at: tstr O
attempts max_attempts: i32 R
dependencies_satisfied retry_eligible: bool R
error: SummaryError O

SummaryError
error_type: str O
retryable: bool R
status_code: u16 O

SummaryDlq
in_dlq: bool R
dlq_reason resolution_status: str O

SummaryLinks
task steps dlq: str R

DlqEntry
dlq_entry_uuid task_uuid: uuid R
original_state: str R
dlq_reason: StalenessTimeout|MaxRetriesExceeded|DependencyCycleDetected|WorkerUnavailable|ManualDlq R
dlq_timestamp created_at updated_at: nts R
resolution_status: Pending|ManuallyResolved|PermanentlyFailed|Cancelled R
resolution_timestamp: nts O
resolution_notes resolved_by: str O
task_snapshot: json R
metadata: json O

PerformanceMetrics
total_tasks active_tasks completed_tasks failed_tasks: i64 R
completion_rate error_rate average_task_duration_seconds average_step_duration_seconds system_health_score: f64 R
tasks_per_hour steps_per_hour: i64 R
analysis_period_start calculated_at: tstr R

BottleneckAnalysis
slow_steps: [SlowStep] R
slow_tasks: [SlowTask] R
resource_utilization: ResourceUtilization R
recommendations: [str] R

SlowStep
namespace_name task_name version step_name: str R
average_duration_seconds max_duration_seconds: f64 R
execution_count error_count: i64 R
error_rate: f64 R
last_executed_at: tstr O

SlowTask
namespace_name task_name version: str R
average_duration_seconds max_duration_seconds: f64 R
execution_count error_count: i64 R
error_rate average_step_count: f64 R
last_executed_at: tstr O

ResourceUtilization
database_pool_utilization: f64 R
system_health: SystemHealthCounts R

SystemHealthCounts
pending_tasks initializing_tasks enqueuing_steps_tasks steps_in_process_tasks evaluating_results_tasks: i64 R
waiting_for_dependencies_tasks waiting_for_retry_tasks blocked_by_failures_tasks: i64 R
complete_tasks error_tasks cancelled_tasks resolved_manually_tasks total_tasks: i64 R
pending_steps enqueued_steps in_progress_steps enqueued_for_orchestration_steps: i64 R
enqueued_as_error_for_orchestration_steps waiting_for_retry_steps: i64 R
complete_steps error_steps cancelled_steps resolved_manually_steps total_steps: i64 R

DlqStats
dlq_reason: StalenessTimeout|MaxRetriesExceeded|DependencyCycleDetected|WorkerUnavailable|ManualDlq R
total_entries pending manually_resolved permanent_failures cancelled: i64 R
oldest_entry newest_entry: nts O
avg_resolution_time_minutes: f64 O

DlqInvestigationQueueEntry
dlq_entry_uuid task_uuid: uuid R
original_state: str R
dlq_reason: StalenessTimeout|MaxRetriesExceeded|DependencyCycleDetected|WorkerUnavailable|ManualDlq R
dlq_timestamp: nts R
minutes_in_dlq priority_score: f64 R
namespace_name task_name current_state: str O
time_in_state_minutes: i32 O

StalenessMonitoring
task_uuid: uuid R
namespace_name task_name: str O
current_state: str R
time_in_state_minutes task_age_minutes staleness_threshold_minutes priority: i32 R
health_status: healthy|warning|stale R

StepResponse
step_uuid task_uuid: ustr R
name: str R
created_at updated_at: tstr R
completed_at: tstr O
results: json O
current_state: str R
dependencies_satisfied retry_eligible ready_for_execution: bool R
total_parents completed_parents attempts max_attempts: i32 R
last_failure_at next_retry_at last_attempted_at: tstr O

StepAuditResponse
audit_uuid workflow_step_uuid transition_uuid task_uuid: ustr R
recorded_at: tstr R
success: bool R
step_name to_state: str R
worker_uuid correlation_id: str O
execution_time_ms: i64 O
result: json O
from_state: str O

TemplateListResponse
namespaces: [NamespaceSummary] R
templates: [TemplateSummary] R
total_count: u64 R

NamespaceSummary
name: str R
description: str O
template_count: u64 R

TemplateSummary
name namespace version: str R
description: str O
step_count: u64 R

TemplateDetail
name namespace version: str R
description: str O
configuration: json O
steps: [TemplateStepDetail] R

TemplateStepDetail
name: str R
description: str O
default_retryable: bool R
default_max_attempts: i32 R
result_schema: json O

HealthResponse
status: str R
timestamp: tstr R

DetailedHealthResponse
status: str R
timestamp: tstr R
checks: HealthChecks R
info: HealthInfo R

HealthChecks
web_database orchestration_database circuit_breaker orchestration_system: HealthCheck R
command_processor pool_utilization queue_depth channel_saturation: HealthCheck R

HealthCheck
status: str R
message: str O
duration_ms: u64 R

HealthInfo
version environment operational_state circuit_breaker_state: str R
web_database_pool_size orchestration_database_pool_size: u32 R
pool_utilization: PoolUtilization O

PoolUtilization
tasker_pool pgmq_pool: PoolDetail R

PoolDetail
active_connections idle_connections max_connections: u32 R
utilization_percent average_acquire_time_ms max_acquire_time_ms: f64 R
total_acquires slow_acquires acquire_errors: u64 R

WorkerBasicHealth
status worker_id: str R
timestamp: ts R

WorkerReadiness
status worker_id: str R
timestamp: ts R
checks: WorkerReadinessChecks R
system_info: WorkerSystemInfo R

WorkerReadinessChecks
database command_processor queue_processing: WorkerCheck R

WorkerDetailedHealth
status worker_id: str R
timestamp: ts R
checks: WorkerDetailedChecks R
system_info: WorkerSystemInfo R
distributed_cache: DistributedCache O

WorkerDetailedChecks
database command_processor queue_processing event_system step_processing circuit_breakers: WorkerCheck R

WorkerCheck
status: str R
message: str O
duration_ms: u64 R
last_checked: ts R

WorkerSystemInfo
version environment worker_type: str R
uptime_seconds: u64 R
database_pool_size: u32 R
command_processor_active: bool R
supported_namespaces: [str] R
pool_utilization: PoolUtilization O

DistributedCache
enabled healthy: bool R
provider: str R

OrchestrationConfigResponse
metadata: ConfigMetadata R
auth: AuthConfig R
circuit_breakers: CircuitBreakerConfig R
database_pools: DatabasePoolConfig R
deployment_mode: str R
messaging: MessagingConfig R

WorkerConfigResponse
metadata: ConfigMetadata R
worker_id worker_type: str R
auth: AuthConfig R
messaging: MessagingConfig R

ConfigMetadata
timestamp: ts R
environment version: str R

AuthConfig
enabled strict_validation: bool R
verification_method jwt_issuer jwt_audience api_key_header: str R
api_key_count: u64 R
allowed_algorithms: [str] R

CircuitBreakerConfig
enabled: bool R
failure_threshold timeout_seconds success_threshold: u32 R

DatabasePoolConfig
web_api_pool_size web_api_max_connections: u32 R

MessagingConfig
backend: str R
queues: [str] R

WorkerTemplateList
supported_namespaces worker_capabilities: [str] R
template_count: u64 R
cache_stats: CacheStats O

CacheStats
total_cached cache_hits cache_misses cache_evictions oldest_entry_age_seconds: u64 R
average_access_count: f64 R
supported_namespaces: [str] R

WorkerTemplate
template: ResolvedTemplate R
handler_metadata: HandlerMetadata R
cached: bool R
cache_age_seconds access_count: u64 O

ResolvedTemplate
template: Template R
environment: str R
resolved_at: ts R

HandlerMetadata
namespace name version handler_class: str R
config_schema: json O
default_dependent_system: str O
registered_at: ts R

TemplateValidation
valid: bool R
errors required_capabilities step_handlers: [str] R

Template
name namespace_name version: str R
description: str O
metadata: TemplateMetadata O
system_dependencies: SystemDependencies D
domain_events: [DomainEvent] D
input_schema: json O
steps: [TemplateStep] D
environments: json D
lifecycle: TemplateLifecycle O

TemplateMetadata
author documentation_url: str O
tags: [str] D
created_at updated_at: ts O

SystemDependencies
primary: str D
secondary: [str] D

DomainEvent
name: str R
description: str O
schema: json O

TemplateLifecycle
max_duration_minutes max_waiting_for_dependencies_minutes: i32 O
max_waiting_for_retry_minutes max_steps_in_process_minutes: i32 O
staleness_action: str D
auto_fail_on_timeout auto_dlq_on_timeout: bool O

TemplateStep
name: str R
description: str O
handler: TemplateHandler R
type: standard|decision|deferred_convergence|batchable|batch_worker D
system_dependency: str O
dependencies: [str] D
retry: TemplateRetry D
timeout_seconds: u32 O
publishes_events: [PublishedEvent] D
result_schema: json O

TemplateHandler
callable: str R
method resolver: str O
initialization: json D

TemplateRetry
retryable: bool D
max_attempts: u32 D
backoff: none|linear|exponential|fibonacci D
backoff_base_ms max_backoff_ms: u64 O

PublishedEvent
name description: str R
schema: json R
condition: success|failure|retryable_failure|permanent_failure|always D
delivery_mode: durable|fast|broadcast D
publisher: str O

ErrorResponse
error: ErrorBody R

ErrorBody
code message: str R
details: json R

WorkerErrorResponse
error message: str R
timestamp: ts R
request_id: str O
";

/// Holds `value` against the table of that name (in brackets: an array of it) and panics with all that is wrong.
pub(crate) fn assert_fits(table: &str, value: &Value) {
    let faults = faults(table, value);
    assert!(
        faults.is_empty(),
        "{table}:\n{}\n{value:#}",
        faults.join("\n")
    );
}

/// What is wrong with `value`.
fn faults(table: &str, value: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    check(table, value, "", &mut faults);
    faults
}

/// The lines of a table.
fn lines(table: &str) -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let block = TABLES
        .split("\n\n")
        .map(str::trim)
        .find(|block| block.lines().next() == Some(table));
    let block = block.unwrap_or_else(|| panic!("there is no table {table}"));
    block.lines().skip(1).flat_map(|line| {
        let (fields, rest) = line.split_once(": ").expect("a line of a table");
        let (kind, mark) = rest.split_once(' ').expect("a type and a mark");
        fields.split(' ').map(move |field| (field, kind, mark))
    })
}

fn check(kind: &str, value: &Value, at: &str, faults: &mut Vec<String>) {
    let mut wrong = |expected: &str| faults.push(format!("{at}: {value} is not {expected}"));
    if let Some(inner) = kind
        .strip_prefix('[')
        .and_then(|kind| kind.strip_suffix(']'))
    {
        match value.as_array() {
            Some(list) => {
                for (i, value) in list.iter().enumerate() {
                    check(inner, value, &format!("{at}/{i}"), faults);
                }
            }
            None => wrong("an array"),
        }
    } else if kind.contains('|') {
        if !value
            .as_str()
            .is_some_and(|text| kind.split('|').any(|known| known == text))
        {
            wrong(kind);
        }
    } else if kind.starts_with(char::is_uppercase) {
        match value.as_object() {
            Some(object) => check_object(kind, object, at, faults),
            None => wrong("an object"),
        }
    } else if !fits(kind, value) {
        wrong(kind);
    }
}

fn check_object(table: &str, object: &Map<String, Value>, at: &str, faults: &mut Vec<String>) {
    for (field, kind, mark) in lines(table) {
        let at = format!("{at}/{field}");
        match (object.get(field), mark) {
            (None, "R") => faults.push(format!("{at} is missing")),
            (None, _) | (Some(Value::Null), "O") => {}
            (Some(value), _) => check(kind, value, &at, faults),
        }
    }
}

fn fits(kind: &str, value: &Value) -> bool {
    let text = value.as_str();
    let between = |low: i64, high: i64| value.as_i64().is_some_and(|n| (low..=high).contains(&n));
    match kind {
        "json" => true,
        "str" => text.is_some(),
        "bool" => value.is_boolean(),
        "i32" => between(i32::MIN.into(), i32::MAX.into()),
        "i64" => value.is_i64(),
        "u16" => between(0, u16::MAX.into()),
        "u32" => between(0, u32::MAX.into()),
        "u64" => value.is_u64(),
        "f64" => value.as_f64().is_some_and(f64::is_finite),
        "uuid" | "ustr" => text.is_some_and(|text| Uuid::parse_str(text).is_ok()),
        "ts" | "tstr" => text.is_some_and(|text| DateTime::parse_from_rfc3339(text).is_ok()),
        "nts" => text.is_some_and(|text| text.parse::<NaiveDateTime>().is_ok()),
        _ => panic!("there is no type {kind}"),
    }
}

mod tests {
    use serde_json::json;

    use super::*;

    const SMALLEST_TASK: &str = r#"{"task_uuid":"0199c3e0-ccdb-7581-87ab-3f67daeaa4a5","name":"process_order","namespace":"shop","version":"1.0.0","status":"pending",
        "created_at":"2025-01-02T03:04:05.678Z","updated_at":"2025-01-02T03:04:05.678Z","context":{},"initiator":"unknown","source_system":"unknown",
        "reason":"unknown","correlation_id":"0199c3e0-ccdb-7581-87ab-3f67daeaa4a6","total_steps":1,"pending_steps":0,"in_progress_steps":0,
        "completed_steps":0,"failed_steps":0,"ready_steps":0,"execution_status":"processing","recommended_action":"wait_for_completion",
        "completion_percentage":0,"health_status":"healthy","steps":[]}"#;

    #[test]
    fn every_table_can_be_read() {
        let names: Vec<&str> = TABLES
            .split("\n\n")
            .map(|block| block.trim().lines().next().expect("a name"))
            .collect();
        for name in &names {
            for (_, kind, mark) in lines(name) {
                let inner = kind.trim_matches(['[', ']']);
                if inner.contains('|') {
                    // A closed set of values.
                } else if inner.starts_with(char::is_uppercase) {
                    assert!(names.contains(&inner), "{name} names {inner}");
                } else {
                    fits(inner, &Value::Null);
                }
                assert!(["R", "O", "D"].contains(&mark), "{name}: {mark}");
            }
        }
    }

    #[test]
    fn the_smallest_task_fits_and_each_of_its_fields_is_needed() {
        let task: Value = serde_json::from_str(SMALLEST_TASK).unwrap();
        assert_fits("TaskResponse", &task);
        for field in task.as_object().unwrap().keys() {
            let mut without = task.clone();
            without.as_object_mut().unwrap().remove(field);
            assert_eq!(faults("TaskResponse", &without).len(), 1, "{field}");
            if field != "context" {
                let mut null = task.clone();
                null[field] = Value::Null;
                assert_eq!(faults("TaskResponse", &null).len(), 1, "{field}");
            }
        }
    }

    #[test]
    fn values_of_the_wrong_kind_do_not_fit() {
        for (kind, good, bad) in [
            ("i32", json!(-7), json!(3_000_000_000_i64)),
            ("i64", json!(7), json!(7.0)),
            ("u64", json!(7), json!(-7)),
            ("f64", json!(7), json!(null)),
            (
                "ts",
                json!("2025-01-02T03:04:05Z"),
                json!("2025-01-02T03:04:05"),
            ),
            (
                "nts",
                json!("2025-01-02T03:04:05.5"),
                json!("2025-01-02T03:04:05.5Z"),
            ),
            (
                "uuid",
                json!("0199c3e0ccdb758187ab3f67daeaa4a5"),
                json!("x"),
            ),
            ("a|b", json!("b"), json!("c")),
            ("[str]", json!(["b"]), json!([1])),
            ("bool", json!(true), json!("true")),
        ] {
            assert!(faults(kind, &good).is_empty(), "{kind} {good}");
            assert!(!faults(kind, &bad).is_empty(), "{kind} {bad}");
        }
    }
}
