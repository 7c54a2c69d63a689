//! A request that is not answered with what it asked for, and the id by which every request is found again.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::ALLOW;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tasker_shared::access::Refusal;
use tasker_shared::db;
use tasker_shared::wire::WorkerErrorResponse;
use uuid::Uuid;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A longer id of a caller's is not taken over into logs and answers.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// Why a request failed; [`identify`] makes its body.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    status: StatusCode,
    code: &'static str,
    message: String,
    headers: HeaderMap,
}

impl Failure {
    fn new(status: StatusCode, code: &'static str, message: String) -> Self {
        Self {
            status,
            code,
            message,
            headers: HeaderMap::new(),
        }
    }

    /// As much is being served as may be.
    pub(super) fn busy(what: &str) -> Self {
        let message = format!("{what}; try again");
        let mut failure = Self::new(StatusCode::SERVICE_UNAVAILABLE, "BACKPRESSURE", message);
        let after = HeaderValue::from_static("1");
        failure.headers.insert(header::RETRY_AFTER, after);
        failure
    }

    /// The request took longer than any may.
    pub(super) fn timed_out(time: Duration) -> Self {
        let message = format!(
            "the request was not done within {} ms (worker.request_timeout_ms)",
            time.as_millis()
        );
        Self::new(StatusCode::REQUEST_TIMEOUT, "TIMEOUT", message)
    }

    /// The request makes no sense.
    pub(super) fn bad_request(message: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", message)
    }

    /// What is asked for cannot be done in this process.
    pub(super) fn conflict(message: String) -> Self {
        Self::new(StatusCode::CONFLICT, "CONFLICT", message)
    }

    pub(super) fn not_found(message: String) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
    }

    /// What axum itself refuses: a path or query that it cannot decode.
    fn unreadable() -> Self {
        let message = "the path or the query cannot be read; check its encoding";
        Self::bad_request(message.to_owned())
    }

    pub(super) async fn no_route(uri: Uri) -> Self {
        Self::not_found(format!("a worker has nothing at {}", uri.path()))
    }

    pub(super) async fn wrong_method(method: Method, uri: Uri) -> Self {
        let message = format!(
            "{} does not take {method}; its `Allow` header says what it takes",
            uri.path()
        );
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "METHOD_NOT_ALLOWED",
            message,
        )
    }
}

impl From<db::Error> for Failure {
    fn from(error: db::Error) -> Self {
        if error.is_unavailable() {
            let message = "the database cannot be reached at present; try again".to_owned();
            tracing::warn!(%error, "a request failed");
            return Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "SERVICE_UNAVAILABLE",
                message,
            );
        }
        tracing::error!(%error, "a request failed");
        let message = "the database refused a statement; the worker's log says why".to_owned();
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "DATABASE_ERROR", message)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let headers = refusal.headers();
        Self {
            headers,
            ..Self::new(refusal.status(), refusal.code(), refusal.to_string())
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Gives every answer the caller's request id or one of its own, and failures their body.
pub(super) async fn identify(
    State(state): State<Arc<super::State>>,
    request: Request,
    next: Next,
) -> Response {
    let id = request_id(request.headers());
    let mut response = next.run(request).await;
    let unread = (response.status() == StatusCode::BAD_REQUEST).then(Failure::unreadable);
    if let Some(failure) = response.extensions_mut().remove::<Failure>().or(unread) {
        let body = WorkerErrorResponse {
            error: failure.code.to_owned(),
            message: failure.message,
            timestamp: state.clock.now(),
            request_id: id.to_str().ok().map(str::to_owned),
        };
        let allowed = response.headers_mut().remove(ALLOW);
        response = (failure.status, failure.headers, Json(body)).into_response();
        if let Some(allowed) = allowed {
            response.headers_mut().insert(ALLOW, allowed);
        }
    }
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

fn request_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(REQUEST_ID).filter(|value| {
        (1..=MAX_REQUEST_ID_BYTES).contains(&value.len())
            && value.as_bytes().iter().all(u8::is_ascii_graphic)
    });
    given.cloned().unwrap_or_else(|| {
        HeaderValue::from_str(&Uuid::now_v7().to_string())
            .unwrap_or_else(|_| HeaderValue::from_static("unknown"))
    })
}
