//! The level at which this server logs, which can be changed while it runs.

use axum::Json;
use tasker_shared::logging::{self, LevelError};
use tasker_shared::wire::{ErrorResponse, LogLevel};

use super::error::ApiError;
use super::extract::Body;

/// Tells the level.
#[utoipa::path(
    get, operation_id = "get_log_level", path = "/config/log-level", tag = "system",
    responses((status = 200, body = LogLevel))
)]
pub(super) async fn get() -> Json<LogLevel> {
    Json(LogLevel {
        level: logging::level(),
    })
}

/// Changes the level until the server stops; answers what is in force.
#[utoipa::path(
    put, operation_id = "set_log_level", path = "/config/log-level", tag = "system",
    request_body = LogLevel,
    responses(
        (status = 200, body = LogLevel),
        (status = 400, description = "No such level; the message says what is allowed", body = ErrorResponse),
        (status = 409, description = "The program that the server is part of decides what is logged", body = ErrorResponse)
    )
)]
pub(super) async fn put(Body(wanted): Body<LogLevel>) -> Result<Json<LogLevel>, ApiError> {
    let before = logging::set_level(&wanted.level)?;
    let Json(now) = get().await;
    tracing::info!(before, level = now.level, "log level changed");
    Ok(Json(now))
}

impl From<LevelError> for ApiError {
    fn from(error: LevelError) -> ApiError {
        match error {
            LevelError::Unknown(_) => ApiError::invalid("/level", error),
            LevelError::NotSetUp => ApiError::conflict(error.to_string()),
        }
    }
}
