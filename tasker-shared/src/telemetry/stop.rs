//! How the export is told to end: by when, at the latest, everything has to be out.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Tells the export to end; it ends at once where this is dropped.
#[derive(Debug)]
pub(super) struct Stopper(watch::Sender<Option<Instant>>);

/// Knows whether the export is to end. Clones know the same.
#[derive(Debug, Clone)]
pub(super) struct Stop(watch::Receiver<Option<Instant>>);

/// An export took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no answer within {0:?}")]
pub(super) struct Late(Duration);

pub(super) fn pair() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(None);
    (Stopper(sender), Stop(receiver))
}

impl Stopper {
    /// Whatever has not been exported at the deadline is given up.
    pub(super) fn end(&self, deadline: Instant) {
        self.0.send_replace(Some(deadline));
    }
}

impl Stop {
    /// Completes when the export is to end.
    pub(super) async fn ended(&self) {
        self.deadline().await;
    }

    pub(super) fn has_ended(&self) -> bool {
        self.0.borrow().is_some() || self.0.has_changed().is_err()
    }

    /// Waits for so long, or until the export is to end.
    pub(super) async fn sleep(&self, pause: Duration) {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.ended() => {}
        }
    }

    /// What the work comes to, within `timeout` and before the deadline.
    pub(super) async fn within<T>(
        &self,
        timeout: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, Late> {
        let start = Instant::now();
        let overdue = async { tokio::time::sleep_until(self.deadline().await).await };
        tokio::select! {
            done = work => Ok(done),
            () = tokio::time::sleep(timeout) => Err(Late(timeout)),
            () = overdue => Err(Late(start.elapsed())),
        }
    }

    async fn deadline(&self) -> Instant {
        let mut told = self.0.clone();
        match told.wait_for(Option::is_some).await {
            Ok(deadline) => deadline.unwrap_or_else(Instant::now),
            Err(_) => Instant::now(),
        }
    }
}
