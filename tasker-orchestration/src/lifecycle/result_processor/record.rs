//! What is told of an advance when it is committed: results processed, steps enqueued, tasks ended.

use std::collections::HashMap;
use std::time::{Instant, SystemTime};

use tasker_shared::db::effects::{Effects, Enqueued, Taken, TaskChange};
use tasker_shared::metrics::orchestration::{self as metrics, ResultType, TaskEnd};
use tasker_shared::plan::advance::Advance;
use tasker_shared::plan::{Kind, Message, Route};
use tasker_shared::state::step::StepState;
use tasker_shared::stats;
use uuid::Uuid;

use super::trace;

pub(super) type Routes = HashMap<(i32, i16), Route>;

/// A batch of which something is to be told.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    pub(super) plan: &'a Advance,
    pub(super) routes: &'a Routes,
    /// When its messages were received.
    pub(super) received: Instant,
    pub(super) at: SystemTime,
}

impl<'a> Batch<'a> {
    /// A batch that is applied now.
    pub(super) fn new(plan: &'a Advance, routes: &'a Routes, received: Instant) -> Batch<'a> {
        Batch {
            plan,
            routes,
            received,
            at: SystemTime::now(),
        }
    }

    /// Records what became of it.
    pub(super) fn record(&self, effects: &Effects) {
        let tasks = self.tasks();
        for change in &effects.tasks {
            if let Some(message) = tasks.get(&change.task_uuid) {
                stats::task_ended(message.template_id, change.state, change.age);
            }
        }
        if !tasker_shared::metrics::is_on() {
            return;
        }
        trace::tell(self, effects);
        for taken in &effects.taken {
            self.processed(taken);
        }
        for enqueued in &effects.enqueued {
            self.enqueued(enqueued, &tasks);
        }
        for change in &effects.tasks {
            self.changed(change, &tasks);
        }
    }

    /// A message of each task in the batch: what is needed of a task is in every one of them.
    fn tasks(&self) -> HashMap<Uuid, &Message> {
        let moves = self.plan.moves.iter();
        moves.map(|m| (m.message.task_uuid, &m.message)).collect()
    }

    fn processed(&self, taken: &Taken) {
        let Some(step) = self.plan.moves.get(taken.place) else {
            return;
        };
        let Kind::Ended(outcome) = step.message.kind else {
            return;
        };
        let task = (&step.message).into();
        if let Some(result) = ResultType::of(outcome) {
            metrics::result_processed(task, result, self.received.elapsed());
        }
        let retried = matches!(step.step, Some((_, StepState::WaitingForRetry)));
        if retried
            && taken.applied
            && let Some(route) = self.route(&step.message)
        {
            metrics::step_retried(task, route.blueprint.namespace, outcome);
        }
    }

    fn enqueued(&self, step: &Enqueued, tasks: &HashMap<Uuid, &Message>) {
        let Some(message) = tasks.get(&step.task_uuid) else {
            return;
        };
        let Some(route) = self.route(message) else {
            return;
        };
        if let Some(name) = route.blueprint.step_name(step.step_no) {
            metrics::step_enqueued((*message).into(), route.blueprint.namespace, name);
        }
    }

    fn changed(&self, change: &TaskChange, tasks: &HashMap<Uuid, &Message>) {
        let Some(message) = tasks.get(&change.task_uuid) else {
            return;
        };
        tracing::debug!(task_uuid = %change.task_uuid, state = change.state.as_str(), "task changed");
        if let Some(route) = self.route(message) {
            let end = TaskEnd {
                namespace: route.blueprint.namespace,
                task_type: route.blueprint.task_type,
                state: change.state,
                finalization: self.received.elapsed(),
                whole: change.age,
            };
            metrics::task_ended((*message).into(), &end);
        }
    }

    fn route(&self, message: &Message) -> Option<&Route> {
        self.routes.get(&message.route_key())
    }
}
