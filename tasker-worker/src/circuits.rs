//! Circuits of the outside things that steps talk to: when a target fails repeatedly, its lanes are parked for
//! every worker, and one step at a time goes out to see whether it answers again. What is counted is counted in
//! memory; the database is written only at a change, so that a healthy target costs nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tasker_shared::config::WorkerCircuits;
use tasker_shared::db::circuits::{self, Passed, Probe, Wait};
use tasker_shared::db::lanes::Lane;
use tasker_shared::db::pool::Pool;
use tasker_shared::name::Name;

/// How long a probe is lent before its handler begins; then for as long as the handler may take, and this.
pub(crate) const LEASE: Duration = Duration::from_secs(10);
/// The longest wait a target may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(60 * 60);

/// When a circuit opens and closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) enabled: bool,
    /// Failures in a row that open it.
    pub(crate) failure_threshold: u32,
    /// Successful probes in a row that close it.
    pub(crate) success_threshold: i32,
    /// Before the first probe; doubled after each that fails.
    pub(crate) wait: Duration,
    pub(crate) longest_wait: Duration,
}

impl From<&WorkerCircuits> for Rules {
    fn from(config: &WorkerCircuits) -> Rules {
        let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
        Rules {
            enabled: config.enabled,
            failure_threshold: config.failure_threshold,
            success_threshold: i32::try_from(config.success_threshold).unwrap_or(i32::MAX),
            wait: seconds(config.timeout_seconds),
            longest_wait: seconds(config.max_timeout_seconds.max(config.timeout_seconds)),
        }
    }
}

/// What an attempt said of its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It answered, whether the step liked the answer or not.
    Answered,
    /// It did not, or said that it is in trouble.
    Troubled {
        reason: String,
        /// How long it asked to be left alone.
        asked: Option<Duration>,
    },
    /// The attempt never came so far.
    Nothing,
}

/// A step that goes out to see whether its target answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Probing {
    pub(crate) target: Name,
    pub(crate) probe: Probe,
}

/// What this worker knows of the targets it serves. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Circuits(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    pool: Pool,
    rules: Rules,
    targets: Mutex<HashMap<Name, Target>>,
}

/// A target of which there is something to remember.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Target {
    /// Attempts in a row that found it in trouble.
    failures: u32,
    /// While its circuit is open: when a probe may be asked for.
    probe_at: Option<Instant>,
}

impl Target {
    fn is_open(&self) -> bool {
        self.probe_at.is_some()
    }

    /// Takes note of a verdict; `true` where the circuit is to be opened for it.
    fn hear(&mut self, verdict: &Verdict, threshold: u32) -> bool {
        match verdict {
            Verdict::Answered => self.failures = 0,
            Verdict::Troubled { .. } => self.failures = self.failures.saturating_add(1),
            Verdict::Nothing => {}
        }
        self.failures >= threshold && !self.is_open()
    }
}

impl Circuits {
    pub(crate) fn new(pool: Pool, rules: Rules) -> Circuits {
        Circuits(Arc::new(Shared {
            pool,
            rules,
            targets: Mutex::default(),
        }))
    }

    fn targets(&self) -> std::sync::MutexGuard<'_, HashMap<Name, Target>> {
        let targets = self.0.targets.lock();
        targets.unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the target's lanes are parked.
    pub(crate) fn is_open(&self, target: Name) -> bool {
        self.0.rules.enabled && self.targets().get(&target).is_some_and(Target::is_open)
    }

    /// Whether anything is parked.
    pub(crate) fn any_open(&self) -> bool {
        self.targets().values().any(Target::is_open)
    }

