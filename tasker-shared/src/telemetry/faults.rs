//! What becomes of exports that fail: they are counted, seldom mentioned, and tried again later and later.

use std::cell::Cell;
use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;

use crate::metrics::export::{self, Signal};

/// How often a failing endpoint is mentioned in the log.
const MENTION: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The failures of one endpoint, whatever the signal.
#[derive(Debug)]
pub(super) struct Faults {
    endpoint: String,
    mentioned: Cell<Option<Instant>>,
    since: Cell<u64>,
}

impl Faults {
    pub(super) fn new(endpoint: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            mentioned: Cell::new(None),
            since: Cell::new(0),
        }
    }

    /// Notes that an export failed.
    pub(super) fn report(&self, signal: Signal, error: &impl Display) {
        export::failed(signal);
        let failures = self.since.get() + 1;
        self.since.set(failures);
        let mentioned = self.mentioned.get();
        if mentioned.is_some_and(|at| at.elapsed() < MENTION) {
            return;
        }
        self.mentioned.set(Some(Instant::now()));
        self.since.set(0);
        tracing::warn!(
            signal = signal.as_str(),
            endpoint = self.endpoint,
            failures,
            %error,
            "telemetry cannot be exported; nothing else suffers. Where nobody receives it, set telemetry.opentelemetry.enabled to false"
        );
    }
}

/// How long to wait after failures in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause after one more failure.
    pub(super) fn pause(&mut self) -> Duration {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(10));
        self.failures += 1;
        pause
            .min(LONGEST_PAUSE)
            .mul_f64(rand::random_range(0.5..1.0))
    }

    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}
