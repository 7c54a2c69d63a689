//! Circuits of what steps talk to.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::time;

/// A target in trouble: its steps wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CircuitResponse {
    /// `host:port` of an `http` step, or the name that a template gives in `initialization.circuit`.
    pub target: String,
    /// `open`, or `half_open` while a step is out to see whether the target answers.
    pub state: String,
    /// What the last failure said.
    pub reason: String,
    #[serde(with = "time::ts")]
    pub opened_at: DateTime<Utc>,
    /// From when on the next step may go out to see.
    #[serde(with = "time::ts")]
    pub retry_at: DateTime<Utc>,
    /// Steps that went out to see, in vain.
    pub failed_probes: i32,
}

/// A circuit was closed by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CircuitClosed {
    pub target: String,
    pub message: String,
}
