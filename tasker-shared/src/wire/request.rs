//! What a client sends to have tasks run, singly or in a batch, and the answer to a batch.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::error::ErrorBody;
use super::json::{RawJson, null_as_default, required};
use super::time;

/// Asks for one task. Keys that are not listed here are refused; an explicit null counts as absent.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskRequest {
    /// The template's name.
    pub name: String,
    /// The template's namespace.
    pub namespace: String,
    /// The template's version; where absent, the highest one (a pre-release only where there is nothing else).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What the task is about: kept and handed to its steps as it came, checked against the template's `input_schema`.
    #[serde(deserialize_with = "required")]
    #[schema(value_type = serde_json::Value)]
    pub context: RawJson,
    /// Who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initiator: Option<String>,
    /// The system that asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_system: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Words to find the task by.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub tags: Vec<String>,
    /// −100 to 100, higher first; 0 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// Ties the task to what else belongs to the same matter; made up where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<Uuid>,
    /// The correlation id of what caused this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_correlation_id: Option<Uuid>,
    /// The same key for the same namespace and name asks for the same task: it is made once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// Not to be started before this time.
    #[serde(
        with = "time::ts_opt",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub run_at: Option<DateTime<Utc>>,
    /// Ignored: the server's clock counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_at: Option<String>,
    /// Stored with the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub options: Option<RawJson>,
}

/// Asks for several tasks at once. Each is judged on its own; the good ones are committed together.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskBatchRequest {
    pub tasks: Vec<TaskRequest>,
}

/// What became of each request of a batch, in the same order.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TaskBatchResponse {
    pub results: Vec<TaskBatchItem>,
}

/// What became of one request of a batch.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TaskBatchItem {
    /// What the request alone would have been answered with: 201 made, 200 seen before, 4xx or 503 refused.
    pub status: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_uuid: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
}
