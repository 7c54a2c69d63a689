//! The spans of an advance: one for each result, each step enqueued and each task ended, of tasks that are traced.

use std::collections::HashMap;
use std::time::SystemTime;

use tasker_shared::db::effects::{Effects, Enqueued, TaskChange};
use tasker_shared::metrics::orchestration::ResultType;
use tasker_shared::plan::advance::Move;
use tasker_shared::plan::{Kind, Message, Outcome, Route};
use tasker_shared::state::task::TaskState;
use tasker_shared::telemetry::spans::{self, Cause, Failure, Step, Task, Time};
use uuid::Uuid;

use super::record::{Batch, Routes};

/// The messages of a batch that are of traced tasks.
type Traced<'a> = HashMap<Uuid, Vec<&'a Message>>;

/// Tells of everything that a batch did to traced tasks.
pub(super) fn tell(batch: &Batch<'_>, effects: &Effects) {
    let mut traced = Traced::new();
    for step in &batch.plan.moves {
        if spans::wanted(step.message.traced) {
            traced
                .entry(step.message.task_uuid)
                .or_default()
                .push(&step.message);
        }
    }
    if traced.is_empty() {
        return;
    }
    let time = Time::new(batch.at, SystemTime::now());
    for taken in &effects.taken {
        if let Some(step) = batch.plan.moves.get(taken.place) {
            processed(step, batch.routes, time);
        }
    }
    for step in &effects.enqueued {
        enqueued(step, &traced, batch.routes, time);
    }
    for change in &effects.tasks {
        changed(change, &traced, batch.routes, time);
    }
}

fn processed(step: &Move, routes: &Routes, time: Time) {
    let message = &step.message;
    let Kind::Ended(outcome) = message.kind else {
        return;
    };
    if !spans::wanted(message.traced) {
        return;
    }
    if let Some((task, route)) = task(message, routes)
        && let Some(name) = route.blueprint.step_name(message.step_no)
    {
        let told = Step {
            number: message.step_no,
            name,
            attempt: message.attempt,
        };
        let ended = step.step.is_some_and(|(_, to)| to.has_ended());
        spans::result_processed(&task, &told, result(outcome), ended, time);
    }
}

fn result(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Unroutable => "unroutable",
        Outcome::Stale => "stale",
        _ => ResultType::of(outcome).map_or("lease_lost", ResultType::as_str),
    }
}

fn enqueued(step: &Enqueued, traced: &Traced<'_>, routes: &Routes, time: Time) {
    let Some(messages) = traced.get(&step.task_uuid) else {
        return;
    };
    let Some((task, route)) = messages.first().and_then(|m| task(m, routes)) else {
        return;
    };
    let Some(name) = route.blueprint.step_name(step.step_no) else {
        return;
    };
    let parents = route.blueprint.graph.parents(step.step_no);
    let last = messages
        .iter()
        .rev()
        .map(|m| m.step_no)
        .find(|no| parents.contains(no));
    let cause = match last {
        _ if messages.iter().any(|m| m.step_no == step.step_no) => Cause::Retry,
        Some(last) => Cause::Parents { last, all: parents },
        None => Cause::Start,
    };
    let told = Step {
        number: step.step_no,
        name,
        attempt: step.attempt,
    };
    spans::step_enqueued(&task, &told, cause, time);
}

fn changed(change: &TaskChange, traced: &Traced<'_>, routes: &Routes, time: Time) {
    let Some(message) = traced.get(&change.task_uuid).and_then(|m| m.last()) else {
        return;
    };
    if !change.state.is_final() {
        return;
    }
    if let Some((task, _)) = task(message, routes) {
        let failure = (change.state == TaskState::Error).then_some(Failure {
            kind: "step_failed",
            message: "a step failed for good",
        });
        let after = Some(message.step_no);
        spans::task_finalized(&task, after, change.state.as_str(), time, failure);
    }
}

fn task<'a>(message: &Message, routes: &'a Routes) -> Option<(Task, &'a Route)> {
    let route = routes.get(&message.route_key())?;
    let task = Task {
        uuid: message.task_uuid,
        correlation_id: message.correlation_id,
        namespace: route.blueprint.namespace,
        name: route.blueprint.task_type,
    };
    Some((task, route))
}
