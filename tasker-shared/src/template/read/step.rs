//! The steps of a template, and what environments change about them.

use super::sections::NAME_CHARACTERS;
use super::{BTreeMap, Fields, Places, Reader, StepPlaces};
use crate::template::environment::EVERY_STEP;
use crate::template::yaml::{Kind, Node, Place};
use crate::template::{
    BatchConfig, Environment, Handler, HandlerOverride, PublishedEvent, Retry, RetryOverride, Step,
    StepOverride,
};
use std::ops::RangeInclusive;

const ATTEMPTS: RangeInclusive<u64> = 1..=1_000;
const BACKOFF_MS: RangeInclusive<u64> = 0..=7 * 24 * 60 * 60 * 1_000;
const TIMEOUT_SECONDS: RangeInclusive<u64> = 1..=30 * 24 * 60 * 60;
const BATCH_SIZE: RangeInclusive<u64> = 1..=1_000_000;
const BATCHES_AT_ONCE: RangeInclusive<u64> = 1..=10_000;

const STEP_KEYS: &[&str] = &[
    "name",
    "description",
    "type",
    "handler",
    "dependencies",
    "depends_on",
    "retry",
    "timeout_seconds",
    "publishes_events",
    "result_schema",
    "batch_config",
    "system_dependency",
];
const HANDLER_KEYS: &[&str] = &["callable", "method", "resolver", "initialization"];
const RETRY_KEYS: &[&str] = &[
    "retryable",
    "max_attempts",
    "backoff",
    "backoff_base_ms",
    "max_backoff_ms",
];
const EVENT_KEYS: &[&str] = &["name", "condition", "schema", "delivery_mode"];
const BATCH_KEYS: &[&str] = &[
    "batch_size",
    "parallelism",
    "cursor_field",
    "worker_template",
    "failure_strategy",
];
const OVERRIDE_KEYS: &[&str] = &["name", "timeout_seconds", "retry", "handler"];

