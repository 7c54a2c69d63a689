//! What becomes of exports that fail: they are counted, seldom mentioned, and tried again later and later.

use std::cell::Cell;
use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::DEFAULT_OTLP_ENDPOINT;
use crate::metrics::export::{self, Signal};

/// How often a failing endpoint is mentioned in the log.
const MENTION: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The failures of one endpoint, whatever the signal.
#[derive(Debug)]
pub(super) struct Faults {
    endpoint: String,
    /// The endpoint is the one that nobody chose, and has never taken anything: probably there is none.
    unexpected: Cell<bool>,
    mentioned: Cell<Option<Instant>>,
    since: Cell<u64>,
}

impl Faults {
    pub(super) fn new(endpoint: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            unexpected: Cell::new(endpoint == DEFAULT_OTLP_ENDPOINT),
            mentioned: Cell::new(None),
            since: Cell::new(0),
        }
    }

    /// Notes that so much was taken.
    pub(super) fn taken(&self, signal: Signal, n: u64) {
        self.unexpected.set(false);
        export::exported(signal, n);
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
        if self.unexpected.get() {
            if mentioned.is_none() {
                tracing::info!(endpoint = self.endpoint, %error, "nobody takes telemetry at the endpoint that is the default; /metrics is served all the same");
            }
            self.mentioned.set(Some(Instant::now()));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logging::tests::exporting;

    #[tokio::test(start_paused = true)]
    async fn failures_are_mentioned_once_a_minute_with_their_number() {
        let (subscriber, written) = exporting("info");
        let _subscriber = tracing::subscriber::set_default(subscriber);
        let faults = Faults::new("http://collector:4317");
        let lines = |seconds: u64| {
            let (faults, written) = (&faults, &written);
            async move {
                for _ in 0..seconds {
                    faults.report(Signal::Traces, &"connection refused");
                    tokio::time::advance(Duration::from_secs(1)).await;
                }
                written.take()
            }
        };
        let first = lines(1).await;
        assert_eq!(first.lines().count(), 1);
        for part in [
            "\"signal\":\"traces\"",
            "\"endpoint\":\"http://collector:4317\"",
            "\"failures\":1",
            "\"error\":\"connection refused\"",
            "\"level\":\"WARN\"",
        ] {
            assert!(first.contains(part), "{part}: {first}");
        }
        assert_eq!(lines(59).await, "");
        let next = lines(60).await;
        assert_eq!(next.lines().count(), 1);
        assert!(next.contains("\"failures\":60"), "{next}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_nobody_chose_is_mentioned_once_until_it_has_taken_something() {
        let (subscriber, written) = exporting("info");
        let _subscriber = tracing::subscriber::set_default(subscriber);
        let faults = Faults::new(DEFAULT_OTLP_ENDPOINT);
        for _ in 0..3 {
            faults.report(Signal::Traces, &"connection refused");
            tokio::time::advance(MENTION).await;
        }
        let lines = written.take();
        assert_eq!(lines.lines().count(), 1);
        assert!(lines.contains("\"level\":\"INFO\""), "{lines}");
        faults.taken(Signal::Traces, 1);
        faults.report(Signal::Traces, &"connection refused");
        assert!(written.take().contains("\"level\":\"WARN\""));
    }

    #[test]
    fn pauses_grow_to_half_a_minute_and_begin_anew() {
        let mut backoff = Backoff::default();
        for seconds in [1, 2, 4, 8, 16, 30, 30, 30] {
            let pause = backoff.pause().as_secs_f64();
            let longest = f64::from(seconds);
            assert!((longest / 2.0..longest).contains(&pause), "{pause}");
        }
        backoff.reset();
        assert!(backoff.pause() <= FIRST_PAUSE);
    }
}
