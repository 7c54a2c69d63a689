//! The way out of spans and log records: a bounded queue, which refuses what does not fit, and the loop that
//! exports in batches what waits in it. Whoever records waits for nothing here.

use std::fmt::{Debug, Display};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;

use super::faults::{Backoff, Faults};
use super::stop::Stop;
use crate::metrics::export::{self, Signal};
use crate::resilience::channel::{self, Receiver, Sender};

/// The most that leaves in one request; what is small enough for every receiver.
const BATCH: usize = 512;
/// How long a batch waits to become full.
const LINGER: Duration = Duration::from_secs(1);

/// The place in a process where a signal's queue is found, from anywhere and at any time.
#[derive(Debug)]
pub(super) struct Door<T> {
    open: AtomicBool,
    queue: RwLock<Option<Queue<T>>>,
}

#[derive(Debug)]
struct Queue<T> {
    signal: Signal,
    sender: Sender<T>,
}

impl<T: Send + 'static> Door<T> {
    pub(super) const fn new() -> Self {
        Self {
            open: AtomicBool::new(false),
            queue: RwLock::new(None),
        }
    }

    /// Whether anything is exported.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// Takes things from now on, up to `capacity` at a time; they come out at the other end.
    pub(super) fn open(&self, signal: Signal, capacity: usize) -> Waiting<T> {
        let (sender, receiver) = channel::bounded(signal.as_str(), "telemetry", capacity);
        let queue = Queue { signal, sender };
        *self.queue.write().unwrap_or_else(PoisonError::into_inner) = Some(queue);
        self.open.store(true, Ordering::Relaxed);
        Waiting { signal, receiver }
    }

    /// Takes nothing more.
    pub(super) fn close(&self) {
        self.open.store(false, Ordering::Relaxed);
        *self.queue.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Lets a thing in. It is not even made where there is no room; it counts as dropped then.
    pub(super) fn push(&self, make: impl FnOnce() -> T) {
        let queue = self.queue.read().unwrap_or_else(PoisonError::into_inner);
        let Some(queue) = queue.as_ref() else {
            return;
        };
        if queue.sender.try_send_with(make).is_err() {
            export::dropped(queue.signal, 1);
        }
    }
}

/// What waits to be exported.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    signal: Signal,
    receiver: Receiver<T>,
}

impl<T: Debug + Send + 'static> Waiting<T> {
    /// Exports batch after batch, each within `timeout`, until told to stop; then what is left, until the deadline.
    /// A batch that fails is given up, and the next one waits.
    pub(super) async fn export<E: Display>(
        mut self,
        export: impl AsyncFn(Vec<T>) -> Result<(), E>,
        timeout: Duration,
        faults: &Faults,
        stop: &Stop,
    ) {
        let mut backoff = Backoff::default();
        while let Some(batch) = self.next(stop).await {
            if self.send(batch, &export, timeout, faults, stop).await {
                backoff.reset();
            } else {
                stop.sleep(backoff.pause()).await;
            }
        }
        self.receiver.close();
        while let Some(batch) = self.rest() {
            if !self.send(batch, &export, timeout, faults, stop).await {
                break;
            }
        }
        let mut left = 0;
        while self.receiver.try_recv().is_some() {
            left += 1;
        }
        export::dropped(self.signal, left);
    }

    /// The next batch: as it is when full, or when its first has waited long enough. `None` when told to stop.
    async fn next(&mut self, stop: &Stop) -> Option<Vec<T>> {
        let mut batch = Vec::new();
        tokio::select! {
            biased;
            () = stop.ended() => return None,
            n = self.receiver.recv_many(&mut batch, BATCH) => if n == 0 { return None },
        }
        let full = Instant::now() + LINGER;
        while batch.len() < BATCH {
            let room = BATCH - batch.len();
            tokio::select! {
                biased;
                n = self.receiver.recv_many(&mut batch, room) => if n == 0 { break },
                () = tokio::time::sleep_until(full) => break,
                () = stop.ended() => break,
            }
        }
        Some(batch)
    }

    fn rest(&mut self) -> Option<Vec<T>> {
        let waiting = std::iter::from_fn(|| self.receiver.try_recv());
        let batch: Vec<T> = waiting.take(BATCH).collect();
        Some(batch).filter(|batch| !batch.is_empty())
    }

    async fn send<E: Display>(
        &self,
        batch: Vec<T>,
        export: &impl AsyncFn(Vec<T>) -> Result<(), E>,
        timeout: Duration,
        faults: &Faults,
        stop: &Stop,
    ) -> bool {
        let size = batch.len() as u64;
        match stop.within(timeout, export(batch)).await {
            Ok(Ok(())) => {
                faults.taken(self.signal, size);
                return true;
            }
            Ok(Err(error)) => faults.report(self.signal, &error),
            Err(late) => faults.report(self.signal, &late),
        }
        export::dropped(self.signal, size);
        false
    }
}

#[cfg(test)]
mod tests;