impl Reader<'_> {
    pub(super) fn steps(&mut self, fields: &Fields<'_>, places: &mut Places) -> Vec<Step> {
        let Some(node) = self.required(fields, "steps") else {
            // Without steps, an override that names one is no fault of its own.
            places.steps_unread = true;
            return Vec::new();
        };
        let items = self.list(fields, "steps");
        if items.is_empty() && matches!(*node.kind, Kind::List(_)) {
            self.complain(node.place, "a template needs at least one step");
        }
        let allowed = self.limits.max_steps_per_task;
        if items.len() > allowed {
            let count = items.len();
            let message = format!(
                "{count} steps are more than the {allowed} that limits.max_steps_per_task allows"
            );
            self.complain(node.place, message);
            places.steps_unread = true;
            return Vec::new();
        }
        items.iter().map(|item| self.step(item, places)).collect()
    }

    fn step(&mut self, node: &Node, places: &mut Places) -> Step {
        let fields = self.fields(node, "a step", STEP_KEYS);
        let (dependencies, dependency_places) = self.dependencies(&fields);
        let (batch_config, worker_template) = self.batch_config(&fields);
        places.steps.push(StepPlaces {
            name: fields.place_of("name"),
            step_type: fields.place_of("type"),
            dependencies: dependency_places,
            batch_config: fields.key_place("batch_config"),
            worker_template,
        });
        Step {
            name: self.step_name(&fields),
            description: self.text(&fields, "description"),
            step_type: self.choice(&fields, "type").unwrap_or_default(),
            handler: self.handler(&fields),
            dependencies,
            retry: self.retry(&fields).over(&Retry::default()),
            timeout_seconds: self.integer(&fields, "timeout_seconds", TIMEOUT_SECONDS),
            publishes_events: self.published_events(&fields),
            result_schema: self.schema(&fields, "result_schema"),
            batch_config,
            system_dependency: self.text(&fields, "system_dependency"),
        }
    }

    fn step_name(&mut self, fields: &Fields<'_>) -> String {
        let Some(name) = self.required_text(fields, "name") else {
            return String::new();
        };
        let place = fields.place_of("name");
        let pattern_fits = name
            .starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
        if !pattern_fits {
            let message =
                format!("the step name `{name}` must match ^[A-Za-z0-9_][A-Za-z0-9_.-]*$");
            self.complain(place, message);
        }
        if name == EVERY_STEP {
            self.complain(
                place,
                format!("`{EVERY_STEP}` stands for every step; no step can be called so"),
            );
        }
        if name.chars().count() > NAME_CHARACTERS {
            self.complain(
                place,
                format!("a step name has at most {NAME_CHARACTERS} characters"),
            );
        }
        name
    }

    fn dependencies(&mut self, fields: &Fields<'_>) -> (Vec<String>, Vec<Place>) {
        let key = match (fields.get("dependencies"), fields.get("depends_on")) {
            (Some(_), Some(_)) => {
                let message = "`depends_on` is another word for `dependencies`; give one of them";
                self.complain(fields.key_place("depends_on"), message);
                "dependencies"
            }
            (None, Some(_)) => "depends_on",
            _ => "dependencies",
        };
        let items = self.list(fields, key);
        let named = items
            .iter()
            .filter_map(|item| Some((self.text_of(item, key)?, item.place)));
        named.unzip()
    }

    fn handler(&mut self, fields: &Fields<'_>) -> Handler {
        let inner = self
            .required(fields, "handler")
            .map(|node| self.fields(node, "handler", HANDLER_KEYS));
        let Some(inner) = inner else {
            return Handler {
                callable: String::new(),
                method: None,
                resolver: None,
                initialization: serde_json::Map::new(),
            };
        };
        let callable = self.required_text(&inner, "callable").unwrap_or_default();
        if callable.chars().count() > NAME_CHARACTERS {
            let message = format!("`callable` has at most {NAME_CHARACTERS} characters");
            self.complain(inner.place_of("callable"), message);
        }
        Handler {
            callable,
            method: self.text(&inner, "method"),
            resolver: self.text(&inner, "resolver"),
            initialization: self.initialization(&inner),
        }
    }

    /// A handler's settings are its own, but `circuit` is read by the engine for every handler.
    fn initialization(
        &mut self,
        handler: &Fields<'_>,
    ) -> serde_json::Map<String, serde_json::Value> {
        if let Some(circuit) = handler
            .get("initialization")
            .and_then(|node| node.get("circuit"))
            && let Some(name) = self.text_of(circuit, "circuit")
            && (name.trim().is_empty() || name.chars().count() > NAME_CHARACTERS)
        {
            let message = format!("`circuit` is a name of 1 to {NAME_CHARACTERS} characters");
            self.complain(circuit.place, message);
        }
        self.object(handler, "initialization")
    }

    fn retry(&mut self, fields: &Fields<'_>) -> RetryOverride {
        let Some(inner) = self.inner(fields, "retry", RETRY_KEYS) else {
            return RetryOverride::default();
        };
        RetryOverride {
            retryable: self.flag(&inner, "retryable"),
            max_attempts: self.integer(&inner, "max_attempts", ATTEMPTS),
            backoff: self.choice(&inner, "backoff"),
            backoff_base_ms: self.integer(&inner, "backoff_base_ms", BACKOFF_MS),
            max_backoff_ms: self.integer(&inner, "max_backoff_ms", BACKOFF_MS),
        }
    }

    fn published_events(&mut self, fields: &Fields<'_>) -> Vec<PublishedEvent> {
        let items = self.list(fields, "publishes_events");
        let events = items.iter().map(|item| {
            let inner = self.fields(item, "a published event", EVENT_KEYS);
            PublishedEvent {
                name: self.required_text(&inner, "name").unwrap_or_default(),
                condition: self.choice(&inner, "condition").unwrap_or_default(),
                schema: self.schema(&inner, "schema"),
                delivery_mode: self.choice(&inner, "delivery_mode").unwrap_or_default(),
            }
        });
        events.collect()
    }

    /// The batch configuration and where its `worker_template` stands.
    fn batch_config(&mut self, fields: &Fields<'_>) -> (Option<BatchConfig>, Place) {
        let Some(inner) = self.inner(fields, "batch_config", BATCH_KEYS) else {
            return (None, fields.place);
        };
        for key in ["batch_size", "parallelism"] {
            self.required(&inner, key);
        }
        let config = BatchConfig {
            batch_size: self.integer(&inner, "batch_size", BATCH_SIZE).unwrap_or(1),
            parallelism: self
                .integer(&inner, "parallelism", BATCHES_AT_ONCE)
                .unwrap_or(1),
            cursor_field: self.text(&inner, "cursor_field"),
            worker_template: self
                .required_text(&inner, "worker_template")
                .unwrap_or_default(),
            failure_strategy: self.choice(&inner, "failure_strategy").unwrap_or_default(),
        };
        (Some(config), inner.place_of("worker_template"))
    }

    pub(super) fn environments(
        &mut self,
        fields: &Fields<'_>,
        places: &mut Places,
    ) -> BTreeMap<String, Environment> {
        let Some(node) = fields.get("environments") else {
            return BTreeMap::new();
        };
        let Kind::Map(entries) = &*node.kind else {
            return self
                .wrong(node, "environments", "a mapping of environments")
                .unwrap_or_default();
        };
        let mut environments = BTreeMap::new();
        let mut override_places = BTreeMap::new();
        for entry in entries {
            let inner = self.fields(&entry.value, "an environment", &["steps"]);
            let items = self.list(&inner, "steps");
            let (steps, names): (Vec<_>, Vec<_>) =
                items.iter().map(|item| self.step_override(item)).unzip();
            environments.insert(entry.key.to_string(), Environment { steps });
            override_places.insert(entry.key.to_string(), names);
        }
        places.overrides = override_places.into_values().collect();
        environments
    }

    fn step_override(&mut self, node: &Node) -> (StepOverride, Place) {
        let fields = self.fields(node, "an override", OVERRIDE_KEYS);
        let handler = self.inner(&fields, "handler", &["initialization"]);
        let change = StepOverride {
            name: self.required_text(&fields, "name").unwrap_or_default(),
            timeout_seconds: self.integer(&fields, "timeout_seconds", TIMEOUT_SECONDS),
            retry: self.retry(&fields),
            handler: HandlerOverride {
                initialization: handler
                    .map(|inner| self.initialization(&inner))
                    .unwrap_or_default(),
            },
        };
        (change, fields.place_of("name"))
    }
}
