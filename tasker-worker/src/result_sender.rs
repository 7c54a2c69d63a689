//! Sending results: the ends of attempts that wait are handed in together, a lone one at once. A result is
//! kept until it is in, however long the database is away; whether it still counts is decided there.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tasker_shared::db::pool::Pinned;
use tasker_shared::db::submit::{self, Ended};
use tasker_shared::db::upkeep;
use tasker_shared::db::wake::{Notice, Pace, TOLD, Throttle};
use tasker_shared::metrics::{Correlation, worker as metrics};
use tasker_shared::plan::Outcome;
use tasker_shared::resilience::breaker::Breaker;
use tasker_shared::resilience::channel::{self, Receiver};
use tasker_shared::{db, ids};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::StepError;
use crate::held::Hold;

/// Results handed in together.
const MOST: usize = 500;
/// Bytes of results after which no more are handed in with them: they are copied on their way.
const MOST_BYTES: usize = 16 * 1024 * 1024;
/// Bytes of results that may wait before no more steps are claimed; those that run then may add theirs.
const MOST_WAITING_BYTES: usize = 64 * 1024 * 1024;
/// How often partitions are made for results that find none; then they wait no longer, and hold nobody up.
const TRIES: u32 = 5;
/// The wait before sending again after the database went away: from, to.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// The end of an attempt, and the id under which its step was claimed.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) worker: Uuid,
    pub(crate) task_uuid: Uuid,
    pub(crate) ended: Ended,
    pub(crate) task: Correlation,
    /// When the handler was done.
    pub(crate) at: Instant,
    /// Kept until it is in.
    pub(crate) hold: Hold,
}

/// Whose result a message is, and when it was ready.
type About = HashMap<i64, (Correlation, Uuid, Instant)>;

/// Where ends of attempts are put. Clones share the channel; it closes with the last one.
#[derive(Debug, Clone)]
pub(crate) struct Results {
    channel: channel::Sender<Finished>,
    backlog: Arc<Backlog>,
}

/// What waits to be handed in.
#[derive(Debug, Default)]
struct Backlog {
    bytes: AtomicUsize,
    /// Something was taken out.
    eased: Notify,
}

/// The loop that hands them in.
#[derive(Debug)]
pub(crate) struct Sender {
    connection: Pinned,
    channel: Receiver<Finished>,
    backlog: Arc<Backlog>,
    throttle: Throttle,
    pace: Pace,
    /// Told how handing in goes, and never asked.
    breaker: Breaker,
}

/// A channel for `capacity` results and the loop at its end.
pub(crate) fn channel(capacity: usize, connection: Pinned, breaker: Breaker) -> (Results, Sender) {
    let (sender, receiver) = channel::bounded("results", "worker", capacity);
    let backlog: Arc<Backlog> = Arc::default();
    let sender_loop = Sender {
        connection,
        channel: receiver,
        backlog: Arc::clone(&backlog),
        throttle: Throttle::new(Instant::now()),
        pace: Pace::default(),
        breaker,
    };
    let results = Results {
        channel: sender,
        backlog,
    };
    (results, sender_loop)
}

impl Results {
    /// Puts an end on its way; waits while the channel is full.
    pub(crate) async fn send(&self, finished: Finished) {
        self.backlog
            .bytes
            .fetch_add(finished.bytes(), Ordering::Relaxed);
        // The sender outlives every handler, so the channel is open.
        let _ = self.channel.send(finished).await;
    }

    /// Whether as many wait as may run at once, or very large ones: no more should be begun then.
    pub(crate) fn are_behind(&self, concurrency: usize) -> bool {
        self.channel.waiting() >= concurrency
            || self.backlog.bytes.load(Ordering::Relaxed) >= MOST_WAITING_BYTES
    }

    /// Waits until some have been taken out since the last wait.
    pub(crate) async fn eased(&self) {
        self.backlog.eased.notified().await;
    }

    /// Waits until another end could be put on its way.
    pub(crate) async fn room(&self) {
        self.channel.room().await;
    }
}

impl Finished {
    /// How much it holds, about.
    fn bytes(&self) -> usize {
        let texts = [&self.ended.result, &self.ended.error];
        let texts = texts.map(|text| text.as_ref().map_or(0, String::len));
        size_of::<Finished>() + texts[0] + texts[1]
    }
}

impl Sender {
    /// Hands in what comes until the channel is closed and empty.
    pub(crate) async fn run(mut self) {
        let mut waiting = Vec::with_capacity(MOST);
        while self.take(&mut waiting).await {
            let mut by_worker: BTreeMap<Uuid, Vec<Ended>> = BTreeMap::new();
            let mut about = About::with_capacity(waiting.len());
            let mut holds = Vec::with_capacity(waiting.len());
            for finished in waiting.drain(..) {
                holds.push(finished.hold);
                about.insert(
                    finished.ended.id,
                    (finished.task, finished.task_uuid, finished.at),
                );
                by_worker
                    .entry(finished.worker)
                    .or_default()
                    .push(finished.ended);
            }
            let began = Instant::now();
            for (worker, ended) in by_worker {
                self.hand_in(worker, ended, &about).await;
            }
            self.pace.carried(holds.len(), began.elapsed());
            drop(holds);
            self.pace.rest().await;
        }
    }

    /// Takes what waits, at least one and not too much at once; says whether there was any before the end.
    async fn take(&mut self, waiting: &mut Vec<Finished>) -> bool {
        let mut bytes = 0;
        let mut next = self.channel.recv().await;
        while let Some(finished) = next {
            bytes += finished.bytes();
            waiting.push(finished);
            if waiting.len() == MOST || bytes >= MOST_BYTES {
                break;
            }
            next = self.channel.try_recv();
        }
        self.backlog.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.backlog.eased.notify_one();
        !waiting.is_empty()
    }

