//! The steps that this worker runs now, and why one of them may have to stop.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tasker_shared::name::Name;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::web::Progress;

/// Why a running step is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Its task was cancelled, or has ended in error without it.
    TaskCancelled,
    /// The worker's lease ran out: the step is somebody else's.
    LeaseLost,
    /// The worker stops and the drain time is over.
    Drained,
}

/// A step in the set; it leaves when this is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    set: Running,
    key: u64,
    entry: Entry,
}

#[derive(Debug, Clone)]
struct Entry {
    task_uuid: Uuid,
    cancellation: CancellationToken,
    why: Arc<OnceLock<Stop>>,
    handling: Arc<OnceLock<Handling>>,
}

/// A handler at work.
#[derive(Debug, Clone, Copy)]
struct Handling {
    namespace: Name,
    handler_type: Name,
    since: Instant,
}

#[derive(Debug, Default)]
struct Entries {
    last: u64,
    running: HashMap<u64, Entry>,
    /// How long handlers of each namespace have run that have ended since.
    ran: HashMap<Name, Duration>,
}

/// The set of running steps, bounded by the worker's concurrency. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Running(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    concurrency: usize,
    entries: Mutex<Entries>,
    freed: Notify,
    progress: Arc<Progress>,
}

impl Running {
    pub(crate) fn new(concurrency: usize, progress: Arc<Progress>) -> Running {
        Running(Arc::new(Shared {
            concurrency,
            entries: Mutex::default(),
            freed: Notify::new(),
            progress,
        }))
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, Entries> {
        self.0
            .entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a step.
    pub(crate) fn enter(&self, task_uuid: Uuid) -> Slot {
        let entry = Entry {
            task_uuid,
            cancellation: CancellationToken::new(),
            why: Arc::default(),
            handling: Arc::default(),
        };
        let (key, busy) = {
            let mut entries = self.entries();
            entries.last += 1;
            let key = entries.last;
            entries.running.insert(key, entry.clone());
            (key, entries.running.len())
        };
        self.0.progress.set_busy(busy);
        Slot {
            set: self.clone(),
            key,
            entry,
        }
    }

    /// How many steps run.
    pub(crate) fn count(&self) -> usize {
        self.entries().running.len()
    }

    /// How many more may run.
    pub(crate) fn free(&self) -> usize {
        self.0.concurrency.saturating_sub(self.count())
    }

    /// Waits until a step has left since the last wait.
    pub(crate) async fn freed(&self) {
        self.0.freed.notified().await;
    }

    /// The tasks whose steps run, each once.
    pub(crate) fn tasks(&self) -> Vec<Uuid> {
        let mut tasks: Vec<Uuid> = self
            .entries()
            .running
            .values()
            .map(|e| e.task_uuid)
            .collect();
        tasks.sort_unstable();
        tasks.dedup();
        tasks
    }

    /// How many handlers run now, by namespace and type of handler.
    pub(crate) fn handlers(&self) -> Vec<((Name, Name), u64)> {
        let mut handlers: HashMap<(Name, Name), u64> = HashMap::new();
        for entry in self.entries().running.values() {
            if let Some(handling) = entry.handling.get() {
                *handlers
                    .entry((handling.namespace, handling.handler_type))
                    .or_default() += 1;
            }
        }
        handlers.into_iter().collect()
    }

    /// How long handlers of each namespace have run altogether until now.
    pub(crate) fn ran(&self, now: Instant) -> HashMap<Name, Duration> {
        let entries = self.entries();
        let mut ran = entries.ran.clone();
        for handling in entries.running.values().filter_map(|e| e.handling.get()) {
            *ran.entry(handling.namespace).or_default() +=
                now.saturating_duration_since(handling.since);
        }
        ran
    }

    /// How many may run at once.
    pub(crate) fn concurrency(&self) -> usize {
        self.0.concurrency
    }

    /// Stops the steps of these tasks.
    pub(crate) fn stop_tasks(&self, tasks: &[Uuid]) {
        self.stop(Stop::TaskCancelled, |entry| {
            tasks.contains(&entry.task_uuid)
        });
    }

    /// Stops every step.
    pub(crate) fn stop_all(&self, why: Stop) {
        self.stop(why, |_| true);
    }

    fn stop(&self, why: Stop, which: impl Fn(&Entry) -> bool) {
        for entry in self.entries().running.values().filter(|e| which(e)) {
            // The first reason counts.
            let _ = entry.why.set(why);
            entry.cancellation.cancel();
        }
    }
}

impl Slot {
    /// A handler of this type begins to work in it.
    pub(crate) fn handling(&self, namespace: Name, handler_type: Name) {
        // A slot is one attempt's, which has one handler.
        let _ = self.entry.handling.set(Handling {
            namespace,
            handler_type,
            since: Instant::now(),
        });
    }

    /// Cancelled when the step is to stop.
    pub(crate) fn cancellation(&self) -> &CancellationToken {
        &self.entry.cancellation
    }

    /// Why it is to stop, where it is.
    pub(crate) fn why(&self) -> Option<Stop> {
        self.entry.why.get().copied()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let left = {
            let mut entries = self.set.entries();
            entries.running.remove(&self.key);
            if let Some(handling) = self.entry.handling.get() {
                *entries.ran.entry(handling.namespace).or_default() += handling.since.elapsed();
            }
            entries.running.len()
        };
        self.set.0.progress.set_busy(left);
        self.set.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_step_leaves_when_its_slot_is_dropped() {
        let running = Running::new(2, Arc::default());
        let (first, second) = (
            running.enter(Uuid::from_u128(1)),
            running.enter(Uuid::from_u128(2)),
        );
        assert_eq!((running.count(), running.free()), (2, 0));
        drop(first);
        running.freed().await;
        assert_eq!(running.tasks(), [Uuid::from_u128(2)]);
        drop(second);
        assert_eq!(running.free(), 2);
    }

    #[test]
    fn only_the_steps_of_cancelled_tasks_stop_and_the_first_reason_counts() {
        let running = Running::new(2, Arc::default());
        let (one, other) = (
            running.enter(Uuid::from_u128(1)),
            running.enter(Uuid::from_u128(2)),
        );
        running.stop_tasks(&[Uuid::from_u128(1)]);
        assert!(one.cancellation().is_cancelled() && !other.cancellation().is_cancelled());
        running.stop_all(Stop::LeaseLost);
        assert_eq!(one.why(), Some(Stop::TaskCancelled));
        assert_eq!(other.why(), Some(Stop::LeaseLost));
    }
}
