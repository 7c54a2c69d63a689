//! `http`: sends the step's inputs to a URL; a 2xx JSON body is the result.
//!
//! 4xx is a permanent failure but for 408, 425 and 429; those, 5xx, timeouts and broken connections are
//! retryable, not before `Retry-After` where there is one. Every attempt carries the step's uuid as
//! `Idempotency-Key`, so that a service can tell a repetition from a new request.

mod client;

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::Utc;
use futures::future::BoxFuture;
use reqwest::header::{
    ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
};
use reqwest::{Response, Url};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tasker_shared::document::Document;

use self::client::Clients;
use super::{Handler, document, retry_after, settings};
use crate::context::StepContext;
use crate::error::StepError;

/// What is kept of the body of an answer that is a failure.
const ERROR_BODY_BYTES: usize = 4 * 1024;

/// Keeps its connections from step to step.
#[derive(Default)]
pub(super) struct Http {
    clients: Clients,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    url: String,
    #[serde(default)]
    method: Method,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// For the whole exchange; absent, and where it is longer: until the step's deadline.
    timeout_ms: Option<u64>,
    #[serde(default)]
    include: Vec<String>,
    #[serde(default, rename = "circuit")]
    _circuit: Option<String>,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
enum Method {
    Get,
    Head,
    #[default]
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    /// GET and HEAD send no inputs and may be repeated elsewhere.
    fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head)
    }
}

impl From<Method> for reqwest::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Get => Self::GET,
            Method::Head => Self::HEAD,
            Method::Post => Self::POST,
            Method::Put => Self::PUT,
            Method::Patch => Self::PATCH,
            Method::Delete => Self::DELETE,
        }
    }
}

impl Handler for Http {
    fn call(&self, context: StepContext) -> BoxFuture<'static, Result<Document, StepError>> {
        let clients = self.clients.clone();
        Box::pin(async move {
            let settings: Settings = settings::read(&context, "http")?;
            let request = request(&clients, &settings, &context).await?;
            let left = context.remaining();
            let timeout = settings
                .timeout_ms
                .map_or(left, |ms| left.min(Duration::from_millis(ms)));
            tokio::select! {
                biased;
                () = context.cancelled() => Err(StepError::retryable("the request was given up: the step is cancelled")),
                answer = tokio::time::timeout(timeout, exchange(request, &context)) => answer.unwrap_or_else(|_| {
                    let ms = timeout.as_millis();
                    Err(StepError::retryable(format!("no complete answer within {ms} ms")).with_type("HttpError"))
                }),
            }
        })
    }
}

struct Request {
    builder: reqwest::RequestBuilder,
    /// Method and address without credentials and query, for messages.
    name: String,
}

async fn request(
    clients: &Clients,
    settings: &Settings,
    context: &StepContext,
) -> Result<Request, StepError> {
    let refused = |what: String| {
        StepError::permanent(format!("handler `http`: initialization.{what}"))
            .with_type("SettingsError")
    };
    let url = Url::parse(&settings.url).map_err(|error| refused(format!("url: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refused(format!(
            "url: the scheme `{}` is neither http nor https",
            url.scheme()
        )));
    }
    let mut headers = HeaderMap::new();
    let identify = |id: uuid::Uuid| HeaderValue::from_str(&id.to_string());
    if let (Ok(step), Ok(correlation)) = (
        identify(context.step_uuid()),
        identify(context.correlation_id()),
    ) {
        headers.insert("idempotency-key", step);
        headers.insert("x-correlation-id", correlation);
    }
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    if !settings.method.is_safe() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    for (name, value) in &settings.headers {
        let key: HeaderName = name
            .parse()
            .map_err(|_| refused(format!("headers: `{name}` is not a header name")))?;
        let value = value
            .parse()
            .map_err(|_| refused(format!("headers.{name}: not a header value")))?;
        headers.insert(key, value);
    }
    let client = clients.get(settings.method.is_safe())?;
    let method = reqwest::Method::from(settings.method);
    let name = format!("{method} {}", plain(&url));
    let mut builder = client.request(method, url).headers(headers);
    if !settings.method.is_safe() {
        builder = builder.body(context.inputs_json_including(&settings.include).await?);
    }
    Ok(Request { builder, name })
}

/// The address without what may be secret: user, password, query, fragment.
fn plain(url: &Url) -> String {
    let mut url = url.clone();
    // Only addresses without a host refuse these, and they have neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

async fn exchange(request: Request, context: &StepContext) -> Result<Document, StepError> {
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
    error.with_type("HttpError")
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

const WHOLE: crate::context::Limits = crate::context::Limits {
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
