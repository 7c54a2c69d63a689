//! Execution: a claimed step's handler is called with its inputs, held to its timeout, stopped when it is no
//! longer wanted, and its end handed to the sender whatever it was.

mod target;
#[cfg(test)]
mod tests;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::FutureExt;
use tasker_shared::blueprints::Blueprints;
use tasker_shared::clock::Clock;
use tasker_shared::db::claim::Claimed;
use tasker_shared::db::pool::Pool;
use tasker_shared::db::submit::Ended;
use tasker_shared::logging;
use tasker_shared::metrics::worker::{self as metrics, ErrorType};
use tasker_shared::plan::{Blueprint, Outcome};
use tasker_shared::stats;
use tasker_shared::telemetry::context::within;
use tasker_shared::telemetry::spans;
use tokio::time::Instant;
use tracing::Instrument;
use uuid::Uuid;

use crate::circuits::{Circuits, Probing, Verdict};
use crate::handlers::{Handler, Registry};
use crate::held::{Held, Hold};
use crate::inputs::Results;
use crate::result_sender::{Finished, Results as Outbox};
use crate::running::{Running, Slot, Stop};
use crate::schema::Schemas;
use crate::{Limits, StepContext, StepError};

mod end;

use end::{End, caught, failed, panic_message};

/// How long a handler that is told to stop may take to do so before it is dropped.
const GRACE: Duration = Duration::from_secs(2);

/// Runs claimed steps.
#[derive(Debug)]
pub(crate) struct Executor {
    pub(crate) registry: Registry,
    pub(crate) blueprints: Blueprints,
    pub(crate) pool: Pool,
    pub(crate) running: Running,
    pub(crate) held: Held,
    pub(crate) circuits: Circuits,
    pub(crate) results: Outbox,
    pub(crate) schemas: Schemas,
    pub(crate) limits: Limits,
    pub(crate) default_timeout: Duration,
    pub(crate) clock: Clock,
}

impl Executor {
    /// Starts claimed steps, each in a task of its own; where `probing` is given, they are to find out whether
    /// their target answers.
    pub(crate) async fn start(
        self: &Arc<Self>,
        worker: Uuid,
        claimed: Vec<Claimed>,
        probing: Option<Probing>,
    ) {
        if claimed.is_empty() {
            return;
        }
        // The slots are taken before anything is waited for: the claim loop counts them.
        let steps: Vec<(Claimed, Slot, Hold)> = claimed
            .into_iter()
            .map(|step| {
                let slot = self.running.enter(step.task_uuid);
                let hold = self.held.hold(step.id);
                (step, slot, hold)
            })
            .collect();
        let found = self
            .blueprints
            .get(steps.iter().map(|(s, _, _)| s.template_id))
            .await;
        for (step, slot, hold) in steps {
            let blueprint = match &found {
                Ok(blueprints) => blueprints.get(&step.template_id).cloned(),
                Err(_) => None,
            };
            let executor = Arc::clone(self);
            let running = executor.run(worker, step, (slot, hold), blueprint, probing);
            // The runtime moves what it is given several times.
            tokio::spawn(Box::pin(running));
        }
    }

