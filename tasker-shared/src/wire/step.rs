//! A step as it is read, its attempts, and what a person may do to it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use utoipa::ToSchema;
use uuid::Uuid;

use super::json::RawJson;
use super::time;

/// A step of a task.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct StepResponse {
    pub step_uuid: Uuid,
    pub task_uuid: Uuid,
    pub name: String,
    #[serde(with = "time::ts")]
    pub created_at: DateTime<Utc>,
    #[serde(with = "time::ts")]
    pub updated_at: DateTime<Utc>,
    /// When it ended well.
    #[serde(
        with = "time::ts_opt",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub completed_at: Option<DateTime<Utc>>,
    /// What its handler returned, as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub results: Option<RawJson>,
    /// One of the ten step states, or `skipped`.
    pub current_state: String,
    pub dependencies_satisfied: bool,
    /// No attempt was made yet, or the step is retryable and has attempts left.
    pub retry_eligible: bool,
    pub ready_for_execution: bool,
    pub total_parents: i32,
    pub completed_parents: i32,
    /// Attempts begun. Leases lost are not among them.
    pub attempts: i32,
    pub max_attempts: i32,
    #[serde(
        with = "time::ts_opt",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub last_failure_at: Option<DateTime<Utc>>,
    #[serde(
        with = "time::ts_opt",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub next_retry_at: Option<DateTime<Utc>>,
    #[serde(
        with = "time::ts_opt",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub last_attempted_at: Option<DateTime<Utc>>,
    /// The callable that runs it.
    #[serde(default)]
    pub handler: String,
    /// The names of its parents.
    #[serde(default)]
    pub dependencies: Vec<String>,
    /// How often a worker that ran it was lost.
    #[serde(default)]
    pub lost_leases: i32,
    /// Why its last attempt failed, unless it ended well since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<StepErrorDetail>,
    /// Why it is not running; absent where it has ended otherwise than skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_by: Option<BlockedBy>,
}

/// The one reason why a step is not running.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BlockedBy {
    pub kind: BlockedKind,
    /// What belongs to the kind: names of steps, a time, a worker.
    #[schema(value_type = Object)]
    pub detail: serde_json::Map<String, serde_json::Value>,
    /// Since when.
    #[serde(with = "time::ts")]
    pub since: DateTime<Utc>,
}

/// Kinds of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BlockedKind {
    /// Parents have not ended.
    Dependencies,
    /// A parent failed or was skipped.
    FailedDependency,
    /// It waits for its next attempt.
    RetryAt,
    /// Its task is not to start yet.
    Scheduled,
    /// It is enqueued, and no live worker has its handler.
    NoWorker,
    /// It is enqueued, and what it talks to is in trouble: its lane is parked.
    CircuitOpen,
    /// It is enqueued, or its result waits to be taken in.
    Queued,
    /// A worker runs it.
    Running,
}

impl BlockedKind {
    /// As it is written on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            BlockedKind::Dependencies => "dependencies",
            BlockedKind::FailedDependency => "failed_dependency",
            BlockedKind::RetryAt => "retry_at",
            BlockedKind::Scheduled => "scheduled",
            BlockedKind::NoWorker => "no_worker",
            BlockedKind::CircuitOpen => "circuit_open",
            BlockedKind::Queued => "queued",
            BlockedKind::Running => "running",
        }
    }
}

/// Why an attempt failed.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct StepErrorDetail {
    #[serde(default)]
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_type: Option<String>,
    /// Whether another attempt could have mended it.
    #[serde(default)]
    pub retryable: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_code: Option<u16>,
}

