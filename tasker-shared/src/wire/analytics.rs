//! How tasks and steps have gone, and where they are held up.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::time;

/// How it has gone. Averages over nothing are 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PerformanceMetrics {
    /// Tasks that ended in the period, and those that are under way.
    pub total_tasks: i64,
    /// Tasks that have not ended, now.
    pub active_tasks: i64,
    pub completed_tasks: i64,
    pub failed_tasks: i64,
    /// Tasks that were cancelled in the period.
    pub cancelled_tasks: i64,
    /// Attempts of steps that ended in the period, and those of them that failed.
    pub step_executions: i64,
    pub step_errors: i64,
    /// Of all tasks, in percent.
    pub completion_rate: f64,
    /// Of all tasks, in percent.
    pub error_rate: f64,
    /// From acceptance to end.
    pub average_task_duration_seconds: f64,
    /// Of an attempt, from the handler's start to its end.
    pub average_step_duration_seconds: f64,
    /// Tasks that ended, by hours of the period in which there was anything; at least one hour counts.
    pub tasks_per_hour: i64,
    pub steps_per_hour: i64,
    /// From 0 to 1: 1 where no task failed and none waits for a person.
    pub system_health_score: f64,
    #[serde(with = "time::ts")]
    pub analysis_period_start: DateTime<Utc>,
    #[serde(with = "time::ts")]
    pub calculated_at: DateTime<Utc>,
}

/// What takes longest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BottleneckAnalysis {
    pub slow_steps: Vec<SlowStep>,
    pub slow_tasks: Vec<SlowTask>,
    pub resource_utilization: ResourceUtilization,
    /// What could be done, in words; empty where nothing stands out.
    pub recommendations: Vec<String>,
}

/// A step by how long its attempts took on average.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SlowStep {
    pub namespace_name: String,
    pub task_name: String,
    pub version: String,
    pub step_name: String,
    pub average_duration_seconds: f64,
    pub max_duration_seconds: f64,
    pub execution_count: i64,
    pub error_count: i64,
    /// From 0 to 1.
    pub error_rate: f64,
    #[serde(with = "time::ts_opt")]
    pub last_executed_at: Option<DateTime<Utc>>,
}

/// A template by how long its tasks took on average.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SlowTask {
    pub namespace_name: String,
    pub task_name: String,
    pub version: String,
    pub average_duration_seconds: f64,
    pub max_duration_seconds: f64,
    pub execution_count: i64,
    pub error_count: i64,
    /// From 0 to 1.
    pub error_rate: f64,
    pub average_step_count: f64,
    #[serde(with = "time::ts_opt")]
    pub last_executed_at: Option<DateTime<Utc>>,
}

/// What is in use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ResourceUtilization {
    /// Of the answering server's connections, from 0 to 1.
    pub database_pool_utilization: f64,
    pub system_health: SystemHealthCounts,
}

/// Tasks and steps by state: exact to 10,000, then estimated.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SystemHealthCounts {
    pub pending_tasks: i64,
    pub initializing_tasks: i64,
    pub enqueuing_steps_tasks: i64,
    pub steps_in_process_tasks: i64,
    pub evaluating_results_tasks: i64,
    pub waiting_for_dependencies_tasks: i64,
    pub waiting_for_retry_tasks: i64,
    pub blocked_by_failures_tasks: i64,
    pub complete_tasks: i64,
    pub error_tasks: i64,
    pub cancelled_tasks: i64,
    pub resolved_manually_tasks: i64,
    pub total_tasks: i64,
    pub pending_steps: i64,
    pub enqueued_steps: i64,
    pub in_progress_steps: i64,
    pub enqueued_for_orchestration_steps: i64,
    pub enqueued_as_error_for_orchestration_steps: i64,
    pub waiting_for_retry_steps: i64,
    pub complete_steps: i64,
    pub error_steps: i64,
    pub cancelled_steps: i64,
    pub resolved_manually_steps: i64,
    /// Steps that will not run because something above them failed.
    pub skipped_steps: i64,
    pub total_steps: i64,
}
