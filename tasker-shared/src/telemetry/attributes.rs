//! What spans are described with: names of the OpenTelemetry semantic conventions where they have one, and
//! `tasker.` names otherwise.

use std::time::SystemTime;

use opentelemetry::trace::Event;
use opentelemetry::{KeyValue, Value};

use super::spans::Task;

pub(super) const ERROR_TYPE: &str = "error.type";
pub(super) const STEP_NAME: &str = "tasker.step.name";
pub(super) const STEP_UUID: &str = "tasker.step.uuid";
pub(super) const STEP_ATTEMPT: &str = "tasker.step.attempt";
/// How many steps a step has waited for; only so many of them are linked to.
pub(super) const PARENTS: &str = "tasker.parents.count";
/// The `result_type` of metrics.
pub(super) const RESULT: &str = "tasker.result_type";
/// The `final_state` of metrics.
pub(super) const STATE: &str = "tasker.final_state";

/// What an error says is kept up to here.
const LONGEST_MESSAGE: usize = 1_024;

/// What every span of a task says of it.
pub(super) fn task(task: &Task) -> Vec<KeyValue> {
    // With room for what a step's span adds.
    let mut attributes = Vec::with_capacity(12);
    attributes.extend([
        KeyValue::new("tasker.namespace", task.namespace.as_str()),
        KeyValue::new("tasker.task.name", task.name.as_str()),
        KeyValue::new("tasker.task.uuid", task.uuid.to_string()),
    ]);
    attributes
}

/// What the spans at both ends of the queue of steps say of it.
pub(super) fn message(operation: &'static str, task: &Task) -> [KeyValue; 5] {
    let conversation = task.correlation_id.to_string();
    [
        KeyValue::new("messaging.system", "postgresql"),
        KeyValue::new("messaging.operation.type", operation),
        KeyValue::new("messaging.operation.name", operation),
        KeyValue::new("messaging.destination.name", "steps"),
        KeyValue::new("messaging.message.conversation_id", conversation),
    ]
}

/// The event of a span that failed.
pub(super) fn exception(kind: &str, message: String, at: SystemTime) -> Event {
    let attributes = vec![
        KeyValue::new("exception.type", kind.to_owned()),
        KeyValue::new("exception.message", Value::from(message)),
    ];
    Event::new("exception", at, attributes, 0)
}

/// The beginning of what an error says.
pub(super) fn shortened(message: &str) -> String {
    let end = message
        .char_indices()
        .map(|(at, _)| at)
        .find(|at| *at >= LONGEST_MESSAGE);
    message[..end.unwrap_or(message.len())].to_owned()
}
