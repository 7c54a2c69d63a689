//! The spans of a task, one function each: told of what has happened, they hand a span to the export and are done.
//! Whose child a span is follows from the graph (`trace` has the ids), so nothing is kept between them.

use std::time::SystemTime;

use opentelemetry::trace::{Link, SpanContext, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use uuid::Uuid;

use super::attributes as attribute;
use super::batch::Door;
use super::trace::{ENDED, Kind, SpanId, TraceContext, span_id};
use crate::ids::step_uuid;
use crate::name::Name;

/// The most links of a span.
const LINKS: usize = 128;

pub(super) static DOOR: Door<SpanData> = Door::new();

/// The task that a span belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Task {
    pub uuid: Uuid,
    pub correlation_id: Uuid,
    pub namespace: Name,
    pub name: Name,
}

/// One of its steps, in one of its attempts.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    pub number: i32,
    pub name: Name,
    pub attempt: i32,
}

/// From when to when.
#[derive(Debug, Clone, Copy)]
pub struct Time {
    pub start: SystemTime,
    pub end: SystemTime,
}

/// Why something failed.
#[derive(Debug, Clone, Copy)]
pub struct Failure<'a> {
    /// One of few, such as `timeout`.
    pub kind: &'a str,
    pub message: &'a str,
}

/// Why a step is enqueued.
#[derive(Debug, Clone, Copy)]
pub enum Cause<'a> {
    /// Its task began, and it waits for no other step.
    Start,
    /// All its parents have ended; `last` of them was the one it still waited for.
    Parents { last: i32, all: &'a [i32] },
    /// Its attempt before came to nothing.
    Retry,
    /// Somebody asked for it.
    Request,
}

impl Time {
    pub fn new(start: impl Into<SystemTime>, end: impl Into<SystemTime>) -> Self {
        Self {
            start: start.into(),
            end: end.into(),
        }
    }
}

/// Whether a span of a task is worth telling: its task is `traced`, and spans are exported.
#[must_use]
pub fn wanted(traced: bool) -> bool {
    traced && DOOR.is_open()
}

/// A request became a task, or failed to. The first span: a child of the caller's where the caller's trace has the
/// correlation id for an id, otherwise linked to it.
pub fn task_initialized(
    task: &Task,
    caller: Option<&TraceContext>,
    time: Time,
    failure: Option<Failure<'_>>,
) {
    DOOR.push(|| {
        let id = span_id(Kind::TaskInitialize, task.uuid, 0, 0);
        let mut span = span(Kind::TaskInitialize, task, id, time);
        if let Some(caller) = caller {
            if caller.trace_id == task.correlation_id {
                span.parent_span_id = otel(caller.span_id);
                span.parent_span_is_remote = true;
                span.span_kind = SpanKind::Server;
            } else {
                span.links = links([caller.to_span_context()]);
            }
        }
        fail(&mut span, failure);
        span
    });
}

/// A step was put on its queue for an attempt.
pub fn step_enqueued(task: &Task, step: &Step, cause: Cause<'_>, time: Time) {
    DOOR.push(|| {
        let mut span = step_span(Kind::StepEnqueue, task, step, step.attempt, time);
        span.span_kind = SpanKind::Producer;
        span.attributes.extend(attribute::message("send", task));
        let ended = |number| span_id(Kind::StepResultProcess, task.uuid, number, ENDED);
        span.parent_span_id = otel(match cause {
            Cause::Start | Cause::Request => span_id(Kind::TaskInitialize, task.uuid, 0, 0),
            Cause::Parents { last, .. } => ended(last),
            Cause::Retry => {
                let before = step.attempt.saturating_sub(1);
                span_id(Kind::StepResultProcess, task.uuid, step.number, before)
            }
        });
        if let Cause::Parents { all, .. } = cause {
            let count = i64::try_from(all.len()).unwrap_or(i64::MAX);
            span.attributes
                .push(KeyValue::new(attribute::PARENTS, count));
            if all.len() > 1 {
                let parents = all.iter().map(|number| within(task, ended(*number)));
                span.links = links(parents.take(LINKS));
                span.links.dropped_count =
                    u32::try_from(all.len().saturating_sub(LINKS)).unwrap_or(u32::MAX);
            }
        }
        span
    });
}

