//! What handlers take from a request: bodies, queries and paths, each refused in the API's own shape.

use std::collections::HashMap;
use std::time::Duration;

use axum::body::{Body as HttpBody, BodyDataStream, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::{HeaderMap, StatusCode, header, request::Parts};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use serde_path_to_error::{Path as KeyPath, Segment};
use tasker_shared::ids;
use tasker_shared::telemetry::trace::TraceContext;
use uuid::Uuid;

use super::App;
use super::error::ApiError;

const MAX_BODY: &str = "limits.max_body_bytes";
/// A body over the limit is read to its end, so that the answer is seen, up to this many times the limit.
const READ_ON: usize = 4;
/// And for at most this long.
const READ_ON_FOR: Duration = Duration::from_secs(5);

/// Where in a trace a request comes from, by its `traceparent` and `tracestate`; malformed ones count as none, as
/// the W3C standard has it.
#[derive(Debug)]
pub(super) struct Caller(pub(super) Option<TraceContext>);

impl FromRequestParts<App> for Caller {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Self::Rejection> {
        let mut given = parts.headers.get_all("traceparent").iter();
        let (Some(traceparent), None) = (given.next(), given.next()) else {
            return Ok(Caller(None));
        };
        let states = parts.headers.get_all("tracestate").iter();
        let states: Vec<&str> = states.filter_map(|value| value.to_str().ok()).collect();
        let context = traceparent
            .to_str()
            .ok()
            .and_then(|text| TraceContext::parse(text, Some(&states.join(","))).ok());
        Ok(Caller(context))
    }
}

/// A JSON body.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        expect_type(request.headers(), &["application/json"])?;
        let bytes = read(request.into_body(), app.loaded.config.limits.max_body_bytes).await?;
        parse(&bytes, "").map(Body)
    }
}

/// A JSON body that may be left out.
#[derive(Debug)]
pub(super) struct OptionalBody<T>(pub(super) T);

impl<T: DeserializeOwned + Default> FromRequest<App> for OptionalBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        expect_type(request.headers(), &["application/json"])?;
        let bytes = read(request.into_body(), app.loaded.config.limits.max_body_bytes).await?;
        match bytes.is_empty() {
            true => Ok(OptionalBody(T::default())),
            false => parse(&bytes, "").map(OptionalBody),
        }
    }
}

/// The text of a body of one of these media types, or of none.
pub(super) async fn text(request: Request, app: &App, types: &[&str]) -> Result<String, ApiError> {
    expect_type(request.headers(), types)?;
    let bytes = read(request.into_body(), app.loaded.config.limits.max_body_bytes).await?;
    String::from_utf8(bytes.into())
        .map_err(|error| ApiError::bad_request(format!("the body is not UTF-8: {error}")))
}

/// JSON as a value; `at` is where it lies in the request, for the error. Only what is wrong is read with an eye to where.
pub(super) fn parse<T: DeserializeOwned>(json: &[u8], at: &str) -> Result<T, ApiError> {
    serde_json::from_slice(json).or_else(|_| located(json, at))
}

fn located<T: DeserializeOwned>(json: &[u8], at: &str) -> Result<T, ApiError> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let mut track = serde_path_to_error::Track::new();
    let value = T::deserialize(serde_path_to_error::Deserializer::new(
        &mut deserializer,
        &mut track,
    ))
    .and_then(|value| deserializer.end().map(|()| value));
    value.map_err(|error| {
        let code = match error.is_data() {
            true => "BAD_REQUEST",
            false => "JSON_ERROR",
        };
        let pointer = format!("{at}{}", pointer(&track.path()));
        ApiError::new(StatusCode::BAD_REQUEST, code, error.to_string())
            .with("pointer", pointer)
            .with("line", error.line())
            .with("column", error.column())
    })
}

/// The JSON pointer of a path.
fn pointer(path: &KeyPath) -> String {
    let part = |segment: &Segment| match segment {
        Segment::Seq { index } => Some(format!("/{index}")),
        Segment::Map { key } => Some(format!("/{}", key.replace('~', "~0").replace('/', "~1"))),
        Segment::Enum { .. } | Segment::Unknown => None,
    };
    path.iter().filter_map(part).collect()
}

/// No media type at all is taken for the right one.
pub(super) fn expect_type(headers: &HeaderMap, types: &[&str]) -> Result<(), ApiError> {
    let Some(given) = headers.get(header::CONTENT_TYPE) else {
        return Ok(());
    };
    let given = given.to_str().unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if types
        .iter()
        .any(|known| known.eq_ignore_ascii_case(essence))
    {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "UNSUPPORTED_MEDIA_TYPE",
        format!("the body is {given:?}; send {}", types.join(" or ")),
    ))
}

pub(super) async fn read(body: HttpBody, limit: usize) -> Result<Bytes, ApiError> {
    let mut chunks = body.into_data_stream();
    let mut read: Vec<u8> = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| {
            ApiError::bad_request(format!("the body could not be read: {error}"))
        })?;
        if read.len() + chunk.len() > limit {
            drop(read);
            read_on(chunks, limit).await;
            return Err(ApiError::too_large("body", MAX_BODY, limit, None));
        }
        read.extend_from_slice(&chunk);
    }
    Ok(read.into())
}

/// Reads a body on that is refused, and keeps nothing of it: whoever is still sending would not see the answer.
pub(super) async fn read_on(mut body: BodyDataStream, limit: usize) {
    let mut left = limit.saturating_mul(READ_ON);
    let rest = async {
        while let Some(Ok(chunk)) = body.next().await {
            left = left.saturating_sub(chunk.len());
            if left == 0 {
                break;
            }
        }
    };
    // Whether the rest came in time changes nothing.
    let _ = tokio::time::timeout(READ_ON_FOR, rest).await;
}

