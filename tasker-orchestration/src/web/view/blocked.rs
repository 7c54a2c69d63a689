//! Why a step is not running: one typed reason. Pure.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use tasker_shared::db::step_views::StepRow;
use tasker_shared::db::task_views::TaskRow;
use tasker_shared::plan::Blueprint;
use tasker_shared::state::step::StepState;
use tasker_shared::wire::time;
use tasker_shared::wire::{BlockedBy, BlockedKind};

use super::super::served::Handlers;
use super::step::{is_scheduled, shown_state};

/// Names of steps given in one reason; there may be thousands.
const MOST_NAMES: usize = 20;

/// What reasons are found from.
pub(super) struct About<'a> {
    pub(super) task: &'a TaskRow,
    pub(super) blueprint: &'a Blueprint,
    pub(super) handlers: &'a Handlers,
    /// The number of the first row.
    pub(super) first: i32,
    pub(super) rows: &'a [StepRow],
    pub(super) now: DateTime<Utc>,
}

impl About<'_> {
    /// The reason for one step; `None` where it has ended otherwise than skipped.
    pub(super) fn reason(&self, row: &StepRow) -> Option<BlockedBy> {
        let (kind, detail, since) = match shown_state(row) {
            StepState::Pending => self.pending(row),
            StepState::Skipped => self.failed_dependency(row),
            StepState::WaitingForRetry => (BlockedKind::RetryAt, self.retry(row), row.changed_at),
            StepState::Enqueued => self.enqueued(row),
            StepState::InProgress => (
                BlockedKind::Running,
                json!({"worker": row.worker, "attempt": row.tries + 1}),
                row.claimed_at.unwrap_or(row.changed_at),
            ),
            StepState::EnqueuedForOrchestration | StepState::EnqueuedAsErrorForOrchestration => (
                BlockedKind::Queued,
                json!({"queue": "results"}),
                row.changed_at,
            ),
            _ => return None,
        };
        let detail = match detail {
            Value::Object(detail) => detail,
            _ => Map::new(),
        };
        Some(BlockedBy {
            kind,
            detail,
            since,
        })
    }

    fn pending(&self, row: &StepRow) -> (BlockedKind, Value, DateTime<Utc>) {
        if row.failed > 0 {
            return self.failed_dependency(row);
        }
        if row.waiting_on > 0 {
            let waiting = self.parents(row, |state| !state.has_ended());
            let detail = json!({"waiting_on": row.waiting_on, "steps": waiting});
            return (BlockedKind::Dependencies, detail, row.changed_at);
        }
        match self
            .task
            .run_at
            .filter(|_| is_scheduled(self.task, self.now))
        {
            Some(at) => (
                BlockedKind::Scheduled,
                json!({"run_at": time::format(&at)}),
                self.task.created_at,
            ),
            None => (
                BlockedKind::Queued,
                json!({"queue": "server"}),
                row.changed_at,
            ),
        }
    }

    fn failed_dependency(&self, row: &StepRow) -> (BlockedKind, Value, DateTime<Utc>) {
        let failed = self.parents(row, StepState::ended_badly);
        let detail = json!({"failed": row.failed, "waiting_on": row.waiting_on, "steps": failed});
        (BlockedKind::FailedDependency, detail, row.changed_at)
    }

    fn retry(&self, row: &StepRow) -> Value {
        let at = row.due_at.as_ref().map(time::format);
        json!({"at": at, "next_attempt": row.tries + 1})
    }

    fn enqueued(&self, row: &StepRow) -> (BlockedKind, Value, DateTime<Utc>) {
        let namespace = &self.blueprint.template.namespace_name;
        let callable = self
            .blueprint
            .step(row.step_no)
            .map(|step| step.handler.callable.as_str())
            .unwrap_or_default();
        let kind = match self.handlers.has(namespace, callable) {
            true => BlockedKind::Queued,
            false => BlockedKind::NoWorker,
        };
        let target = self.blueprint.target(row.step_no);
        let circuit = target.and_then(|target| self.handlers.circuit(target.as_str()));
        if let (BlockedKind::Queued, Some(circuit)) = (kind, circuit) {
            let detail = json!({
                "target": circuit.target,
                "reason": circuit.reason,
                "opened_at": time::format(&circuit.opened_at),
                "retry_at": time::format(&circuit.retry_at),
                "failed_probes": circuit.failures,
            });
            let since = row.changed_at.max(circuit.opened_at);
            return (BlockedKind::CircuitOpen, detail, since);
        }
        let detail = json!({"queue": "ready", "namespace": namespace, "handler": callable});
        (kind, detail, row.changed_at)
    }

    /// The names of the step's parents in a state, where their rows are at hand.
    fn parents(&self, row: &StepRow, is: impl Fn(StepState) -> bool) -> Vec<&str> {
        let graph = &self.blueprint.graph;
        let state = |number: i32| {
            let index = usize::try_from(number - self.first).ok()?;
            Some(self.rows.get(index)?.state)
        };
        graph
            .parents(row.step_no)
            .iter()
            .filter(|&&parent| state(parent).is_some_and(&is))
            .take(MOST_NAMES)
            .map(|&parent| graph.name(parent))
            .collect()
    }
}
