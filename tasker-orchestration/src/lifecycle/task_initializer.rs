//! The task initializer: requests become tasks. Single requests that arrive together share a transaction:
//! a batch is whatever waits when the last one is done, so a lone request is never held up.

use std::sync::Arc;

use tasker_shared::blueprints::Blueprints;
use tasker_shared::db::accept::{self, Begin, NewTask};
use tasker_shared::db::pool::{Pinned, Target};
use tasker_shared::plan::Blueprint;
use tasker_shared::resilience::channel::{self, Refused};
use tasker_shared::telemetry::trace::TraceContext;
use tasker_shared::wire::TaskRequest;
use tokio::sync::oneshot;
use uuid::Uuid;

use self::admit::Admitted;
use self::note::Arrival;
use super::admission::Refusal;
use super::pressure::{Pressure, Share};

mod admit;
mod digest;
mod note;
mod outbox;
mod store;

pub use admit::Admission;
pub use digest::digest;
pub use outbox::{Choice, Outbox};
pub use store::Store;

/// A request that is a task now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    pub task_uuid: Uuid,
    /// The idempotency key was seen before: this is the first task.
    pub replayed: bool,
}

/// What became of one request.
#[derive(Debug)]
pub struct Submitted {
    pub accepted: Accepted,
    /// The task as it was stored, unless it is a replay of an earlier one.
    pub task: NewTask,
    pub blueprint: Arc<Blueprint>,
}

/// The door for requests. Clones share it.
#[derive(Debug, Clone)]
pub struct TaskInitializer {
    admission: Arc<Admission>,
    queue: channel::Sender<Waiting>,
    pressure: Pressure,
}

/// Tasks of one caller, waiting to be stored.
#[derive(Debug)]
struct Waiting {
    tasks: Vec<NewTask>,
    /// The room that they take for as long.
    share: Share,
    reply: oneshot::Sender<Vec<Result<Accepted, Refusal>>>,
}

/// The tasks that run in the background for an initializer: storing, and taking submissions made by SQL.
#[derive(Debug)]
pub struct Workers {
    stores: Vec<Store>,
}

impl TaskInitializer {
    /// An initializer with a queue of `capacity` callers, and the `connections` stores that work it off;
    /// they stop when the last clone of the initializer is gone.
    pub fn new(
        admission: Admission,
        target: &Target,
        blueprints: &Blueprints,
        pressure: Pressure,
        capacity: usize,
        connections: usize,
    ) -> (TaskInitializer, Workers) {
        let (queue, waiting) = channel::bounded("submissions", "task_initializer", capacity);
        pressure.submissions(queue.watch());
        let waiting = Arc::new(tokio::sync::Mutex::new(waiting));
        let stores = (0..connections.max(1))
            .map(|_| {
                Store::new(
                    Pinned::new(target.acceptance()),
                    blueprints.clone(),
                    waiting.clone(),
                )
            })
            .collect();
        let initializer = TaskInitializer {
            admission: Arc::new(admission),
            queue,
            pressure,
        };
        (initializer, Workers { stores })
    }

    /// Makes tasks of requests, each judged on its own; the good ones are stored together. `share` is
    /// the room that they take, `caller` where in a trace they come from.
    pub async fn submit(
        &self,
        requests: Vec<TaskRequest>,
        share: Share,
        caller: Option<&TraceContext>,
    ) -> Vec<Result<Accepted, Refusal>> {
        let arrived = Arrival::now();
        let mut answers = Vec::with_capacity(requests.len());
        let mut good = Vec::new();
        let mut notes = Vec::new();
        for request in requests {
            match self.admission.admit(request, caller).await {
                Ok(admitted) => {
                    answers.push(None);
                    notes.push(admitted.note);
                    good.push(admitted.task);
                }
                Err(refusal) => answers.push(Some(Err(refusal))),
            }
        }
        let stored = self.store(good, share).await;
        for (note, answer) in notes.iter().zip(&stored) {
            note.record(answer, &arrived);
        }
        let mut stored = stored.into_iter();
        let missing = || Err(Refusal::OutcomeUnknown);
        answers
            .into_iter()
            .map(|answer| answer.or_else(|| stored.next()).unwrap_or_else(missing))
            .collect()
    }

    /// Makes a task of one request.
    pub async fn submit_one(
        &self,
        request: TaskRequest,
        share: Share,
        caller: Option<&TraceContext>,
    ) -> Result<Submitted, Refusal> {
        let arrived = Arrival::now();
        let Admitted { task, note } = self.admission.admit(request, caller).await?;
        let answer = self.store(vec![task.clone()], share).await.pop();
        let answer = answer.unwrap_or(Err(Refusal::OutcomeUnknown));
        note.record(&answer, &arrived);
        Ok(Submitted {
            accepted: answer?,
            task,
            blueprint: note.blueprint,
        })
    }

    async fn store(&self, tasks: Vec<NewTask>, share: Share) -> Vec<Result<Accepted, Refusal>> {
        if tasks.is_empty() {
            return Vec::new();
        }
        let count = tasks.len();
        let all = |refusal: Refusal| vec![Err(refusal); count];
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting {
            tasks,
            share,
            reply,
        };
        match self.queue.try_send(waiting) {
            Ok(()) => answer
                .await
                .unwrap_or_else(|_| all(Refusal::OutcomeUnknown)),
            Err(Refused::Full(_)) => all(self.pressure.crowded().into()),
            Err(Refused::Closed(_)) => all(Refusal::Unavailable),
        }
    }

    /// Whether more may be submitted now.
    pub fn pressure(&self) -> &Pressure {
        &self.pressure
    }

    /// What requests are judged by.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }
}

impl Workers {
    /// Works until every clone of the initializer is gone and what waited is stored.
    pub async fn run(self) {
        let stores = self.stores.into_iter().map(Store::run);
        futures::future::join_all(stores).await;
    }
}

/// The roots of the templates among tasks that begin now, each with its lane.
fn roots(
    tasks: &[NewTask],
    routes: &std::collections::HashMap<(i32, i16), tasker_shared::plan::Route>,
) -> Vec<accept::Root> {
    let begun: std::collections::BTreeSet<(i32, i16)> = tasks
        .iter()
        .filter(|task| task.begin == Begin::Now)
        .map(|task| (task.template_id, task.priority))
        .collect();
    begun
        .into_iter()
        .filter_map(|key| Some((key, routes.get(&key)?)))
        .flat_map(|((template_id, priority), route)| {
            let roots = route.blueprint.graph.children(tasker_shared::graph::START);
            roots.iter().filter_map(move |&step_no| {
                Some(accept::Root {
                    template_id,
                    priority,
                    step_no,
                    lane: route.lane(step_no)?,
                })
            })
        })
        .collect()
}

/// The templates and priorities of tasks.
fn keys_of(tasks: &[NewTask]) -> Vec<(i32, i16)> {
    tasks
        .iter()
        .map(|task| (task.template_id, task.priority))
        .collect()
}
