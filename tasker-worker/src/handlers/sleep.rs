//! `sleep`: waits, then answers as `echo` does. Stops waiting when the step is cancelled.

use std::time::Duration;

use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::value::RawValue;
use tasker_shared::document::Document;

use super::{Handler, echo, settings};
use crate::context::StepContext;
use crate::error::StepError;

pub(super) struct Sleep;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    ms: u64,
    #[serde(default, deserialize_with = "settings::present")]
    result: Option<Box<RawValue>>,
    #[serde(default, rename = "circuit")]
    _circuit: Option<String>,
    #[serde(default, rename = "include")]
    _include: Vec<String>,
}

impl Handler for Sleep {
    fn call(&self, context: StepContext) -> BoxFuture<'static, Result<Document, StepError>> {
        Box::pin(async move {
            let settings: Settings = settings::read(&context, "sleep")?;
            tokio::select! {
                biased;
                () = tokio::time::sleep(Duration::from_millis(settings.ms)) => {
                    echo::answer(settings.result.as_deref(), &context)
                }
                () = context.cancelled() => Err(StepError::retryable("cancelled while sleeping")),
            }
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use serde_json::json;
    use tokio::time::Instant;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::testing;

    #[tokio::test(start_paused = true)]
    async fn it_waits_as_long_as_it_was_told_then_echoes() {
        let begun = Instant::now();
        let context = testing::context()
            .input(1)
            .config(json!({"ms": 2_500}))
            .build();
        assert_eq!(
            testing::call(&Sleep, context).await.unwrap(),
            r#"{"context":1,"attempt":1}"#
        );
        assert_eq!(begun.elapsed().as_millis(), 2_500);
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_at_once_when_the_step_is_cancelled() {
        let token = CancellationToken::new();
        token.cancel();
        let begun = Instant::now();
        let context = testing::context()
            .config(json!({"ms": 60_000}))
            .cancellation(token)
            .build();
        let error = testing::call(&Sleep, context).await.unwrap_err();
        assert_eq!(
            (error.message(), begun.elapsed()),
            ("cancelled while sleeping", Duration::ZERO)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn it_does_not_outlive_the_deadline_even_for_a_time_no_clock_holds() {
        for ms in [60_000, u64::MAX] {
            let begun = Instant::now();
            let deadline = begun + Duration::from_secs(3);
            let context = testing::context()
                .config(json!({"ms": ms}))
                .deadline(deadline)
                .build();
            let error = testing::call(&Sleep, context).await.unwrap_err();
            assert_eq!(error.error_type(), "timeout");
            assert_eq!(begun.elapsed(), Duration::from_secs(3));
        }
    }

    #[tokio::test]
    async fn how_long_must_be_said() {
        let error = testing::call(&Sleep, testing::context().build())
            .await
            .unwrap_err();
        assert!(!error.is_retryable());
        assert!(error.message().contains("missing field `ms`"), "{error}");
    }
}
