//! What a handler is given: who it runs for, its inputs by type or as raw JSON, and how long it has.
//!
//! Nothing here reads the database; results of distant ancestors come through [`Ancestors`], which the
//! worker implements. JSON is kept as the text it came as and parsed only where a type is asked for.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use tasker_shared::ids;
use tasker_shared::telemetry::trace::TraceContext;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::error::StepError;

/// Everything a handler may know about the step it runs; cheap to clone.
#[derive(Clone)]
pub struct StepContext(Arc<Inputs>);

/// What the executor fills a [`StepContext`] with.
///
/// All JSON is valid text, kept as it came.
pub struct Inputs {
    /// The task that the step belongs to.
    pub task_uuid: Uuid,
    /// The step; the same at every attempt.
    pub step_uuid: Uuid,
    /// What ties the task to whatever caused it.
    pub correlation_id: Uuid,
    /// Which delivery of the step this is; unlike `attempt` it counts those that came to nothing.
    pub delivery: i32,
    /// Whether the task's spans leave.
    pub traced: bool,
    /// What systems before this one added to the trace.
    pub tracestate: Option<Arc<str>>,
    /// The namespace of the task's template.
    pub namespace: Arc<str>,
    /// The step's name in its template.
    pub step_name: Arc<str>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// When the step times out. The executor ends the attempt then, by dropping it.
    pub deadline: Instant,
    /// Cancelled when the task is, when the lease is lost, and when a drain has run out of time.
    pub cancellation: CancellationToken,
    /// The task's context.
    pub context: Arc<str>,
    /// The step's `handler.initialization`; `{}` where the template has none.
    pub initialization: Arc<str>,
    /// The direct parents' results by name, in the template's order; `null` for a parent without one.
    pub dependencies: Vec<(Arc<str>, Arc<str>)>,
    /// Where the results of further ancestors are read.
    pub ancestors: Arc<dyn Ancestors>,
    /// How large inputs and result may be.
    pub limits: Limits,
}

/// The sizes that bound what a handler is given and what it may give back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// `limits.max_result_bytes`.
    pub max_result_bytes: usize,
    /// `limits.max_input_bytes`: context, initialization and all dependencies of one step together.
    pub max_input_bytes: usize,
}

/// Reads results of steps behind the direct parents.
pub trait Ancestors: Send + Sync + 'static {
    /// The results of the named steps of `task`, in the order asked for; `null` for a step without one.
    fn results<'a>(
        &'a self,
        step: Uuid,
        names: &'a [&'a str],
    ) -> BoxFuture<'a, Result<Vec<Arc<str>>, AncestorError>>;
}