/// A query string.
#[derive(Debug)]
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        if parts.uri.query().is_some_and(|query| query.contains("%00")) {
            return Err(ApiError::bad_request("the query contains a NUL character"));
        }
        axum::extract::Query::try_from_uri(&parts.uri)
            .map(|axum::extract::Query(query)| Query(query))
            .map_err(|rejection| ApiError::bad_request(rejection.body_text()))
    }
}

/// `{task_uuid}`.
#[derive(Debug, Clone, Copy)]
pub(super) struct TaskPath(pub(super) Uuid);

impl<S: Send + Sync> FromRequestParts<S> for TaskPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let params = params(parts, state).await?;
        uuid(&params, "task_uuid").map(TaskPath)
    }
}

/// `{dlq_entry_uuid}`.
#[derive(Debug, Clone, Copy)]
pub(super) struct EntryPath(pub(super) Uuid);

impl<S: Send + Sync> FromRequestParts<S> for EntryPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let params = params(parts, state).await?;
        uuid(&params, "dlq_entry_uuid").map(EntryPath)
    }
}

/// `{task_uuid}` and `{step_uuid}`, which belong together.
#[derive(Debug, Clone, Copy)]
pub(super) struct StepPath {
    pub(super) task_uuid: Uuid,
    pub(super) step_uuid: Uuid,
    /// Of the step, as its uuid says; its task may not have it.
    pub(super) number: i32,
}

impl<S: Send + Sync> FromRequestParts<S> for StepPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let params = params(parts, state).await?;
        let (task_uuid, step_uuid) = (uuid(&params, "task_uuid")?, uuid(&params, "step_uuid")?);
        let (task, number) = ids::split_step_uuid(step_uuid);
        let path = StepPath {
            task_uuid,
            step_uuid,
            number,
        };
        if task == task_uuid {
            Ok(path)
        } else {
            Err(path.no_such_step().without_asking())
        }
    }
}

impl StepPath {
    /// The task has no such step.
    pub(super) fn no_such_step(&self) -> ApiError {
        ApiError::not_found(format!(
            "task {} has no step {}",
            self.task_uuid, self.step_uuid
        ))
    }
}

/// `{namespace}`, `{name}` and `{version}`.
#[derive(Debug, Clone)]
pub(super) struct TemplatePath {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) version: String,
}

impl<S: Send + Sync> FromRequestParts<S> for TemplatePath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let mut params = params(parts, state).await?;
        let mut take = |name| {
            let value = params.remove(name).unwrap_or_default();
            match value.contains('\0') {
                true => Err(ApiError::bad_request(format!(
                    "{name} contains a NUL character"
                ))),
                false => Ok(value),
            }
        };
        Ok(TemplatePath {
            namespace: take("namespace")?,
            name: take("name")?,
            version: take("version")?,
        })
    }
}

async fn params<S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
) -> Result<HashMap<String, String>, ApiError> {
    let path = Path::<HashMap<String, String>>::from_request_parts(parts, state).await;
    path.map(|Path(params)| params)
        .map_err(|rejection| ApiError::bad_request(rejection.body_text()))
}

fn uuid(params: &HashMap<String, String>, name: &'static str) -> Result<Uuid, ApiError> {
    let value = params.get(name).map(String::as_str).unwrap_or_default();
    Uuid::parse_str(value).map_err(|error| {
        let shown: String = value.chars().take(100).collect();
        ApiError::new(
            StatusCode::BAD_REQUEST,
            "INVALID_UUID",
            format!("{name} {shown:?} is not a UUID: {error}"),
        )
        .with("parameter", name)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use tasker_shared::wire::TaskRequest;

    use super::*;

    #[test]
    fn a_body_that_is_wrong_says_where() {
        let table: [(&str, &str, &str); 6] = [
            (r#"{"name":"n","#, "JSON_ERROR", ""),
            (r#"{"name":5}"#, "BAD_REQUEST", "/name"),
            (r#"{"tags":["a",{"b":1}]}"#, "BAD_REQUEST", "/tags/1"),
            (r#"{"name":"n","nosuch":1}"#, "BAD_REQUEST", "/nosuch"),
            (r#"{"name":"n"}"#, "BAD_REQUEST", ""),
            (
                r#"{"name":"n","namespace":"s","context":{}} x"#,
                "JSON_ERROR",
                "",
            ),
        ];
        for (body, code, pointer) in table {
            let error = parse::<TaskRequest>(body.as_bytes(), "")
                .unwrap_err()
                .body();
            assert_eq!(error.code, code, "{body}: {}", error.message);
            assert_eq!(
                error.details["pointer"], pointer,
                "{body}: {}",
                error.message
            );
        }
    }

    #[test]
    fn a_context_passes_a_body_as_it_is() {
        let body = br#"{"name":"n","namespace":"s","context":{"z":1.00,"a":[1e999, -0]}}"#;
        let request: TaskRequest = parse(body, "").unwrap();
        assert_eq!(request.context.get(), r#"{"z":1.00,"a":[1e999, -0]}"#);
    }

    #[test]
    fn media_types_are_told_apart_by_their_name_alone() {
        let mut headers = HeaderMap::new();
        assert!(expect_type(&headers, &["application/json"]).is_ok());
        for (given, fits) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("text/plain", false),
            ("application/json-seq", false),
        ] {
            headers.insert(header::CONTENT_TYPE, given.parse().unwrap());
            assert_eq!(
                expect_type(&headers, &["application/json"]).is_ok(),
                fits,
                "{given}"
            );
        }
    }
}
