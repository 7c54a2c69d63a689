//! Storing tasks: a connection that takes what waits and stores it in one statement.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tasker_shared::blueprints::Blueprints;
use tasker_shared::db::accept::{self, NewTask};
use tasker_shared::db::pool::Pinned;
use tasker_shared::db::upkeep;
use tasker_shared::db::wake::{Pace, Throttle};
use tasker_shared::resilience::channel::Receiver;
use tasker_shared::{db, plan::Route};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{Accepted, Refusal, Waiting, keys_of, roots};

/// Tasks stored in one statement.
const MOST_TASKS: usize = 1_000;
/// Bytes of tasks after which no more are taken into it: it is copied on its way.
const MOST_BYTES: usize = 16 * 1024 * 1024;
/// How often, and how far apart, storing is tried again while the database is away.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(100);

type Answer = Result<Accepted, Refusal>;

/// One of the connections that store tasks.
#[derive(Debug)]
pub struct Store {
    connection: Pinned,
    blueprints: Blueprints,
    waiting: Arc<Mutex<Receiver<Waiting>>>,
    throttle: Throttle,
    pace: Pace,
}

impl Store {
    pub(super) fn new(
        connection: Pinned,
        blueprints: Blueprints,
        waiting: Arc<Mutex<Receiver<Waiting>>>,
    ) -> Store {
        Store {
            connection,
            blueprints,
            waiting,
            throttle: Throttle::new(Instant::now()),
            pace: Pace::default(),
        }
    }

    /// Stores what waits until no more can come.
    pub(super) async fn run(mut self) {
        while let Some(callers) = self.next().await {
            let mut tasks = Vec::new();
            let mut replies = Vec::with_capacity(callers.len());
            for caller in callers {
                replies.push((caller.reply, caller.tasks.len(), caller.share));
                tasks.extend(caller.tasks);
            }
            let (began, is_full) = (Instant::now(), tasks.len() >= MOST_TASKS);
            let mut answers = self.store(tasks).await.into_iter();
            if !is_full {
                self.pace.carried(replies.len(), began.elapsed());
            }
            for (reply, count, _share) in replies {
                // A caller that has gone away does not need its answer.
                let _ = reply.send(answers.by_ref().take(count).collect());
            }
            self.pace.rest().await;
        }
    }

    /// Waits for a caller, and takes with it whoever else waits. Those who have gone away, as at the end of their
    /// request's time, were told that nothing is known of their tasks; these are not stored.
    async fn next(&self) -> Option<Vec<Waiting>> {
        let mut waiting = self.waiting.lock().await;
        let (mut callers, mut count, mut bytes) = (Vec::<Waiting>::new(), 0, 0);
        while count < MOST_TASKS && bytes < MOST_BYTES {
            let next = match callers.is_empty() {
                true => Some(waiting.recv().await?),
                false => waiting.try_recv(),
            };
            let Some(caller) = next else { break };
            if caller.reply.is_closed() {
                continue;
            }
            count += caller.tasks.len();
            bytes += caller.tasks.iter().map(NewTask::bytes).sum::<usize>();
            callers.push(caller);
        }
        Some(callers)
    }

    /// Stores tasks; where a batch fails for a reason of one of them, it is halved until that one alone
    /// gets the error.
    async fn store(&mut self, tasks: Vec<NewTask>) -> Vec<Answer> {
        let mut answers = vec![Err(Refusal::OutcomeUnknown); tasks.len()];
        let mut parts = vec![(0, tasks.len())];
        while let Some((from, to)) = parts.pop() {
            match self.store_together(&tasks[from..to]).await {
                Ok(done) => answers.splice(from..to, done).for_each(drop),
                Err(Failed::Refused) if to - from > 1 => {
                    tracing::warn!(tasks = to - from, "storing tasks failed; halving the batch");
                    let middle = from + (to - from) / 2;
                    parts.extend([(from, middle), (middle, to)]);
                }
                Err(failed) => answers[from..to].fill(Err(failed.refusal())),
            }
        }
        answers
    }

