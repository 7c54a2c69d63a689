//! `http`: sends the step's inputs to a URL; a 2xx JSON body is the result.
//!
//! 4xx is a permanent failure but for 408, 425 and 429; those, 5xx, timeouts and broken connections are
//! retryable, not before `Retry-After` where there is one. Every attempt carries the step's uuid as
//! `Idempotency-Key`, so that a service can tell a repetition from a new request.

mod answer;
mod client;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::BoxFuture;
use reqwest::Url;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use tasker_shared::document::Document;

use self::client::Clients;
use super::{Handler, settings};
use crate::context::StepContext;
use crate::error::StepError;

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
    /// For the whole exchange; absent: until the step's own deadline.
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
            let timeout = async {
                match settings.timeout_ms {
                    Some(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
                    None => std::future::pending().await,
                }
            };
            let given_up = |why: String| Err(StepError::retryable(why).with_type("http_error"));
            let name = request.name.clone();
            tokio::select! {
                biased;
                answer = answer::exchange(request, &context) => answer,
                () = context.cancelled() => given_up(format!("{name} was given up: the step is cancelled")),
                () = timeout => {
                    let ms = settings.timeout_ms.unwrap_or_default();
                    given_up(format!("{name} brought no complete answer within {ms} ms"))
                }
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
            .with_type("settings_error")
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
    let trace = context.trace_context();
    for (name, value) in [
        ("traceparent", Some(trace.traceparent())),
        ("tracestate", trace.tracestate().map(str::to_owned)),
    ] {
        if let Some(Ok(value)) = value.map(HeaderValue::try_from) {
            headers.insert(name, value);
        }
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