/// A handler ended an attempt of its step.
pub fn step_executed(task: &Task, step: &Step, time: Time, failure: Option<Failure<'_>>) {
    DOOR.push(|| {
        let mut span = step_span(Kind::StepExecute, task, step, step.attempt, time);
        span.span_kind = SpanKind::Consumer;
        span.attributes.extend(attribute::message("process", task));
        let enqueued = span_id(Kind::StepEnqueue, task.uuid, step.number, step.attempt);
        span.parent_span_id = otel(enqueued);
        span.parent_span_is_remote = true;
        if step.attempt > 1 {
            let before = span_id(Kind::StepExecute, task.uuid, step.number, step.attempt - 1);
            span.links = links([within(task, before)]);
        }
        fail(&mut span, failure);
        span
    });
}

/// The result of an attempt was applied to the graph; `ended` where its step is over with it. `result` is the
/// `result_type` that metrics have.
pub fn result_processed(task: &Task, step: &Step, result: &'static str, ended: bool, time: Time) {
    DOOR.push(|| {
        let known_as = if ended { ENDED } else { step.attempt };
        let mut span = step_span(Kind::StepResultProcess, task, step, known_as, time);
        let executed = span_id(Kind::StepExecute, task.uuid, step.number, step.attempt);
        span.parent_span_id = otel(executed);
        span.parent_span_is_remote = true;
        span.attributes
            .push(KeyValue::new(attribute::RESULT, result));
        span
    });
}

/// A task is over. `after` is the step whose result ended it; without, somebody did.
pub fn task_finalized(
    task: &Task,
    after: Option<i32>,
    state: &'static str,
    time: Time,
    failure: Option<Failure<'_>>,
) {
    DOOR.push(|| {
        let id = span_id(Kind::TaskFinalize, task.uuid, 0, 0);
        let mut span = span(Kind::TaskFinalize, task, id, time);
        span.parent_span_id = otel(match after {
            Some(number) => span_id(Kind::StepResultProcess, task.uuid, number, ENDED),
            None => span_id(Kind::TaskInitialize, task.uuid, 0, 0),
        });
        span.attributes.push(KeyValue::new(attribute::STATE, state));
        fail(&mut span, failure);
        span
    });
}

fn step_span(kind: Kind, task: &Task, step: &Step, known_as: i32, time: Time) -> SpanData {
    let id = span_id(kind, task.uuid, step.number, known_as);
    let mut span = span(kind, task, id, time);
    let uuid = step_uuid(task.uuid, step.number).to_string();
    span.attributes.extend([
        KeyValue::new(attribute::STEP_NAME, step.name.as_str()),
        KeyValue::new(attribute::STEP_UUID, uuid),
        KeyValue::new(attribute::STEP_ATTEMPT, i64::from(step.attempt)),
    ]);
    span
}

/// A span without parent, links and failure.
fn span(kind: Kind, task: &Task, id: SpanId, time: Time) -> SpanData {
    SpanData {
        span_context: within(task, id),
        parent_span_id: opentelemetry::SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: kind.name().into(),
        start_time: time.start,
        end_time: time.end.max(time.start),
        attributes: attribute::task(task),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: scope(),
    }
}

fn fail(span: &mut SpanData, failure: Option<Failure<'_>>) {
    let Some(failure) = failure else {
        return;
    };
    let message = attribute::shortened(failure.message);
    span.attributes.push(KeyValue::new(
        attribute::ERROR_TYPE,
        failure.kind.to_owned(),
    ));
    span.events.events.push(attribute::exception(
        failure.kind,
        message.clone(),
        span.end_time,
    ));
    span.status = Status::error(message);
}

/// What spans say they were made by.
fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("tasker")
        .with_version(env!("CARGO_PKG_VERSION"))
        .build()
}

fn links(contexts: impl IntoIterator<Item = SpanContext>) -> SpanLinks {
    let mut links = SpanLinks::default();
    links.links = contexts.into_iter().map(Link::with_context).collect();
    links
}

/// Another span of the same trace.
fn within(task: &Task, id: SpanId) -> SpanContext {
    SpanContext::new(
        opentelemetry::TraceId::from_bytes(task.correlation_id.into_bytes()),
        otel(id),
        TraceFlags::SAMPLED,
        false,
        TraceState::NONE,
    )
}

fn otel(id: SpanId) -> opentelemetry::SpanId {
    opentelemetry::SpanId::from_bytes(id.to_bytes())
}

#[cfg(test)]
mod tests;
