//! What a handler says when it cannot do its step, and whether trying again can help.
//!
//! Errors of the worker itself (configuration, database, listening) are not here.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use tasker_shared::document::Document;

/// A handler's failure.
///
/// `?` on any error makes a *retryable* one; what cannot get better by trying again (bad input, a refused
/// card) is said with [`StepError::permanent`]. It does not implement [`std::error::Error`] itself: that is
/// what lets `?` accept every error that does.
#[derive(Clone)]
pub struct StepError(Box<Parts>);

#[derive(Clone)]
struct Parts {
    retryable: bool,
    retry_after: Option<Duration>,
    message: String,
    error_type: String,
    sources: Vec<String>,
    details: Option<Box<RawValue>>,
    status_code: Option<u16>,
    handed_back: bool,
}

impl StepError {
    /// A failure that another attempt may not meet: the step is tried again while its template allows.
    pub fn retryable(message: impl Into<String>) -> Self {
        Self::new(true, message.into(), "retryable_error")
    }

    /// A failure that every further attempt would meet as well: the step ends in error at once.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self::new(false, message.into(), "permanent_error")
    }

    /// A retryable failure whose next attempt must not begin before `after` has passed, however short the
    /// template's own back-off is.
    pub fn retry_after(after: Duration, message: impl Into<String>) -> Self {
        let mut error = Self::new(true, message.into(), "retryable_error");
        error.0.retry_after = Some(after);
        error
    }

    fn new(retryable: bool, message: String, error_type: &str) -> Self {
        Self(Box::new(Parts {
            retryable,
            retry_after: None,
            message: kept(&message),
            error_type: error_type.to_owned(),
            sources: Vec::new(),
            details: None,
            status_code: None,
            handed_back: false,
        }))
    }

    /// No failure of the handler: its step is handed back, and runs again without having spent an attempt.
    pub(crate) fn handed_back(message: impl Into<String>) -> Self {
        let mut error = Self::retryable(message).with_type("handed_back");
        error.0.handed_back = true;
        error
    }

    pub(crate) fn is_handed_back(&self) -> bool {
        self.0.handed_back
    }

    /// Replaces the name under which this kind of failure is counted and shown.
    #[must_use]
    pub fn with_type(mut self, error_type: impl Into<String>) -> Self {
        self.0.error_type = kept(&error_type.into());
        self
    }

    /// Keeps `source` and everything behind it as this failure's causes, nearest first.
    #[must_use]
    pub fn with_source(mut self, source: &(dyn StdError + 'static)) -> Self {
        self.0.sources = chain(Some(source));
        self
    }

    /// Keeps JSON beside the message, for people and programs that look at the attempt afterwards: at most
    /// 64 KiB of what a result may hold. Other details are replaced by why they are not kept; they never hide
    /// the failure they belong to.
    #[must_use]
    pub fn with_details(mut self, details: &impl Serialize) -> Self {
        let why = match serde_json::value::to_raw_value(details) {
            Ok(json) => match Document::parse(json.get(), MAX_DETAILS_BYTES, "an attempt") {
                Ok(_) => {
                    self.0.details = Some(json);
                    return self;
                }
                Err(error) => error.to_string(),
            },
            Err(error) => error.to_string(),
        };
        self.0.details =
            serde_json::value::to_raw_value(&kept(&format!("details not kept: {why}"))).ok();
        self
    }

    /// Keeps the status that a remote service answered with.
    #[must_use]
    pub fn with_status(mut self, status_code: u16) -> Self {
        self.0.status_code = Some(status_code);
        self
    }

    /// Whether another attempt may succeed.
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// The least time before the next attempt, where the failure asked for one.
    pub fn after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// What went wrong, in one sentence.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The kind of failure: the Rust type that `?` was used on, or what [`StepError::with_type`] said.
    pub fn error_type(&self) -> &str {
        &self.0.error_type
    }

    /// The causes behind the message, nearest first.
    pub fn sources(&self) -> &[String] {
        &self.0.sources
    }

    /// The JSON kept beside the message.
    pub fn details(&self) -> Option<&RawValue> {
        self.0.details.as_deref()
    }

    /// The status that a remote service answered with.
    pub fn status_code(&self) -> Option<u16> {
        self.0.status_code
    }

    /// The failure as the JSON that is stored with the attempt: `message`, `error_type`, `retryable`, and
    /// where there are any `status_code`, `retry_after_ms`, `sources` and `details`.
    pub fn to_json(&self) -> String {
        // Strings, numbers and raw JSON always serialise; the fallback is there so that nothing can panic.
        serde_json::to_string(&Stored::from(self)).unwrap_or_else(|_| String::from("{}"))
    }
}

#[derive(Serialize)]
struct Stored<'a> {
    message: &'a str,
    error_type: &'a str,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    sources: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a RawValue>,
}

impl<'a> From<&'a StepError> for Stored<'a> {
    fn from(error: &'a StepError) -> Self {
        Self {
            message: error.message(),
            error_type: error.error_type(),
            retryable: error.is_retryable(),
            status_code: error.status_code(),
            retry_after_ms: error
                .after()
                .map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
            sources: error.sources(),
            details: error.details(),
        }
    }
}

