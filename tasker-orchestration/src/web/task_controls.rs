//! Cancelling and retrying a task.

use axum::Json;
use axum::extract::State;
use tasker_shared::state::task::TaskState;
use tasker_shared::wire::{ErrorResponse, TaskResponse};

use super::App;
use super::access::By;
use super::error::ApiError;
use super::extract::TaskPath;
use super::view::{Results, TaskView};
use crate::lifecycle::control::{self, Action};

/// Cancels a task. One that is cancelled already stays so; one that has ended otherwise is a conflict.
#[utoipa::path(
    delete, operation_id = "cancel_task", path = "/v1/tasks/{task_uuid}", tag = "tasks",
    params(("task_uuid" = uuid::Uuid, Path)),
    responses(
        (status = 200, body = TaskResponse, description = "The task, cancelled"),
        (status = 404, body = ErrorResponse, description = "No such task"),
        (status = 409, body = ErrorResponse, description = "The task has ended"),
        (status = 503, body = ErrorResponse, description = "No server has taken it up in time"),
    )
)]
pub(super) async fn cancel(
    State(app): State<App>,
    TaskPath(task_uuid): TaskPath,
) -> Result<Json<TaskResponse>, ApiError> {
    let before = app.task_view(task_uuid, Results::Without).await?;
    if before.task.state.is_final() {
        return ended(&before);
    }
    match app.controls.apply(task_uuid, Action::Cancel).await {
        Ok(()) => {}
        // It ended between the look and the asking.
        Err(control::Error::NotAllowed(why)) => {
            let now = app.task_view(task_uuid, Results::Without).await?;
            return match now.task.state.is_final() {
                true => ended(&now),
                false => Err(ApiError::bad_request(why)),
            };
        }
        Err(error) => return Err(error.into()),
    }
    let after = app.task_view(task_uuid, Results::Without).await?;
    Ok(Json(after.response()))
}

fn ended(view: &TaskView) -> Result<Json<TaskResponse>, ApiError> {
    let state = view.task.state;
    if state == TaskState::Cancelled {
        return Ok(Json(view.response()));
    }
    let message = format!(
        "the task is {} and can no longer be cancelled",
        state.as_str()
    );
    Err(ApiError::conflict(message).with("status", state.as_str()))
}

/// Puts every failed step of a task back, and lets it go on.
#[utoipa::path(
    post, operation_id = "retry_task", path = "/v1/tasks/{task_uuid}/retry", tag = "tasks",
    params(("task_uuid" = uuid::Uuid, Path)),
    responses(
        (status = 200, body = TaskResponse, description = "The task, going on"),
        (status = 400, body = ErrorResponse, description = "No step has failed, or the task was cancelled"),
        (status = 404, body = ErrorResponse, description = "No such task"),
        (status = 503, body = ErrorResponse, description = "No server has taken it up in time"),
    )
)]
pub(super) async fn retry(
    State(app): State<App>,
    by: By,
    TaskPath(task_uuid): TaskPath,
) -> Result<Json<TaskResponse>, ApiError> {
    let action = Action::Retry {
        by: by.signed(None),
        note: None,
        entry: None,
    };
    app.controls.apply(task_uuid, action).await?;
    Ok(Json(
        app.task_view(task_uuid, Results::Without).await?.response(),
    ))
}
