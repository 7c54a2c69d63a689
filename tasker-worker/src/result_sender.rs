//! Sending results: the ends of attempts that wait are handed in together, a lone one at once. A result is
//! kept until it is in, however long the database is away; whether it still counts is decided there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tasker_shared::db;
use tasker_shared::db::pool::Pinned;
use tasker_shared::db::submit::{self, Ended};
use tasker_shared::db::wake::Throttle;
use tasker_shared::plan::Outcome;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::StepError;
use crate::web::Progress;

/// Results handed in together.
const MOST: usize = 500;
/// The wait before sending again after the database went away: from, to.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// The end of an attempt, and the id under which its step was claimed.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) worker: Uuid,
    pub(crate) ended: Ended,
}

/// Where ends of attempts are put. Clones share the channel; it closes with the last one.
#[derive(Debug, Clone)]
pub(crate) struct Results {
    channel: mpsc::Sender<Finished>,
    progress: Arc<Progress>,
}

/// The loop that hands them in.
#[derive(Debug)]
pub(crate) struct Sender {
    connection: Pinned,
    channel: mpsc::Receiver<Finished>,
    progress: Arc<Progress>,
    throttle: Throttle,
}

/// A channel for `capacity` results and the loop at its end.
pub(crate) fn channel(
    capacity: usize,
    connection: Pinned,
    progress: Arc<Progress>,
) -> (Results, Sender) {
    let (sender, receiver) = mpsc::channel(capacity);
    let results = Results {
        channel: sender,
        progress: Arc::clone(&progress),
    };
    let sender = Sender {
        connection,
        channel: receiver,
        progress,
        throttle: Throttle::new(Instant::now()),
    };
    (results, sender)
}

impl Results {
    /// Puts an end on its way; waits while the channel is full.
    pub(crate) async fn send(&self, finished: Finished) {
        let finished = match self.channel.try_send(finished) {
            Err(mpsc::error::TrySendError::Full(finished)) => {
                self.progress.met_full_channel();
                finished
            }
            _ => return,
        };
        // The sender outlives every handler, so the channel is open.
        let _ = self.channel.send(finished).await;
    }
}

impl Sender {
    /// Hands in what comes until the channel is closed and empty.
    pub(crate) async fn run(mut self) {
        let mut waiting = Vec::with_capacity(MOST);
        while self.channel.recv_many(&mut waiting, MOST).await > 0 {
            self.progress
                .set_results_waiting(self.channel.len() + waiting.len());
            let mut by_worker: BTreeMap<Uuid, Vec<Ended>> = BTreeMap::new();
            for finished in waiting.drain(..) {
                by_worker
                    .entry(finished.worker)
                    .or_default()
                    .push(finished.ended);
            }
            for (worker, ended) in by_worker {
                self.hand_in(worker, ended).await;
            }
            self.progress.set_results_waiting(self.channel.len());
        }
    }

    /// Hands in a batch; where it fails for a reason of one of its results, it is halved until that one
    /// alone is replaced by the failure it is.
    async fn hand_in(&mut self, worker: Uuid, ended: Vec<Ended>) {
        let mut parts = vec![ended];
        while let Some(mut part) = parts.pop() {
            match self.try_until_reached(worker, &part).await {
                Ok(counted) if counted < part.len() => {
                    tracing::warn!(
                        results = part.len() - counted,
                        "results came too late: their steps are somebody else's"
                    );
                }
                Ok(_) => {}
                Err(error) if part.len() > 1 => {
                    tracing::warn!(%error, results = part.len(), "handing in results failed; halving the batch");
                    let rest = part.split_off(part.len() / 2);
                    parts.extend([part, rest]);
                }
                Err(error) => {
                    tracing::error!(%error, "a result cannot be stored");
                    match part.pop().filter(|ended| ended.result.is_some()) {
                        Some(ended) => parts.push(vec![unstorable(ended, &error)]),
                        None => tokio::time::sleep(PAUSE.1).await,
                    }
                }
            }
        }
    }

    /// Hands in a batch, again and again while the database cannot be reached; returns how many counted.
    async fn try_until_reached(&mut self, worker: Uuid, ended: &[Ended]) -> db::Result<usize> {
        let mut pause = PAUSE.0;
        let mut again = false;
        loop {
            let notify = self.throttle.pass(Instant::now());
            let result = match self.connection.get().await {
                Ok(connection) => submit::submit(connection, worker, ended, notify).await,
                Err(error) => Err(error),
            };
            match self.connection.check(result) {
                // What a broken connection had committed already does not count a second time.
                Ok(_) if again => return Ok(ended.len()),
                Ok(counted) => return Ok(counted.len()),
                Err(error) if error.is_unavailable() || error.is_conflict() => {
                    tracing::warn!(%error, results = ended.len(), "handing in results failed; trying again");
                    again = true;
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE.1);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// The failure of a step whose result the database refuses.
fn unstorable(ended: Ended, error: &db::Error) -> Ended {
    let failure = StepError::permanent(format!("the result cannot be stored: {error}"))
        .with_type("result_invalid");
    Ended {
        outcome: Outcome::Permanent,
        result: None,
        error: Some(failure.to_json()),
        retry_after_ms: None,
        ..ended
    }
}
