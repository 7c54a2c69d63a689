//! What runs a step: the [`Handler`] trait that every async function of the right shape has, the
//! [`Registry`] of a worker's handlers by callable, and the built-in ones.
//!
//! Time limits, panics and reporting are the executor's.

mod command;
mod echo;
mod fail;
mod http;
mod process;
mod retry_after;
mod settings;
mod sleep;
mod transform;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde::Serialize;
use tasker_shared::document::{self, Document};
use tasker_shared::name::Name;

use crate::completions::Completions;
use crate::context::{Limits, StepContext};
use crate::error::StepError;

/// Something that can run a step.
///
/// Every `async fn(StepContext) -> Result<impl Serialize, StepError>` is one. A handler runs at least once
/// for a step, not exactly once: [`StepContext::step_uuid`] is the key by which to recognise a repetition.
pub trait Handler: Send + Sync + 'static {
    /// Runs one attempt; the result is checked against `limits.max_result_bytes`.
    /// Dropping the future stops the attempt.
    fn call(&self, context: StepContext) -> BoxFuture<'static, Result<Document, StepError>>;

    /// What runs it, as `handler_type` of the metrics says it.
    fn handler_type(&self) -> Name {
        Name::fixed("rust")
    }
}

impl<F, Fut, R> Handler for F
where
    F: Fn(StepContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, StepError>> + Send + 'static,
    R: Serialize + Send + 'static,
{
    fn call(&self, context: StepContext) -> BoxFuture<'static, Result<Document, StepError>> {
        let limits = context.limits();
        let attempt = self(context);
        Box::pin(async move { serialize(&attempt.await?, limits) })
    }
}

/// A worker's handlers by the name that templates call them by.
#[derive(Clone, Default)]
pub struct Registry {
    handlers: BTreeMap<String, Arc<dyn Handler>>,
}

impl Registry {
    /// Registers `handler`; one of the same name, built-in or not, is replaced.
    pub fn insert(&mut self, callable: impl Into<String>, handler: impl Handler) {
        self.handlers.insert(callable.into(), Arc::new(handler));
    }

    /// The handler of this name.
    pub fn get(&self, callable: &str) -> Option<Arc<dyn Handler>> {
        self.handlers.get(callable).cloned()
    }

    /// The names of all handlers, sorted.
    pub fn callables(&self) -> Vec<String> {
        self.handlers.keys().cloned().collect()
    }

    /// Whether there is no handler at all.
    pub fn is_empty(&self) -> bool {
        self.handlers.is_empty()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.handlers.keys()).finish()
    }
}

/// Registers `http`, `transform`, `echo`, `sleep` and `fail`, and `command` only where it is given the door for it:
/// whoever can store a template can then run programs as the worker's user.
pub fn built_in(registry: &mut Registry, command: Option<Completions>) {
    registry.insert("http", http::Http::default());
    registry.insert("transform", transform::Transform::default());
    registry.insert("echo", echo::Echo);
    registry.insert("sleep", sleep::Sleep);
    registry.insert("fail", fail::Fail);
    if let Some(completions) = command {
        registry.insert("command", command::Command::new(completions));
    }
}

fn serialize(result: &impl Serialize, limits: Limits) -> Result<Document, StepError> {
    let text = serde_json::to_string(result).map_err(|error| {
        StepError::permanent(format!("the result cannot be written as JSON: {error}"))
            .with_type("result_invalid")
    })?;
    document(text, limits)
}

/// Checks what a handler gives back. A result that is no JSON or too large would be so at every attempt.
fn document(text: impl Into<String>, limits: Limits) -> Result<Document, StepError> {
    Document::parse_owned(
        text.into(),
        limits.max_result_bytes,
        "limits.max_result_bytes",
    )
    .map_err(|error| {
        let error_type = match error {
            document::Error::TooLarge { .. } => "result_too_large",
            _ => "result_invalid",
        };
        StepError::permanent(format!("the result is refused: {error}")).with_type(error_type)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::{completions, testing};

    #[derive(Serialize)]
    struct Receipt {
        paid: bool,
    }

    async fn charge(context: StepContext) -> Result<Receipt, StepError> {
        let amount: u64 = context.input()?;
        Ok(Receipt { paid: amount > 0 })
    }

    #[tokio::test]
    async fn an_async_function_is_a_handler_and_its_result_is_json() {
        let context = testing::context().input(7).build();
        assert_eq!(
            testing::call(&charge, context).await.unwrap(),
            r#"{"paid":true}"#
        );
    }

    #[tokio::test]
    async fn a_closure_is_a_handler() {
        let handler = |context: StepContext| async move { Ok(context.attempt()) };
        let context = testing::context().attempt(3).build();
        assert_eq!(testing::call(&handler, context).await.unwrap(), "3");
    }

    #[tokio::test]
    async fn input_of_another_shape_is_a_permanent_failure_and_its_code_never_runs() {
        let context = testing::context().input("seven").build();
        let error = testing::call(&charge, context).await.unwrap_err();
        assert!(!error.is_retryable());
        assert!(
            error.message().starts_with("context: invalid type"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_result_over_its_limit_is_a_permanent_failure_that_names_the_limit() {
        let limits = Limits {
            max_result_bytes: 100,
            ..testing::LIMITS
        };
        let handler = |_: StepContext| async { Ok("x".repeat(99)) };
        let error = testing::call(&handler, testing::context().limits(limits).build())
            .await
            .unwrap_err();
        assert!(!error.is_retryable());
        assert!(
            error.message().contains("limits.max_result_bytes"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_result_that_json_cannot_hold_is_a_permanent_failure() {
        let handler = |_: StepContext| async { Ok(HashMap::from([((1, 2), 3)])) };
        let error = testing::call(&handler, testing::context().build())
            .await
            .unwrap_err();
        assert_eq!(error.error_type(), "result_invalid");
        assert!(!error.is_retryable());
    }

    #[tokio::test]
    async fn command_is_registered_only_where_it_is_asked_for() {
        for (command, expected) in [
            (false, &["echo", "fail", "http", "sleep", "transform"][..]),
            (
                true,
                &["command", "echo", "fail", "http", "sleep", "transform"][..],
            ),
        ] {
            let mut registry = Registry::default();
            built_in(&mut registry, command.then(completions::tests::open_door));
            assert_eq!(registry.callables(), expected);
        }
    }

    #[test]
    fn a_later_handler_of_the_same_name_replaces_a_built_in_one() {
        let mut registry = Registry::default();
        built_in(&mut registry, None);
        let built_in = registry.get("echo").unwrap();
        registry.insert("echo", charge);
        assert!(!Arc::ptr_eq(&built_in, &registry.get("echo").unwrap()));
        assert!(registry.get("nothing").is_none());
    }
}
