//! Circuit breakers: what keeps a process from asking again and again of what does not answer. A breaker is a
//! [`Circuit`] with a name, shared by all who ask; each change of its state is logged and shown.
//!
//! Whoever may wait asks [`Breaker::admit`] first. Whoever must not be refused (results handed in, heartbeats) does
//! not ask, and still tells what became of its call.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::circuit::Circuit;
pub use super::circuit::{Admitted, Rules};
use crate::config::BreakerKeys;
use crate::metrics::resilience::{self, BreakerState};
use crate::name::Name;

/// A breaker. Clones share it.
#[derive(Debug, Clone)]
pub struct Breaker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: Name,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    circuit: Circuit,
    /// When it opened last, where it is not closed.
    opened_at: Option<DateTime<Utc>>,
}

/// The breaker is open: nothing was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the circuit breaker {breaker} is open; try again in {} ms", retry_after.as_millis())]
pub struct Open {
    pub breaker: Name,
    pub retry_after: Duration,
}

/// How a breaker stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerView {
    pub name: Name,
    pub state: BreakerState,
    /// Failures since the last success.
    pub failures: u64,
    /// When it opened, where it is not closed.
    pub opened_at: Option<DateTime<Utc>>,
}

/// A call that was let through. Where it is dropped without having said how it ended, the next one may be let through.
#[derive(Debug)]
pub struct Call {
    breaker: Breaker,
    admitted: Admitted,
    told: bool,
}

impl From<BreakerKeys> for Rules {
    fn from(keys: BreakerKeys) -> Rules {
        Rules {
            enabled: keys.enabled,
            failure_threshold: keys.failure_threshold,
            success_threshold: keys.success_threshold,
            timeout: Duration::from_secs(u64::from(keys.timeout_seconds)),
        }
    }
}

impl Breaker {
    /// A closed breaker, shown in the metrics as long as it lives.
    pub fn new(name: &'static str, rules: Rules) -> Breaker {
        let inner = Arc::new(Inner {
            name: Name::fixed(name),
            held: Mutex::new(Held {
                circuit: Circuit::new(rules),
                opened_at: None,
            }),
        });
        let weak = Arc::downgrade(&inner);
        resilience::watch_breaker(inner.name, move || {
            let inner = weak.upgrade();
            inner.map_or(BreakerState::Closed, |inner| Breaker(inner).state())
        });
        Breaker(inner)
    }

    /// Lets a call through, which has to tell how it ended: [`Breaker::succeeded`], [`Breaker::failed`] or
    /// [`Breaker::let_go`].
    ///
    /// # Errors
    /// The breaker is open, or half-open with a probe under way.
    pub fn admit(&self) -> Result<Admitted, Open> {
        self.change(|circuit, now| circuit.admit(now))
            .map_err(|retry_after| Open {
                breaker: self.0.name,
                retry_after,
            })
    }

    /// The same for a call that may be dropped in its middle.
    ///
    /// # Errors
    /// As [`Breaker::admit`].
    pub fn call(&self) -> Result<Call, Open> {
        self.admit().map(|admitted| Call {
            breaker: self.clone(),
            admitted,
            told: false,
        })
    }

    /// A call succeeded.
    pub fn succeeded(&self) {
        self.change(|circuit, _| circuit.succeeded());
    }

    /// A call failed, or took too long.
    pub fn failed(&self) {
        self.change(Circuit::failed);
    }

    /// A call that was let through says nothing of what the breaker guards.
    pub fn let_go(&self, call: Admitted) {
        self.change(|circuit, _| circuit.let_go(call));
    }

    /// Its state now.
    pub fn state(&self) -> BreakerState {
        self.held().circuit.state()
    }

    /// Whether everything is let through.
    pub fn is_closed(&self) -> bool {
        self.state() == BreakerState::Closed
    }

    /// How it stands.
    pub fn watch(&self) -> BreakerView {
        let held = self.held();
        BreakerView {
            name: self.0.name,
            state: held.circuit.state(),
            failures: held.circuit.failures(),
            opened_at: held.opened_at,
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to the circuit, and says so where that changed its state.
    fn change<T>(&self, act: impl FnOnce(&mut Circuit, Instant) -> T) -> T {
        let mut held = self.held();
        let before = held.circuit.state();
        let answer = act(&mut held.circuit, Instant::now());
        let (after, failures) = (held.circuit.state(), held.circuit.failures());
        if before == after {
            return answer;
        }
        held.opened_at = match after {
            BreakerState::Closed => None,
            BreakerState::Open => Some(Utc::now()),
            BreakerState::HalfOpen => held.opened_at,
        };
        drop(held);
        let breaker = self.0.name;
        match after {
            BreakerState::Open => tracing::warn!(%breaker, failures, "circuit breaker opened"),
            BreakerState::HalfOpen => tracing::info!(%breaker, "circuit breaker half-open"),
            BreakerState::Closed => tracing::info!(%breaker, "circuit breaker closed"),
        }
        answer
    }
}

impl Call {
    /// It succeeded.
    pub fn succeeded(mut self) {
        self.told = true;
        self.breaker.succeeded();
    }

    /// It failed, or took too long.
    pub fn failed(mut self) {
        self.told = true;
        self.breaker.failed();
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.told {
            self.breaker.let_go(self.admitted);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        Breaker::new(
            "web",
            Rules {
                enabled: true,
                failure_threshold: 2,
                success_threshold: 1,
                timeout: Duration::ZERO,
            },
        )
    }

    #[test]
    fn clones_share_what_happens_and_when_it_opened_is_known_until_it_closes() {
        let breaker = breaker();
        let other = breaker.clone();
        breaker.failed();
        other.failed();
        let view = breaker.watch();
        assert_eq!(
            (view.name.as_str(), view.state, view.failures),
            ("web", BreakerState::Open, 2)
        );
        let opened_at = view.opened_at.unwrap();
        other.admit().unwrap();
        let view = breaker.watch();
        assert_eq!(
            (view.state, view.opened_at),
            (BreakerState::HalfOpen, Some(opened_at))
        );
        other.succeeded();
        let view = breaker.watch();
        assert_eq!(
            (view.state, view.failures, view.opened_at),
            (BreakerState::Closed, 0, None)
        );
    }

    #[test]
    fn a_call_that_is_dropped_lets_the_next_one_try() {
        let breaker = Breaker::new(
            "web",
            Rules {
                enabled: true,
                failure_threshold: 1,
                success_threshold: 1,
                timeout: Duration::from_millis(1),
            },
        );
        breaker.failed();
        let probe = loop {
            if let Ok(call) = breaker.call() {
                break call;
            }
        };
        drop(probe);
        breaker.call().unwrap().succeeded();
        assert!(breaker.is_closed());
        breaker.call().unwrap().failed();
        assert_eq!(breaker.state(), BreakerState::Open);
    }
}
