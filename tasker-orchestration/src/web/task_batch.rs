//! Submitting many tasks at once.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tasker_shared::wire::{
    ErrorResponse, RawJson, TaskBatchItem, TaskBatchRequest, TaskBatchResponse, TaskRequest,
};

use super::App;
use super::access::By;
use super::breaker;
use super::error::{ApiError, Database};
use super::extract::{Caller, parse};
use super::submission::Submission;
use crate::lifecycle::admission::Refusal;
use crate::lifecycle::task_initializer::Accepted;

/// The body, its requests not looked at yet: one that is wrong does not spoil the others.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Batch {
    tasks: Vec<RawJson>,
}

/// Submits many tasks. Each is judged on its own; the good ones are committed together.
#[utoipa::path(
    post, operation_id = "create_tasks", path = "/v1/tasks/batch", tag = "tasks",
    request_body = TaskBatchRequest,
    responses(
        (status = 200, body = TaskBatchResponse, description = "What became of each, in the same order"),
        (status = 400, body = ErrorResponse, description = "The body is wrong, or has more tasks than limits.max_batch_tasks"),
        (status = 413, body = ErrorResponse, description = "A limit is exceeded"),
        (status = 503, body = ErrorResponse, description = "Nothing was stored; try again"),
    )
)]
pub(super) async fn create_batch(
    State(app): State<App>,
    by: By,
    Caller(caller): Caller,
    Submission {
        asked: batch,
        share,
    }: Submission<Batch>,
) -> Result<Response, ApiError> {
    app.initializer.pressure().check()?;
    let most = app.loaded.config.limits.max_batch_tasks;
    if batch.tasks.len() > most {
        return Err(ApiError::bad_request(format!(
            "the batch has {} tasks; limits.max_batch_tasks allows {most}",
            batch.tasks.len()
        ))
        .with("limit", "limits.max_batch_tasks"));
    }
    let mut good = Vec::with_capacity(batch.tasks.len());
    let mut answers: Vec<Option<ApiError>> = Vec::with_capacity(batch.tasks.len());
    // Each text goes as soon as it has been read: what waits below holds its documents once.
    for task in batch.tasks {
        let request = parse::<TaskRequest>(task.get().as_bytes(), "");
        let allowed = request.and_then(|request| by.reaches(&request.namespace).map(|()| request));
        match allowed {
            Ok(request) => {
                good.push(request);
                answers.push(None);
            }
            Err(error) => answers.push(Some(error)),
        }
    }
    let submitted = app.initializer.submit(good, share, caller.as_ref());
    let submitted = submitted.await;
    // All that could be stored wait together, so where one met a full channel, nothing was stored.
    let busy = submitted.iter().find_map(|answer| match answer {
        Err(Refusal::Busy(busy)) => Some(*busy),
        _ => None,
    });
    if let Some(busy) = busy {
        return Err(busy.into());
    }
    let mut submitted = submitted.into_iter();
    let mut away = false;
    let results = answers
        .into_iter()
        .map(|refused| match refused {
            Some(error) => item(Err(error)),
            None => item(
                submitted
                    .next()
                    .unwrap_or(Err(Refusal::OutcomeUnknown))
                    .map_err(ApiError::from)
                    .inspect_err(|error| away |= error.is_for_want_of_database()),
            ),
        })
        .collect::<Vec<_>>();
    let asked = results
        .iter()
        .any(|item| breaker::is_asked_for(item.status));
    let mut response = Json(TaskBatchResponse { results }).into_response();
    if away {
        response.extensions_mut().insert(Database::Away);
    } else if !asked {
        response.extensions_mut().insert(Database::Unasked);
    }
    Ok(response)
}

fn item(answer: Result<Accepted, ApiError>) -> TaskBatchItem {
    match answer {
        Ok(accepted) => TaskBatchItem {
            status: if accepted.replayed { 200 } else { 201 },
            task_uuid: Some(accepted.task_uuid),
            error: None,
        },
        Err(error) => TaskBatchItem {
            status: error.status().as_u16(),
            task_uuid: None,
            error: Some(error.body()),
        },
    }
}
