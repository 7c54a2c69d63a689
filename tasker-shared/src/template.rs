//! Templates: what a task is made of, read from YAML (or JSON) and kept as JSON.
//! [`parse`] reads the source and reports every fault with its line and column; the types here are also the stored
//! definition, with the field names of the YAML. Nothing here knows a database, a worker or a built-in handler.

mod check;
mod choice;
mod environment;
mod fault;
mod honour;
mod read;
pub mod schema;
mod target;
mod yaml;

pub(crate) use choice::Choice;
pub use choice::{
    Backoff, DeliveryMode, EventCondition, FailureStrategy, OnFailure, StalenessAction, StepType,
};
pub use environment::{Environment, HandlerOverride, RetryOverride, StepOverride};
pub use fault::Fault;
pub use honour::Unhonoured;
pub use read::parse;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What [`parse`] holds a template to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// More steps than this are refused.
    pub max_steps_per_task: usize,
    /// Report keys that are valid but whose behaviour this server does not have.
    pub refuse_unhonoured: bool,
}

impl Default for Limits {
    /// The default of `limits.max_steps_per_task`, and every key that is not honoured refused.
    fn default() -> Self {
        Self {
            max_steps_per_task: 10_002,
            refuse_unhonoured: true,
        }
    }
}

impl From<&crate::config::Limits> for Limits {
    /// The limits in force, every key that is not honoured refused.
    fn from(limits: &crate::config::Limits) -> Self {
        Self {
            max_steps_per_task: limits.max_steps_per_task,
            refuse_unhonoured: true,
        }
    }
}

/// A graph of steps under a name, a namespace and a version; never changed once stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Template {
    /// Matches `^[a-z][a-z0-9_]*$`.
    pub name: String,
    /// At most 29 characters.
    pub namespace_name: String,
    pub version: semver::Version,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
    #[serde(default, skip_serializing_if = "SystemDependencies::is_default")]
    pub system_dependencies: SystemDependencies,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub domain_events: Vec<DomainEvent>,
    /// JSON Schema of a task's context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_schema: Option<Value>,
    #[serde(default, skip_serializing_if = "Lifecycle::is_empty")]
    pub lifecycle: Lifecycle,
    #[serde(default)]
    pub on_failure: OnFailure,
    /// At least one; numbered from 1 in this order.
    pub steps: Vec<Step>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environments: BTreeMap<String, Environment>,
}

impl Template {
    /// The step of that name.
    #[must_use]
    pub fn step(&self, name: &str) -> Option<&Step> {
        self.steps.iter().find(|step| step.name == name)
    }
}

/// Who wrote a template, and where to read about it; shown, never acted on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub documentation_url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<String>,
}

impl Metadata {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The outside systems a template leans on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemDependencies {
    #[serde(default = "default_system")]
    pub primary: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secondary: Vec<String>,
}

/// The system a template leans on where it names none.
pub const DEFAULT_SYSTEM: &str = "default";

fn default_system() -> String {
    DEFAULT_SYSTEM.to_owned()
}

impl Default for SystemDependencies {
    fn default() -> Self {
        Self {
            primary: default_system(),
            secondary: Vec::new(),
        }
    }
}

impl SystemDependencies {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// An event the template as a whole announces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DomainEvent {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// JSON Schema of the event's payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
}

/// How long a task may stay where it is, and what happens then.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifecycle {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_duration_minutes: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_waiting_for_dependencies_minutes: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_waiting_for_retry_minutes: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_steps_in_process_minutes: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staleness_action: Option<StalenessAction>,
}

impl Lifecycle {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One node of the graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(rename = "type", default)]
    pub step_type: StepType,
    pub handler: Handler,
    /// Names of the steps this one waits for, without repetition.
    #[serde(default)]
    pub dependencies: Vec<String>,
    #[serde(default)]
    pub retry: Retry,
    /// Absent: `worker.default_timeout_seconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publishes_events: Vec<PublishedEvent>,
    /// JSON Schema of the step's result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_schema: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_config: Option<BatchConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_dependency: Option<String>,
}

/// What runs a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Handler {
    /// The name a worker registered the handler under.
    pub callable: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolver: Option<String>,
    /// The step's own settings, handed to the handler as they are.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub initialization: Map<String, Value>,
}

/// Whether, how often and how far apart a step is tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Retry {
    pub retryable: bool,
    /// Counts the first attempt too.
    pub max_attempts: u32,
    pub backoff: Backoff,
    pub backoff_base_ms: u64,
    /// No delay is longer, jitter included.
    pub max_backoff_ms: u64,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            retryable: true,
            max_attempts: 3,
            backoff: Backoff::Exponential,
            backoff_base_ms: 1_000,
            max_backoff_ms: 30_000,
        }
    }
}

/// An event a step announces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PublishedEvent {
    pub name: String,
    #[serde(default)]
    pub condition: EventCondition,
    /// JSON Schema of the event's payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
    #[serde(default)]
    pub delivery_mode: DeliveryMode,
}

/// How a batchable step splits its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchConfig {
    pub batch_size: u32,
    pub parallelism: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor_field: Option<String>,
    /// The step of type `batch_worker` the batches are run by.
    pub worker_template: String,
    #[serde(default)]
    pub failure_strategy: FailureStrategy,
}
