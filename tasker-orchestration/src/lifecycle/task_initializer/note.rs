//! What is told of a request when it is known what became of it.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tasker_shared::db::accept::Begin;
use tasker_shared::graph::START;
use tasker_shared::metrics::orchestration::{self as metrics, TaskEnd};
use tasker_shared::metrics::{Correlation, correlation};
use tasker_shared::plan::Blueprint;
use tasker_shared::state::task::TaskState;
use tasker_shared::stats;
use tasker_shared::telemetry::spans::{self, Cause, Failure, Step, Task, Time};
use tasker_shared::telemetry::trace::TraceContext;
use tasker_shared::wire::TaskRequest;
use uuid::Uuid;

use super::Accepted;
use super::admit::Followed;
use crate::lifecycle::admission::Refusal;

/// When a request arrived.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) at: SystemTime,
    since: Instant,
}

impl Arrival {
    pub(super) fn now() -> Arrival {
        Arrival {
            at: SystemTime::now(),
            since: Instant::now(),
        }
    }

    /// It arrived so long ago.
    pub(super) fn ago(age: std::time::Duration) -> Arrival {
        let now = Arrival::now();
        Arrival {
            at: now.at.checked_sub(age).unwrap_or(now.at),
            since: now.since.checked_sub(age).unwrap_or(now.since),
        }
    }
}

/// What is known of a request before it is stored.
#[derive(Debug)]
pub(super) struct Note {
    pub(super) task_uuid: Uuid,
    pub(super) followed: Followed,
    /// The correlation id was made for this request.
    pub(super) own_id: bool,
    pub(super) begin: Begin,
    pub(super) caller: Option<TraceContext>,
    pub(super) blueprint: Arc<Blueprint>,
}

impl Note {
    /// Records what became of the request.
    pub(super) fn record(&self, answer: &Result<Accepted, Refusal>, arrived: &Arrival) {
        match answer {
            Ok(accepted) if !accepted.replayed => self.stored(arrived),
            // Counted when it came for the first time.
            Ok(_) | Err(Refusal::IdempotencyMismatch) => self.let_go(),
            // Turned away before anything began.
            Err(Refusal::Busy(_)) => self.let_go(),
            Err(_) => self.requested(),
        }
    }

    fn requested(&self) {
        let blueprint = &self.blueprint;
        metrics::task_requested(
            self.followed.correlation,
            blueprint.namespace,
            blueprint.task_type,
        );
    }

    /// The task is committed.
    pub(super) fn stored(&self, arrived: &Arrival) {
        let (task, blueprint) = (self.followed.correlation, &self.blueprint);
        self.requested();
        metrics::task_initialized(task, blueprint.task_type, arrived.since.elapsed());
        if self.begin == Begin::Failed {
            self.failed(arrived);
        }
        if self.begin == Begin::Now {
            for &root in blueprint.graph.children(START) {
                if let Some(name) = blueprint.step_name(root) {
                    metrics::step_enqueued(task, blueprint.namespace, name);
                }
            }
        }
        if spans::wanted(self.followed.traced) {
            self.tell(arrived);
        }
    }

    /// The spans of a task that begins.
    fn tell(&self, arrived: &Arrival) {
        let blueprint = &self.blueprint;
        let task = Task {
            uuid: self.task_uuid,
            correlation_id: self.followed.correlation.id,
            namespace: blueprint.namespace,
            name: blueprint.task_type,
        };
        let time = Time::new(arrived.at, SystemTime::now());
        let failure = (self.begin == Begin::Failed).then_some(Failure {
            kind: "invalid_input",
            message: "the context cannot be taken as it is",
        });
        spans::task_initialized(&task, self.caller.as_ref(), time, failure);
        if self.begin != Begin::Now {
            return;
        }
        let enqueued = Time::new(time.end, time.end);
        for &number in blueprint.graph.children(START) {
            if let Some(name) = blueprint.step_name(number) {
                let step = Step {
                    number,
                    name,
                    attempt: 1,
                };
                spans::step_enqueued(&task, &step, Cause::Start, enqueued);
            }
        }
    }

    /// The task was in error from the first.
    fn failed(&self, arrived: &Arrival) {
        let took = arrived.since.elapsed();
        let end = TaskEnd {
            namespace: self.blueprint.namespace,
            task_type: self.blueprint.task_type,
            state: TaskState::Error,
            finalization: took,
            whole: took,
        };
        metrics::task_ended(self.followed.correlation, &end);
        stats::task_ended(self.blueprint.template_id, TaskState::Error, took);
    }

    /// An id that nothing will be recorded for leaves its place to others.
    fn let_go(&self) {
        if self.own_id && self.followed.correlation.sampled {
            correlation::release(self.followed.correlation.id);
        }
    }
}

/// A request named a known template, and is refused for something else.
pub(super) fn refused(request: &TaskRequest, blueprint: &Blueprint) {
    let task = Correlation {
        id: request.correlation_id.unwrap_or_default(),
        sampled: false,
    };
    metrics::task_requested(task, blueprint.namespace, blueprint.task_type);
}
