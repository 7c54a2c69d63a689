//! The steps of a task, and what a person does to one.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body as HttpBody;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::stream;
use tasker_shared::db::step_views;
use tasker_shared::db::task_views::TaskRow;
use tasker_shared::plan::Blueprint;
use tasker_shared::state::step::StepState;
use tasker_shared::wire::{BlockedKind, ErrorResponse, StepManualAction, StepResponse};

use super::App;
use super::access::By;
use super::error::ApiError;
use super::extract::{Body, StepPath, TaskPath};
use super::view::Results;
use super::view::step::StepView;
use crate::lifecycle::control::Action;
use uuid::Uuid;

/// Steps read with their results in one go: with results as large as they may be, some hundred megabytes.
const STEPS_AT_ONCE: i32 = 100;
const LONGEST_REASON: usize = 500;
const LONGEST_NAME: usize = 255;

/// Lists the steps of a task, in the order of its template.
#[utoipa::path(
    get, operation_id = "list_steps", path = "/v1/tasks/{task_uuid}/workflow_steps", tag = "steps",
    params(("task_uuid" = uuid::Uuid, Path)),
    responses(
        (status = 200, body = Vec<StepResponse>),
        (status = 404, body = ErrorResponse, description = "No such task"),
    )
)]
pub(super) async fn list(
    State(app): State<App>,
    TaskPath(task_uuid): TaskPath,
) -> Result<Response, ApiError> {
    let (task, blueprint) = app.task_of(task_uuid).await?;
    let last = blueprint.graph.join() - 1;
    if last <= STEPS_AT_ONCE {
        let steps = app
            .step_views(&task, &blueprint, (1, last), Results::With)
            .await?;
        let steps = steps
            .into_iter()
            .map(|step| step.response(task_uuid, &blueprint));
        return Ok(Json(steps.collect::<Vec<_>>()).into_response());
    }
    let steps = app
        .step_views(&task, &blueprint, (1, last), Results::Without)
        .await?;
    let long = LongList {
        app,
        task_uuid,
        blueprint,
        steps: steps.into_iter(),
        began: false,
    };
    let chunks = stream::try_unfold(long, |mut long| async move {
        let chunk = long.next().await?;
        Ok::<_, std::io::Error>(chunk.map(|chunk| (chunk, long)))
    });
    Ok((
        [(header::CONTENT_TYPE, "application/json")],
        HttpBody::from_stream(chunks),
    )
        .into_response())
}

/// A list of many steps, sent as it is read: their results together may be larger than memory.
struct LongList {
    app: App,
    task_uuid: Uuid,
    blueprint: Arc<Blueprint>,
    steps: std::vec::IntoIter<StepView>,
    began: bool,
}

impl LongList {
    /// The next part of the JSON text; `None` after the last. An error cuts the answer off.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, std::io::Error> {
        let chunk: Vec<StepView> = self.steps.by_ref().take(STEPS_AT_ONCE as usize).collect();
        let (Some(first), Some(last)) = (chunk.first(), chunk.last()) else {
            return Ok(None);
        };
        let results =
            step_views::list_results(&self.app.pool, self.task_uuid, first.number, last.number);
        let results = results.await.map_err(std::io::Error::other)?;
        let mut results: HashMap<i32, String> = results.into_iter().collect();
        let mut text = Vec::new();
        for mut step in chunk {
            text.push(if self.began { b',' } else { b'[' });
            self.began = true;
            step.result = results
                .remove(&step.number)
                .filter(|_| step.state == StepState::Complete);
            serde_json::to_writer(&mut text, &step.response(self.task_uuid, &self.blueprint))?;
        }
        if self.steps.len() == 0 {
            text.push(b']');
        }
        Ok(Some(text))
    }
}

/// Reads a step.
#[utoipa::path(
    get, operation_id = "get_step", path = "/v1/tasks/{task_uuid}/workflow_steps/{step_uuid}", tag = "steps",
    params(("task_uuid" = uuid::Uuid, Path), ("step_uuid" = uuid::Uuid, Path)),
    responses(
        (status = 200, body = StepResponse),
        (status = 404, body = ErrorResponse, description = "No such task, or not a step of it"),
    )
)]
pub(super) async fn get(
    State(app): State<App>,
    path: StepPath,
) -> Result<Json<StepResponse>, ApiError> {
    app.step_response(path).await.map(Json)
}