    /// Stores tasks in one statement, again where the connection broke: what was stored before it did is
    /// found by its uuid.
    async fn store_together(&mut self, tasks: &[NewTask]) -> Result<Vec<Answer>, Failed> {
        let mut sent = false;
        for attempt in 0..TRIES {
            match self.try_store(tasks, &mut sent).await {
                Ok(answers) => return Ok(answers),
                Err(error) if error.is_unavailable() || error.is_conflict() => {
                    tracing::debug!(%error, attempt, "storing tasks failed; trying again");
                    tokio::time::sleep(PAUSE * 2_u32.pow(attempt)).await;
                }
                Err(error) if error.is_missing_partition() => {
                    tracing::warn!(%error, "storing tasks failed; making their partitions");
                    let times = tasks.iter().map(|task| task.created_at);
                    upkeep::try_partitions_of(&mut self.connection, times).await;
                }
                Err(error) => {
                    tracing::error!(%error, "storing tasks failed");
                    return Err(Failed::Refused);
                }
            }
        }
        Err(Failed::Away { sent })
    }

    async fn try_store(&mut self, tasks: &[NewTask], sent: &mut bool) -> db::Result<Vec<Answer>> {
        let routes = self.blueprints.routes(keys_of(tasks)).await?;
        let notify = self.throttle.pass(Instant::now());
        let result = self.try_on_connection(tasks, &routes, notify, sent).await;
        self.connection.check(result)
    }

    async fn try_on_connection(
        &mut self,
        tasks: &[NewTask],
        routes: &HashMap<(i32, i16), Route>,
        notify: bool,
        sent: &mut bool,
    ) -> db::Result<Vec<Answer>> {
        let connection = self.connection.get().await?;
        let mut stored: BTreeSet<Uuid> = BTreeSet::new();
        if *sent {
            let uuids: Vec<Uuid> = tasks.iter().map(|t| t.task_uuid).collect();
            stored.extend(accept::find_stored(connection, &uuids).await?);
        }
        *sent = true;
        if stored.len() < tasks.len() {
            let missing = match stored.is_empty() {
                true => Cow::Borrowed(tasks),
                false => {
                    let missing = tasks.iter().filter(|t| !stored.contains(&t.task_uuid));
                    missing.cloned().collect()
                }
            };
            stored
                .extend(accept::accept(connection, &missing, &roots(tasks, routes), notify).await?);
        }
        let keys: Vec<(&str, &str, &str)> = tasks
            .iter()
            .filter(|t| !stored.contains(&t.task_uuid))
            .filter_map(|t| {
                Some((
                    t.namespace.as_str(),
                    t.name.as_str(),
                    t.key.as_ref()?.0.as_str(),
                ))
            })
            .collect();
        let first = match keys.is_empty() {
            true => Vec::new(),
            false => accept::find_first_tasks(connection, &keys).await?,
        };
        Ok(tasks
            .iter()
            .map(|task| answer(task, &stored, &first))
            .collect())
    }
}

/// Why a batch was not stored.
#[derive(Debug, Clone, Copy)]
enum Failed {
    /// The database was away all the time; where a statement had been `sent`, it may have been done.
    Away { sent: bool },
    /// The database refused the statement for a reason that lies in one of the tasks.
    Refused,
}

impl Failed {
    fn refusal(self) -> Refusal {
        match self {
            Failed::Away { sent: false } => Refusal::Unavailable,
            Failed::Away { sent: true } => Refusal::OutcomeUnknown,
            Failed::Refused => Refusal::NotTaken,
        }
    }
}

fn answer(task: &NewTask, stored: &BTreeSet<Uuid>, first: &[accept::FirstTask]) -> Answer {
    if stored.contains(&task.task_uuid) {
        return Ok(Accepted {
            task_uuid: task.task_uuid,
            replayed: false,
        });
    }
    let (key, digest) = task.key.as_ref().ok_or(Refusal::OutcomeUnknown)?;
    let first = first
        .iter()
        .find(|f| f.key == *key && f.namespace == task.namespace && f.name == task.name)
        .ok_or(Refusal::OutcomeUnknown)?;
    if first.digest != *digest {
        return Err(Refusal::IdempotencyMismatch);
    }
    Ok(Accepted {
        task_uuid: first.task_uuid,
        replayed: true,
    })
}
