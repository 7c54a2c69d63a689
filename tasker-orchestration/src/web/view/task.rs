//! A task as it is shown, from its row, its template and the counts of its steps. Pure.

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use tasker_shared::db::task_views::{Counted, TaskRow};
use tasker_shared::plan::Blueprint;
use tasker_shared::state::step::StepState;
use tasker_shared::state::task::TaskState;
use tasker_shared::wire::status::{self, Standing, StepCounts};
use tasker_shared::wire::{
    RawJson, StepReadiness, SummaryDlq, SummaryLinks, SummaryTask, SummaryTemplate,
    SummaryTemplateStep, TaskProgress, TaskResponse, TaskSummaryResponse,
};

use super::TaskView;
use super::step::{self, is_scheduled, raw};

/// What an older server of the same format shows where a request did not say.
const UNKNOWN: &str = "unknown";

/// A task without its steps.
#[derive(Debug)]
pub(in crate::web) struct Outline<'a> {
    pub(in crate::web) task: &'a TaskRow,
    pub(in crate::web) blueprint: &'a Blueprint,
    pub(in crate::web) counts: StepCounts,
    /// When a step last changed.
    pub(in crate::web) changed_at: DateTime<Utc>,
}

impl<'a> Outline<'a> {
    /// From the counts that the database made; a task without rows of steps has none that began.
    pub(in crate::web) fn counted(
        task: &'a TaskRow,
        blueprint: &'a Blueprint,
        counted: Option<&Counted>,
        now: DateTime<Utc>,
    ) -> Outline<'a> {
        let mut counts = counted.map(|counted| counted.counts).unwrap_or_default();
        if is_scheduled(task, now) {
            counts.ready = 0;
        }
        Outline {
            task,
            blueprint,
            counts,
            changed_at: counted.map_or(task.updated_at, |counted| counted.changed_at),
        }
    }

    /// The state to show.
    pub(in crate::web) fn state(&self) -> TaskState {
        status::task_state(self.task.state, &self.counts)
    }

    fn standing(&self) -> Standing {
        status::standing(self.state(), &self.counts)
    }

    fn updated_at(&self) -> DateTime<Utc> {
        self.changed_at.max(self.task.updated_at)
    }

    /// As the task resource shows it.
    pub(in crate::web) fn response(&self, steps: Vec<StepReadiness>) -> TaskResponse {
        let (task, standing, counts) = (self.task, self.standing(), &self.counts);
        let template = &self.blueprint.template;
        let said = |text: &Option<String>| text.clone().unwrap_or_else(|| UNKNOWN.to_owned());
        TaskResponse {
            task_uuid: task.task_uuid,
            name: template.name.clone(),
            namespace: template.namespace_name.clone(),
            version: template.version.to_string(),
            status: self.state().as_str().to_owned(),
            created_at: task.created_at,
            updated_at: self.updated_at(),
            completed_at: task.completed_at,
            context: raw(task.context.clone()).unwrap_or_else(null),
            initiator: said(&task.initiator),
            source_system: said(&task.source_system),
            reason: said(&task.reason),
            priority: Some(i32::from(task.priority)),
            tags: Some(task.tags.clone()),
            correlation_id: task.correlation_id,
            parent_correlation_id: task.parent_correlation_id,
            total_steps: counts.total(),
            pending_steps: counts.of(StepState::Pending),
            in_progress_steps: counts.of(StepState::InProgress),
            completed_steps: counts.completed(),
            failed_steps: counts.of(StepState::Error),
            ready_steps: counts.ready,
            execution_status: standing.execution_status.to_owned(),
            recommended_action: standing.recommended_action.to_owned(),
            completion_percentage: counts.completion_percentage(),
            health_status: standing.health_status.to_owned(),
            steps,
            run_at: task.run_at,
            idempotency_key: task.idempotency_key.clone(),
            failure: task.failure.clone().and_then(raw),
        }
    }
}

impl TaskView {
    /// The task without its steps.
    pub(in crate::web) fn outline(&self) -> Outline<'_> {
        let changed = self.steps.iter().map(|step| step.updated_at).max();
        Outline {
            task: &self.task,
            blueprint: &self.blueprint,
            counts: step::count(&self.steps),
            changed_at: changed.unwrap_or(self.task.updated_at),
        }
    }

    /// As the task resource shows it.
    pub(in crate::web) fn response(&self) -> TaskResponse {
        let (task_uuid, template_id) = (self.task.task_uuid, self.task.template_id);
        let steps = self
            .steps
            .iter()
            .map(|step| step.readiness(task_uuid, template_id));
        self.outline().response(steps.collect())
    }

    /// As it is summarised for drawing, with what is known of its dead letters.
    pub(in crate::web) fn summary(&self, dlq: SummaryDlq) -> TaskSummaryResponse {
        let task_uuid = self.task.task_uuid;
        let template = SummaryTemplate {
            steps: self
                .blueprint
                .template
                .steps
                .iter()
                .map(|step| SummaryTemplateStep {
                    name: step.name.clone(),
                    step_type: step.step_type.as_str().to_owned(),
                    handler: step.handler.callable.clone(),
                    dependencies: step.dependencies.clone(),
                    retryable: step.retry.retryable,
                    max_attempts: step.retry.max_attempts,
                })
                .collect(),
        };
        TaskSummaryResponse {
            task: self.summary_of_task(),
            template,
            steps: self.steps.iter().map(step::StepView::summary).collect(),
            dlq,
            links: SummaryLinks {
                task: format!("/v1/tasks/{task_uuid}"),
                steps: format!("/v1/tasks/{task_uuid}/workflow_steps"),
                dlq: "/v1/dlq".to_owned(),
            },
        }
    }

    fn summary_of_task(&self) -> SummaryTask {
        let shown = self.outline().response(Vec::new());
        SummaryTask {
            task_uuid: shown.task_uuid,
            name: shown.name,
            namespace: shown.namespace,
            version: shown.version,
            status: shown.status,
            created_at: shown.created_at,
            updated_at: shown.updated_at,
            completed_at: shown.completed_at,
            initiator: self.task.initiator.clone().unwrap_or_default(),
            source_system: self.task.source_system.clone().unwrap_or_default(),
            reason: self.task.reason.clone().unwrap_or_default(),
            correlation_id: shown.correlation_id,
            total_steps: shown.total_steps,
            pending_steps: shown.pending_steps,
            in_progress_steps: shown.in_progress_steps,
            completed_steps: shown.completed_steps,
            failed_steps: shown.failed_steps,
            completion_percentage: shown.completion_percentage,
            health_status: shown.health_status,
            execution_status: shown.execution_status,
            recommended_action: Some(shown.recommended_action),
        }
    }

    /// As the event stream shows it, without steps.
    pub(in crate::web) fn progress(&self) -> TaskProgress {
        let outline = self.outline();
        let shown = outline.response(Vec::new());
        TaskProgress {
            task_uuid: shown.task_uuid,
            status: shown.status,
            is_final: outline.state().is_final(),
            execution_status: shown.execution_status,
            total_steps: shown.total_steps,
            pending_steps: shown.pending_steps,
            in_progress_steps: shown.in_progress_steps,
            completed_steps: shown.completed_steps,
            failed_steps: shown.failed_steps,
            ready_steps: shown.ready_steps,
            completion_percentage: shown.completion_percentage,
            updated_at: shown.updated_at,
            completed_at: shown.completed_at,
            steps: Vec::new(),
        }
    }
}

fn null() -> RawJson {
    RawValue::NULL.to_owned()
}
