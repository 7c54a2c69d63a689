//! `GET` and `PUT /config/log-level`: the level at which this worker logs, which can be changed while it runs.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use tasker_shared::logging::{self, LevelError};
use tasker_shared::wire::LogLevel;

use super::Failure;

pub(super) async fn get() -> Json<LogLevel> {
    Json(LogLevel {
        level: logging::level(),
    })
}

/// Changes the level until the worker stops; answers what is in force.
pub(super) async fn put(
    wanted: Result<Json<LogLevel>, JsonRejection>,
) -> Result<Json<LogLevel>, Failure> {
    let Json(wanted) = wanted.map_err(|rejection| {
        let why = rejection.body_text();
        Failure::bad_request(format!(
            "send {{\"level\": \"debug\"}} as application/json: {why}"
        ))
    })?;
    let before = logging::set_level(&wanted.level)?;
    let Json(now) = get().await;
    tracing::info!(before, level = now.level, "log level changed");
    Ok(Json(now))
}

impl From<LevelError> for Failure {
    fn from(error: LevelError) -> Failure {
        let message = error.to_string();
        match error {
            LevelError::Unknown(_) => Failure::bad_request(message),
            LevelError::NotSetUp => Failure::conflict(message),
        }
    }
}
