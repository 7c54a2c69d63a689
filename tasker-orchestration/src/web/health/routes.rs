//! The four routes. Liveness never touches the database; readiness answers 503 where work cannot be taken; the
//! detailed answer is 200 with what is wrong inside.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use tasker_shared::wire::{DetailedHealthResponse, HealthResponse, ReadinessResponse};

use super::super::App;

fn short(app: &App, status: &str, message: Option<String>) -> Json<HealthResponse> {
    Json(HealthResponse {
        status: status.to_owned(),
        timestamp: app.clock.now(),
        message,
    })
}

/// Says that the server runs.
#[utoipa::path(get, operation_id = "get_health", path = "/health", tag = "system", responses((status = 200, body = HealthResponse)))]
pub(in crate::web) async fn health(State(app): State<App>) -> Json<HealthResponse> {
    short(&app, "healthy", None)
}

/// Says whether the process lives: 503 where only a new start would help.
#[utoipa::path(
    get, operation_id = "get_liveness", path = "/health/live", tag = "system",
    responses(
        (status = 200, body = HealthResponse),
        (status = 503, body = HealthResponse, description = "Start it anew"),
    )
)]
pub(in crate::web) async fn live(State(app): State<App>) -> (StatusCode, Json<HealthResponse>) {
    match app.health.deadly() {
        None => (StatusCode::OK, short(&app, "alive", None)),
        Some(why) => (
            StatusCode::SERVICE_UNAVAILABLE,
            short(&app, "dead", Some(why)),
        ),
    }
}

/// Says whether work can be taken.
#[utoipa::path(
    get, operation_id = "get_readiness", path = "/health/ready", tag = "system",
    responses(
        (status = 200, body = ReadinessResponse),
        (status = 503, body = ReadinessResponse, description = "Not now"),
    )
)]
pub(in crate::web) async fn ready(State(app): State<App>) -> (StatusCode, Json<ReadinessResponse>) {
    let readiness = app.readiness().await;
    let status = match readiness.status.as_str() {
        "ready" => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(readiness))
}

/// Says everything, and what is wrong.
#[utoipa::path(get, operation_id = "get_detailed_health", path = "/health/detailed", tag = "system", responses((status = 200, body = DetailedHealthResponse)))]
pub(in crate::web) async fn detailed(State(app): State<App>) -> Json<DetailedHealthResponse> {
    Json(app.detailed_health().await)
}
