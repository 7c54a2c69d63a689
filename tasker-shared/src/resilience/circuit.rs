//! When a circuit opens and closes: a pure state machine, told the time. What it guards, what is logged and what is
//! shown is the [`super::breaker`]'s.

use std::time::{Duration, Instant};

use crate::metrics::resilience::BreakerState;

/// How soon whoever met a probe under way may ask again: it knows no better than the probe.
const PROBING: Duration = Duration::from_millis(100);

/// When a circuit opens and closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Whether it ever opens.
    pub enabled: bool,
    /// Failures in a row that open it.
    pub failure_threshold: u32,
    /// Successes in a row that close it.
    pub success_threshold: u32,
    /// How long nothing is let through before the first probe; and how long a probe that says nothing keeps others
    /// out.
    pub timeout: Duration,
}

/// A circuit, told what became of calls, and when.
#[derive(Debug)]
pub(super) struct Circuit {
    rules: Rules,
    phase: Phase,
    /// Failures since the last success.
    failures: u64,
    /// Probes let through until now.
    probes: u64,
}

/// What a call is to the circuit that let it through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// Where it is a probe, its number.
    probe: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Closed,
    Open {
        since: Instant,
    },
    HalfOpen {
        successes: u32,
        /// The probe under way, and since when.
        probing: Option<(u64, Instant)>,
    },
}

impl Circuit {
    pub(super) fn new(rules: Rules) -> Circuit {
        Circuit {
            rules,
            phase: Phase::Closed,
            failures: 0,
            probes: 0,
        }
    }

    /// Lets a call through, or says when to ask again. Behind an open circuit one probe at a time is let through once
    /// its time is over.
    pub(super) fn admit(&mut self, now: Instant) -> Result<Admitted, Duration> {
        let timeout = self.rules.timeout;
        let successes = match self.phase {
            Phase::Closed => return Ok(Admitted { probe: None }),
            Phase::Open { since } => match left(since, timeout, now) {
                Some(left) => return Err(left),
                None => 0,
            },
            Phase::HalfOpen { successes, probing } => {
                match probing.and_then(|(_, since)| left(since, timeout, now)) {
                    Some(left) => return Err(left.min(PROBING)),
                    None => successes,
                }
            }
        };
        self.probes += 1;
        self.phase = Phase::HalfOpen {
            successes,
            probing: Some((self.probes, now)),
        };
        Ok(Admitted {
            probe: Some(self.probes),
        })
    }

