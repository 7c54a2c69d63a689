//! The one kind of channel there is: bounded, named, and measured. A send that finds it full waits or is refused,
//! as the sender chooses, and is counted. Health and metrics show every one that is open.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::metrics::resilience;
use crate::name::Name;

/// The sending side. Clones share it; the channel closes with the last one.
#[derive(Debug)]
pub struct Sender<T> {
    inner: mpsc::Sender<T>,
    meter: Arc<Meter>,
}

/// The receiving side.
#[derive(Debug)]
pub struct Receiver<T> {
    inner: mpsc::Receiver<T>,
    meter: Arc<Meter>,
}

/// A place in a channel, kept for whoever asked for it.
#[derive(Debug)]
pub struct Place<'a, T> {
    permit: mpsc::Permit<'a, T>,
    used: usize,
    meter: &'a Meter,
}

/// Why something was not sent; it comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused<T> {
    #[error("the channel is full")]
    Full(T),
    #[error("the channel is closed")]
    Closed(T),
}

/// A channel as others see it. Keeps nothing open.
#[derive(Clone)]
pub struct Watch {
    /// `None` when it is closed.
    used: Arc<dyn Fn() -> Option<usize> + Send + Sync>,
    meter: Arc<Meter>,
}

/// Every channel that was opened in this process, and may be closed by now.
static OPENED: Mutex<Vec<Watch>> = Mutex::new(Vec::new());

/// Every channel that is open in this process, in the order in which they were opened.
pub fn all() -> Vec<Watch> {
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    opened.retain(|watch| (watch.used)().is_some());
    opened.clone()
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.usage().fmt(f)
    }
}

/// How a channel stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    pub channel: Name,
    pub component: Name,
    pub capacity: usize,
    /// What waits in it now.
    pub used: usize,
    /// The most that ever waited when something was sent.
    pub high_water: usize,
    /// Sends that found it full.
    pub full_events: u64,
    /// What was ever taken out.
    pub taken: u64,
}

#[derive(Debug)]
struct Meter {
    channel: Name,
    component: Name,
    capacity: usize,
    high_water: AtomicUsize,
    full_events: AtomicU64,
    taken: AtomicU64,
}

/// A channel of `component`, for `capacity` at a time.
pub fn bounded<T: Send + 'static>(
    channel: &'static str,
    component: &'static str,
    capacity: usize,
) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = mpsc::channel(capacity);
    let meter = Arc::new(Meter {
        channel: Name::fixed(channel),
        component: Name::fixed(component),
        capacity,
        high_water: AtomicUsize::new(0),
        full_events: AtomicU64::new(0),
        taken: AtomicU64::new(0),
    });
    let sender = Sender {
        inner: sender,
        meter: Arc::clone(&meter),
    };
    let watch = sender.watch();
    OPENED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(watch.clone());
    resilience::watch_channel(
        watch.meter.channel,
        watch.meter.component,
        capacity,
        move || watch.usage().percent(),
    );
    let receiver = Receiver {
        inner: receiver,
        meter,
    };
    (sender, receiver)
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender {
            inner: self.inner.clone(),
            meter: Arc::clone(&self.meter),
        }
    }
}

impl<T: Send + 'static> Sender<T> {
    /// Sends, or gives back what the channel does not take now.
    pub fn try_send(&self, value: T) -> Result<(), Refused<T>> {
        match self.inner.try_send(value) {
            Ok(()) => {
                self.meter
                    .sent(self.inner.max_capacity() - self.inner.capacity());
                Ok(())
            }
            Err(TrySendError::Full(value)) => {
                self.meter.full();
                Err(Refused::Full(value))
            }
            Err(TrySendError::Closed(value)) => Err(Refused::Closed(value)),
        }
    }

    /// Sends what `make` makes, which is not even made where the channel does not take it now.
    pub fn try_send_with(&self, make: impl FnOnce() -> T) -> Result<(), Refused<()>> {
        match self.inner.try_reserve() {
            Ok(place) => {
                self.meter
                    .sent(self.inner.max_capacity() - self.inner.capacity());
                place.send(make());
                Ok(())
            }
            Err(TrySendError::Full(())) => {
                self.meter.full();
                Err(Refused::Full(()))
            }
            Err(TrySendError::Closed(())) => Err(Refused::Closed(())),
        }
    }

    /// Sends, waiting while the channel is full; gives it back where nobody receives any more.
    pub async fn send(&self, value: T) -> Result<(), Refused<T>> {
        match self.try_send(value) {
            Err(Refused::Full(value)) => {
                let sent = self.inner.send(value).await;
                sent.map_err(|mpsc::error::SendError(value)| Refused::Closed(value))
            }
            done => done,
        }
    }

    /// A place for something that is still to be made, waited for while the channel is full. Where the wait is given
    /// up, nothing is lost.
    pub async fn reserve(&self) -> Result<Place<'_, T>, Refused<()>> {
        let permit = match self.inner.try_reserve() {
            Err(TrySendError::Full(())) => {
                self.meter.full();
                self.inner
                    .reserve()
                    .await
                    .map_err(|_| Refused::Closed(()))?
            }
            Err(TrySendError::Closed(())) => return Err(Refused::Closed(())),
            Ok(permit) => permit,
        };
        Ok(Place {
            permit,
            used: self.inner.max_capacity() - self.inner.capacity(),
            meter: &self.meter,
        })
    }

    /// Waits until the channel takes something, or until nobody receives any more. Others may send before the caller
    /// does.
    pub async fn room(&self) {
        // A place that is given back at once.
        let _ = self.inner.reserve().await;
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.inner.max_capacity() - self.inner.capacity()
    }

    /// The channel as others see it.
    pub fn watch(&self) -> Watch {
        let inner = self.inner.downgrade();
        let used = move || {
            let sender = inner.upgrade()?;
            Some(sender.max_capacity() - sender.capacity())
        };
        Watch {
            used: Arc::new(used),
            meter: Arc::clone(&self.meter),
        }
    }
}

