//! Tasks and steps as they are shown: what is stored joined with the template, states derived. The parts are
//! pure functions over rows (`step`, `blocked`, `task`); here they get their rows.

mod blocked;
pub(super) mod step;
pub(super) mod task;

use std::sync::Arc;

use tasker_shared::db::accept::{Begin, NewTask};
use tasker_shared::db::requests::Request;
use tasker_shared::db::task_views::TaskRow;
use tasker_shared::db::{step_views, task_views};
use tasker_shared::plan::Blueprint;
use tasker_shared::state::step::StepState;
use tasker_shared::state::task::TaskState;
use uuid::Uuid;

use super::App;
use super::error::ApiError;
use super::served::Handlers;
use crate::lifecycle::task_initializer::Submitted;
use step::StepView;

/// A task with its steps, ready to be shown.
#[derive(Debug)]
pub(super) struct TaskView {
    pub(super) task: TaskRow,
    pub(super) blueprint: Arc<Blueprint>,
    /// By number, from 1.
    pub(super) steps: Vec<StepView>,
}

/// Whether the steps come with their results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Results {
    With,
    Without,
}

impl App {
    /// The task with all its steps.
    pub(super) async fn task_view(
        &self,
        task_uuid: Uuid,
        results: Results,
    ) -> Result<TaskView, ApiError> {
        let (task, blueprint) = self.task_of(task_uuid).await?;
        let last = blueprint.graph.join() - 1;
        let steps = self
            .step_views(&task, &blueprint, (1, last), results)
            .await?;
        Ok(TaskView {
            task,
            blueprint,
            steps,
        })
    }

    /// A task that was stored a moment ago, as it was stored.
    pub(super) async fn new_task_view(&self, submitted: Submitted) -> Result<TaskView, ApiError> {
        let Submitted {
            task, blueprint, ..
        } = submitted;
        let handlers = self.served.get(&self.pool).await?;
        let begins_now = task.begin == Begin::Now;
        let task = stored(task);
        let steps = step::new_views(&task, &blueprint, begins_now, &handlers, self.clock.now());
        Ok(TaskView {
            task,
            blueprint,
            steps,
        })
    }

    /// The task and its template. A submission made by SQL is a task already for whoever made it.
    pub(super) async fn task_of(
        &self,
        task_uuid: Uuid,
    ) -> Result<(TaskRow, Arc<Blueprint>), ApiError> {
        if let Some(task) = task_views::find(&self.pool, task_uuid).await? {
            return self.with_blueprint(task).await;
        }
        if let Some(request) = task_views::find_request(&self.pool, task_uuid).await? {
            let found = self.templates.find(
                &request.namespace,
                &request.name,
                request.version.as_deref(),
            );
            if let Some(blueprint) = found.await? {
                return Ok((requested(request, blueprint.template_id), blueprint));
            }
        }
        // Between the two looks the submission may have become a task.
        match task_views::find(&self.pool, task_uuid).await? {
            Some(task) => self.with_blueprint(task).await,
            None => Err(ApiError::no_such_task(task_uuid)),
        }
    }

    async fn with_blueprint(&self, task: TaskRow) -> Result<(TaskRow, Arc<Blueprint>), ApiError> {
        let id = task.template_id;
        let blueprint = self.blueprints.get([id]).await?.remove(&id);
        let missing = || ApiError::internal("a task names a template that is not stored", &id);
        Ok((task, blueprint.ok_or_else(missing)?))
    }

    /// The task's steps from one number to another, both included.
    pub(super) async fn step_views(
        &self,
        task: &TaskRow,
        blueprint: &Blueprint,
        (first, last): (i32, i32),
        results: Results,
    ) -> Result<Vec<StepView>, ApiError> {
        let rows = step_views::list(
            &self.pool,
            task.task_uuid,
            first,
            last,
            results == Results::With,
        )
        .await?;
        let waits =
            |row: &step_views::StepRow| row.state == StepState::Enqueued && row.worker.is_none();
        let handlers = match rows.iter().any(waits) {
            true => self.served.get(&self.pool).await?,
            false => Arc::new(Handlers::default()),
        };
        Ok(step::views(
            task,
            blueprint,
            (first, last),
            rows,
            &handlers,
            self.clock.now(),
        ))
    }
}

/// A new task as its row.
fn stored(task: NewTask) -> TaskRow {
    TaskRow {
        task_uuid: task.task_uuid,
        template_id: task.template_id,
        state: task.begin.task_state(),
        priority: task.priority,
        context: task.context.as_ref().to_owned(),
        correlation_id: task.correlation_id,
        parent_correlation_id: task.parent_correlation_id,
        initiator: task.initiator,
        source_system: task.source_system,
        reason: task.reason,
        tags: task.tags,
        idempotency_key: task.idempotency_key,
        run_at: task.run_at,
        created_at: task.created_at,
        updated_at: task.created_at,
        completed_at: None,
        failure: task.failure,
    }
}

/// A submission as the task that it will be.
fn requested(request: Request, template_id: i32) -> TaskRow {
    TaskRow {
        task_uuid: request.task_uuid,
        template_id,
        state: TaskState::Pending,
        priority: request.priority,
        context: request.context,
        correlation_id: request.correlation_id,
        parent_correlation_id: request.parent_correlation_id,
        initiator: request.initiator,
        source_system: request.source_system,
        reason: request.reason,
        tags: request.tags,
        idempotency_key: request.idempotency_key,
        run_at: request.run_at,
        created_at: request.requested_at,
        updated_at: request.requested_at,
        completed_at: None,
        failure: None,
    }
}

#[cfg(test)]
mod tests;
