//! What people do about dead letters, and the answers.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::dlq::DlqResolution;
use super::error::ErrorBody;
use super::json::RawJson;
use super::time;

/// What somebody found out about a dead letter. What is absent or null stays as it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DlqInvestigationUpdate {
    #[serde(default)]
    pub resolution_status: Option<DlqResolution>,
    #[serde(default)]
    pub resolution_notes: Option<String>,
    #[serde(default)]
    pub resolved_by: Option<String>,
    /// Replaces what is stored.
    #[serde(default)]
    #[schema(value_type = Option<serde_json::Value>)]
    pub metadata: Option<RawJson>,
}

/// The answer to an update.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DlqUpdated {
    pub success: bool,
    pub message: String,
    pub dlq_entry_uuid: Uuid,
    pub resolution_status: DlqResolution,
}

/// Puts a task among the dead letters, for somebody's attention.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DlqAddRequest {
    #[serde(default)]
    pub note: Option<String>,
    #[serde(default)]
    pub added_by: Option<String>,
}

/// Lets the task of a dead letter go on: who, and why.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DlqRequeueRequest {
    #[serde(default)]
    pub requeued_by: Option<String>,
    #[serde(default)]
    pub note: Option<String>,
}

/// A task that goes on.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DlqRequeued {
    pub dlq_entry_uuid: Uuid,
    pub task_uuid: Uuid,
    /// The task's.
    pub status: String,
}

/// Lets the tasks of the pending dead letters go on that fit, the oldest first. At least one of `reason`, `namespace`,
/// `name` and `before` is needed, or `all`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DlqRequeueFilter {
    /// An exact reason, or one as entries have it.
    #[serde(default)]
    pub reason: Option<String>,
    #[serde(default)]
    pub namespace: Option<String>,
    /// The template's name.
    #[serde(default)]
    pub name: Option<String>,
    /// Made before this time.
    #[serde(with = "time::ts_opt", default)]
    pub before: Option<DateTime<Utc>>,
    /// Every one that is pending.
    #[serde(default)]
    pub all: Option<bool>,
    /// 1 to 1,000; 100 where absent.
    #[serde(default)]
    pub limit: Option<i64>,
    /// Only entries behind this one: where the answer before said that there are more.
    #[serde(default)]
    pub after: Option<Uuid>,
    #[serde(default)]
    pub requeued_by: Option<String>,
    #[serde(default)]
    pub note: Option<String>,
}

/// What became of a requeue by filter.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DlqRequeuedMany {
    pub requeued: u64,
    /// Entries whose tasks do not go on; they stay pending.
    pub refused: Vec<DlqRefused>,
    /// More entries may fit than the limit, or the time, allowed to take.
    pub more: bool,
    /// The last entry that was taken, where there may be more: the next request goes on `after` it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Uuid>,
}

/// An entry whose task does not go on.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DlqRefused {
    pub dlq_entry_uuid: Uuid,
    pub task_uuid: Uuid,
    pub error: ErrorBody,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_update_as_the_published_client_sends_it_leaves_what_is_null() {
        let sent = r#"{"resolution_status":"PermanentlyFailed","resolution_notes":null,"resolved_by":null,"metadata":null}"#;
        let update: DlqInvestigationUpdate = serde_json::from_str(sent).unwrap();
        assert_eq!(
            update.resolution_status,
            Some(DlqResolution::PermanentlyFailed)
        );
        assert!(update.metadata.is_none() && update.resolution_notes.is_none());
        let unknown = serde_json::from_str::<DlqInvestigationUpdate>(r#"{"note":"x"}"#);
        assert!(unknown.is_err());
    }
}
