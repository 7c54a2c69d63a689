//! Circuits of the outside things that steps talk to: when a target fails repeatedly, its lanes are parked for
//! every worker, and one step at a time goes out to see whether it answers again. What is counted is counted in
//! memory; the database is written only at a change, so that a healthy target costs nothing.

mod known;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tasker_shared::config::WorkerCircuits;
use tasker_shared::db;
use tasker_shared::db::circuits::{self, Passed, Probe, Wait};
use tasker_shared::db::claim::{Claimed, Take};
use tasker_shared::db::lanes::Lane;
use tasker_shared::db::pool::Pool;
use tasker_shared::name::Name;

pub(crate) use known::Asked;
use known::Known;

/// How long a probe is lent before its handler begins; then for as long as the handler may take, and this.
pub(crate) const LEASE: Duration = Duration::from_secs(10);
/// The longest wait a target may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(60 * 60);
/// How long is waited before what came of a probe is told the database again; twice as long each time.
const PAUSE: Duration = Duration::from_millis(100);
/// And never longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

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
    /// Failed probes of one step that cost it no attempt.
    pub(crate) free_probes: u32,
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
            free_probes: config.free_probes,
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
    /// It is lent for so long; what came of it is worth nothing after that.
    until: Instant,
}

/// What this worker knows of the targets it serves. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Circuits(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    pool: Pool,
    rules: Rules,
    known: Mutex<Known>,
}

/// Somebody opens a circuit, until this is dropped.
struct Opening<'a>(&'a Circuits, Name);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.known().opened(self.1);
    }
}

