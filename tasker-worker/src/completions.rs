//! The door by which handlers that run outside this process hand in how they ended: `command` does, and handlers in
//! other languages can. One bounded channel takes all completions, and a breaker watches how long they take to get
//! in. A completion is never dropped: while the door is shut it waits on its step's lease, and where the step's time
//! is over first, or the worker stops, the step is handed back.

use std::time::Duration;

use tasker_shared::config::Config;
use tasker_shared::document::Document;
use tasker_shared::metrics::resilience::{completion_rejected, slow_send};
use tasker_shared::resilience::breaker::Breaker;
use tasker_shared::resilience::channel::{self, Place, Receiver, Sender};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::context::StepContext;
use crate::error::StepError;

/// How an attempt outside this process ended.
pub type Ended = Result<Document, StepError>;

/// The outer side of the door. Clones share it.
#[derive(Debug, Clone)]
pub struct Completions {
    channel: Sender<Completion>,
    breaker: Breaker,
    /// What takes longer to get in counts as a failure.
    slow: Duration,
}

/// The inner side of the door.
#[derive(Debug)]
pub(crate) struct Arrivals {
    channel: Receiver<Completion>,
}

#[derive(Debug)]
struct Completion {
    ended: Ended,
    to: oneshot::Sender<Ended>,
}

/// Hands in one completion. Where it is dropped instead, the attempt has failed.
#[derive(Debug)]
pub struct Ticket {
    door: Completions,
    to: oneshot::Sender<Ended>,
    until: Instant,
    cancellation: CancellationToken,
}

/// What a handler waits for: the completion that was handed in by the [`Ticket`].
#[derive(Debug)]
pub struct Expected(oneshot::Receiver<Ended>);

/// A completion was not taken before its step's time was over: the step is handed back, and will run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the completion was not taken in time; the step is handed back")]
pub struct HandedBack;

/// A door as configured.
pub(crate) fn door(config: &Config) -> (Completions, Arrivals) {
    let keys = &config.circuit_breakers;
    let slow = Duration::from_millis(keys.ffi_completion.slow_send_threshold_ms);
    let breaker = Breaker::new("ffi_completion", keys.ffi_completion().into());
    let (sender, receiver) =
        channel::bounded("completions", "ffi_completion", config.channels.completions);
    let completions = Completions {
        channel: sender,
        breaker,
        slow,
    };
    (completions, Arrivals { channel: receiver })
}

impl Completions {
    /// Begins an attempt outside this process: the ticket goes there, and the handler waits for what is expected.
    pub fn expect(&self, context: &StepContext) -> (Ticket, Expected) {
        let (to, expected) = oneshot::channel();
        let ticket = Ticket {
            door: self.clone(),
            to,
            until: context.deadline(),
            cancellation: context.cancellation(),
        };
        (ticket, Expected(expected))
    }

    pub(crate) fn breaker(&self) -> Breaker {
        self.breaker.clone()
    }

    /// A place in the channel, waited for however long that takes; `None` where nobody takes completions any more.
    async fn place(&self) -> Option<Place<'_, Completion>> {
        let mut was_rejected = false;
        let call = loop {
            match self.breaker.call() {
                Ok(call) => break call,
                Err(open) => {
                    if !was_rejected {
                        completion_rejected();
                        was_rejected = true;
                    }
                    tokio::time::sleep(open.retry_after).await;
                }
            }
        };
        let mut place = std::pin::pin!(self.channel.reserve());
        if let Ok(place) = tokio::time::timeout(self.slow, place.as_mut()).await {
            call.succeeded();
            return place.ok();
        }
        slow_send();
        call.failed();
        place.await.ok()
    }
}

impl Ticket {
    /// Hands in how the attempt ended. Waits while the door is shut, at most until the step's deadline, or until the
    /// step is no longer wanted.
    ///
    /// # Errors
    /// It was not taken by then.
    pub async fn complete(self, ended: Ended) -> Result<(), HandedBack> {
        let given_up = async {
            tokio::select! {
                () = tokio::time::sleep_until(self.until) => {}
                () = self.cancellation.cancelled() => {}
            }
        };
        let place = tokio::select! {
            biased;
            place = self.door.place() => place,
            () = given_up => None,
        };
        match place {
            Some(place) => {
                place.send(Completion { ended, to: self.to });
                Ok(())
            }
            None => {
                // Who waits for it may have gone.
                let _ = self
                    .to
                    .send(Err(StepError::handed_back(HandedBack.to_string())));
                Err(HandedBack)
            }
        }
    }
}

impl Expected {
    /// How the attempt ended.
    pub async fn ended(self) -> Ended {
        self.0.await.unwrap_or_else(|_| {
            let message = "the handler outside the worker went away without saying how it ended";
            Err(StepError::retryable(message).with_type("handler_lost"))
        })
    }
}

impl Arrivals {
    /// Passes completions on to the handlers that wait for them, until no more can come. `room` is waited for before
    /// each: where results cannot go on, completions must not come in.
    pub(crate) async fn run(mut self, room: impl AsyncFn()) {
        loop {
            room().await;
            let Some(Completion { ended, to }) = self.channel.recv().await else {
                return;
            };
            // A handler that was dropped meanwhile, as at its deadline, has ended already.
            let _ = to.send(ended);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
pub(crate) mod tests;