/// Every error is retryable unless the handler says otherwise; its type's name becomes the error type and
/// what is behind it the sources.
impl<E: StdError + 'static> From<E> for StepError {
    fn from(error: E) -> Self {
        let mut step_error = Self::new(true, error.to_string(), std::any::type_name::<E>());
        step_error.0.sources = chain(error.source());
        step_error
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        self.0
            .sources
            .iter()
            .try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl fmt::Debug for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StepError ")?;
        f.write_str(&self.to_json())
    }
}

/// Details are for looking at; what is larger belongs into a file or a result.
const MAX_DETAILS_BYTES: usize = 64 * 1024;

/// Some libraries put whole documents into their messages.
const MAX_MESSAGE_BYTES: usize = 8 * 1024;

/// A message as it can be stored: without NUL, which PostgreSQL's text cannot hold, and not too long.
fn kept(message: &str) -> String {
    let end = message.floor_char_boundary(MAX_MESSAGE_BYTES);
    let mut text = message[..end].replace('\0', "\u{fffd}");
    if end < message.len() {
        text.push('…');
    }
    text
}

/// More than this many causes say nothing more, and a source that names itself would never end.
const MAX_SOURCES: usize = 16;

fn chain(first: Option<&(dyn StdError + 'static)>) -> Vec<String> {
    std::iter::successors(first, |&error| error.source())
        .take(MAX_SOURCES)
        .map(|error| kept(&error.to_string()))
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the order could not be read")]
    struct Outer(#[source] std::num::ParseIntError);

    fn fails() -> Result<(), StepError> {
        "seven".parse::<i32>().map_err(Outer)?;
        Ok(())
    }

    #[test]
    fn a_question_mark_makes_any_error_retryable_and_keeps_its_causes() {
        let error = fails().unwrap_err();
        assert!(error.is_retryable());
        assert_eq!(error.after(), None);
        assert_eq!(error.message(), "the order could not be read");
        assert!(
            error.error_type().ends_with("Outer"),
            "{}",
            error.error_type()
        );
        assert_eq!(error.sources(), ["invalid digit found in string"]);
        assert_eq!(
            error.to_string(),
            "the order could not be read: invalid digit found in string"
        );
    }

    #[test]
    fn the_three_constructors_say_whether_and_when_to_try_again() {
        let after = Duration::from_secs(7);
        let table = [
            (StepError::retryable("m"), true, None),
            (StepError::permanent("m"), false, None),
            (StepError::retry_after(after, "m"), true, Some(after)),
        ];
        for (error, retryable, wait) in table {
            assert_eq!(
                (error.is_retryable(), error.after()),
                (retryable, wait),
                "{error:?}"
            );
        }
    }

    #[test]
    fn the_stored_form_leaves_out_what_there_is_not() {
        assert_eq!(
            StepError::permanent("no such card").to_json(),
            r#"{"message":"no such card","error_type":"permanent_error","retryable":false}"#
        );
        let cause = "x".parse::<i32>().unwrap_err();
        let full = StepError::retry_after(Duration::from_millis(1500), "busy")
            .with_type("PaymentError")
            .with_status(503)
            .with_source(&cause)
            .with_details(&serde_json::json!({"queue": 9}));
        assert_eq!(
            full.to_json(),
            concat!(
                r#"{"message":"busy","error_type":"PaymentError","retryable":true,"status_code":503,"#,
                r#""retry_after_ms":1500,"sources":["invalid digit found in string"],"details":{"queue":9}}"#
            )
        );
    }

    #[test]
    fn whatever_a_handler_says_can_be_stored() {
        let deep = format!("{}{}", "[".repeat(70), "]".repeat(70));
        let table: [(Box<RawValue>, &str); 4] = [
            (serde_json::value::to_raw_value("a\0b").unwrap(), "\\u0000"),
            (
                RawValue::from_string(deep).unwrap(),
                "nested deeper than 64",
            ),
            (
                serde_json::value::to_raw_value(&"x".repeat(70_000)).unwrap(),
                "65536",
            ),
            (
                RawValue::from_string(r#"{"a":1,"a":2}"#.to_owned()).unwrap(),
                "occurs twice",
            ),
        ];
        for (details, why) in table {
            let error = StepError::retryable(format!("NUL \0 {}", "é".repeat(50_000)))
                .with_type("a\0b")
                .with_details(&details);
            let kept = error.details().unwrap().get();
            assert!(kept.starts_with("\"details not kept: "), "{kept}");
            let stored = error.to_json();
            assert!(Document::parse(&stored, 20_000, "test").is_ok(), "{stored}");
            assert!(
                error.message().starts_with("NUL \u{fffd} é") && error.message().ends_with("é…")
            );
            assert!(kept.contains(&why.replace('\\', "\\\\")), "{kept}");
        }
    }

    #[test]
    fn a_source_that_never_ends_is_cut() {
        #[derive(Debug)]
        struct Ring;
        impl fmt::Display for Ring {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("ring")
            }
        }
        impl StdError for Ring {
            fn source(&self) -> Option<&(dyn StdError + 'static)> {
                Some(&Ring)
            }
        }
        assert_eq!(StepError::from(Ring).sources().len(), MAX_SOURCES);
    }
}