/// Puts a failed step back, declares a step done, or supplies its result.
#[utoipa::path(
    patch, operation_id = "change_step", path = "/v1/tasks/{task_uuid}/workflow_steps/{step_uuid}", tag = "steps",
    params(("task_uuid" = uuid::Uuid, Path), ("step_uuid" = uuid::Uuid, Path)),
    request_body = StepManualAction,
    responses(
        (status = 200, body = StepResponse, description = "The step as it is now"),
        (status = 400, body = ErrorResponse, description = "The body is wrong, or the step's state does not allow it"),
        (status = 404, body = ErrorResponse, description = "No such task, or not a step of it"),
        (status = 503, body = ErrorResponse, description = "No server has taken it up in time"),
    )
)]
pub(super) async fn act(
    State(app): State<App>,
    by: By,
    path: StepPath,
    Body(action): Body<StepManualAction>,
) -> Result<Json<StepResponse>, ApiError> {
    let action = asked(&by, action, path.number)?;
    app.step_of(path, Results::Without).await?;
    app.controls.apply(path.task_uuid, action).await?;
    app.step_response(path).await.map(Json)
}

/// A step with what it belongs to.
#[derive(Debug)]
pub(super) struct StepOf {
    pub(super) task: TaskRow,
    pub(super) blueprint: Arc<Blueprint>,
    pub(super) step: StepView,
}

impl App {
    async fn step_response(&self, path: StepPath) -> Result<StepResponse, ApiError> {
        let of = self.step_of(path, Results::With).await?;
        Ok(of.step.response(path.task_uuid, &of.blueprint))
    }

    /// One step of a task.
    pub(super) async fn step_of(
        &self,
        path: StepPath,
        results: Results,
    ) -> Result<StepOf, ApiError> {
        let (task, blueprint) = self.task_of(path.task_uuid).await?;
        let number = path.number;
        if blueprint.step(number).is_none() {
            return Err(path.no_such_step());
        }
        let alone = self
            .step_views(&task, &blueprint, (number, number), results)
            .await?;
        let mut step = alone
            .into_iter()
            .next()
            .ok_or_else(|| path.no_such_step())?;
        // Which parents it waits for is told by their rows.
        let waits = |kind| {
            matches!(
                kind,
                BlockedKind::Dependencies | BlockedKind::FailedDependency
            )
        };
        if step
            .blocked_by
            .as_ref()
            .is_some_and(|blocked| waits(blocked.kind))
        {
            let last = blueprint.graph.join() - 1;
            let all = self
                .step_views(&task, &blueprint, (1, last), Results::Without)
                .await?;
            let same = all.into_iter().find(|other| other.number == number);
            step.blocked_by = same.and_then(|same| same.blocked_by);
        }
        Ok(StepOf {
            task,
            blueprint,
            step,
        })
    }
}

/// The control that an action asks for.
fn asked(by: &By, action: StepManualAction, step_no: i32) -> Result<Action, ApiError> {
    let who = |pointer, name| {
        let name = said(pointer, name, LONGEST_NAME)?;
        Ok::<_, ApiError>(by.signed(Some(&name)).unwrap_or(name))
    };
    Ok(match action {
        StepManualAction::ResetForRetry { reason, reset_by } => Action::ResetStep {
            step_no,
            reason: said("/reason", reason, LONGEST_REASON)?,
            by: who("/reset_by", reset_by)?,
        },
        StepManualAction::ResolveManually {
            reason,
            resolved_by,
        } => Action::ResolveStep {
            step_no,
            reason: said("/reason", reason, LONGEST_REASON)?,
            by: who("/resolved_by", resolved_by)?,
        },
        StepManualAction::CompleteManually {
            completion_data,
            reason,
            completed_by,
        } => Action::CompleteStep {
            step_no,
            result: completion_data.result.get().to_owned(),
            metadata: completion_data
                .metadata
                .map(|metadata| metadata.get().to_owned()),
            reason: said("/reason", reason, LONGEST_REASON)?,
            by: who("/completed_by", completed_by)?,
        },
    })
}

/// A text that a person has to give.
fn said(pointer: &str, text: String, most: usize) -> Result<String, ApiError> {
    match text.chars().count() {
        0 => Err(ApiError::invalid(pointer, "is empty")),
        n if n > most => Err(ApiError::invalid(
            pointer,
            format!("has {n} characters, {most} are allowed"),
        )),
        _ if text.contains('\0') => Err(ApiError::invalid(pointer, "contains a NUL character")),
        _ => Ok(text),
    }
}
