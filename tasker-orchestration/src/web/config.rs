//! What is in force, secrets masked.

use axum::Json;
use axum::extract::State;
use serde_json::Value;
use tasker_shared::wire::{
    CircuitBreakerConfig, ConfigEntry, ConfigMetadata, DatabasePoolConfig, MessagingConfig,
    OrchestrationConfigResponse,
};

use super::App;

/// Tells the configuration.
#[utoipa::path(
    get, operation_id = "get_config", path = "/config", tag = "system",
    responses((status = 200, body = OrchestrationConfigResponse))
)]
pub(super) async fn config(State(app): State<App>) -> Json<OrchestrationConfigResponse> {
    let database = &app.loaded.config.database;
    let breakers = &app.loaded.config.circuit_breakers;
    let entries = app.loaded.entries().iter().map(|entry| ConfigEntry {
        key: entry.key.clone(),
        value: match &entry.value {
            Value::Null => String::new(),
            value => value.to_string(),
        },
        source: entry.source.to_string(),
    });
    Json(OrchestrationConfigResponse {
        metadata: ConfigMetadata {
            timestamp: app.clock.now(),
            environment: app.loaded.environment.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
        auth: app.gate.shown(),
        circuit_breakers: CircuitBreakerConfig {
            enabled: breakers.enabled,
            failure_threshold: breakers.failure_threshold,
            timeout_seconds: breakers.timeout_seconds,
            success_threshold: breakers.success_threshold,
        },
        database_pools: DatabasePoolConfig {
            web_api_pool_size: app.pool.size(),
            web_api_max_connections: database.max_connections,
        },
        deployment_mode: if database.listen {
            "Hybrid"
        } else {
            "PollingOnly"
        }
        .to_owned(),
        messaging: MessagingConfig {
            backend: "pgmq".to_owned(),
            queues: vec!["ready".to_owned(), "results".to_owned()],
        },
        configuration: entries.collect(),
    })
}
