//! What the routes report: facts fixed at start, and how far the worker's loops have got.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use tasker_shared::access::Gate;
use tasker_shared::clock::Clock;
use tasker_shared::config::Loaded;
use tasker_shared::db::pool::Pool;
use tasker_shared::resilience::breaker::Breaker;
use tasker_shared::resilience::vitals::Vitals;
use tasker_shared::wire::WorkerCheck;
use tokio::sync::Mutex;
use uuid::Uuid;

/// Everything the routes look at.
#[derive(Debug)]
pub struct State {
    /// The general pool.
    pub pool: Pool,
    /// Lets callers in.
    pub gate: Gate,
    /// The configuration in force; `worker.namespaces` and `worker.concurrency` are what the worker serves.
    pub loaded: Loaded,
    /// The handlers it has, sorted.
    pub callables: Vec<String>,
    /// When the process started.
    pub started_at: DateTime<Utc>,
    /// The clock of the process.
    pub clock: Clock,
    /// What the loops tell.
    pub progress: Arc<Progress>,
    /// Its circuit breakers.
    pub breakers: Vec<Breaker>,
    /// Of the loops.
    pub vitals: Vitals,
    /// Whether the database answered when it was asked last.
    pub asked: Asked,
}

/// What the database was asked for whoever asks for health, and when: once for all who ask within a second.
#[derive(Debug, Default)]
pub struct Asked(pub(super) Mutex<Option<(Instant, WorkerCheck)>>);

/// How far the worker's loops have got; they write, the routes read.
#[derive(Debug, Default)]
pub struct Progress {
    worker_id: RwLock<Uuid>,
    busy: AtomicUsize,
    claimed_at_ms: AtomicI64,
    renewed_at_ms: AtomicI64,
    listening: AtomicBool,
    draining: AtomicBool,
    came_round_at: RwLock<Option<Instant>>,
    beaten_at: RwLock<Option<Instant>>,
}

impl Progress {
    /// The worker has a new id: at its start, and after a lease that ran out.
    pub fn named(&self, worker_id: Uuid) {
        *self
            .worker_id
            .write()
            .unwrap_or_else(PoisonError::into_inner) = worker_id;
    }

    /// The id under which the worker holds its lease; nil before the first.
    pub fn worker_id(&self) -> Uuid {
        *self
            .worker_id
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A claim was answered, whether it brought steps or not.
    pub fn claimed(&self, at: DateTime<Utc>) {
        self.claimed_at_ms
            .store(at.timestamp_millis(), Ordering::Relaxed);
    }

    /// The claim loop came round, whether its claim will be answered or not.
    pub fn came_round(&self) {
        set_now(&self.came_round_at);
    }

    /// The lease was taken or renewed.
    pub fn renewed(&self, at: DateTime<Utc>) {
        set_now(&self.beaten_at);
        self.renewed_at_ms
            .store(at.timestamp_millis(), Ordering::Relaxed);
    }

    /// Sets how many steps run.
    pub fn set_busy(&self, steps: usize) {
        self.busy.store(steps, Ordering::Relaxed);
    }

    /// How many steps run.
    pub fn busy(&self) -> usize {
        self.busy.load(Ordering::Relaxed)
    }

    /// Notifications arrive, or no longer.
    pub fn set_listening(&self, listening: bool) {
        self.listening.store(listening, Ordering::Relaxed);
    }

    /// The worker takes no more steps.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Relaxed)
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// How long ago the claim loop came round, where the lease has been renewed since.
    pub(super) fn stuck_for(&self) -> Option<Duration> {
        let (round, beaten) = (get(&self.came_round_at)?, get(&self.beaten_at)?);
        (beaten > round).then(|| round.elapsed())
    }

    /// How long ago the last claim was answered; `None` where none has been.
    pub(super) fn since_claim(&self, now: DateTime<Utc>) -> Option<TimeDelta> {
        since(&self.claimed_at_ms, now)
    }

    /// How long ago the lease was renewed; `None` where there is none yet.
    pub(super) fn since_renewal(&self, now: DateTime<Utc>) -> Option<TimeDelta> {
        since(&self.renewed_at_ms, now)
    }
}

fn set_now(at: &RwLock<Option<Instant>>) {
    *at.write().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
}

fn get(at: &RwLock<Option<Instant>>) -> Option<Instant> {
    *at.read().unwrap_or_else(PoisonError::into_inner)
}

fn since(at_ms: &AtomicI64, now: DateTime<Utc>) -> Option<TimeDelta> {
    match at_ms.load(Ordering::Relaxed) {
        0 => None,
        at_ms => Some(TimeDelta::milliseconds(
            now.timestamp_millis().saturating_sub(at_ms),
        )),
    }
}