    /// Runs a step to its end and hands that in. The slot is free when the result is on its way.
    async fn run(
        self: Arc<Self>,
        worker: Uuid,
        step: Claimed,
        (slot, hold): (Slot, Hold),
        blueprint: Option<Arc<Blueprint>>,
        probing: Option<Probing>,
    ) {
        let (started_at, start) = (self.clock.now(), SystemTime::now());
        let task = step.correlation();
        if let Some(target) = self.parked(&step, blueprint.as_deref(), probing.as_ref()) {
            // It never began: that is no execution, and no failure.
            let ended = self.ended(&step, target::parked(target), started_at);
            return Box::pin(self.hand_in(worker, &step, ended, (slot, hold))).await;
        }
        metrics::step_executed(task);
        let end = match &blueprint {
            Some(blueprint) => caught(self.guarded(&step, &slot, blueprint, probing)).await,
            // What seldom happens is boxed: there is a future like this for every step.
            None => Box::pin(self.unread(probing)).await,
        };
        let namespace = blueprint.as_ref().map_or(metrics::UNKNOWN, |b| b.namespace);
        if slot.why() == Some(Stop::LeaseLost) {
            metrics::step_failed(task, namespace, ErrorType::LeaseLost);
            tracing::warn!(task_uuid = %step.task_uuid, step_no = step.step_no, "the lease was lost; the step is somebody else's now");
            return;
        }
        if spans::wanted(step.traced)
            && let Some(blueprint) = &blueprint
        {
            tell(&step, blueprint, &end, start);
        }
        match &end {
            End::Success(_) => metrics::step_succeeded(task, namespace),
            End::Failure(_, _, error) => metrics::step_failed(task, namespace, *error),
        }
        let ended = self.ended(&step, end, started_at);
        count(&step, &ended);
        self.hand_in(worker, &step, ended, (slot, hold)).await;
    }

    async fn hand_in(
        &self,
        worker: Uuid,
        step: &Claimed,
        ended: Ended,
        (slot, hold): (Slot, Hold),
    ) {
        let finished = Finished {
            worker,
            task_uuid: step.task_uuid,
            ended,
            task: step.correlation(),
            at: std::time::Instant::now(),
            hold,
        };
        self.results.send(finished).await;
        drop(slot);
    }

    /// The end of a step whose template could not be read.
    async fn unread(&self, probing: Option<Probing>) -> End {
        if let Some(probing) = probing {
            self.circuits.settle(probing, Verdict::Nothing).await;
        }
        let error = StepError::retryable("the step's template could not be read");
        End::Failure(
            Outcome::Released,
            error.with_type("database_error"),
            ErrorType::DatabaseError,
        )
    }

    fn timeout(&self, blueprint: &Blueprint, step_no: i32) -> Duration {
        let seconds = blueprint.step(step_no).and_then(|s| s.timeout_seconds);
        seconds.map_or(self.default_timeout, |s| Duration::from_secs(u64::from(s)))
    }

    /// Calls the handler, with everything that may go wrong around it.
    async fn attempt(&self, step: &Claimed, slot: &Slot, blueprint: &Arc<Blueprint>) -> End {
        let Some(definition) = blueprint.step(step.step_no) else {
            return End::Failure(
                Outcome::Permanent,
                StepError::permanent("the template has no such step").with_type("step_not_found"),
                ErrorType::StepNotFound,
            );
        };
        let Some(handler) = self.registry.get(&definition.handler.callable) else {
            return End::Failure(
                Outcome::Released,
                StepError::retryable("this worker has no such handler")
                    .with_type("handler_not_found"),
                ErrorType::HandlerNotFound,
            );
        };
        let timeout = self.timeout(blueprint, step.step_no);
        let deadline = Instant::now() + timeout;
        let results = match Results::of(step, blueprint, &self.pool, self.limits).await {
            Ok(results) => results,
            Err(failure) => return failed(failure),
        };
        let cancellation = slot.cancellation().clone();
        let context = results.into_context(step, blueprint, deadline, cancellation);
        slot.handling(blueprint.namespace, handler.handler_type());
        let began = Instant::now();
        let end = self.call(handler, context, slot, deadline, timeout).await;
        let succeeded = matches!(end, End::Success(_));
        metrics::handler_ran(
            step.correlation(),
            blueprint.namespace,
            succeeded,
            began.elapsed(),
        );
        match end {
            End::Success(result) => {
                match self.schemas.check(blueprint, step.step_no, result.as_str()) {
                    Ok(()) => End::Success(result),
                    Err(failure) => failed(failure),
                }
            }
            failure => failure,
        }
    }

