//! What is around every route: the request id, a bound on requests at once and on their time, panics caught, and
//! every error in one shape.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use tasker_shared::access::{REASON_HEADER, SEVERITY_HEADER};
use tasker_shared::resilience::serving::Crowded;
use tokio::sync::SemaphorePermit;
use tower::ServiceBuilder;
use tower::util::option_layer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tracing::Instrument;
use uuid::Uuid;

use super::App;
use super::access;
use super::breaker;
use super::error::ApiError;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longer ids of clients are replaced.
const LONGEST_ID: usize = 128;
/// What waits to be stored.
const SUBMISSIONS: [&str; 2] = ["/v1/tasks", "/v1/tasks/batch"];
/// When what waits for nothing but its turn is tried again.
const BRIEFLY: Duration = Duration::from_secs(1);
/// Browsers ask again after it.
const PREFLIGHT_HOLDS: Duration = Duration::from_secs(600);

/// Puts around `router` what every route has around it.
pub(super) fn around(router: Router<App>, app: App) -> Router<App> {
    let layers = ServiceBuilder::new()
        .layer(from_fn(identify))
        .layer(option_layer(cors(&app)))
        .layer(from_fn_with_state(app, serve));
    router.layer(layers)
}

/// Which pages in browsers may use the API; none unless configured. A preflight brings no credentials and is
/// answered before anybody asks for them.
fn cors(app: &App) -> Option<CorsLayer> {
    let origins = &app.loaded.config.server.cors_origins;
    let listed = origins.iter().filter_map(|origin| origin.parse().ok());
    let allowed = match origins.as_slice() {
        [] => return None,
        [any] if any == "*" => AllowOrigin::any(),
        _ => AllowOrigin::list(listed),
    };
    let methods = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
    ];
    let sent = [
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::ACCEPT,
        HeaderName::from_static("traceparent"),
        HeaderName::from_static("tracestate"),
        REQUEST_ID,
        app.gate.api_key_header().clone(),
    ];
    let shown = [
        REQUEST_ID,
        header::LOCATION,
        header::RETRY_AFTER,
        HeaderName::from_static("idempotency-replayed"),
        REASON_HEADER,
        SEVERITY_HEADER,
    ];
    Some(
        CorsLayer::new()
            .allow_origin(allowed)
            .allow_methods(methods)
            .allow_headers(sent)
            .expose_headers(shown)
            .max_age(PREFLIGHT_HOLDS),
    )
}

/// Gives the request its id, the client's where it is usable, and the response the same; logs what it took.
pub(super) async fn identify(request: Request, next: Next) -> Response {
    let given = request
        .headers()
        .get(&REQUEST_ID)
        .filter(|id| is_usable(id));
    let id = given.cloned().unwrap_or_else(new_id);
    let span = tracing::info_span!(
        "request",
        request_id = id.to_str().unwrap_or_default(),
        method = %request.method(),
        path = request.uri().path(),
        subject = tracing::field::Empty,
    );
    let began = Instant::now();
    let mut response = next.run(request).instrument(span.clone()).await;
    response.headers_mut().insert(REQUEST_ID, id);
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    span.in_scope(|| {
        tracing::debug!(
            status = response.status().as_u16(),
            took_ms,
            "request answered"
        )
    });
    response
}

fn is_usable(id: &HeaderValue) -> bool {
    (1..=LONGEST_ID).contains(&id.len()) && id.to_str().is_ok()
}

fn new_id() -> HeaderValue {
    let id = Uuid::now_v7().to_string();
    HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("unknown"))
}

/// Serves a request. What is around it is called in turn instead of being a layer each: every layer made like this
/// copies all that are within it, for each request.
async fn serve(State(app): State<App>, request: Request, next: Next) -> Response {
    one_shape(caught(bounded(&app, request, next)).await)
}

/// Where there is room for it, and the database is not known to be away.
async fn bounded(app: &App, request: Request, next: Next) -> Response {
    let _room = match room(app, &request) {
        Ok(room) => room,
        Err(crowded) => return crowded.into_response(),
    };
    let call = match breaker::admit(app, &request) {
        Ok(call) => call,
        Err(open) => return open.into_response(),
    };
    let response = in_time(app, access::guard(app, request, next)).await;
    breaker::settle(call, &response);
    response
}

/// An error that some library answered in a shape of its own.
fn one_shape(response: Response) -> Response {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let is_json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if !is_error || is_json {
        return response;
    }
    let reason = status.canonical_reason().unwrap_or("the request failed");
    let code = match status {
        StatusCode::NOT_FOUND => "NOT_FOUND",
        _ if status.is_server_error() => "INTERNAL_ERROR",
        _ => "BAD_REQUEST",
    };
    ApiError::new(status, code, reason).into_response()
}

/// Answers also where a handler panics.
pub(super) async fn caught(response: impl Future<Output = Response>) -> Response {
    let response = AssertUnwindSafe(response).catch_unwind().await;
    response.unwrap_or_else(|panic| {
        let said = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        ApiError::internal("panic", &said).into_response()
    })
}

/// Room for one more request. Health and metrics, which need none, are told also when nothing more can be served.
fn room<'a>(app: &'a App, request: &Request) -> Result<Option<SemaphorePermit<'a>>, ApiError> {
    let path = request.uri().path();
    if path.starts_with("/health") || path == "/metrics" {
        return Ok(None);
    }
    if let Some(Crowded { connections }) = request.extensions().get() {
        let message =
            format!("{connections} connections are open (server.max_connections); try again");
        let busy = app.initializer.pressure().crowded();
        return Err(ApiError::busy(message, busy.retry_after));
    }
    app.requests.try_acquire().map(Some).map_err(|_| {
        let most = app.loaded.config.server.max_concurrent_requests;
        let message =
            format!("{most} requests are being served (server.max_concurrent_requests); try again");
        let submits = request.method() == Method::POST && SUBMISSIONS.contains(&path);
        let retry_after = match submits {
            true => app.initializer.pressure().crowded().retry_after,
            false => BRIEFLY,
        };
        ApiError::busy(message, retry_after)
    })
}

async fn in_time(app: &App, response: impl Future<Output = Response>) -> Response {
    let most = app.loaded.config.server.request_timeout_ms;
    match tokio::time::timeout(Duration::from_millis(most), response).await {
        Ok(response) => response,
        Err(_) => ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "TIMEOUT",
            format!("the request was not done within {most} ms (server.request_timeout_ms); whether it took effect is not known"),
        )
        .into_response(),
    }
}
