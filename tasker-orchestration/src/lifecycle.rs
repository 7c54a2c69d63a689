//! A task's way through the server: accepted by the initializer, advanced by the result processor, changed by
//! controls. Each takes what it needs from the database layer and decides by the pure planning of
//! `tasker_shared::plan`.

pub mod admission;
pub mod control;
pub mod registry;
pub mod result_processor;
pub mod task_initializer;

use std::sync::atomic::{AtomicI64, Ordering};

/// When a loop last completed a pass, for health checks.
#[derive(Debug, Default)]
pub struct Progress {
    passed_at_ms: AtomicI64,
}

impl Progress {
    /// A pass was completed now.
    pub fn passed(&self) {
        self.passed_at_ms
            .store(chrono::Utc::now().timestamp_millis(), Ordering::Relaxed);
    }

    /// How long ago a pass was completed; `None` before the first.
    pub fn since(&self) -> Option<std::time::Duration> {
        let at = self.passed_at_ms.load(Ordering::Relaxed);
        let now = chrono::Utc::now().timestamp_millis();
        (at > 0).then(|| std::time::Duration::from_millis(u64::try_from(now - at).unwrap_or(0)))
    }
}
