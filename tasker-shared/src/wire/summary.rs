//! A task with its template and its steps, for drawing.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::step::StepErrorDetail;
use super::time;

/// Everything that a picture of a task needs.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TaskSummaryResponse {
    pub task: SummaryTask,
    pub template: SummaryTemplate,
    pub steps: Vec<SummaryStep>,
    pub dlq: SummaryDlq,
    pub links: SummaryLinks,
}

/// The task.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SummaryTask {
    pub task_uuid: Uuid,
    pub name: String,
    pub namespace: String,
    pub version: String,
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
    /// Empty where the request did not say.
    pub initiator: String,
    /// Empty where the request did not say.
    pub source_system: String,
    /// Empty where the request did not say.
    pub reason: String,
    pub correlation_id: Uuid,
    pub total_steps: i64,
    pub pending_steps: i64,
    pub in_progress_steps: i64,
    pub completed_steps: i64,
    pub failed_steps: i64,
    pub completion_percentage: f64,
    pub health_status: String,
    pub execution_status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recommended_action: Option<String>,
}

/// The graph as its template has it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SummaryTemplate {
    pub steps: Vec<SummaryTemplateStep>,
}

/// A step as its template has it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SummaryTemplateStep {
    pub name: String,
    pub step_type: String,
    /// The callable.
    pub handler: String,
    pub dependencies: Vec<String>,
    pub retryable: bool,
    pub max_attempts: u32,
}

/// A step of the task.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SummaryStep {
    pub step_uuid: Uuid,
    pub name: String,
    pub current_state: String,
    #[serde(
        with = "time::ts_opt",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub created_at: Option<DateTime<Utc>>,
    #[serde(
        with = "time::ts_opt",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub completed_at: Option<DateTime<Utc>>,
    #[serde(
        with = "time::ts_opt",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub last_attempted_at: Option<DateTime<Utc>>,
    pub attempts: i32,
    pub max_attempts: i32,
    pub dependencies_satisfied: bool,
    pub retry_eligible: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<StepErrorDetail>,
}

/// Whether the task lies among the dead letters.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SummaryDlq {
    pub in_dlq: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dlq_reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution_status: Option<String>,
}

/// Where to read on.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SummaryLinks {
    pub task: String,
    pub steps: String,
    pub dlq: String,
}
