//! From stored templates to the client's types.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{
    WireBatchConfig, WireDomainEvent, WireEnvironment, WireHandler, WireHandlerOverride,
    WireLifecycle, WireMetadata, WirePublishedEvent, WireRetry, WireStep, WireStepOverride,
    WireSystemDependencies, WireTemplate,
};
use crate::template::{
    BatchConfig, Environment, Lifecycle, Metadata, PublishedEvent, Retry, RetryOverride, Step,
    StepType, Template,
};

impl From<&Template> for WireTemplate {
    fn from(template: &Template) -> WireTemplate {
        WireTemplate {
            name: template.name.clone(),
            namespace_name: template.namespace_name.clone(),
            version: template.version.to_string(),
            description: template.description.clone(),
            metadata: (template.metadata != Metadata::default())
                .then(|| (&template.metadata).into()),
            system_dependencies: WireSystemDependencies {
                primary: template.system_dependencies.primary.clone(),
                secondary: template.system_dependencies.secondary.clone(),
            },
            domain_events: template
                .domain_events
                .iter()
                .map(|event| WireDomainEvent {
                    name: event.name.clone(),
                    description: event.description.clone(),
                    schema: event.schema.clone(),
                })
                .collect(),
            input_schema: template.input_schema.clone(),
            steps: template.steps.iter().map(WireStep::from).collect(),
            environments: template
                .environments
                .iter()
                .map(|(name, environment)| (name.clone(), environment.into()))
                .collect(),
            lifecycle: (template.lifecycle != Lifecycle::default())
                .then(|| (&template.lifecycle).into()),
        }
    }
}

impl From<&Metadata> for WireMetadata {
    /// A time that is none is left out: the client would refuse the whole template for it.
    fn from(metadata: &Metadata) -> WireMetadata {
        let time = |text: &Option<String>| {
            let parsed = DateTime::parse_from_rfc3339(text.as_deref()?).ok()?;
            Some(parsed.with_timezone(&Utc))
        };
        WireMetadata {
            author: metadata.author.clone(),
            tags: metadata.tags.clone(),
            documentation_url: metadata.documentation_url.clone(),
            created_at: time(&metadata.created_at),
            updated_at: time(&metadata.updated_at),
        }
    }
}

impl From<&Lifecycle> for WireLifecycle {
    fn from(lifecycle: &Lifecycle) -> WireLifecycle {
        let minutes = |minutes: Option<u32>| minutes.map(|m| i32::try_from(m).unwrap_or(i32::MAX));
        WireLifecycle {
            max_duration_minutes: minutes(lifecycle.max_duration_minutes),
            max_waiting_for_dependencies_minutes: minutes(
                lifecycle.max_waiting_for_dependencies_minutes,
            ),
            max_waiting_for_retry_minutes: minutes(lifecycle.max_waiting_for_retry_minutes),
            max_steps_in_process_minutes: minutes(lifecycle.max_steps_in_process_minutes),
            staleness_action: lifecycle
                .staleness_action
                .map(|action| action.as_str().to_owned()),
        }
    }
}

impl From<&Step> for WireStep {
    fn from(step: &Step) -> WireStep {
        WireStep {
            name: step.name.clone(),
            description: step.description.clone(),
            handler: WireHandler {
                callable: step.handler.callable.clone(),
                method: step.handler.method.clone(),
                resolver: step.handler.resolver.clone(),
                initialization: step.handler.initialization.clone(),
            },
            step_type: client_type(step.step_type).to_owned(),
            system_dependency: step.system_dependency.clone(),
            dependencies: step.dependencies.clone(),
            retry: (&step.retry).into(),
            timeout_seconds: step.timeout_seconds,
            publishes_events: step
                .publishes_events
                .iter()
                .map(WirePublishedEvent::from)
                .collect(),
            batch_config: step.batch_config.as_ref().map(WireBatchConfig::from),
            result_schema: step.result_schema.clone(),
        }
    }
}

/// The client knows no `wait` and would refuse the whole template for it.
fn client_type(step_type: StepType) -> &'static str {
    match step_type {
        StepType::Wait => StepType::Standard.as_str(),
        known => known.as_str(),
    }
}

impl From<&Retry> for WireRetry {
    fn from(retry: &Retry) -> WireRetry {
        WireRetry {
            retryable: Some(retry.retryable),
            max_attempts: Some(retry.max_attempts),
            backoff: Some(retry.backoff.as_str().to_owned()),
            backoff_base_ms: Some(retry.backoff_base_ms),
            max_backoff_ms: Some(retry.max_backoff_ms),
        }
    }
}

impl From<&RetryOverride> for WireRetry {
    fn from(retry: &RetryOverride) -> WireRetry {
        WireRetry {
            retryable: retry.retryable,
            max_attempts: retry.max_attempts,
            backoff: retry.backoff.map(|backoff| backoff.as_str().to_owned()),
            backoff_base_ms: retry.backoff_base_ms,
            max_backoff_ms: retry.max_backoff_ms,
        }
    }
}

impl From<&PublishedEvent> for WirePublishedEvent {
    fn from(event: &PublishedEvent) -> WirePublishedEvent {
        WirePublishedEvent {
            name: event.name.clone(),
            description: String::new(),
            schema: event.schema.clone().unwrap_or(Value::Null),
            condition: event.condition.as_str().to_owned(),
            delivery_mode: event.delivery_mode.as_str().to_owned(),
            publisher: None,
        }
    }
}

impl From<&BatchConfig> for WireBatchConfig {
    fn from(batch: &BatchConfig) -> WireBatchConfig {
        WireBatchConfig {
            batch_size: batch.batch_size,
            parallelism: batch.parallelism,
            cursor_field: batch.cursor_field.clone().unwrap_or_default(),
            worker_template: batch.worker_template.clone(),
            failure_strategy: batch.failure_strategy.as_str().to_owned(),
        }
    }
}

impl From<&Environment> for WireEnvironment {
    fn from(environment: &Environment) -> WireEnvironment {
        let steps = environment.steps.iter().map(|step| WireStepOverride {
            name: step.name.clone(),
            handler: (!step.handler.initialization.is_empty()).then(|| WireHandlerOverride {
                initialization: Some(step.handler.initialization.clone()),
            }),
            timeout_seconds: step.timeout_seconds,
            retry: (step.retry != RetryOverride::default()).then(|| (&step.retry).into()),
        });
        WireEnvironment {
            steps: steps.collect(),
        }
    }
}
