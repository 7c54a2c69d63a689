//! `fail`: fails as often and as badly as its template says, then answers as `echo` does.
//! For trying out retries and what a template does about failures.

use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::value::RawValue;
use tasker_shared::document::Document;

use super::{Handler, echo, settings};
use crate::context::StepContext;
use crate::error::StepError;

pub(super) struct Fail;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// How many attempts fail; absent: all.
    times: Option<u32>,
    #[serde(default)]
    kind: Kind,
    #[serde(default, deserialize_with = "settings::present")]
    result: Option<Box<RawValue>>,
    #[serde(default, rename = "circuit")]
    _circuit: Option<String>,
    #[serde(default, rename = "include")]
    _include: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "snake_case")]
enum Kind {
    #[default]
    Retryable,
    Permanent,
}

impl Handler for Fail {
    fn call(&self, context: StepContext) -> BoxFuture<'static, Result<Document, StepError>> {
        Box::pin(async move {
            let settings: Settings = settings::read(&context, "fail")?;
            let attempt = context.attempt();
            let message = match settings.times {
                Some(times) if attempt > times => {
                    return echo::answer(settings.result.as_deref(), &context);
                }
                Some(times) => format!("attempt {attempt} of {times} that are to fail"),
                None => format!("attempt {attempt}; every one is to fail"),
            };
            Err(match settings.kind {
                Kind::Retryable => StepError::retryable(message),
                Kind::Permanent => StepError::permanent(message),
            })
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn it_fails_its_first_attempts_as_told_then_echoes() {
        // (initialization, attempt, fails, retryable)
        let table = [
            (json!({}), 1, true, true),
            (json!({}), 1_000, true, true),
            (json!({"kind": "permanent"}), 1, true, false),
            (json!({"times": 2}), 1, true, true),
            (json!({"times": 2, "kind": "retryable"}), 2, true, true),
            (json!({"times": 2}), 3, false, false),
            (json!({"times": 0}), 1, false, false),
        ];
        for (config, attempt, fails, retryable) in table {
            let context = testing::context().config(&config).attempt(attempt).build();
            match testing::call(&Fail, context).await {
                Err(error) => {
                    assert_eq!((true, error.is_retryable()), (fails, retryable), "{config}")
                }
                Ok(result) => {
                    assert!(!fails, "{config}");
                    assert_eq!(result, format!(r#"{{"context":{{}},"attempt":{attempt}}}"#));
                }
            }
        }
    }

    #[tokio::test]
    async fn a_kind_that_does_not_exist_is_refused_with_those_that_do() {
        let context = testing::context()
            .config(json!({"kind": "sometimes"}))
            .build();
        let message = testing::call(&Fail, context)
            .await
            .unwrap_err()
            .message()
            .to_owned();
        assert!(
            message.contains("initialization.kind: unknown variant `sometimes`"),
            "{message}"
        );
        assert!(message.contains("`retryable` or `permanent`"), "{message}");
    }
}
