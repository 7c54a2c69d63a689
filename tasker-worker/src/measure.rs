//! What a worker shows of itself whenever its metrics are collected: the handlers at work, and how busy its slots
//! have been.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tasker_shared::metrics::worker as metrics;
use tasker_shared::name::Name;

use crate::running::Running;

/// Collections closer together than this show the same.
const SHORTEST: Duration = Duration::from_millis(500);

/// Shows the running steps of `running` from now on.
pub(crate) fn watch(running: &Running) {
    let handlers = running.clone();
    metrics::watch_executions(move || handlers.handlers());
    let running = running.clone();
    let busy = Mutex::new(Busy::new(Instant::now()));
    metrics::watch_busy(move || {
        let now = Instant::now();
        let mut busy = busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.read(now, running.concurrency(), || running.ran(now))
    });
}

/// The share of slots that were at work between two collections.
#[derive(Debug)]
struct Busy {
    at: Instant,
    ran: HashMap<Name, Duration>,
    shown: Vec<(Name, f64)>,
}

impl Busy {
    fn new(now: Instant) -> Busy {
        Busy {
            at: now,
            ran: HashMap::new(),
            shown: Vec::new(),
        }
    }

    /// The shares since the last collection, by what has run altogether until `now`.
    fn read(
        &mut self,
        now: Instant,
        slots: usize,
        ran: impl FnOnce() -> HashMap<Name, Duration>,
    ) -> Vec<(Name, f64)> {
        let since = now.saturating_duration_since(self.at);
        if since >= SHORTEST {
            let ran = ran();
            let available = since.as_secs_f64() * slots.max(1) as f64;
            let share = |(namespace, total): (&Name, &Duration)| {
                let before = self.ran.get(namespace).copied().unwrap_or_default();
                let busy = total.saturating_sub(before).as_secs_f64();
                (*namespace, (busy / available).clamp(0.0, 1.0))
            };
            self.shown = ran.iter().map(share).collect();
            (self.at, self.ran) = (now, ran);
        }
        self.shown.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_of_the_time_since_the_last_collection() {
        let (start, shop) = (Instant::now(), Name::fixed("shop"));
        let mut busy = Busy::new(start);
        let ran = |seconds| move || HashMap::from([(shop, Duration::from_secs(seconds))]);
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(busy.read(after(10), 4, ran(10)), [(shop, 0.25)]);
        assert_eq!(busy.read(after(20), 4, ran(30)), [(shop, 0.5)]);
        // At once again: the same.
        assert_eq!(busy.read(after(20), 4, ran(31)), [(shop, 0.5)]);
        assert_eq!(busy.read(after(30), 4, ran(30)), [(shop, 0.0)]);
    }
}
