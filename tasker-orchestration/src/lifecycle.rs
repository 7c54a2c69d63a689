//! A task's way through the server: accepted by the initializer, advanced by the result processor, changed by
//! controls. Each takes what it needs from the database layer and decides by the pure planning of
//! `tasker_shared::plan`.

pub mod admission;
pub mod control;
pub mod pressure;
pub mod registry;
pub mod result_processor;
pub mod task_initializer;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// When a loop last completed a pass, for health checks.
#[derive(Debug, Default)]
pub struct Progress {
    passed_at_ms: AtomicI64,
    came_round_at: Mutex<Option<Instant>>,
}

impl Progress {
    /// A pass was completed now.
    pub fn passed(&self) {
        self.passed_at_ms
            .store(chrono::Utc::now().timestamp_millis(), Ordering::Relaxed);
    }

    /// The loop came round: it is about to begin a pass, whether that will be completed or not.
    pub fn came_round(&self) {
        let now = Some(Instant::now());
        *self
            .came_round_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// How long ago the loop came round; `None` before the first time.
    pub fn since_it_came_round(&self) -> Option<Duration> {
        let at = *self
            .came_round_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        at.map(|at| at.elapsed())
    }

    /// How long ago a pass was completed; `None` before the first.
    pub fn since(&self) -> Option<Duration> {
        let at = self.passed_at_ms.load(Ordering::Relaxed);
        let now = chrono::Utc::now().timestamp_millis();
        (at > 0).then(|| Duration::from_millis(u64::try_from(now - at).unwrap_or(0)))
    }
}