    /// A call succeeded. Behind an open circuit that counts as well, whoever let it through: it was reached.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
        let successes = match self.phase {
            Phase::Closed => return,
            Phase::Open { .. } => 1,
            Phase::HalfOpen { successes, .. } => successes + 1,
        };
        self.phase = match successes < self.rules.success_threshold {
            true => Phase::HalfOpen {
                successes,
                probing: None,
            },
            false => Phase::Closed,
        };
    }

    /// A call failed, or took too long. Those that come in while the circuit is open do not prolong it.
    pub(super) fn failed(&mut self, now: Instant) {
        self.failures += 1;
        match self.phase {
            Phase::Closed => {
                let enough = self.failures >= u64::from(self.rules.failure_threshold);
                if enough && self.rules.enabled {
                    self.phase = Phase::Open { since: now };
                }
            }
            Phase::Open { .. } => {}
            Phase::HalfOpen { .. } => self.phase = Phase::Open { since: now },
        }
    }

    /// A call that was let through came to nothing that says anything: where it is the probe that is under way, the
    /// next one may.
    pub(super) fn let_go(&mut self, call: Admitted) {
        if let Phase::HalfOpen { probing, .. } = &mut self.phase
            && probing.map(|(number, _)| number) == call.probe
        {
            *probing = None;
        }
    }

    pub(super) fn state(&self) -> BreakerState {
        match self.phase {
            Phase::Closed => BreakerState::Closed,
            Phase::Open { .. } => BreakerState::Open,
            Phase::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// Failures in a row until now.
    pub(super) fn failures(&self) -> u64 {
        self.failures
    }
}

/// What is left of a time that began then; `None` where it is over.
fn left(since: Instant, time: Duration, now: Instant) -> Option<Duration> {
    let left = time.checked_sub(now.saturating_duration_since(since))?;
    (!left.is_zero()).then_some(left)
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use super::*;
    use BreakerState::{Closed, HalfOpen, Open};

    /// What happens to a circuit, at which second.
    #[derive(Debug, Clone, Copy)]
    enum Event {
        /// A call asks to be let through, and is or is not.
        Admit(bool),
        Success,
        Failure,
        /// The call that was let through last comes to nothing.
        LetGo,
        /// One that was let through when all was well does.
        LetGoOld,
    }
    use Event::{Admit, Failure, LetGo, LetGoOld, Success};

    /// Three failures open, two successes close, two seconds lie between.
    fn circuit(enabled: bool) -> Circuit {
        Circuit::new(Rules {
            enabled,
            failure_threshold: 3,
            success_threshold: 2,
            timeout: Duration::from_secs(2),
        })
    }

    fn run(name: &str, mut circuit: Circuit, events: &[(f64, Event, BreakerState)]) {
        let start = Instant::now();
        let old = Admitted { probe: None };
        let mut last = old;
        for (number, (at, event, expected)) in events.iter().enumerate() {
            let now = start + Duration::from_secs_f64(*at);
            match event {
                Admit(admitted) => {
                    let answer = circuit.admit(now);
                    assert_eq!(answer.is_ok(), *admitted, "{name}, {number}: {answer:?}");
                    last = answer.unwrap_or(last);
                }
                Success => circuit.succeeded(),
                Failure => circuit.failed(now),
                LetGo => circuit.let_go(last),
                LetGoOld => circuit.let_go(old),
            }
            assert_eq!(circuit.state(), *expected, "{name}, {number}");
        }
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_after_successes_in_a_row() {
        run(
            "failures in a row open",
            circuit(true),
            &[
                (0.0, Failure, Closed),
                (0.0, Failure, Closed),
                (0.0, Success, Closed),
                (0.0, Failure, Closed),
                (0.0, Failure, Closed),
                (0.0, Admit(true), Closed),
                (0.0, Failure, Open),
                (0.1, Admit(false), Open),
                (1.9, Admit(false), Open),
            ],
        );
        let open = [
            (0.0, Failure, Closed),
            (0.0, Failure, Closed),
            (0.0, Failure, Open),
        ];
        let after = |events: &[(f64, Event, BreakerState)]| [&open, events].concat();
        run(
            "one probe at a time, and successes close",
            circuit(true),
            &after(&[
                (2.0, Admit(true), HalfOpen),
                (2.0, Admit(false), HalfOpen),
                (2.1, Success, HalfOpen),
                (2.1, Admit(true), HalfOpen),
                (2.2, Success, Closed),
                (2.2, Admit(true), Closed),
                (2.2, Failure, Closed),
            ]),
        );
        run(
            "a probe that fails opens again, for the whole time",
            circuit(true),
            &after(&[
                (2.5, Admit(true), HalfOpen),
                (3.0, Success, HalfOpen),
                (3.0, Admit(true), HalfOpen),
                (3.5, Failure, Open),
                (5.4, Admit(false), Open),
                (5.5, Admit(true), HalfOpen),
            ]),
        );
        run(
            "a probe that says nothing keeps nobody out for ever",
            circuit(true),
            &after(&[
                (2.0, Admit(true), HalfOpen),
                (3.9, Admit(false), HalfOpen),
                (4.0, Admit(true), HalfOpen),
                (4.1, LetGo, HalfOpen),
                (4.1, Admit(true), HalfOpen),
            ]),
        );
        run(
            "what is no probe makes no room for another one",
            circuit(true),
            &after(&[
                (2.0, Admit(true), HalfOpen),
                (2.1, LetGoOld, HalfOpen),
                (2.1, Admit(false), HalfOpen),
                (2.2, LetGo, HalfOpen),
                (2.2, Admit(true), HalfOpen),
            ]),
        );
        run(
            "calls that nobody holds back are heard",
            circuit(true),
            &after(&[
                (0.5, Failure, Open),
                (0.6, Success, HalfOpen),
                (0.6, Success, Closed),
            ]),
        );
        run(
            "failures while open do not prolong it",
            circuit(true),
            &after(&[(1.9, Failure, Open), (2.0, Admit(true), HalfOpen)]),
        );
    }

    #[test]
    fn one_that_is_switched_off_never_opens() {
        let mut circuit = circuit(false);
        let now = Instant::now();
        (0..100).for_each(|_| circuit.failed(now));
        assert_eq!(
            (circuit.state(), circuit.admit(now).is_ok()),
            (Closed, true)
        );
        assert_eq!(circuit.failures(), 100);
    }

    #[test]
    fn whoever_is_refused_learns_when_to_ask_again() {
        let (mut circuit, now) = (circuit(true), Instant::now());
        (0..3).for_each(|_| circuit.failed(now));
        let at = |ms| now + Duration::from_millis(ms);
        assert_eq!(circuit.admit(at(500)), Err(Duration::from_millis(1_500)));
        assert!(circuit.admit(at(2_000)).is_ok());
        assert_eq!(circuit.admit(at(2_000)), Err(PROBING));
        assert_eq!(circuit.admit(at(3_990)), Err(Duration::from_millis(10)));
    }
}
