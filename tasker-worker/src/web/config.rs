//! `GET /config`: what is in force, secrets masked.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::Value;
use tasker_shared::wire::{ConfigEntry, ConfigMetadata, MessagingConfig, WorkerConfigResponse};

use super::health::{VERSION, WORKER_TYPE};

pub(super) async fn get(State(state): State<Arc<super::State>>) -> Json<WorkerConfigResponse> {
    let entries = state.loaded.entries().iter();
    Json(WorkerConfigResponse {
        metadata: ConfigMetadata {
            timestamp: state.clock.now(),
            environment: state.loaded.environment.clone(),
            version: VERSION.to_owned(),
        },
        worker_id: state.progress.worker_id().to_string(),
        worker_type: WORKER_TYPE.to_owned(),
        auth: state.gate.shown(),
        messaging: MessagingConfig {
            backend: "pgmq".to_owned(),
            queues: Vec::new(),
        },
        configuration: entries
            .map(|entry| ConfigEntry {
                key: entry.key.clone(),
                value: match &entry.value {
                    Value::Null => String::new(),
                    value => value.to_string(),
                },
                source: entry.source.to_string(),
            })
            .collect(),
    })
}
