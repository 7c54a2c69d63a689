//! Errors as the API answers them: `{"error":{"code","message","details"}}`, and how the errors of the layers
//! below become that.

use std::fmt::Display;
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use tasker_shared::resilience::breaker::Open;
use tasker_shared::wire::{ErrorBody, ErrorResponse};
use tasker_shared::{access, db};
use uuid::Uuid;

use crate::lifecycle::admission::Refusal;
use crate::lifecycle::control;
use crate::lifecycle::pressure::Busy;
use crate::lifecycle::registry::ApplyError;

/// When to try again where nothing better is known.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// An answer that is not a success.
#[derive(Debug, Clone)]
pub(super) struct ApiError(Box<Parts>);

#[derive(Debug, Clone)]
struct Parts {
    status: StatusCode,
    code: &'static str,
    message: String,
    details: Map<String, Value>,
    retry_after: Option<Duration>,
    headers: HeaderMap,
    database: Option<Database>,
}

/// Marks an answer, for the breaker, that says more of the database than its status does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Database {
    /// It was made because the database is away.
    Away,
    /// It was made without asking it.
    Unasked,
}

impl ApiError {
    pub(super) fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<String>,
    ) -> ApiError {
        ApiError(Box::new(Parts {
            status,
            code,
            message: message.into(),
            details: Map::new(),
            retry_after: None,
            headers: HeaderMap::new(),
            database: None,
        }))
    }

    /// The request is understood and makes no sense.
    pub(super) fn bad_request(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", message)
    }

    /// A value of the request is wrong.
    pub(super) fn invalid(pointer: &str, message: impl Display) -> ApiError {
        ApiError::bad_request(format!("{pointer}: {message}")).with("pointer", pointer)
    }

    pub(super) fn not_found(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
    }

    /// Or one that the caller is not to know of: the answer is the same.
    pub(super) fn no_such_task(task_uuid: Uuid) -> ApiError {
        ApiError::not_found(format!("there is no task {task_uuid}"))
    }

    pub(super) fn conflict(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::CONFLICT, "CONFLICT", message)
    }

    /// Something is larger than a limit.
    pub(super) fn too_large(
        what: &str,
        limit: &'static str,
        allowed: usize,
        actual: Option<usize>,
    ) -> ApiError {
        let size = actual.map_or_else(
            || "more bytes than".to_owned(),
            |bytes| format!("{bytes} bytes;"),
        );
        ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "PAYLOAD_TOO_LARGE",
            format!("the {what} has {size} {limit} allows {allowed}"),
        )
        .with("limit", limit)
        .with("allowed_bytes", allowed)
    }

    /// The server has as much to do as it can.
    pub(super) fn busy(message: impl Into<String>, retry_after: Duration) -> ApiError {
        let mut error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "BACKPRESSURE", message);
        error.0.retry_after = Some(retry_after);
        error
    }

    /// Something that the server needs is away.
    pub(super) fn unavailable(message: impl Into<String>) -> ApiError {
        let mut error = ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "SERVICE_UNAVAILABLE",
            message,
        );
        error.0.retry_after = Some(RETRY_AFTER);
        error
    }

    /// The database has not answered lately, and was not asked again.
    pub(super) fn breaker_open(open: &Open) -> ApiError {
        let mut error = ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "CIRCUIT_BREAKER_OPEN",
            "the database has not answered lately, so nothing was tried; try again",
        )
        .with("breaker", open.breaker.as_str());
        error.0.retry_after = Some(open.retry_after);
        error
    }

    /// It is an answer for want of the database.
    fn for_want_of_database(mut self) -> ApiError {
        self.0.database = Some(Database::Away);
        self
    }

    pub(super) fn is_for_want_of_database(&self) -> bool {
        self.0.database == Some(Database::Away)
    }

    /// The database was not asked for it.
    pub(super) fn without_asking(mut self) -> ApiError {
        self.0.database = Some(Database::Unasked);
        self
    }

    /// A mistake of the server: logged in full, told in general.
    pub(super) fn internal(what: &'static str, about: &dyn Display) -> ApiError {
        tracing::error!(%about, what, "a request failed for a reason inside the server");
        ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "INTERNAL_ERROR",
            "the server failed; its log has more under the request id",
        )
    }

    /// Adds a detail.
    pub(super) fn with(mut self, key: &str, value: impl Into<Value>) -> ApiError {
        self.0.details.insert(key.to_owned(), value.into());
        self
    }

    /// Adds a header to the answer.
    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> ApiError {
        self.0.headers.insert(name, value);
        self
    }

    pub(super) fn status(&self) -> StatusCode {
        self.0.status
    }

    /// As it is written into a body.
    pub(super) fn body(self) -> ErrorBody {
        let retry_after_seconds = self.retry_after_seconds();
        ErrorBody {
            code: self.0.code.to_owned(),
            message: self.0.message,
            details: self.0.details,
            retry_after_seconds,
        }
    }

    fn retry_after_seconds(&self) -> Option<u64> {
        let wait = self.0.retry_after?;
        Some(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).map(|seconds| seconds.max(1))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, retry_after) = (self.0.status, self.retry_after_seconds());
        let database = self.0.database;
        let headers = self.0.headers.clone();
        let body = Json(ErrorResponse { error: self.body() });
        let mut response = (status, headers, body).into_response();
        if let Some(database) = database {
            response.extensions_mut().insert(database);
        }
        if let Some(seconds) = retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<db::Error> for ApiError {
    fn from(error: db::Error) -> ApiError {
        if error.is_unavailable() {
            tracing::warn!(%error, "a request failed because the database is not available");
            return ApiError::unavailable("the database is not available; try again")
                .for_want_of_database();
        }
        tracing::error!(%error, "a request failed in the database");
        ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "DATABASE_ERROR",
            "the database failed; the server's log has more under the request id",
        )
    }
}

