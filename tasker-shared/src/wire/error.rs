//! Errors: the server nests them, the worker does not.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::time;

/// Every answer of the server that is not a success.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ErrorResponse {
    pub error: ErrorBody,
}

/// What went wrong.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// `SCREAMING_SNAKE`, for programs.
    pub code: String,
    /// For people: what is wrong and what to do.
    pub message: String,
    /// What belongs to the code; empty where there is nothing more to say.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub details: serde_json::Map<String, serde_json::Value>,
    /// With 503: when to try again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u64>,
}

/// Every answer of a worker that is not a success.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WorkerErrorResponse {
    /// `SCREAMING_SNAKE`, for programs.
    pub error: String,
    pub message: String,
    #[serde(with = "time::ts")]
    pub timestamp: DateTime<Utc>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}