impl<T> Place<'_, T> {
    /// Sends into it.
    pub fn send(self, value: T) {
        self.meter.sent(self.used);
        self.permit.send(value);
    }
}

impl<T> Receiver<T> {
    /// The next; `None` when the channel is closed and empty.
    pub async fn recv(&mut self) -> Option<T> {
        let received = self.inner.recv().await;
        self.meter.taken(usize::from(received.is_some()));
        received
    }

    /// The next where one waits.
    pub fn try_recv(&mut self) -> Option<T> {
        let received = self.inner.try_recv().ok();
        self.meter.taken(usize::from(received.is_some()));
        received
    }

    /// Adds what waits, at most `most` and at least one, to `buffer`; 0 when the channel is closed and empty.
    pub async fn recv_many(&mut self, buffer: &mut Vec<T>, most: usize) -> usize {
        let received = self.inner.recv_many(buffer, most).await;
        self.meter.taken(received);
        received
    }

    /// Lets nothing more in; what waits can still be received.
    pub fn close(&mut self) {
        self.inner.close();
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.inner.len()
    }
}

impl Watch {
    /// How it stands; a channel that is closed is empty.
    pub fn usage(&self) -> Usage {
        Usage {
            channel: self.meter.channel,
            component: self.meter.component,
            capacity: self.meter.capacity,
            used: (self.used)().unwrap_or(0),
            high_water: self.meter.high_water.load(Ordering::Relaxed),
            full_events: self.meter.full_events.load(Ordering::Relaxed),
            taken: self.meter.taken.load(Ordering::Relaxed),
        }
    }
}

impl Usage {
    /// How full it is, 0 to 100.
    pub fn percent(&self) -> f64 {
        100.0 * self.used as f64 / self.capacity.max(1) as f64
    }
}

impl Meter {
    fn taken(&self, count: usize) {
        self.taken.fetch_add(count as u64, Ordering::Relaxed);
    }

    fn sent(&self, used: usize) {
        self.high_water.fetch_max(used, Ordering::Relaxed);
    }

    fn full(&self) {
        self.high_water.store(self.capacity, Ordering::Relaxed);
        self.full_events.fetch_add(1, Ordering::Relaxed);
        resilience::channel_full(self.channel, self.component);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_channel_refuses_or_makes_wait_and_says_how_it_stands() {
        let (sender, mut receiver) = bounded("letters", "post", 2);
        let watch = sender.watch();
        sender.try_send(1).unwrap();
        sender.try_send(2).unwrap();
        assert_eq!(sender.try_send(3), Err(Refused::Full(3)));
        let other = sender.clone();
        let mut waiting = Box::pin(async move { other.send(3).await });
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        assert_eq!(watch.usage().percent(), 100.0);
        assert_eq!(receiver.recv().await, Some(1));
        waiting.await.unwrap();
        let usage = watch.usage();
        assert_eq!((usage.used, usage.high_water, usage.full_events), (2, 2, 2));

        drop(sender);
        let mut rest = Vec::new();
        assert_eq!(receiver.recv_many(&mut rest, 10).await, 2);
        assert_eq!(rest, [2, 3]);
        assert_eq!(receiver.recv().await, None, "a watch keeps nothing open");
        assert_eq!((watch.usage().used, watch.usage().taken), (0, 3));
    }

    #[tokio::test]
    async fn every_channel_is_known_as_long_as_it_is_open() {
        let known = || {
            let usages = all().into_iter().map(|watch| watch.usage());
            usages
                .filter(|usage| usage.channel.as_str() == "known")
                .count()
        };
        let (sender, _receiver) = bounded::<()>("known", "post", 1);
        assert_eq!(known(), 1);
        drop(sender);
        assert_eq!(known(), 0);
    }

    #[tokio::test]
    async fn there_is_room_again_when_something_was_taken_out() {
        let (sender, mut receiver) = bounded("letters", "post", 1);
        sender.room().await;
        sender.try_send(1).unwrap();
        let waiting = sender.clone();
        let mut room = Box::pin(async move { waiting.room().await });
        assert!(futures::poll!(room.as_mut()).is_pending());
        receiver.recv().await.unwrap();
        room.await;
        sender.try_send(2).unwrap();
        let mut place = Box::pin(sender.reserve());
        assert!(futures::poll!(place.as_mut()).is_pending());
        receiver.recv().await.unwrap();
        place.await.unwrap().send(3);
        assert_eq!(receiver.recv().await, Some(3));
        drop(receiver);
        sender.room().await;
        assert!(sender.reserve().await.is_err());
    }

    #[tokio::test]
    async fn what_is_sent_to_nobody_comes_back() {
        let (sender, receiver) = bounded("letters", "post", 2);
        drop(receiver);
        assert_eq!(sender.send(1).await, Err(Refused::Closed(1)));
    }
}
