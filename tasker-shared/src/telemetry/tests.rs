// Tests take turns from beginning to end.
#![allow(
    clippy::await_holding_lock,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

mod grpc;
mod http;
mod received;
mod unwilling;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::*;
use crate::config::{Config, HttpUrl, OtlpProtocol};
use crate::metrics::collect::{self, Value};

/// Waits in turn: what a process exports is in one place, and so is what it counts.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sees to it that metrics are recorded.
pub(crate) fn recording() {
    crate::metrics::start(Settings {
        process: Process::Worker,
        mode: Mode::Window,
        window: Duration::from_secs(600),
        limit: 100,
    });
}

/// What the export has counted since.
pub(crate) struct Counted(Vec<(&'static str, Signal, u64)>);

const COUNTERS: [&str; 3] = [
    "telemetry.exported.total",
    "telemetry.export.failures.total",
    "telemetry.dropped.total",
];

impl Counted {
    pub(crate) fn now() -> Counted {
        let signals = [Signal::Metrics, Signal::Traces, Signal::Logs];
        let all = COUNTERS
            .iter()
            .flat_map(|counter| signals.map(|signal| (*counter, signal)));
        Counted(
            all.map(|(counter, signal)| (counter, signal, read(counter, signal)))
                .collect(),
        )
    }

    pub(crate) fn exported(&self, signal: Signal) -> u64 {
        self.since(COUNTERS[0], signal)
    }

    pub(crate) fn failed(&self, signal: Signal) -> u64 {
        self.since(COUNTERS[1], signal)
    }

    pub(crate) fn dropped(&self, signal: Signal) -> u64 {
        self.since(COUNTERS[2], signal)
    }

    fn since(&self, counter: &str, signal: Signal) -> u64 {
        let before = self
            .0
            .iter()
            .find(|(c, s, _)| *c == counter && *s == signal);
        read(counter, signal) - before.unwrap().2
    }
}

fn read(counter: &str, signal: Signal) -> u64 {
    let families = collect::snapshot();
    let family = families.iter().find(|f| f.definition.otel == counter);
    let series = family.unwrap().series.iter();
    let counts = series
        .filter(|s| {
            s.names
                .iter()
                .any(|(_, name)| name.as_str() == signal.as_str())
        })
        .map(|s| match s.value {
            Value::Count(count) => count,
            _ => panic!("{s:?}"),
        });
    counts.sum()
}

/// Telemetry that goes to `url`, metrics every second.
pub(super) fn settings(url: &str, protocol: OtlpProtocol) -> config::Telemetry {
    let mut settings = Config::default().telemetry;
    settings.opentelemetry.endpoint = HttpUrl::new(url).unwrap();
    settings.opentelemetry.protocol = protocol;
    settings.opentelemetry.export_interval_seconds = 1;
    settings.opentelemetry.timeout_ms = 500;
    settings
}

pub(super) fn started(settings: &config::Telemetry) -> Telemetry {
    start(settings, Process::Worker, Uuid::from_u128(5), "test").unwrap()
}

/// Waits until `check` has something to say.
pub(super) async fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come to be");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A span of a task of its own.
pub(super) fn tell_a_span(task: Uuid) {
    let task = spans::Task {
        uuid: task,
        correlation_id: task,
        namespace: crate::name::Name::fixed("shop"),
        name: crate::name::Name::fixed("process_order"),
    };
    let now = std::time::SystemTime::now();
    spans::task_initialized(&task, None, spans::Time::new(now, now), None);
}
