//! A task with its template, for programs that draw it.

use axum::Json;
use axum::extract::State;
use tasker_shared::db::dead_letter_views;
use tasker_shared::wire::{ErrorResponse, TaskSummaryResponse};

use super::App;
use super::dlq;
use super::error::ApiError;
use super::extract::TaskPath;
use super::view::Results;

/// Summarises a task.
#[utoipa::path(
    get, operation_id = "get_task_summary", path = "/v1/tasks/{task_uuid}/summary", tag = "tasks",
    params(("task_uuid" = uuid::Uuid, Path)),
    responses(
        (status = 200, body = TaskSummaryResponse),
        (status = 404, body = ErrorResponse, description = "No such task"),
    )
)]
pub(super) async fn summary(
    State(app): State<App>,
    TaskPath(task_uuid): TaskPath,
) -> Result<Json<TaskSummaryResponse>, ApiError> {
    let view = app.task_view(task_uuid, Results::Without).await?;
    let newest = dead_letter_views::find_of_task(&app.pool, task_uuid).await?;
    Ok(Json(view.summary(dlq::view::in_summary(newest.as_ref()))))
}
