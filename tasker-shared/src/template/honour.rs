//! Keys that are valid in a template but whose behaviour this server does not have: refused, never ignored.

use super::{DEFAULT_SYSTEM, Step, StepType, Template};

/// A key this server cannot act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unhonoured {
    /// JSON pointer to the key's value in the definition.
    pub pointer: String,
    /// Names the key and says that it is not supported.
    pub message: String,
}

impl Template {
    /// A message for each key whose behaviour this server does not have; empty where it can be stored.
    #[must_use]
    pub fn not_honoured(&self) -> Vec<String> {
        self.unhonoured()
            .into_iter()
            .map(|key| key.message)
            .collect()
    }

    /// The same with the place of each key.
    #[must_use]
    pub fn unhonoured(&self) -> Vec<Unhonoured> {
        let mut found = Vec::new();
        let system = &self.system_dependencies;
        if system.primary != DEFAULT_SYSTEM {
            found.push(unsupported(
                "/system_dependencies/primary",
                "system_dependencies.primary",
            ));
        }
        if !system.secondary.is_empty() {
            found.push(unsupported(
                "/system_dependencies/secondary",
                "system_dependencies.secondary",
            ));
        }
        if !self.domain_events.is_empty() {
            found.push(unsupported("/domain_events", "domain_events"));
        }
        for (index, step) in self.steps.iter().enumerate() {
            step.unhonoured(index, &mut found);
        }
        found
    }
}

impl Step {
    fn unhonoured(&self, index: usize, found: &mut Vec<Unhonoured>) {
        let mut refuse = |path: &str, key: &str| {
            found.push(Unhonoured {
                pointer: format!("/steps/{index}/{path}"),
                message: format!(
                    "step `{}`: `{key}` is not supported by this server; remove it",
                    self.name
                ),
            });
        };
        if self.step_type != StepType::Standard {
            refuse("type", &format!("type: {}", self.step_type.as_str()));
        }
        if self.handler.method.is_some() {
            refuse("handler/method", "handler.method");
        }
        if self.handler.resolver.is_some() {
            refuse("handler/resolver", "handler.resolver");
        }
        if !self.publishes_events.is_empty() {
            refuse("publishes_events", "publishes_events");
        }
        if self.batch_config.is_some() {
            refuse("batch_config", "batch_config");
        }
        if self
            .system_dependency
            .as_deref()
            .is_some_and(|system| system != DEFAULT_SYSTEM)
        {
            refuse("system_dependency", "system_dependency");
        }
    }
}

fn unsupported(pointer: &str, key: &str) -> Unhonoured {
    Unhonoured {
        pointer: pointer.to_owned(),
        message: format!("`{key}` is not supported by this server; remove it"),
    }
}
