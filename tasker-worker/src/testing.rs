//! For unit tests of handlers: a [`StepContext`] without a worker or a database, and a way to call a handler.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::context::{AncestorError, Ancestors, Inputs, Limits, StepContext};
use crate::error::StepError;
use crate::handlers::Handler;

/// The limits a configuration without any says.
pub const LIMITS: Limits = Limits {
    max_result_bytes: 1 << 20,
    max_input_bytes: 16 << 20,
};

/// Begins a context: first attempt, empty input and initialization, no parents, a minute to run.
pub fn context() -> Builder {
    Builder {
        inputs: inputs(),
        ancestors: Known::default(),
    }
}

pub(crate) fn inputs() -> Inputs {
    Inputs {
        task_uuid: Uuid::now_v7(),
        step_uuid: Uuid::now_v7(),
        correlation_id: Uuid::now_v7(),
        delivery: 1,
        traced: false,
        tracestate: None,
        namespace: Arc::from("test"),
        step_name: Arc::from("step"),
        attempt: 1,
        deadline: Instant::now() + Duration::from_secs(60),
        cancellation: CancellationToken::new(),
        context: Arc::from("{}"),
        initialization: Arc::from("{}"),
        dependencies: Vec::new(),
        ancestors: Arc::new(Known::default()),
        limits: LIMITS,
    }
}

/// Calls a handler as a worker does, until the deadline, and gives its result as the JSON text that would be
/// stored.
pub async fn call(handler: &impl Handler, context: StepContext) -> Result<String, StepError> {
    match tokio::time::timeout_at(context.deadline(), handler.call(context)).await {
        Ok(result) => result.map(String::from),
        Err(_) => Err(StepError::retryable("the step's time is over").with_type("timeout")),
    }
}

/// A [`StepContext`] in the making; a value that cannot be serialised becomes `null`.
pub struct Builder {
    inputs: Inputs,
    ancestors: Known,
}

impl Builder {
    /// The task's context.
    #[must_use]
    pub fn input(self, value: impl Serialize) -> Self {
        self.input_json(&json(&value))
    }

    /// The task's context as JSON text.
    #[must_use]
    pub fn input_json(mut self, text: &str) -> Self {
        self.inputs.context = Arc::from(text);
        self
    }

    /// The step's `handler.initialization`.
    #[must_use]
    pub fn config(mut self, value: impl Serialize) -> Self {
        self.inputs.initialization = Arc::from(json(&value));
        self
    }

    /// A direct parent and its result.
    #[must_use]
    pub fn dependency(mut self, step: &str, result: impl Serialize) -> Self {
        self.inputs
            .dependencies
            .push((Arc::from(step), Arc::from(json(&result))));
        self
    }

    /// A further ancestor and its result.
    #[must_use]
    pub fn ancestor(mut self, step: &str, result: impl Serialize) -> Self {
        self.ancestors
            .0
            .insert(step.to_owned(), Arc::from(json(&result)));
        self
    }

    /// Which attempt this is, from 1.
    #[must_use]
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.inputs.attempt = attempt;
        self
    }

    /// When the step times out.
    #[must_use]
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.inputs.deadline = deadline;
        self
    }

    /// What cancels the step.
    #[must_use]
    pub fn cancellation(mut self, token: CancellationToken) -> Self {
        self.inputs.cancellation = token;
        self
    }

    /// How large inputs and result may be.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.inputs.limits = limits;
        self
    }

    /// The context as built so far.
    pub fn build(mut self) -> StepContext {
        self.inputs.ancestors = Arc::new(self.ancestors);
        StepContext::new(self.inputs)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inputs.fmt(f)
    }
}

#[derive(Default)]
struct Known(BTreeMap<String, Arc<str>>);

impl Ancestors for Known {
    fn results<'a>(
        &'a self,
        _step: Uuid,
        names: &'a [&'a str],
    ) -> BoxFuture<'a, Result<Vec<Arc<str>>, AncestorError>> {
        let result = |name: &&str| {
            let known = self.0.get(*name).cloned();
            known.ok_or_else(|| AncestorError::NotAnAncestor((*name).to_owned()))
        };
        Box::pin(std::future::ready(names.iter().map(result).collect()))
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}