    /// Hands in a batch; where it fails for a reason of one of its results, it is halved until that one
    /// alone is replaced by the failure it is. A step that cannot even be handed back is let go of: it is found to
    /// be claimed and not held.
    async fn hand_in(&mut self, worker: Uuid, ended: Vec<Ended>, about: &About) {
        let mut parts = vec![ended];
        while let Some(mut part) = parts.pop() {
            match self.try_until_reached(worker, &part, about).await {
                Ok(counted) => {
                    record(&counted, about);
                    if counted.len() < part.len() {
                        tracing::warn!(
                            results = part.len() - counted.len(),
                            "results came too late: their steps are somebody else's"
                        );
                    }
                }
                Err(error) if part.len() > 1 => {
                    tracing::warn!(%error, results = part.len(), "handing in results failed; halving the batch");
                    let rest = part.split_off(part.len() / 2);
                    parts.extend([part, rest]);
                }
                Err(error) => {
                    tracing::error!(%error, "a result cannot be stored");
                    let ended = part.pop().filter(|_| error.blames_data());
                    if let Some(next) = ended.and_then(|ended| instead(ended, &error)) {
                        parts.push(vec![next]);
                    }
                }
            }
        }
    }

    /// Hands in a batch, again and again for as long as it is not the batch that is at fault: a database that is
    /// away or full, or a statement that was cancelled, must not make a failure of a good result. Returns the
    /// messages whose results counted.
    async fn try_until_reached(
        &mut self,
        worker: Uuid,
        ended: &[Ended],
        about: &About,
    ) -> db::Result<Vec<i64>> {
        let mut pause = PAUSE.0;
        let mut again = false;
        let mut unplaced = 0;
        loop {
            let notice = self.notice(ended);
            let result = match self.connection.get().await {
                Ok(connection) => submit::submit(connection, worker, ended, notice).await,
                Err(error) => Err(error),
            };
            match db::tell(&self.breaker, self.connection.check(result)) {
                // What a broken connection had committed already does not count a second time.
                Ok(_) if again => return Ok(ended.iter().map(|e| e.id).collect()),
                Ok(counted) => return Ok(counted.into_iter().map(|(_, id)| id).collect()),
                Err(error) if error.is_missing_partition() && unplaced >= TRIES => {
                    return Err(error);
                }
                Err(error) if !error.blames_data() => {
                    if error.is_missing_partition() {
                        unplaced += 1;
                        self.make_partitions(ended, about).await;
                    }
                    tracing::warn!(%error, results = ended.len(), "handing in results failed; trying again");
                    again = true;
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE.1);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Servers that have little to do are told of few successes; others find more by a look.
    fn notice(&mut self, ended: &[Ended]) -> Notice {
        if !self.throttle.pass(Instant::now()) {
            return Notice::None;
        }
        let is_success = |ended: &Ended| ended.outcome == Outcome::Success;
        match ended.len() <= TOLD && self.throttle.is_calm() && ended.iter().all(is_success) {
            true => Notice::Tell,
            false => Notice::Wake,
        }
    }

    async fn make_partitions(&mut self, ended: &[Ended], about: &About) {
        let tasks = ended.iter().filter_map(|ended| about.get(&ended.id));
        let times = tasks.map(|(_, task, _)| ids::accepted_at(*task));
        upkeep::try_partitions_of(&mut self.connection, times).await;
    }
}

/// Records what was handed in, and how long that took.
fn record(counted: &[i64], about: &About) {
    for (task, _, at) in counted.iter().filter_map(|id| about.get(id)) {
        metrics::result_submitted(*task, at.elapsed());
    }
}

/// What is handed in where the database refuses how a step ended: that it failed by its result, or where it is no
/// result that is refused, that it is handed back.
fn instead(ended: Ended, error: &db::Error) -> Option<Ended> {
    let (outcome, failure) = match ended.outcome {
        Outcome::Released => return None,
        _ if ended.result.is_some() => {
            let message = format!("the result cannot be stored: {error}");
            (Outcome::Permanent, StepError::permanent(message))
        }
        _ => {
            let message = "how the attempt ended cannot be stored";
            (Outcome::Released, StepError::retryable(message))
        }
    };
    Some(Ended {
        outcome,
        result: None,
        error: Some(failure.with_type("result_invalid").to_json()),
        retry_after_ms: None,
        ..ended
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(outcome: Outcome, result: Option<&str>) -> Ended {
        Ended {
            lane: 1,
            id: 1,
            attempt: 1,
            enqueued_at: chrono::DateTime::default(),
            correlation: Correlation {
                id: Uuid::nil(),
                sampled: false,
            },
            outcome,
            started_at: None,
            finished_at: chrono::DateTime::default(),
            result: result.map(str::to_owned),
            error: None,
            retry_after_ms: None,
        }
    }

    #[test]
    fn a_refused_result_is_a_failure_and_a_refused_failure_hands_the_step_back() {
        let error = db::Error::new("submit_results", sqlx::Error::WorkerCrashed);
        let next = |outcome, result| instead(ended(outcome, result), &error).map(|e| e.outcome);
        let cases = [
            (Outcome::Success, Some("1"), Some(Outcome::Permanent)),
            (Outcome::Permanent, None, Some(Outcome::Released)),
            (Outcome::Timeout, None, Some(Outcome::Released)),
            (Outcome::Released, None, None),
        ];
        for (outcome, result, expected) in cases {
            assert_eq!(next(outcome, result), expected, "{outcome:?}");
        }
    }
}
