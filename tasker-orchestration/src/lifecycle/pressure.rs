//! Back-pressure: whether a submission could be got done soon, by what is measured anyway and what a loop samples. A
//! request is refused here before anything of it is stored, and told when to try again.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tasker_shared::config::Backpressure;
use tasker_shared::db::pool::Pool;
use tasker_shared::db::pressure::Waiting;
use tasker_shared::resilience::channel::Watch;

mod budget;
mod measures;

use budget::Budget;
pub use budget::Share;
pub use measures::Cause;
use measures::Measures;

/// When to try again: at least and at most.
const WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What a server knows of its load. Clones share it.
#[derive(Debug, Clone)]
pub struct Pressure(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: Backpressure,
    pool: Pool,
    /// Connections that the pool may have.
    connections: u32,
    submissions: OnceLock<Watch>,
    bytes: Budget,
    measures: Mutex<Measures>,
    /// Whether anybody has asked since the database was sampled.
    asked: AtomicBool,
}

/// Nothing more is taken in now.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{cause}; nothing was stored, try again in {} s", retry_after.as_secs())]
pub struct Busy {
    pub cause: Cause,
    /// An estimate, in whole seconds.
    pub retry_after: Duration,
}

impl Pressure {
    /// Of a server with this pool, of at most so many connections.
    pub fn new(limits: Backpressure, pool: Pool, connections: u32) -> Pressure {
        Pressure(Arc::new(Inner {
            bytes: Budget::new(limits.submission_bytes),
            limits,
            pool,
            connections,
            submissions: OnceLock::new(),
            measures: Mutex::default(),
            asked: AtomicBool::new(false),
        }))
    }

    /// The channel that submissions wait in.
    pub(super) fn submissions(&self, channel: Watch) {
        // A server has one.
        let _ = self.0.submissions.set(channel);
    }

    /// Whether a submission may be taken in now. Costs no statement.
    pub fn check(&self) -> Result<(), Busy> {
        let limits = &self.0.limits;
        if !limits.enabled {
            return Ok(());
        }
        self.0.asked.store(true, Ordering::Relaxed);
        let usage = self.0.submissions.get().map(Watch::usage);
        let judged =
            self.measures(|measures| measures.judge(limits, usage.as_ref(), Instant::now()));
        match judged {
            Some((cause, wait)) => Err(busy(cause, wait)),
            None => Ok(()),
        }
    }

    /// What a submission that found the channel full is told, and one that met too many others.
    pub fn crowded(&self) -> Busy {
        let usage = self.0.submissions.get().map(Watch::usage);
        let (used, capacity) = usage.map_or((0, 0), |u| (u.used, u.capacity));
        let wait = self.measures(|measures| measures.drained_in(used));
        busy(Cause::Submissions { used, capacity }, wait)
    }

    /// Room for a submission of so many bytes.
    pub fn hold(&self, bytes: usize) -> Result<Share, Busy> {
        self.0.bytes.take(bytes).map_err(|held| {
            let usage = self.0.submissions.get().map(Watch::usage);
            let wait =
                self.measures(|measures| measures.drained_in(usage.map_or(0, |usage| usage.used)));
            let most = self.0.bytes.most();
            busy(Cause::Bytes { held, most }, wait)
        })
    }

    /// Notes how much of the pool is in use, and how fast submissions are worked off.
    pub fn look(&self, now: Instant) {
        let pool = &self.0.pool;
        let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
        let share =
            f64::from(pool.size().saturating_sub(idle)) / f64::from(self.0.connections.max(1));
        let usage = self.0.submissions.get().map(Watch::usage);
        self.measures(|measures| {
            measures.pool(now, share, self.0.limits.pool_percent);
            if let Some(usage) = usage {
                measures.submissions(now, &usage);
            }
        });
    }

    /// Whether anybody has asked since the last time: an idle server need not sample its database.
    pub fn was_asked(&self) -> bool {
        self.0.asked.swap(false, Ordering::Relaxed)
    }

    /// Notes how much waits in the database.
    pub fn sampled(&self, now: Instant, waiting: Waiting) {
        self.measures(|measures| measures.waiting(now, waiting));
    }

    /// How many steps may wait, where there is a bound.
    pub fn most_steps(&self) -> Option<u32> {
        self.0.limits.max_queue_depth
    }

    fn measures<T>(&self, act: impl FnOnce(&mut Measures) -> T) -> T {
        let mut measures = self
            .0
            .measures
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        act(&mut measures)
    }
}

/// A time that is not known to end is the longest.
fn busy(cause: Cause, wait: Option<Duration>) -> Busy {
    let wait = wait.unwrap_or(WAIT.1).clamp(WAIT.0, WAIT.1);
    let whole = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    Busy {
        cause,
        retry_after: Duration::from_secs(whole),
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Submissions { used, capacity } => write!(
                f,
                "{used} of {capacity} submissions wait to be stored (channels.submissions)"
            ),
            Cause::Bytes { held, most } => write!(
                f,
                "submissions of {held} bytes wait to be stored, {most} may (backpressure.submission_bytes)"
            ),
            Cause::Pool { percent } => write!(
                f,
                "{percent} % of the connections are in use (database.max_connections)"
            ),
            Cause::Requests { oldest } => write!(
                f,
                "the oldest submission by SQL has waited for {} s (backpressure.oldest_request_seconds)",
                oldest.as_secs()
            ),
            Cause::Queue { depth, most } => write!(
                f,
                "{depth} steps or more are in the queue, {most} may be (backpressure.max_queue_depth)"
            ),
        }
    }
}
