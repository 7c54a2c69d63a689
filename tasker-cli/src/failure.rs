//! Why a command did not do what it was asked, and the exit status that says so: 1 where the thing asked
//! about failed, 2 where the command was wrong or nobody answered.

use std::error::Error;

use reqwest::StatusCode;
use tasker_shared::wire::{ErrorResponse, WorkerErrorResponse};

/// A command that ended badly.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command, a file it names or the configuration is wrong.
    #[error("{0}")]
    Usage(String),
    /// As above, for a reason found elsewhere.
    #[error("{doing}")]
    Setup {
        doing: String,
        source: Box<dyn Error + Send + Sync>,
    },
    /// No connection, or it broke before there was an answer.
    #[error(
        "cannot reach a Tasker server at {url}; start one with `tasker dev`, or name it with --url or TASKER_URL"
    )]
    Unreachable { url: String, source: reqwest::Error },
    /// The server said no.
    #[error("{message}")]
    Refused {
        status: StatusCode,
        message: String,
        /// One line each: pointers into the request, faults of a template.
        details: Vec<String>,
        body: String,
    },
    /// What answered is not a Tasker server, or one of another age.
    #[error("{url} answered something that is not Tasker's: {source}")]
    Strange {
        url: String,
        source: serde_json::Error,
    },
    /// The thing asked about failed, and the output has said how.
    #[error("{0}")]
    Verdict(String),
    /// As above, and there is nothing to add.
    #[error("failed")]
    Silent,
    /// Nobody answered, and the output has said who.
    #[error("unreachable")]
    Unusable,
    /// Output that nobody takes any more, or a local file that cannot be used.
    #[error("{doing}")]
    Local {
        doing: String,
        source: std::io::Error,
    },
}

impl Failure {
    /// The process's exit status.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Failure::Refused { .. } | Failure::Verdict(_) | Failure::Silent => 1,
            Failure::Strange { .. } | Failure::Local { .. } => 1,
            Failure::Usage(_)
            | Failure::Setup { .. }
            | Failure::Unreachable { .. }
            | Failure::Unusable => 2,
        }
    }

    /// A [`Failure::Setup`].
    pub(crate) fn setup(
        doing: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Failure {
        Failure::Setup {
            doing: doing.into(),
            source: source.into(),
        }
    }

    /// A [`Failure::Local`].
    pub(crate) fn local(doing: impl Into<String>, source: std::io::Error) -> Failure {
        Failure::Local {
            doing: doing.into(),
            source,
        }
    }

    /// What an answer with an error status says.
    pub(crate) fn refused(status: StatusCode, body: String) -> Failure {
        let (message, details) = if let Ok(told) = serde_json::from_str::<ErrorResponse>(&body) {
            let error = told.error;
            (
                format!("{} ({})", error.message, error.code),
                details(&serde_json::Value::Object(error.details)),
            )
        } else if let Ok(told) = serde_json::from_str::<WorkerErrorResponse>(&body) {
            (format!("{} ({})", told.message, told.error), Vec::new())
        } else {
            let text = match body.trim() {
                "" => "no reason given",
                text => text,
            };
            (format!("{text} (HTTP {status})"), Vec::new())
        };
        let mut details = details;
        details.extend(remedy(status).map(str::to_owned));
        Failure::Refused {
            status,
            message,
            details,
            body,
        }
    }

    /// Everything for people to read: the message, its details, its causes.
    pub(crate) fn explained(&self) -> String {
        let mut text = self.to_string();
        if let Failure::Refused { details, .. } = self {
            for detail in details {
                text.push_str("\n  ");
                text.push_str(detail);
            }
        }
        let mut source = self.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            // Many errors repeat their cause in their own text.
            if !text.contains(&cause_text) {
                text.push_str("\n  because: ");
                text.push_str(&cause_text);
            }
            source = cause.source();
        }
        text
    }
}

