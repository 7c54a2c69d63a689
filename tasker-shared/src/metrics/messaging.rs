//! What goes through the queues in PostgreSQL: steps to workers, results to servers, requests from users' transactions.

use std::time::Duration;

use super::Correlation;
use super::definition::{Definition, Kind, MILLISECONDS, Recorded};
use super::instrument::{Counter, Gauge, Histogram, instruments};
use crate::name::Name;

instruments! {
    SENT: Counter = Definition {
        otel: "tasker.queue.messages_sent.total",
        prom: "tasker_queue_messages_sent_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["queue"],
        values: &[("queue", &["steps", "results", "requests"])],
        recorded: Recorded::Both,
        when: "messages put on a queue",
        example: "sum by (queue) (rate(tasker_queue_messages_sent_total[5m]))",
    };
    RECEIVED: Counter = Definition {
        otel: "tasker.queue.messages_received.total",
        prom: "tasker_queue_messages_received_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["queue"],
        values: &[("queue", &["steps", "results", "requests"])],
        recorded: Recorded::Both,
        when: "messages claimed from a queue",
        example: "sum by (queue) (rate(tasker_queue_messages_received_total[5m]))",
    };
    DELETED: Counter = Definition {
        otel: "tasker.queue.messages_deleted.total",
        prom: "tasker_queue_messages_deleted_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["queue"],
        values: &[("queue", &["steps", "results", "requests"])],
        recorded: Recorded::Both,
        when: "messages acknowledged and removed",
        example: "sum by (queue) (rate(tasker_queue_messages_deleted_total[5m]))",
    };
    SEND: Histogram = Definition {
        otel: "tasker.queue.message_send.duration",
        prom: "tasker_queue_message_send_duration_milliseconds",
        kind: Kind::Histogram(MILLISECONDS),
        unit: "ms",
        labels: &["queue"],
        values: &[("queue", &["steps", "results", "requests"])],
        recorded: Recorded::Both,
        when: "one send call (a batch is one call)",
        example: "histogram_quantile(0.95, sum by (le) (rate(tasker_queue_message_send_duration_milliseconds_bucket[5m])))",
    };
    RECEIVE: Histogram = Definition {
        otel: "tasker.queue.message_receive.duration",
        prom: "tasker_queue_message_receive_duration_milliseconds",
        kind: Kind::Histogram(MILLISECONDS),
        unit: "ms",
        labels: &["queue"],
        values: &[("queue", &["steps", "results", "requests"])],
        recorded: Recorded::Both,
        when: "one receive call (a batch is one call)",
        example: "histogram_quantile(0.95, sum by (le) (rate(tasker_queue_message_receive_duration_milliseconds_bucket[5m])))",
    };
    DEPTH: Gauge = Definition {
        otel: "tasker.queue.depth",
        prom: "tasker_queue_depth",
        kind: Kind::Gauge,
        unit: "",
        labels: &["queue", "namespace"],
        values: &[("queue", &["steps", "results", "requests"])],
        recorded: Recorded::Server,
        when: "messages waiting on a queue",
        example: "sum by (queue) (tasker_queue_depth)",
    };
    AGE: Gauge = Definition {
        otel: "tasker.queue.age_seconds",
        prom: "tasker_queue_age_seconds",
        kind: Kind::Gauge,
        unit: "",
        labels: &["queue", "namespace"],
        values: &[("queue", &["steps", "results", "requests"])],
        recorded: Recorded::Server,
        when: "age of the oldest message that could be claimed now; 0 where there is none",
        example: "max by (queue, namespace) (tasker_queue_age_seconds) > 60",
    };
    EXPIRED: Counter = Definition {
        otel: "tasker.queue.visibility_timeouts.total",
        prom: "tasker_queue_visibility_timeouts_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["queue"],
        values: &[("queue", &["steps", "results", "requests"])],
        recorded: Recorded::Server,
        when: "a lease ran out and its message was made available again",
        example: "increase(tasker_queue_visibility_timeouts_total[1h])",
    };
    ERRORS: Counter = Definition {
        otel: "tasker.queue.errors.total",
        prom: "tasker_queue_errors_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["queue", "operation"],
        values: &[("queue", &["steps", "results", "requests"]), ("operation", &["send", "receive", "delete", "extend"])],
        recorded: Recorded::Both,
        when: "a queue operation failed",
        example: "sum by (queue, operation) (rate(tasker_queue_errors_total[5m]))",
    };
    REDELIVERED: Counter = Definition {
        otel: "tasker.queue.retry_attempts.total",
        prom: "tasker_queue_retry_attempts_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["queue"],
        values: &[("queue", &["steps", "results", "requests"])],
        recorded: Recorded::Both,
        when: "a message was delivered again (second or later delivery)",
        example: "sum(rate(tasker_queue_retry_attempts_total[5m]))",
    };
}

/// A queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Queue {
    Steps,
    Results,
    Requests,
}

impl Queue {
    fn name(self) -> Name {
        Name::fixed(match self {
            Queue::Steps => "steps",
            Queue::Results => "results",
            Queue::Requests => "requests",
        })
    }
}

/// What is done to a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    Send,
    Receive,
    Delete,
    /// Renewing the lease on what was received.
    Extend,
}

/// Messages were put on a queue; `recent` is one of them.
pub fn sent(queue: Queue, messages: u64, recent: Option<Correlation>) {
    SENT.add(messages, recent, &[queue.name()]);
}

/// Messages were claimed from a queue.
pub fn received(queue: Queue, messages: u64, recent: Option<Correlation>) {
    RECEIVED.add(messages, recent, &[queue.name()]);
}

/// Messages were acknowledged and removed.
pub fn deleted(queue: Queue, messages: u64, recent: Option<Correlation>) {
    DELETED.add(messages, recent, &[queue.name()]);
}

/// Messages were delivered for the second time or later.
pub fn redelivered(queue: Queue, messages: u64, recent: Option<Correlation>) {
    REDELIVERED.add(messages, recent, &[queue.name()]);
}

/// Leases ran out, and their messages were made available again.
pub fn leases_expired(queue: Queue, messages: u64) {
    EXPIRED.add(messages, None, &[queue.name()]);
}

/// A call that sends or receives took so long; the others are not timed.
pub fn call_took(queue: Queue, operation: Operation, took: Duration) {
    match operation {
        Operation::Send => SEND.time(took, None, &[queue.name()]),
        Operation::Receive => RECEIVE.time(took, None, &[queue.name()]),
        Operation::Delete | Operation::Extend => {}
    }
}

/// A call failed.
pub fn failed(queue: Queue, operation: Operation) {
    let operation = Name::fixed(match operation {
        Operation::Send => "send",
        Operation::Receive => "receive",
        Operation::Delete => "delete",
        Operation::Extend => "extend",
    });
    ERRORS.add(1, None, &[queue.name(), operation]);
}

/// Shows how many messages wait in each queue and namespace; none where another server shows it.
pub fn show_depth(depths: &[(Queue, Name, u64)]) {
    let readings = depths
        .iter()
        .map(|(queue, namespace, n)| (vec![queue.name(), *namespace], *n as f64));
    DEPTH.set(readings.collect());
}

/// Shows how long the oldest message that could be claimed has waited, in seconds; none where another server
/// shows it.
pub fn show_age(ages: &[(Queue, Name, f64)]) {
    let readings = ages
        .iter()
        .map(|(queue, namespace, s)| (vec![queue.name(), *namespace], *s));
    AGE.set(readings.collect());
}