impl Circuits {
    pub(crate) fn new(pool: Pool, rules: Rules) -> Circuits {
        Circuits(Arc::new(Shared {
            pool,
            rules,
            known: Mutex::default(),
        }))
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the target's lanes are parked.
    pub(crate) fn is_open(&self, target: Name) -> bool {
        self.0.rules.enabled && self.known().is_open(target)
    }

    /// Whether anything is parked.
    pub(crate) fn any_open(&self) -> bool {
        self.known().any_open()
    }

    /// How long to wait for the next probe that may be asked for, and no longer than `patience`.
    pub(crate) fn patience(&self, patience: Duration, now: Instant) -> Duration {
        let next = self.known().next_probe().filter(|_| self.0.rules.enabled);
        let left = next.map(|at| at.saturating_duration_since(now).max(PAUSE));
        left.map_or(patience, |left| patience.min(left))
    }

    /// To be called before the lanes are listed that are given to [`Circuits::listed`].
    pub(crate) fn ask(&self) -> Asked {
        self.known().ask()
    }

    /// Takes over which circuits are open, as the database has it. `false` where it had to be left, since this
    /// worker changed some in the meantime: then list them again.
    pub(crate) fn listed(&self, lanes: &[Lane], asked: Asked, now: Instant) -> bool {
        self.known().listed(lanes, asked, now)
    }

    /// A parked target that a probe may be asked for now, among these.
    pub(crate) fn due(&self, among: impl Iterator<Item = Name>, now: Instant) -> Option<Name> {
        let due = self.known().due(among, now);
        due.filter(|_| self.0.rules.enabled)
    }

    /// Asks for the probe of a target of which `lanes` may have work, for the worker with this id. Where it is
    /// not to be had, it is not asked for again before `again`.
    pub(crate) async fn begin_probe(
        &self,
        target: Name,
        worker: uuid::Uuid,
        lanes: &[i32],
        again: Instant,
    ) -> db::Result<Option<Probing>> {
        self.known().ask_again(target, again);
        let (pool, until) = (&self.0.pool, Instant::now() + LEASE);
        let probe = circuits::begin_probe(pool, target.as_str(), worker, LEASE, lanes).await?;
        Ok(probe.map(|probe| Probing {
            target,
            probe,
            until,
        }))
    }

    /// The order in which the step of a probe is looked for.
    pub(crate) fn in_turn(&self, takes: Vec<Take>) -> Vec<Take> {
        self.known().in_turn(takes)
    }

    /// A probe goes out with a step of this lane.
    pub(crate) fn had_its_turn(&self, lane: i32) {
        self.known().had_its_turn(lane);
    }

    /// Keeps a probe for a handler that may take `timeout`.
    pub(crate) async fn extend(&self, probing: Probing, timeout: Duration) -> Probing {
        let (target, lease) = (probing.target.as_str(), timeout + LEASE);
        let until = Instant::now() + lease;
        match circuits::extend_probe(&self.0.pool, target, probing.probe, lease).await {
            Ok(()) => Probing { until, ..probing },
            Err(error) => {
                tracing::warn!(circuit = target, %error, "keeping a probe failed; another worker may send one too");
                probing
            }
        }
    }

    /// Whether a probe that failed costs its step no attempt. A step that has failed so often where others may have
    /// been answered may be the trouble itself, and comes to its end like any other.
    pub(crate) fn spares(&self, step: &Claimed) -> bool {
        // What cost it nothing until now were probes, but for a few.
        let free = (step.attempt - 1).saturating_sub(step.tries);
        u32::try_from(free).unwrap_or(0) < self.0.rules.free_probes
    }

    /// Takes note of what an attempt said of its target, and opens the circuit where that is due.
    pub(crate) async fn hear(&self, target: Name, verdict: &Verdict) {
        let rules = &self.0.rules;
        if !rules.enabled || !self.known().hear(target, verdict, rules.failure_threshold) {
            return;
        }
        let _opening = Opening(self, target);
        if let Verdict::Troubled { reason, asked } = verdict
            && let Err(error) = self.open(target, reason, *asked).await
        {
            tracing::warn!(circuit = target.as_str(), %error, "opening a circuit failed; the next attempt does");
        }
    }

    async fn open(&self, target: Name, reason: &str, asked: Option<Duration>) -> db::Result<()> {
        let rules = &self.0.rules;
        let asked = asked.unwrap_or_default().min(LONGEST_ASKED);
        let wait = rules.wait.max(asked);
        let opened = circuits::open(&self.0.pool, target.as_str(), reason, wait).await?;
        self.known().park(target, Instant::now() + wait);
        if opened {
            tracing::warn!(
                circuit = target.as_str(),
                failures = rules.failure_threshold,
                reason,
                retry_after_ms = wait.as_millis(),
                "circuit opened; the lanes of its steps are parked"
            );
        }
        Ok(())
    }

    /// Changes the circuit by what came of a probe. Where the database does not take it, it is told again for as
    /// long as the probe is out: nobody else may send one meanwhile.
    pub(crate) async fn settle(&self, probing: Probing, verdict: Verdict) {
        let Err(error) = self.try_settle(&probing, &verdict).await else {
            return;
        };
        let circuit = probing.target.as_str();
        tracing::warn!(circuit, %error, "telling what came of a probe failed; trying again");
        let circuits = self.clone();
        tokio::spawn(async move { circuits.settle_later(probing, &verdict).await });
    }

    async fn settle_later(&self, probing: Probing, verdict: &Verdict) {
        let (circuit, mut pause) = (probing.target.as_str(), PAUSE);
        while Instant::now() + pause < probing.until {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            match self.try_settle(&probing, verdict).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::debug!(circuit, %error, "telling what came of a probe failed")
                }
            }
        }
        tracing::warn!(
            circuit,
            "what came of a probe could not be told; another one may go out"
        );
    }

    /// Told twice it changes nothing the second time.
    async fn try_settle(&self, probing: &Probing, verdict: &Verdict) -> db::Result<()> {
        let (pool, rules) = (&self.0.pool, &self.0.rules);
        let (target, probe) = (probing.target, probing.probe);
        let name = target.as_str();
        match verdict {
            Verdict::Nothing => circuits::give_probe_back(pool, name, probe).await,
            Verdict::Answered => {
                match circuits::pass_probe(pool, name, probe, rules.success_threshold).await? {
                    Passed::Closed => {
                        self.known().close(target);
                        tracing::info!(circuit = name, "circuit closed; its steps run again");
                    }
                    Passed::Open => {
                        self.known().park(target, Instant::now());
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
                let left = circuits::fail_probe(pool, name, probe, reason, wait).await?;
                if let Some(left) = left {
                    self.known().park(target, Instant::now() + left);
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
}