/// What to do where credentials were not enough.
fn remedy(status: StatusCode) -> Option<&'static str> {
    match status {
        StatusCode::UNAUTHORIZED => Some(
            "give a key with --api-key or TASKER_API_KEY, or a token with --token or TASKER_TOKEN; \
             `tasker key create` makes keys",
        ),
        StatusCode::FORBIDDEN => Some(
            "use credentials that permit it: `tasker key list` shows what keys do, `tasker key create --permission …` \
             makes one",
        ),
        _ => None,
    }
}

/// The details of an error as lines: lists of objects with a message first, then what else is there.
fn details(value: &serde_json::Value) -> Vec<String> {
    use serde_json::Value;
    match value {
        Value::Object(fields) if fields.contains_key("message") => vec![with_place(fields)],
        Value::Object(fields) => {
            let line = |(key, value): (&String, &Value)| match value {
                Value::Null => Vec::new(),
                Value::Object(_) | Value::Array(_) => details(value),
                Value::String(text) => vec![format!("{key}: {text}")],
                other => vec![format!("{key}: {other}")],
            };
            fields.iter().flat_map(line).collect()
        }
        Value::Array(items) => items.iter().flat_map(details).collect(),
        Value::String(text) => vec![text.clone()],
        other => vec![other.to_string()],
    }
}

fn with_place(fields: &serde_json::Map<String, serde_json::Value>) -> String {
    let text = |key: &str| {
        fields.get(key).map(|value| match value {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    };
    let message = text("message").unwrap_or_default();
    match (text("pointer"), text("line"), text("column")) {
        (Some(pointer), _, _) if pointer.is_empty() => message,
        (Some(pointer), _, _) => format!("{pointer}: {message}"),
        (_, Some(line), Some(column)) => format!("line {line}, column {column}: {message}"),
        _ => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_tells_message_code_and_places() {
        let body = r#"{"error":{"code":"INVALID_CONTEXT","message":"the context breaks the input_schema",
            "details":{"errors":[{"pointer":"/items/0","message":"is not an object"},
                                 {"pointer":"","message":"order_id is missing"}]}}}"#;
        let failure = Failure::refused(StatusCode::BAD_REQUEST, body.to_owned());
        assert_eq!(failure.status(), 1);
        assert_eq!(
            failure.explained(),
            "the context breaks the input_schema (INVALID_CONTEXT)\n  /items/0: is not an object\n  order_id is missing"
        );
    }

    #[test]
    fn a_worker_s_refusal_tells_message_and_code_too() {
        let body = r#"{"error":"BAD_REQUEST","message":"there is no level \"loud\"","timestamp":"2025-01-02T03:04:05Z"}"#;
        let failure = Failure::refused(StatusCode::BAD_REQUEST, body.to_owned());
        assert_eq!(
            failure.explained(),
            "there is no level \"loud\" (BAD_REQUEST)"
        );
    }

    #[test]
    fn credentials_that_are_not_enough_come_with_what_to_do() {
        let body = r#"{"error":{"code":"FORBIDDEN","message":"this needs the permission dlq:read",
            "details":{"permission":"dlq:read"}}}"#;
        let told = Failure::refused(StatusCode::FORBIDDEN, body.to_owned()).explained();
        assert!(
            told.contains("dlq:read (FORBIDDEN)") && told.contains("--permission"),
            "{told}"
        );
        let told = Failure::refused(StatusCode::UNAUTHORIZED, String::new()).explained();
        assert!(
            told.contains("TASKER_API_KEY") && told.contains("TASKER_TOKEN"),
            "{told}"
        );
    }

    #[test]
    fn an_answer_of_somebody_else_is_shown_as_it_is() {
        let failure = Failure::refused(StatusCode::BAD_GATEWAY, "no upstream\n".to_owned());
        assert_eq!(failure.explained(), "no upstream (HTTP 502 Bad Gateway)");
        let failure = Failure::refused(StatusCode::NOT_FOUND, String::new());
        assert_eq!(failure.explained(), "no reason given (HTTP 404 Not Found)");
    }

    #[test]
    fn causes_follow_unless_they_were_told() {
        let inner = std::io::Error::other("disk full");
        let failure = Failure::local("cannot write the invoice", inner);
        assert_eq!(
            failure.explained(),
            "cannot write the invoice\n  because: disk full"
        );
    }
}
