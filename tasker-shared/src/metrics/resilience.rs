//! What protects a process: circuit breakers, bounded channels, completions of handlers in other languages.

use super::definition::{Definition, Kind, Recorded};
use super::instrument::{Counter, Gauge, instruments};
use crate::name::Name;

instruments! {
    API_BREAKER: Gauge = Definition {
        otel: "api_circuit_breaker_state",
        prom: "api_circuit_breaker_state",
        kind: Kind::Gauge,
        unit: "",
        labels: &[],
        values: &[],
        recorded: Recorded::Server,
        when: "the web API's database breaker: 0 closed, 1 half-open, 2 open",
        example: "api_circuit_breaker_state == 2",
    };
    BREAKERS: Gauge = Definition {
        otel: "tasker_circuit_breaker_state",
        prom: "tasker_circuit_breaker_state",
        kind: Kind::Gauge,
        unit: "",
        labels: &["component"],
        values: &[("component", &["web", "task_readiness", "pgmq", "ffi_completion"])],
        recorded: Recorded::Both,
        when: "each breaker of this process: 0 closed, 1 half-open, 2 open",
        example: "count(tasker_circuit_breaker_state == 2)",
    };
    REJECTED: Counter = Definition {
        otel: "api_requests_rejected_total",
        prom: "api_requests_rejected_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["endpoint"],
        values: &[],
        recorded: Recorded::Server,
        when: "a request was refused because the breaker was open; endpoint is the route pattern, never a raw path",
        example: "sum by (endpoint) (rate(api_requests_rejected_total[5m]))",
    };
    SLOW_SENDS: Counter = Definition {
        otel: "ffi_completion_slow_sends_total",
        prom: "ffi_completion_slow_sends_total",
        kind: Kind::Counter,
        unit: "",
        labels: &[],
        values: &[],
        recorded: Recorded::Worker,
        when: "a foreign-language handler's completion took longer than the threshold (100 ms) to enter its channel",
        example: "rate(ffi_completion_slow_sends_total[5m]) > 10",
    };
    OPEN_REJECTIONS: Counter = Definition {
        otel: "ffi_completion_circuit_open_rejections_total",
        prom: "ffi_completion_circuit_open_rejections_total",
        kind: Kind::Counter,
        unit: "",
        labels: &[],
        values: &[],
        recorded: Recorded::Worker,
        when: "a completion was refused because the ffi_completion breaker was open",
        example: "rate(ffi_completion_circuit_open_rejections_total[5m])",
    };
    USAGE: Gauge = Definition {
        otel: "mpsc_channel_usage_percent",
        prom: "mpsc_channel_usage_percent",
        kind: Kind::Gauge,
        unit: "",
        labels: &["channel", "component"],
        values: &[],
        recorded: Recorded::Both,
        when: "fill of each bounded channel, 0 to 100",
        example: "max by (component) (mpsc_channel_usage_percent) > 80",
    };
    CAPACITY: Gauge = Definition {
        otel: "mpsc_channel_capacity",
        prom: "mpsc_channel_capacity",
        kind: Kind::Gauge,
        unit: "",
        labels: &["channel", "component"],
        values: &[],
        recorded: Recorded::Both,
        when: "configured capacity of each bounded channel",
        example: "mpsc_channel_usage_percent / 100 * mpsc_channel_capacity",
    };
    FULL: Counter = Definition {
        otel: "mpsc_channel_full_events_total",
        prom: "mpsc_channel_full_events_total",
        kind: Kind::Counter,
        unit: "",
        labels: &["channel", "component"],
        values: &[],
        recorded: Recorded::Both,
        when: "a send found the channel full (and waited, or was refused)",
        example: "sum by (channel) (rate(mpsc_channel_full_events_total[5m]))",
    };
}

/// The state of a breaker, as the gauges show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    Closed = 0,
    HalfOpen = 1,
    Open = 2,
}

/// Shows a breaker's state, as `read` says it when it is collected.
pub fn watch_breaker(component: Name, read: impl Fn() -> BreakerState + Send + Sync + 'static) {
    let read = std::sync::Arc::new(read);
    if component.as_str() == "web" {
        let read = read.clone();
        API_BREAKER.watch(move || vec![(Vec::new(), f64::from(read() as u8))]);
    }
    BREAKERS.watch(move || vec![(vec![component], f64::from(read() as u8))]);
}

/// A request to a route was refused because the breaker was open.
pub fn request_rejected(route: Name) {
    REJECTED.add(1, None, &[route]);
}

/// A completion took longer than it may to enter its channel.
pub fn slow_send() {
    SLOW_SENDS.add(1, None, &[]);
}

/// A completion was refused because its breaker was open.
pub fn completion_rejected() {
    OPEN_REJECTIONS.add(1, None, &[]);
}

/// Shows a channel's capacity, and how full it is, 0 to 100, as `read` says it when it is collected.
pub fn watch_channel(
    channel: Name,
    component: Name,
    capacity: usize,
    read: impl Fn() -> f64 + Send + Sync + 'static,
) {
    CAPACITY.watch(move || vec![(vec![channel, component], capacity as f64)]);
    USAGE.watch(move || vec![(vec![channel, component], read())]);
}

/// A send found its channel full.
pub fn channel_full(channel: Name, component: Name) {
    FULL.add(1, None, &[channel, component]);
}
