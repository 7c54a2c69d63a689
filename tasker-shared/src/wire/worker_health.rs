//! A worker's health. Its names differ from the server's, and the client parses its times.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::health::{ChannelStatus, CircuitBreakerStatus, PoolUtilization};
use super::time;

/// The short answer.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WorkerBasicHealth {
    /// `healthy`, `alive` or `dead`.
    pub status: String,
    #[serde(with = "time::ts")]
    pub timestamp: DateTime<Utc>,
    pub worker_id: String,
    /// What is wrong, where something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Whether steps can be taken.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WorkerReadiness {
    /// `ready` or `not_ready`.
    pub status: String,
    #[serde(with = "time::ts")]
    pub timestamp: DateTime<Utc>,
    pub worker_id: String,
    pub checks: WorkerReadinessChecks,
    pub system_info: WorkerSystemInfo,
}

/// What readiness looks at.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WorkerReadinessChecks {
    pub database: WorkerCheck,
    pub command_processor: WorkerCheck,
    pub queue_processing: WorkerCheck,
}

/// Everything.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WorkerDetailedHealth {
    /// `healthy` or `degraded`.
    pub status: String,
    #[serde(with = "time::ts")]
    pub timestamp: DateTime<Utc>,
    pub worker_id: String,
    pub checks: WorkerDetailedChecks,
    pub system_info: WorkerSystemInfo,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distributed_cache: Option<DistributedCacheInfo>,
    #[serde(default)]
    pub circuit_breakers: Vec<CircuitBreakerStatus>,
    #[serde(default)]
    pub channels: Vec<ChannelStatus>,
}

/// All six checks.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WorkerDetailedChecks {
    pub database: WorkerCheck,
    pub command_processor: WorkerCheck,
    pub queue_processing: WorkerCheck,
    pub event_system: WorkerCheck,
    pub step_processing: WorkerCheck,
    pub circuit_breakers: WorkerCheck,
}

/// One check.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WorkerCheck {
    /// `healthy`, `degraded`, `unhealthy` or `unknown`.
    pub status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// How long the check took.
    pub duration_ms: u64,
    #[serde(with = "time::ts")]
    pub last_checked: DateTime<Utc>,
}

/// What runs.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WorkerSystemInfo {
    pub version: String,
    pub environment: String,
    pub worker_type: String,
    pub uptime_seconds: u64,
    pub database_pool_size: u32,
    pub command_processor_active: bool,
    /// Empty: every namespace.
    pub supported_namespaces: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_utilization: Option<PoolUtilization>,
}

/// The cache shared between processes.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DistributedCacheInfo {
    pub enabled: bool,
    pub provider: String,
    pub healthy: bool,
}
