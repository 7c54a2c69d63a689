//! Per-environment changes to a template's steps.

use super::{Backoff, Retry, Step, Template};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// The name that stands for every step of the template.
pub(super) const EVERY_STEP: &str = "ALL";

/// What one environment changes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    #[serde(default)]
    pub steps: Vec<StepOverride>,
}

/// Changes to one step, or to every step where the name is `ALL`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepOverride {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
    #[serde(default, skip_serializing_if = "RetryOverride::is_empty")]
    pub retry: RetryOverride,
    #[serde(default, skip_serializing_if = "HandlerOverride::is_empty")]
    pub handler: HandlerOverride,
}

/// The keys of [`Retry`] that change; the others stay as the step has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryOverride {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_base_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_backoff_ms: Option<u64>,
}

impl RetryOverride {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The keys named here, and the others as they are in `retry`.
    pub(super) fn over(&self, retry: &Retry) -> Retry {
        Retry {
            retryable: self.retryable.unwrap_or(retry.retryable),
            max_attempts: self.max_attempts.unwrap_or(retry.max_attempts),
            backoff: self.backoff.unwrap_or(retry.backoff),
            backoff_base_ms: self.backoff_base_ms.unwrap_or(retry.backoff_base_ms),
            max_backoff_ms: self.max_backoff_ms.unwrap_or(retry.max_backoff_ms),
        }
    }
}

/// Settings of the handler that change, key by key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HandlerOverride {
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub initialization: Map<String, Value>,
}

impl HandlerOverride {
    fn is_empty(&self) -> bool {
        self.initialization.is_empty()
    }
}

impl StepOverride {
    fn apply(&self, step: &mut Step) {
        if self.timeout_seconds.is_some() {
            step.timeout_seconds = self.timeout_seconds;
        }
        step.retry = self.retry.over(&step.retry);
        for (key, value) in &self.handler.initialization {
            step.handler
                .initialization
                .insert(key.clone(), value.clone());
        }
    }
}

impl Template {
    /// The template as it runs in that environment: what is said of `ALL` first, then what is said of a step by name.
    /// An environment the template does not name changes nothing. Applying it twice is the same as once.
    #[must_use]
    pub fn for_environment(mut self, name: &str) -> Self {
        let Some(environment) = self.environments.get(name) else {
            return self;
        };
        let (every, named): (Vec<_>, Vec<_>) = environment
            .steps
            .iter()
            .partition(|change| change.name == EVERY_STEP);
        let named: HashMap<&str, &StepOverride> = named
            .into_iter()
            .map(|change| (change.name.as_str(), change))
            .collect();
        for step in &mut self.steps {
            for change in &every {
                change.apply(step);
            }
            if let Some(change) = named.get(step.name.as_str()) {
                change.apply(step);
            }
        }
        self
    }
}
