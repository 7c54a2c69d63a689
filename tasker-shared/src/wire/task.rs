//! A task as it is read, with its steps in short, and lists of tasks.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::json::RawJson;
use super::step::BlockedBy;
use super::time;

/// A task.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TaskResponse {
    pub task_uuid: Uuid,
    pub name: String,
    pub namespace: String,
    pub version: String,
    /// One of the twelve task states; `complete`, `error`, `cancelled` and `resolved_manually` are final.
    pub status: String,
    #[serde(with = "time::ts")]
    pub created_at: DateTime<Utc>,
    #[serde(with = "time::ts")]
    pub updated_at: DateTime<Utc>,
    #[serde(
        with = "time::ts_opt",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub completed_at: Option<DateTime<Utc>>,
    /// As it was submitted.
    #[schema(value_type = serde_json::Value)]
    pub context: RawJson,
    /// `unknown` where the request did not say.
    pub initiator: String,
    /// `unknown` where the request did not say.
    pub source_system: String,
    /// `unknown` where the request did not say.
    pub reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    pub correlation_id: Uuid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_correlation_id: Option<Uuid>,
    pub total_steps: i64,
    /// Steps in `pending`. Steps that are enqueued, wait for a retry, were cancelled or skipped are in `total_steps` only.
    pub pending_steps: i64,
    /// Steps that a worker runs.
    pub in_progress_steps: i64,
    /// Steps in `complete` or `resolved_manually`.
    pub completed_steps: i64,
    /// Steps in `error`.
    pub failed_steps: i64,
    /// Steps that could be enqueued at once.
    pub ready_steps: i64,
    pub execution_status: String,
    pub recommended_action: String,
    /// 0 to 100.
    pub completion_percentage: f64,
    pub health_status: String,
    /// Empty in lists.
    pub steps: Vec<StepReadiness>,
    /// Where the request asked for a later start.
    #[serde(
        with = "time::ts_opt",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub run_at: Option<DateTime<Utc>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// Why the task failed, where that is not the failure of a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub failure: Option<RawJson>,
}

/// A step in short, inside a task. It names a step's id, and writes times, otherwise than [`super::StepResponse`].
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct StepReadiness {
    pub workflow_step_uuid: Uuid,
    pub task_uuid: Uuid,
    /// Stands for the step in its template: equal for every task of the template.
    pub named_step_uuid: Uuid,
    pub name: String,
    pub current_state: String,
    pub dependencies_satisfied: bool,
    /// No attempt was made yet, or the step is retryable and has attempts left.
    pub retry_eligible: bool,
    pub ready_for_execution: bool,
    pub total_parents: i32,
    pub completed_parents: i32,
    pub attempts: i32,
    pub max_attempts: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_request_seconds: Option<i32>,
    /// UTC, without offset.
    #[serde(
        with = "time::nts_opt",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>, example = "2025-01-02T03:04:05.678901")]
    pub last_failure_at: Option<DateTime<Utc>>,
    /// UTC, without offset.
    #[serde(
        with = "time::nts_opt",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>, example = "2025-01-02T03:04:05.678901")]
    pub next_retry_at: Option<DateTime<Utc>>,
    /// UTC, without offset.
    #[serde(
        with = "time::nts_opt",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>, example = "2025-01-02T03:04:05.678901")]
    pub last_attempted_at: Option<DateTime<Utc>>,
    /// Why the step is not running; absent where it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_by: Option<BlockedBy>,
}

/// A page of tasks, the newest first.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TaskListResponse {
    pub tasks: Vec<TaskResponse>,
    pub pagination: Pagination,
}

/// Where a page stands among the others.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Pagination {
    /// From 1.
    pub page: u32,
    pub per_page: u32,
    /// Exact to 10,000, beyond that an estimate.
    pub total_count: u64,
    pub total_pages: u32,
    pub has_next: bool,
    pub has_previous: bool,
    /// Whether `total_count` is an estimate, which may be half a minute old.
    #[serde(default)]
    pub total_count_estimated: bool,
    /// To be given as `cursor` for the page after this one, at the same cost however deep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}
