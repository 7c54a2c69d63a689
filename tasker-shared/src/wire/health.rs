//! The server's health.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::metrics::resilience::BreakerState;
use crate::resilience::breaker::{Breaker, BreakerView};
use crate::resilience::channel::{self, Usage};

use super::time;

/// The short answer.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct HealthResponse {
    /// `healthy`, `alive` or `dead`.
    pub status: String,
    #[serde(with = "time::ts")]
    pub timestamp: DateTime<Utc>,
    /// What is wrong, where something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Whether work can be taken.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ReadinessResponse {
    /// `ready` or `not_ready`.
    pub status: String,
    #[serde(with = "time::ts")]
    pub timestamp: DateTime<Utc>,
    pub checks: ReadinessChecks,
    pub info: HealthInfo,
}

/// What readiness looks at.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ReadinessChecks {
    pub web_database: HealthCheck,
    pub orchestration_database: HealthCheck,
    pub circuit_breaker: HealthCheck,
    pub orchestration_system: HealthCheck,
    pub command_processor: HealthCheck,
}

/// Everything.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DetailedHealthResponse {
    /// `healthy` or `degraded`.
    pub status: String,
    #[serde(with = "time::ts")]
    pub timestamp: DateTime<Utc>,
    pub checks: HealthChecks,
    pub info: HealthInfo,
    #[serde(default)]
    pub circuit_breakers: Vec<CircuitBreakerStatus>,
    #[serde(default)]
    pub channels: Vec<ChannelStatus>,
}

/// All eight checks.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct HealthChecks {
    pub web_database: HealthCheck,
    pub orchestration_database: HealthCheck,
    pub circuit_breaker: HealthCheck,
    pub orchestration_system: HealthCheck,
    pub command_processor: HealthCheck,
    pub pool_utilization: HealthCheck,
    pub queue_depth: HealthCheck,
    pub channel_saturation: HealthCheck,
}

/// One check.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct HealthCheck {
    /// `healthy`, `degraded`, `unhealthy` or `unknown`.
    pub status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// How long the check took.
    pub duration_ms: u64,
}

/// What runs.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct HealthInfo {
    pub version: String,
    pub environment: String,
    /// `Startup`, `Normal`, `GracefulShutdown`, `Emergency` or `Stopped`.
    pub operational_state: String,
    /// `Closed`, `Open` or `HalfOpen`.
    pub circuit_breaker_state: String,
    pub web_database_pool_size: u32,
    pub orchestration_database_pool_size: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_utilization: Option<PoolUtilization>,
}

/// How full the connection pools are.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PoolUtilization {
    pub tasker_pool: PoolDetail,
    /// The connections that the queues are worked on.
    pub pgmq_pool: PoolDetail,
}

/// How full one pool is.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct PoolDetail {
    pub active_connections: u32,
    pub idle_connections: u32,
    pub max_connections: u32,
    pub utilization_percent: f64,
    pub total_acquires: u64,
    pub slow_acquires: u64,
    pub acquire_errors: u64,
    pub average_acquire_time_ms: f64,
    pub max_acquire_time_ms: f64,
}

/// One circuit breaker.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CircuitBreakerStatus {
    pub name: String,
    /// `closed`, `half_open` or `open`.
    pub state: String,
    pub failures: u64,
    #[serde(
        with = "time::ts_opt",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub opened_at: Option<DateTime<Utc>>,
}

impl CircuitBreakerStatus {
    /// How breakers stand.
    pub fn all(breakers: &[Breaker]) -> Vec<CircuitBreakerStatus> {
        breakers.iter().map(|b| b.watch().into()).collect()
    }
}

impl From<BreakerView> for CircuitBreakerStatus {
    fn from(view: BreakerView) -> CircuitBreakerStatus {
        CircuitBreakerStatus {
            name: view.name.as_str().to_owned(),
            state: match view.state {
                BreakerState::Closed => "closed",
                BreakerState::HalfOpen => "half_open",
                BreakerState::Open => "open",
            }
            .to_owned(),
            failures: view.failures,
            opened_at: view.opened_at,
        }
    }
}

/// One bounded channel.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ChannelStatus {
    pub channel: String,
    pub component: String,
    pub capacity: u64,
    pub usage_percent: f64,
    /// The most that ever waited in it.
    #[serde(default)]
    pub high_water: u64,
    /// How often a sender met it full.
    pub full_events: u64,
}

impl ChannelStatus {
    /// How every channel of this process stands.
    pub fn all() -> Vec<ChannelStatus> {
        let channels = channel::all();
        channels.iter().map(|c| c.usage().into()).collect()
    }
}

impl From<Usage> for ChannelStatus {
    fn from(usage: Usage) -> ChannelStatus {
        ChannelStatus {
            channel: usage.channel.as_str().to_owned(),
            component: usage.component.as_str().to_owned(),
            capacity: usage.capacity as u64,
            usage_percent: usage.percent(),
            high_water: usage.high_water as u64,
            full_events: usage.full_events,
        }
    }
}
