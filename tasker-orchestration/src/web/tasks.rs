//! Submitting a task and reading one.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tasker_shared::wire::{ErrorResponse, TaskRequest, TaskResponse};

use super::App;
use super::access::By;
use super::error::ApiError;
use super::extract::{Caller, TaskPath};
use super::submission::Submission;
use super::view::Results;

const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Submits a task.
#[utoipa::path(
    post, operation_id = "create_task", path = "/v1/tasks", tag = "tasks",
    request_body = TaskRequest,
    responses(
        (status = 201, body = TaskResponse, description = "The task"),
        (status = 200, body = TaskResponse, description = "The first task of this idempotency key; header `Idempotency-Replayed: true`"),
        (status = 400, body = ErrorResponse, description = "The request, or its context, is wrong"),
        (status = 403, body = ErrorResponse, description = "The credentials do not reach the namespace"),
        (status = 404, body = ErrorResponse, description = "No such template"),
        (status = 409, body = ErrorResponse, description = "The idempotency key stands for a different request"),
        (status = 413, body = ErrorResponse, description = "A limit is exceeded"),
        (status = 503, body = ErrorResponse, description = "Nothing was stored; try again"),
    )
)]
pub(super) async fn create(
    State(app): State<App>,
    by: By,
    Caller(caller): Caller,
    Submission {
        asked: request,
        share,
    }: Submission<TaskRequest>,
) -> Result<(StatusCode, HeaderMap, Json<TaskResponse>), ApiError> {
    by.reaches(&request.namespace)?;
    app.initializer.pressure().check()?;
    let submitted = app.initializer.submit_one(request, share, caller.as_ref());
    let submitted = submitted.await?;
    let accepted = submitted.accepted;
    let task = match accepted.replayed {
        true => {
            let first = app.task_view(accepted.task_uuid, Results::Without).await;
            first.map_err(|error| match error.status() {
                // Its week has gone, and the keys of that go behind it: in a moment this is a new task.
                StatusCode::NOT_FOUND => ApiError::unavailable(
                    "the first task of this idempotency key is being removed with its week; try again",
                ),
                _ => error,
            })?
        }
        // Nothing is read back: what was stored is known.
        false => app.new_task_view(submitted).await?,
    };
    let task = task.response();
    let mut headers = HeaderMap::new();
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/tasks/{}", accepted.task_uuid)) {
        headers.insert(header::LOCATION, location);
    }
    let status = match accepted.replayed {
        true => {
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
            StatusCode::OK
        }
        false => StatusCode::CREATED,
    };
    Ok((status, headers, Json(task)))
}

/// Reads a task.
#[utoipa::path(
    get, operation_id = "get_task", path = "/v1/tasks/{task_uuid}", tag = "tasks",
    params(("task_uuid" = uuid::Uuid, Path)),
    responses(
        (status = 200, body = TaskResponse),
        (status = 400, body = ErrorResponse, description = "Not a UUID"),
        (status = 404, body = ErrorResponse, description = "No such task"),
    )
)]
pub(super) async fn get(
    State(app): State<App>,
    TaskPath(task_uuid): TaskPath,
) -> Result<Json<TaskResponse>, ApiError> {
    Ok(Json(
        app.task_view(task_uuid, Results::Without).await?.response(),
    ))
}