impl From<access::Refusal> for ApiError {
    fn from(refusal: access::Refusal) -> ApiError {
        let mut error = ApiError::new(refusal.status(), refusal.code(), refusal.to_string());
        if let access::Refusal::Forbidden(permission) = refusal {
            error = error.with("permission", permission.as_str());
        }
        if refusal.status() == StatusCode::SERVICE_UNAVAILABLE {
            error.0.retry_after = Some(RETRY_AFTER);
            if matches!(refusal, access::Refusal::Unavailable(_)) {
                error = error.for_want_of_database();
            }
        }
        error.0.headers = refusal.headers();
        error
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> ApiError {
        let message = refusal.to_string();
        match refusal {
            Refusal::InvalidRequest { pointer, message } => ApiError::invalid(&pointer, message),
            Refusal::UnknownTemplate {
                namespace,
                name,
                version,
            } => ApiError::not_found(message)
                .with("namespace", namespace)
                .with("name", name)
                .with("version", version),
            Refusal::InvalidContext(errors) => {
                let errors: Vec<Value> = errors
                    .into_iter()
                    // The context lies in the request, so that is where the pointers begin.
                    .map(|e| json!({"pointer": format!("/context{}", e.pointer), "message": e.message}))
                    .collect();
                ApiError::new(StatusCode::BAD_REQUEST, "INVALID_CONTEXT", message)
                    .with("errors", errors)
            }
            Refusal::TooLarge {
                what,
                limit,
                actual,
                allowed,
            } => ApiError::too_large(what, limit, allowed, Some(actual)),
            Refusal::IdempotencyMismatch => {
                ApiError::new(StatusCode::CONFLICT, "IDEMPOTENCY_MISMATCH", message)
            }
            Refusal::Busy(busy) => busy.into(),
            Refusal::Unavailable => ApiError::unavailable(message).for_want_of_database(),
            Refusal::OutcomeUnknown => {
                ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "DATABASE_ERROR", message)
                    .for_want_of_database()
            }
            Refusal::NotTaken => {
                ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "DATABASE_ERROR", message)
            }
        }
    }
}

impl From<Busy> for ApiError {
    fn from(busy: Busy) -> ApiError {
        ApiError::busy(busy.to_string(), busy.retry_after).with("cause", busy.cause.as_str())
    }
}

impl From<control::Error> for ApiError {
    fn from(error: control::Error) -> ApiError {
        match error {
            control::Error::NotFound => ApiError::not_found("there is no such task"),
            control::Error::NotAllowed(why) => ApiError::bad_request(why),
            control::Error::Invalid { pointer, message } => ApiError::invalid(&pointer, message),
            control::Error::TimedOut => ApiError::unavailable(error.to_string()),
            control::Error::Unavailable(source) | control::Error::Database(source) => source.into(),
        }
    }
}

impl From<ApplyError> for ApiError {
    fn from(error: ApplyError) -> ApiError {
        let message = error.to_string();
        match error {
            ApplyError::Invalid(faults) => {
                let faults: Vec<Value> = faults
                    .iter()
                    .map(|fault| json!({"line": fault.line, "column": fault.column, "message": fault.message}))
                    .collect();
                ApiError::new(StatusCode::BAD_REQUEST, "INVALID_TEMPLATE", message)
                    .with("faults", faults)
            }
            ApplyError::Conflict { .. } => {
                ApiError::new(StatusCode::CONFLICT, "TEMPLATE_CONFLICT", message)
            }
            ApplyError::OutsideNamespace(namespace) => {
                access::Refusal::OutsideNamespace(namespace).into()
            }
            ApplyError::Database(source) => source.into(),
        }
    }
}

/// What a path gets that no route has.
pub(super) async fn no_such_path(uri: Uri) -> ApiError {
    ApiError::not_found(format!("there is nothing at {}", uri.path()))
}

/// What a method gets that its path does not have.
pub(super) async fn no_such_method(method: Method, uri: Uri) -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "METHOD_NOT_ALLOWED",
        format!("{} is not possible at {}", method, uri.path()),
    )
}
