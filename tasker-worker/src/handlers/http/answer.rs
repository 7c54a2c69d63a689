//! What the answer to a request means for the step.

use chrono::Utc;
use reqwest::Response;
use reqwest::header::{HeaderValue, LOCATION, RETRY_AFTER};
use serde::Serialize;
use serde_json::value::RawValue;
use tasker_shared::document::Document;

use super::super::{document, retry_after};
use super::Request;
use crate::context::{Limits, StepContext};
use crate::error::StepError;

/// What is kept of the body of an answer that is a failure.
pub(super) const ERROR_BODY_BYTES: usize = 4 * 1024;

/// Sends the request and makes a result of its answer.
pub(super) async fn exchange(
    request: Request,
    context: &StepContext,
) -> Result<Document, StepError> {
    let Request { builder, name } = request;
    let response = builder.send().await.map_err(|error| broken(error, &name))?;
    if !response.status().is_success() {
        return Err(failure(response, &name).await);
    }
    let body = read(response, context.limits().max_result_bytes, &name).await?;
    let text = String::from_utf8(body).map_err(|_| {
        answer_error(StepError::permanent(format!(
            "{name} answered with a body that is not UTF-8"
        )))
    })?;
    match text.trim() {
        "" => Ok(Document::null()),
        text => document(text, context.limits()).map_err(|error| {
            let message = format!(
                "{name} answered with a body that is no result: {}",
                error.message()
            );
            answer_error(StepError::permanent(message))
        }),
    }
}

fn answer_error(error: StepError) -> StepError {
    error.with_type("http_error")
}

/// A request that brought no answer.
fn broken(error: reqwest::Error, name: &str) -> StepError {
    let error = error.without_url();
    let step_error = if error.is_builder() {
        StepError::permanent(format!("{name} could not be made"))
    } else if error.is_redirect() {
        StepError::permanent(format!(
            "{name} was redirected where it may not go; give the final address"
        ))
    } else if error.is_connect() {
        StepError::retryable(format!("{name}: no connection"))
    } else {
        StepError::retryable(format!("{name} was broken off"))
    };
    answer_error(step_error.with_source(&error))
}

/// Reads a body of at most `limit` bytes, and not a byte beyond.
async fn read(mut response: Response, limit: usize, name: &str) -> Result<Vec<u8>, StepError> {
    let too_large = || {
        let message = format!(
            "{name} answered with more than the {limit} bytes that limits.max_result_bytes allows"
        );
        answer_error(StepError::permanent(message))
    };
    let announced = response.content_length().unwrap_or_default();
    if usize::try_from(announced).map_or(true, |announced| announced > limit) {
        return Err(too_large());
    }
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| broken(error, name))?
    {
        if body.len() + chunk.len() > limit {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// An answer that is none: what it means for the step, and what it said.
async fn failure(response: Response, name: &str) -> StepError {
    let status = response.status();
    let header = |key| {
        response
            .headers()
            .get(key)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let after = header(RETRY_AFTER).and_then(|value| retry_after::parse(value, Utc::now()));
    let message = match header(LOCATION) {
        Some(place) if status.is_redirection() => {
            format!("{name} answered {status} and points to {place}; give the final address")
        }
        _ => format!("{name} answered {status}"),
    };
    let retryable = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
    let error = match (retryable, after) {
        (true, Some(after)) => StepError::retry_after(after, message),
        (true, None) => StepError::retryable(message),
        (false, _) => StepError::permanent(message),
    };
    let body = beginning(response).await;
    let details = Details {
        status: status.as_u16(),
        body: said(&body),
    };
    answer_error(error.with_status(status.as_u16()).with_details(&details))
}

#[derive(Serialize)]
struct Details<'a> {
    status: u16,
    body: Said<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Said<'a> {
    Json(&'a RawValue),
    Text(std::borrow::Cow<'a, str>),
}

fn said(body: &[u8]) -> Said<'_> {
    let json = std::str::from_utf8(body)
        .ok()
        .filter(|text| document(*text, WHOLE).is_ok());
    match json.and_then(|text| serde_json::from_str(text.trim()).ok()) {
        Some(json) => Said::Json(json),
        None => Said::Text(String::from_utf8_lossy(body)),
    }
}

const WHOLE: Limits = Limits {
    max_result_bytes: ERROR_BODY_BYTES,
    max_input_bytes: ERROR_BODY_BYTES,
};

/// The first bytes of a body; what breaks off is taken as far as it came.
async fn beginning(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() >= ERROR_BODY_BYTES {
            body.truncate(ERROR_BODY_BYTES);
            break;
        }
    }
    body
}