    /// Takes over which circuits are open, as the database has it.
    pub(crate) fn listed(&self, lanes: &[Lane], now: Instant) {
        let mut targets = self.targets();
        for lane in lanes.iter().filter(|lane| !lane.target.is_empty()) {
            let name = Name::of(&lane.target);
            let probe_at = lane
                .parked_ms
                .map(|ms| now + Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
            match (targets.get_mut(&name), probe_at) {
                (Some(target), None) if target.is_open() => {
                    targets.remove(&name);
                }
                (Some(target), Some(_)) => target.probe_at = probe_at,
                (None, Some(_)) => {
                    let failures = 0;
                    targets.insert(name, Target { failures, probe_at });
                }
                (_, None) => {}
            }
        }
    }

    /// A parked target that a probe may be asked for now, among these.
    pub(crate) fn due(&self, mut among: impl Iterator<Item = Name>, now: Instant) -> Option<Name> {
        let targets = self.targets();
        let is_due = |name: &Name| {
            let probe_at = targets.get(name).and_then(|target| target.probe_at);
            probe_at.is_some_and(|at| at <= now)
        };
        among.find(is_due).filter(|_| self.0.rules.enabled)
    }

    /// Asks for the probe of a target of which `lanes` may have work, for the worker with this id. Where it is
    /// not to be had, it is not asked for again before `again`.
    pub(crate) async fn begin_probe(
        &self,
        target: Name,
        worker: uuid::Uuid,
        lanes: &[i32],
        again: Instant,
    ) -> tasker_shared::db::Result<Option<Probing>> {
        if let Some(known) = self.targets().get_mut(&target) {
            known.probe_at = known.probe_at.map(|_| again);
        }
        let pool = &self.0.pool;
        let probe = circuits::begin_probe(pool, target.as_str(), worker, LEASE, lanes).await?;
        Ok(probe.map(|probe| Probing { target, probe }))
    }

    /// Keeps a probe for a handler that may take `timeout`.
    pub(crate) async fn extend(&self, probing: &Probing, timeout: Duration) {
        let (target, lease) = (probing.target.as_str(), timeout + LEASE);
        if let Err(error) = circuits::extend_probe(&self.0.pool, target, probing.probe, lease).await
        {
            tracing::warn!(circuit = target, %error, "keeping a probe failed; another worker may send one too");
        }
    }

    /// Takes note of what an attempt said of its target, and changes the circuit where that is due.
    pub(crate) async fn settle(&self, target: Name, probing: Option<&Probing>, verdict: &Verdict) {
        if !self.0.rules.enabled {
            return;
        }
        let done = match probing {
            Some(probing) => self.settle_probe(target, probing, verdict).await,
            None => self.count(target, verdict).await,
        };
        if let Err(error) = done {
            tracing::warn!(circuit = target.as_str(), %error, "changing a circuit failed; the next attempt does");
        }
    }

    async fn count(&self, target: Name, verdict: &Verdict) -> tasker_shared::db::Result<()> {
        let rules = &self.0.rules;
        let opens = {
            let mut targets = self.targets();
            match targets.get_mut(&target) {
                Some(known) => known.hear(verdict, rules.failure_threshold),
                None if matches!(verdict, Verdict::Troubled { .. }) => targets
                    .entry(target)
                    .or_default()
                    .hear(verdict, rules.failure_threshold),
                None => false,
            }
        };
        let Verdict::Troubled { reason, asked } = verdict else {
            return Ok(());
        };
        if !opens {
            return Ok(());
        }
        let asked = asked.unwrap_or_default().min(LONGEST_ASKED);
        let wait = rules.wait.max(asked);
        let opened = circuits::open(&self.0.pool, target.as_str(), reason, wait).await?;
        self.park(target, Instant::now() + wait);
        if opened {
            let failures = rules.failure_threshold;
            tracing::warn!(
                circuit = target.as_str(),
                failures,
                reason,
                retry_after_ms = wait.as_millis(),
                "circuit opened; the lanes of its steps are parked"
            );
        }
        Ok(())
    }

    async fn settle_probe(
        &self,
        target: Name,
        Probing { probe, .. }: &Probing,
        verdict: &Verdict,
    ) -> tasker_shared::db::Result<()> {
        let (pool, rules, name) = (&self.0.pool, &self.0.rules, target.as_str());
        match verdict {
            Verdict::Nothing => circuits::give_probe_back(pool, name, *probe).await,
            Verdict::Answered => {
                let threshold = rules.success_threshold;
                match circuits::pass_probe(pool, name, *probe, threshold).await? {
                    Passed::Closed => {
                        self.targets().remove(&target);
                        tracing::info!(circuit = name, "circuit closed; its steps run again");
                    }
                    Passed::Open => {
                        self.park(target, Instant::now());
                        tracing::info!(circuit = name, "a probe was answered; another one follows");
                    }
                    Passed::Late => {}
                }
                Ok(())
            }
            Verdict::Troubled { reason, asked } => {
                let wait = Wait {
                    first: rules.wait,
                    longest: rules.longest_wait,
                    asked: asked.unwrap_or_default().min(LONGEST_ASKED),
                };
                let left = circuits::fail_probe(pool, name, *probe, reason, wait).await?;
                if let Some(left) = left {
                    self.park(target, Instant::now() + left);
                    let retry_after_ms = left.as_millis();
                    tracing::info!(
                        circuit = name,
                        reason,
                        retry_after_ms,
                        "a probe failed; the circuit stays open"
                    );
                }
                Ok(())
            }
        }
    }

    fn park(&self, target: Name, probe_at: Instant) {
        self.targets().entry(target).or_default().probe_at = Some(probe_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn troubled() -> Verdict {
        Verdict::Troubled {
            reason: "no connection".to_owned(),
            asked: None,
        }
    }

    #[test]
    fn failures_in_a_row_open_a_circuit_and_one_answer_begins_the_count_anew() {
        let mut target = Target::default();
        let told = [
            (troubled(), false),
            (troubled(), false),
            (Verdict::Answered, false),
            (troubled(), false),
            (Verdict::Nothing, false),
            (troubled(), false),
            (troubled(), true),
        ];
        for (place, (verdict, opens)) in told.into_iter().enumerate() {
            assert_eq!(target.hear(&verdict, 3), opens, "{place}: {verdict:?}");
        }
    }

    #[test]
    fn a_circuit_that_is_open_is_not_opened_again() {
        let mut target = Target {
            failures: 3,
            probe_at: Some(Instant::now()),
        };
        assert!(!target.hear(&troubled(), 3));
    }
}
