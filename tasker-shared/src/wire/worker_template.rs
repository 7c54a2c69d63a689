//! Templates as a worker shows them, and their conversion from what is stored: the client's types know fewer
//! values and want some fields that a template may leave out.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::time;

mod convert;

/// What a worker can run.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WorkerTemplateList {
    /// Empty: every namespace.
    pub supported_namespaces: Vec<String>,
    pub template_count: u64,
    /// The callables it has.
    pub worker_capabilities: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_stats: Option<CacheStats>,
}

/// How a worker's cache of templates fares.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct CacheStats {
    pub total_cached: u64,
    pub cache_hits: u64,
    pub cache_misses: u64,
    pub cache_evictions: u64,
    pub oldest_entry_age_seconds: u64,
    pub average_access_count: f64,
    pub supported_namespaces: Vec<String>,
}

/// A template as a worker has it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WorkerTemplate {
    pub template: ResolvedTemplate,
    pub handler_metadata: HandlerMetadata,
    pub cached: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_age_seconds: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_count: Option<u64>,
}

/// A template with an environment's changes applied.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ResolvedTemplate {
    pub template: WireTemplate,
    pub environment: String,
    #[serde(with = "time::ts")]
    pub resolved_at: DateTime<Utc>,
}

/// Where a template's handlers come from.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct HandlerMetadata {
    pub namespace: String,
    pub name: String,
    pub version: String,
    pub handler_class: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_schema: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_dependent_system: Option<String>,
    #[serde(with = "time::ts")]
    pub registered_at: DateTime<Utc>,
}

/// Whether a worker can run every step of a template.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TemplateValidation {
    pub valid: bool,
    pub errors: Vec<String>,
    /// The callables that the template needs.
    pub required_capabilities: Vec<String>,
    pub step_handlers: Vec<String>,
}

/// A template in the client's types.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WireTemplate {
    pub name: String,
    pub namespace_name: String,
    pub version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<WireMetadata>,
    #[serde(default)]
    pub system_dependencies: WireSystemDependencies,
    #[serde(default)]
    pub domain_events: Vec<WireDomainEvent>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_schema: Option<Value>,
    #[serde(default)]
    pub steps: Vec<WireStep>,
    #[serde(default)]
    pub environments: BTreeMap<String, WireEnvironment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<WireLifecycle>,
}

/// Who wrote a template.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WireMetadata {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    #[serde(default)]
    pub tags: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub documentation_url: Option<String>,
    #[serde(
        with = "time::ts_opt",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub created_at: Option<DateTime<Utc>>,
    #[serde(
        with = "time::ts_opt",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub updated_at: Option<DateTime<Utc>>,
}

/// The outside systems a template leans on.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct WireSystemDependencies {
    #[serde(default)]
    pub primary: String,
    #[serde(default)]
    pub secondary: Vec<String>,
}

/// An event that a template announces.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WireDomainEvent {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
}

/// How long a task may stay where it is.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WireLifecycle {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_duration_minutes: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_waiting_for_dependencies_minutes: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_waiting_for_retry_minutes: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_steps_in_process_minutes: Option<i32>,
    /// Never null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staleness_action: Option<String>,
}

/// A step in the client's types.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WireStep {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    pub handler: WireHandler,
    /// One of the five types that the client knows.
    #[serde(rename = "type", default)]
    pub step_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_dependency: Option<String>,
    #[serde(default)]
    pub dependencies: Vec<String>,
    #[serde(default)]
    pub retry: WireRetry,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
    #[serde(default)]
    pub publishes_events: Vec<WirePublishedEvent>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_config: Option<WireBatchConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_schema: Option<Value>,
}

/// What runs a step.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WireHandler {
    pub callable: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolver: Option<String>,
    #[serde(default)]
    #[schema(value_type = Object)]
    pub initialization: Map<String, Value>,
}

/// How a step is retried. What is absent has the default, or in an environment's change is left as it was.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct WireRetry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_base_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_backoff_ms: Option<u64>,
}

/// An event that a step announces.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WirePublishedEvent {
    pub name: String,
    /// Never absent for the client; empty where the template has none.
    pub description: String,
    /// Never absent for the client; null where the template has none.
    pub schema: Value,
    #[serde(default)]
    pub condition: String,
    #[serde(default)]
    pub delivery_mode: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publisher: Option<String>,
}

/// How a batchable step splits its work.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WireBatchConfig {
    pub batch_size: u32,
    pub parallelism: u32,
    pub cursor_field: String,
    pub worker_template: String,
    pub failure_strategy: String,
}

/// What an environment changes.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct WireEnvironment {
    #[serde(default)]
    pub steps: Vec<WireStepOverride>,
}

/// What an environment changes in a step.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WireStepOverride {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<WireHandlerOverride>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<WireRetry>,
}

/// What an environment changes in a step's handler.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WireHandlerOverride {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub initialization: Option<Map<String, Value>>,
}
