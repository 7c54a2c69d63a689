//! What the event stream of a task sends: the task's progress and that of its steps, without payloads.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::step::{BlockedBy, StepErrorDetail};
use super::time;

/// The data of every event of `/v1/tasks/{task_uuid}/events`. The first and the last have every step, the others
/// those that changed since the event before. The event is named `progress`, the last one `end`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TaskProgress {
    pub task_uuid: Uuid,
    pub status: String,
    /// Nothing more happens to the task by itself, and the stream ends.
    #[serde(rename = "final")]
    pub is_final: bool,
    pub execution_status: String,
    pub total_steps: i64,
    pub pending_steps: i64,
    pub in_progress_steps: i64,
    pub completed_steps: i64,
    pub failed_steps: i64,
    pub ready_steps: i64,
    pub completion_percentage: f64,
    #[serde(with = "time::ts")]
    pub updated_at: DateTime<Utc>,
    #[serde(
        with = "time::ts_opt",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub completed_at: Option<DateTime<Utc>>,
    pub steps: Vec<StepProgress>,
}

/// How far a step is.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct StepProgress {
    pub step_uuid: Uuid,
    pub name: String,
    pub current_state: String,
    pub attempts: i32,
    pub max_attempts: i32,
    #[serde(with = "time::ts")]
    pub updated_at: DateTime<Utc>,
    #[serde(
        with = "time::ts_opt",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub next_retry_at: Option<DateTime<Utc>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<StepErrorDetail>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_by: Option<BlockedBy>,
}