    async fn call(
        &self,
        handler: Arc<dyn Handler>,
        context: StepContext,
        slot: &Slot,
        deadline: Instant,
        timeout: Duration,
    ) -> End {
        // What the handler does with OpenTelemetry itself becomes a part of the step's span.
        let place = tasker_shared::metrics::is_on().then(|| context.trace_context());
        let span = logging::step_span(
            context.task_uuid(),
            context.step_uuid(),
            context.correlation_id(),
        );
        let handled = async move {
            match place {
                Some(place) => within(&place, handler.call(context)).await,
                None => handler.call(context).await,
            }
        };
        let handled = handled.instrument(span);
        let handled = AssertUnwindSafe(handled).catch_unwind();
        let stopped = async {
            slot.cancellation().cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        let end = tokio::select! {
            biased;
            result = handled => match result {
                Ok(Ok(result)) => End::Success(result),
                Ok(Err(failure)) => failed(failure),
                Err(panic) => End::Failure(Outcome::Panic, StepError::retryable(panic_message("the handler", &*panic)).with_type("handler_panic"), ErrorType::HandlerPanic),
            },
            () = tokio::time::sleep_until(deadline) => End::Failure(
                Outcome::Timeout,
                StepError::retryable(format!("the handler took longer than its timeout of {} s", timeout.as_secs())).with_type("timeout"),
                ErrorType::Timeout,
            ),
            () = stopped => End::Failure(Outcome::Cancelled, StepError::retryable("stopped").with_type("cancelled"), ErrorType::Cancelled),
        };
        // What a handler returns after it was told to stop is not applied.
        match slot.why() {
            Some(Stop::Drained) => End::Failure(
                Outcome::Released,
                StepError::retryable("the worker stopped before the handler was done")
                    .with_type("released"),
                ErrorType::Cancelled,
            ),
            Some(Stop::TaskCancelled) => End::Failure(
                Outcome::Cancelled,
                StepError::permanent("the task was cancelled").with_type("cancelled"),
                ErrorType::Cancelled,
            ),
            Some(Stop::LeaseLost) | None => end,
        }
    }

    fn ended(&self, step: &Claimed, end: End, started_at: chrono::DateTime<chrono::Utc>) -> Ended {
        let (outcome, result, error, retry_after) = match end {
            End::Success(result) => (Outcome::Success, Some(result.into()), None, None),
            End::Failure(outcome, error, _) => {
                (outcome, None, Some(error.to_json()), error.after())
            }
        };
        Ended {
            lane: step.lane,
            id: step.id,
            attempt: step.attempt,
            enqueued_at: step.enqueued_at,
            correlation: step.correlation(),
            outcome,
            started_at: Some(started_at),
            finished_at: self.clock.now(),
            result,
            error,
            retry_after_ms: retry_after.map(|d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)),
        }
    }
}

/// The span of an attempt.
fn tell(step: &Claimed, blueprint: &Blueprint, end: &End, start: SystemTime) {
    let task = spans::Task {
        uuid: step.task_uuid,
        correlation_id: step.correlation_id,
        namespace: blueprint.namespace,
        name: blueprint.task_type,
    };
    let Some(name) = blueprint.step_name(step.step_no) else {
        return;
    };
    let told = spans::Step {
        number: step.step_no,
        name,
        attempt: step.attempt,
    };
    let failure = match end {
        End::Success(_) => None,
        End::Failure(_, failure, error) => Some(spans::Failure {
            kind: error.as_str(),
            message: failure.message(),
        }),
    };
    let time = spans::Time::new(start, SystemTime::now());
    spans::step_executed(&task, &told, time, failure);
}

/// Counts an attempt that ran to an end of its own.
fn count(step: &Claimed, ended: &Ended) {
    let ok = match ended.outcome {
        Outcome::Success => true,
        Outcome::Retryable | Outcome::Permanent | Outcome::Timeout | Outcome::Panic => false,
        _ => return,
    };
    let took = ended.started_at.map(|started| ended.finished_at - started);
    let took = took.and_then(|took| took.to_std().ok()).unwrap_or_default();
    stats::step_executed(step.template_id, step.step_no, ok, took);
}
