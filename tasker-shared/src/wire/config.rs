//! What is in force: `GET /config` of server and worker. Secrets are masked before they come here.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::time;

/// The server's configuration.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct OrchestrationConfigResponse {
    pub metadata: ConfigMetadata,
    pub auth: AuthConfig,
    pub circuit_breakers: CircuitBreakerConfig,
    pub database_pools: DatabasePoolConfig,
    pub deployment_mode: String,
    pub messaging: MessagingConfig,
    /// Every key with its value and where that came from.
    #[serde(default)]
    pub configuration: Vec<ConfigEntry>,
}

/// The worker's configuration.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WorkerConfigResponse {
    pub metadata: ConfigMetadata,
    pub worker_id: String,
    pub worker_type: String,
    pub auth: AuthConfig,
    pub messaging: MessagingConfig,
    /// Every key with its value and where that came from.
    #[serde(default)]
    pub configuration: Vec<ConfigEntry>,
}

/// Whose configuration it is.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ConfigMetadata {
    #[serde(with = "time::ts")]
    pub timestamp: DateTime<Utc>,
    pub environment: String,
    pub version: String,
}

/// How callers are recognised.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AuthConfig {
    pub enabled: bool,
    /// `public_key`, `jwks` or `none`.
    pub verification_method: String,
    pub jwt_issuer: String,
    pub jwt_audience: String,
    pub api_key_header: String,
    pub api_key_count: u64,
    pub strict_validation: bool,
    pub allowed_algorithms: Vec<String>,
}

impl AuthConfig {
    /// Nobody is asked who they are.
    pub fn disabled() -> AuthConfig {
        AuthConfig {
            enabled: false,
            verification_method: "none".to_owned(),
            jwt_issuer: String::new(),
            jwt_audience: String::new(),
            api_key_header: "X-API-Key".to_owned(),
            api_key_count: 0,
            strict_validation: false,
            allowed_algorithms: Vec::new(),
        }
    }
}

/// How soon a circuit breaker opens and closes.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CircuitBreakerConfig {
    pub enabled: bool,
    pub failure_threshold: u32,
    pub timeout_seconds: u32,
    pub success_threshold: u32,
}

/// How many connections the API may hold.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DatabasePoolConfig {
    pub web_api_pool_size: u32,
    pub web_api_max_connections: u32,
}

/// What carries messages.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct MessagingConfig {
    /// `pgmq` is the client's name for queues inside PostgreSQL.
    pub backend: String,
    pub queues: Vec<String>,
}

/// One key of the configuration.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ConfigEntry {
    pub key: String,
    /// As it would be written in a file, secrets masked; empty where it has no value.
    pub value: String,
    /// `default`, a file, or an environment variable.
    pub source: String,
}