/// One attempt at a step that has ended.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct StepAuditResponse {
    pub audit_uuid: Uuid,
    pub workflow_step_uuid: Uuid,
    pub transition_uuid: Uuid,
    pub task_uuid: Uuid,
    /// When it ended.
    #[serde(with = "time::ts")]
    pub recorded_at: DateTime<Utc>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_uuid: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<Uuid>,
    pub success: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_time_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub result: Option<RawJson>,
    pub step_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_state: Option<String>,
    pub to_state: String,
    /// Which delivery of the step to a worker it was, from 1.
    #[serde(default)]
    pub attempt: i32,
    /// `success`, `retryable`, `permanent`, `timeout`, `panic`, `cancelled`, `lost`, `released`, `manual`, `unroutable` or `stale`.
    #[serde(default)]
    pub outcome: String,
    #[serde(
        with = "time::ts_opt",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub enqueued_at: Option<DateTime<Utc>>,
    #[serde(
        with = "time::ts_opt",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub claimed_at: Option<DateTime<Utc>>,
    #[serde(
        with = "time::ts_opt",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub started_at: Option<DateTime<Utc>>,
    /// As the worker reported it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub error: Option<RawJson>,
}

/// What a person does to a step.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(tag = "action_type", rename_all = "snake_case")]
pub enum StepManualAction {
    /// Puts a failed step back, with all its attempts ahead of it.
    ResetForRetry { reason: String, reset_by: String },
    /// Declares it done without a result; its children may run.
    ResolveManually { reason: String, resolved_by: String },
    /// Declares it done with this result.
    CompleteManually {
        completion_data: ManualCompletion,
        reason: String,
        completed_by: String,
    },
}

/// The result that a person supplies.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ManualCompletion {
    /// Any value, null too.
    #[schema(value_type = serde_json::Value)]
    pub result: RawJson,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub metadata: Option<RawJson>,
}

/// Every key of every action: read flat, because a derived tagged enum would take `result` apart and put it
/// together again.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnyAction {
    action_type: String,
    reason: Option<String>,
    reset_by: Option<String>,
    resolved_by: Option<String>,
    completed_by: Option<String>,
    completion_data: Option<ManualCompletion>,
}

impl AnyAction {
    /// Refuses keys of other actions than this one.
    fn only(&self, allowed: &[&str]) -> Result<(), String> {
        let given = [
            ("reset_by", self.reset_by.is_some()),
            ("resolved_by", self.resolved_by.is_some()),
            ("completed_by", self.completed_by.is_some()),
            ("completion_data", self.completion_data.is_some()),
        ];
        match given
            .iter()
            .find(|(key, given)| *given && !allowed.contains(key))
        {
            Some((key, _)) => Err(format!("{key} does not belong to {}", self.action_type)),
            None => Ok(()),
        }
    }
}

const ACTIONS: &[&str] = &["reset_for_retry", "resolve_manually", "complete_manually"];

impl<'de> Deserialize<'de> for StepManualAction {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<StepManualAction, D::Error> {
        let any = AnyAction::deserialize(from)?;
        let allowed: &[&str] = match any.action_type.as_str() {
            "reset_for_retry" => &["reset_by"],
            "resolve_manually" => &["resolved_by"],
            "complete_manually" => &["completed_by", "completion_data"],
            other => return Err(D::Error::unknown_variant(other, ACTIONS)),
        };
        any.only(allowed).map_err(D::Error::custom)?;
        let reason = any
            .reason
            .ok_or_else(|| D::Error::missing_field("reason"))?;
        let by = |name: Option<String>, key| name.ok_or_else(|| D::Error::missing_field(key));
        Ok(match any.action_type.as_str() {
            "reset_for_retry" => StepManualAction::ResetForRetry {
                reason,
                reset_by: by(any.reset_by, "reset_by")?,
            },
            "resolve_manually" => StepManualAction::ResolveManually {
                reason,
                resolved_by: by(any.resolved_by, "resolved_by")?,
            },
            _ => StepManualAction::CompleteManually {
                completion_data: any
                    .completion_data
                    .ok_or_else(|| D::Error::missing_field("completion_data"))?,
                reason,
                completed_by: by(any.completed_by, "completed_by")?,
            },
        })
    }
}