/// Why an ancestor's result could not be had.
#[derive(Debug, thiserror::Error)]
pub enum AncestorError {
    /// No step of this name comes before the one that asked: the template or the handler is wrong.
    #[error(
        "step `{0}` is not an ancestor of this step; name one that it depends on, directly or through others"
    )]
    NotAnAncestor(String),
    /// The results are larger than a step may get.
    #[error(
        "the results of ancestors are {bytes} bytes together; limits.max_input_bytes allows {limit_bytes}"
    )]
    TooLarge {
        /// How large they are.
        bytes: usize,
        /// `limits.max_input_bytes`.
        limit_bytes: usize,
    },
    /// The result could not be read this time.
    #[error("the results of ancestors could not be read")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl StepContext {
    /// Wraps the inputs of one attempt.
    pub fn new(inputs: Inputs) -> Self {
        Self(Arc::new(inputs))
    }

    /// The task's context as `T`; a context of another shape is a permanent failure that names the field.
    pub fn input<T: DeserializeOwned>(&self) -> Result<T, StepError> {
        parse(&self.0.context, "context")
    }

    /// The step's `handler.initialization` as `T`; another shape is a permanent failure that names the field.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T, StepError> {
        parse(&self.0.initialization, "initialization")
    }

    /// A direct parent's result as `T`; a step that is none, or another shape, is a permanent failure.
    pub fn dependency<T: DeserializeOwned>(&self, step: &str) -> Result<T, StepError> {
        parse(self.dependency_json(step)?, &format!("dependencies.{step}"))
    }

    /// Any ancestor's result as `T`: a parent's from memory, another's from the database.
    /// A step that is no ancestor, or another shape, is a permanent failure; an unreachable database is not.
    pub async fn result<T: DeserializeOwned>(&self, step: &str) -> Result<T, StepError> {
        if let Some(text) = self.known(step) {
            return parse(text, &format!("result of {step}"));
        }
        let text = self.ancestors(&[step]).await?.into_iter().next();
        parse(
            text.as_deref().unwrap_or("null"),
            &format!("result of {step}"),
        )
    }

    /// Which attempt this is, from 1. Attempts lost with their worker are not counted.
    pub fn attempt(&self) -> u32 {
        self.0.attempt
    }

    /// When the step times out; pass it to [`tokio::time::timeout_at`].
    pub fn deadline(&self) -> Instant {
        self.0.deadline
    }

    /// How long is left until the deadline.
    pub fn remaining(&self) -> Duration {
        self.0.deadline.saturating_duration_since(Instant::now())
    }

    /// Completes when the step is no longer wanted: its task was cancelled, its lease lost, its worker is
    /// stopping and out of time. What the handler returns after that is not applied.
    pub async fn cancelled(&self) {
        self.0.cancellation.cancelled().await;
    }

    /// Whether the step is no longer wanted; see [`StepContext::cancelled`].
    pub fn is_cancelled(&self) -> bool {
        self.0.cancellation.is_cancelled()
    }

    /// What cancels the step, for handing on to what the handler starts.
    pub fn cancellation(&self) -> CancellationToken {
        self.0.cancellation.clone()
    }

    /// What ties the task to whatever caused it.
    pub fn correlation_id(&self) -> Uuid {
        self.0.correlation_id
    }

    /// Where in its trace the handler runs, to be passed on in `traceparent` and `tracestate`. The trace's id is the
    /// correlation id.
    pub fn trace_context(&self) -> TraceContext {
        let inputs = &self.0;
        let (task_uuid, step_no) = ids::split_step_uuid(inputs.step_uuid);
        TraceContext::of_step(
            inputs.correlation_id,
            task_uuid,
            step_no,
            inputs.delivery,
            inputs.traced,
        )
        .with_state(inputs.tracestate.as_deref())
    }

    /// The task that the step belongs to.
    pub fn task_uuid(&self) -> Uuid {
        self.0.task_uuid
    }

    /// The step: the same at every attempt, and so the key to give to a service that must act only once.
    pub fn step_uuid(&self) -> Uuid {
        self.0.step_uuid
    }

    /// The step's name in its template.
    pub fn step_name(&self) -> &str {
        &self.0.step_name
    }

    /// The namespace of the task's template.
    pub fn namespace(&self) -> &str {
        &self.0.namespace
    }

    /// How large inputs and result may be.
    pub fn limits(&self) -> Limits {
        self.0.limits
    }

    /// The task's context as the JSON text it was submitted as.
    pub fn input_json(&self) -> &str {
        &self.0.context
    }

    /// The step's `handler.initialization` as JSON text.
    pub fn config_json(&self) -> &str {
        &self.0.initialization
    }

    /// A direct parent's result as the JSON text it was returned as.
    pub fn dependency_json(&self, step: &str) -> Result<&str, StepError> {
        self.known(step).ok_or_else(|| {
            StepError::permanent(format!(
                "step `{}` does not depend directly on `{step}`; add it to `dependencies`, or ask for any \
                 ancestor with `result`",
                self.0.step_name
            ))
            .with_type("input_error")
        })
    }

    /// All inputs as one JSON text, `{"context":…,"dependencies":{…},"initialization":{…},"attempt":1}`, put
    /// together from the texts as they came.
    pub fn inputs_json(&self) -> String {
        self.assemble(&[])
    }

    /// As [`StepContext::inputs_json`], with the named ancestors' results added to `dependencies`.
    /// Permanent where one is no ancestor or all together are over `limits.max_input_bytes`.
    pub async fn inputs_json_including(&self, steps: &[String]) -> Result<String, StepError> {
        let mut missing: Vec<&str> = Vec::new();
        for step in steps {
            if self.known(step).is_none() && !missing.contains(&step.as_str()) {
                missing.push(step);
            }
        }
        let text = if missing.is_empty() {
            self.inputs_json()
        } else {
            let results = self.ancestors(&missing).await?;
            let added: Vec<(&str, &str)> = missing
                .iter()
                .copied()
                .zip(results.iter().map(|text| &**text))
                .collect();
            self.assemble(&added)
        };
        let limit = self.0.limits.max_input_bytes;
        if text.len() > limit {
            return Err(StepError::permanent(format!(
                "the inputs of step `{}` are {} bytes; limits.max_input_bytes allows {limit}",
                self.0.step_name,
                text.len()
            ))
            .with_type("input_error"));
        }
        Ok(text)
    }

    fn known(&self, step: &str) -> Option<&str> {
        let mut parents = self.0.dependencies.iter();
        parents
            .find(|(name, _)| &**name == step)
            .map(|(_, text)| &**text)
    }

    async fn ancestors(&self, names: &[&str]) -> Result<Vec<Arc<str>>, StepError> {
        self.0
            .ancestors
            .results(self.0.step_uuid, names)
            .await
            .map_err(|error| match error {
                AncestorError::NotAnAncestor(_) | AncestorError::TooLarge { .. } => {
                    StepError::permanent(error.to_string()).with_type("input_error")
                }
                AncestorError::Unavailable(_) => StepError::from(error),
            })
    }

    fn assemble(&self, added: &[(&str, &str)]) -> String {
        let inputs = &*self.0;
        let parents = inputs
            .dependencies
            .iter()
            .map(|(name, text)| (&**name, &**text));
        let length: usize = parents
            .clone()
            .chain(added.iter().copied())
            .map(|(n, t)| n.len() + t.len() + 8)
            .sum();
        let mut out =
            String::with_capacity(inputs.context.len() + inputs.initialization.len() + length + 80);
        out.push_str(r#"{"context":"#);
        out.push_str(&inputs.context);
        out.push_str(r#","dependencies":{"#);
        for (index, (name, text)) in parents.chain(added.iter().copied()).enumerate() {
            if index > 0 {
                out.push(',');
            }
            out.push_str(&serde_json::Value::from(name).to_string());
            out.push(':');
            out.push_str(text);
        }
        out.push_str(r#"},"initialization":"#);
        out.push_str(&inputs.initialization);
        out.push_str(r#","attempt":"#);
        out.push_str(&inputs.attempt.to_string());
        out.push('}');
        out
    }
}

impl fmt::Debug for StepContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Inputs {
    /// Who and when, not what: contexts and results may hold what no log should.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepContext")
            .field("namespace", &self.namespace)
            .field("step_name", &self.step_name)
            .field("step_uuid", &self.step_uuid)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

/// Parses `text` straight; only where that fails is it read again, slowly, to learn which field is wrong.
fn parse<T: DeserializeOwned>(text: &str, what: &str) -> Result<T, StepError> {
    serde_json::from_str(text).map_err(|error| {
        let mut reader = serde_json::Deserializer::from_str(text);
        let (path, message) = match serde_path_to_error::deserialize::<_, T>(&mut reader) {
            Ok(_) => (String::new(), error.to_string()),
            Err(located) => match located.path().to_string() {
                root if root == "." => (String::new(), located.inner().to_string()),
                path if path.starts_with('[') => (path, located.inner().to_string()),
                path => (format!(".{path}"), located.inner().to_string()),
            },
        };
        StepError::permanent(format!("{what}{path}: {message}")).with_type("input_error")
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
