//! How attempts end: what a handler said, or what came in its way, and what that says of whom it talks to.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use tasker_shared::document::Document;
use tasker_shared::metrics::worker::ErrorType;
use tasker_shared::plan::Outcome;

use crate::StepError;
use crate::circuits::Verdict;

/// How an attempt ended, before it is put into the form it is stored in.
pub(super) enum End {
    Success(Document),
    Failure(Outcome, StepError, ErrorType),
}

impl End {
    /// What it says of the target that the handler talks to.
    pub(super) fn verdict(&self) -> Verdict {
        let End::Failure(outcome, error, kind) = self else {
            return Verdict::Answered;
        };
        match (outcome, kind) {
            (Outcome::Permanent, ErrorType::HandlerError | ErrorType::ResultInvalid) => {
                match error.error_type() {
                    "settings_error" => Verdict::Nothing,
                    _ => Verdict::Answered,
                }
            }
            (Outcome::Retryable, ErrorType::HandlerError)
            | (Outcome::Timeout, ErrorType::Timeout) => Verdict::Troubled {
                reason: error.message().to_owned(),
                asked: error.after(),
            },
            _ => Verdict::Nothing,
        }
    }
}

/// The end of an attempt whose handler said that it failed.
pub(super) fn failed(failure: StepError) -> End {
    if failure.is_handed_back() {
        return End::Failure(Outcome::Released, failure, ErrorType::Cancelled);
    }
    let outcome = if failure.is_retryable() {
        Outcome::Retryable
    } else {
        Outcome::Permanent
    };
    let error = match failure.error_type() {
        "database_error" => ErrorType::DatabaseError,
        "input_too_large" | "result_too_large" => ErrorType::ResultTooLarge,
        "result_invalid" => ErrorType::ResultInvalid,
        _ => ErrorType::HandlerError,
    };
    End::Failure(outcome, failure, error)
}

/// How an attempt ends, where it may panic elsewhere than in its handler.
pub(super) async fn caught(attempt: impl Future<Output = End>) -> End {
    let ended = AssertUnwindSafe(attempt).catch_unwind().await;
    ended.unwrap_or_else(|panic| {
        let message = panic_message("the worker", &*panic);
        tracing::error!(message, "an attempt panicked");
        let failure = StepError::retryable(message).with_type("worker_panic");
        End::Failure(Outcome::Panic, failure, ErrorType::HandlerPanic)
    })
}

/// What a panic said, where it said something.
pub(super) fn panic_message(who: &str, panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("{who} panicked: {}", text.unwrap_or("no message"))
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_attempt_that_panics_outside_its_handler_ends_all_the_same() {
        let ended = caught(async { panic!("no room") }).await;
        let End::Failure(Outcome::Panic, failure, _) = ended else {
            panic!("it has failed");
        };
        assert!(failure.message().contains("no room") && failure.is_retryable());
    }
}
