//! The task initializer: requests become tasks. Single requests that arrive together share a transaction:
//! a batch is whatever waits when the last one is done, so a lone request is never held up.

use std::sync::Arc;
use std::time::Duration;

use tasker_shared::blueprints::Blueprints;
use tasker_shared::clock::Clock;
use tasker_shared::db::accept::{self, Begin, NewTask};
use tasker_shared::db::pool::{Pinned, Target};
use tasker_shared::document::{self, Document};
use tasker_shared::ids;
use tasker_shared::wire::TaskRequest;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::admission::{self, InputError, Refusal, Schemas};
use super::registry::Templates;

mod digest;
mod outbox;
mod store;

pub use digest::digest;
pub use outbox::Outbox;
pub use store::Store;

/// A request that is a task now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    pub task_uuid: Uuid,
    /// The idempotency key was seen before: this is the first task.
    pub replayed: bool,
}

/// What the initializer decides by.
#[derive(Debug, Clone)]
pub struct Admission {
    pub templates: Templates,
    pub schemas: Schemas,
    pub clock: Clock,
    pub max_context_bytes: usize,
    /// Tasks with more roots than this are started in slices.
    pub roots_at_once: usize,
}

/// The door for requests. Clones share it.
#[derive(Debug, Clone)]
pub struct TaskInitializer {
    admission: Arc<Admission>,
    queue: mpsc::Sender<Waiting>,
}

/// Tasks of one caller, waiting to be stored.
#[derive(Debug)]
struct Waiting {
    tasks: Vec<NewTask>,
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
        capacity: usize,
        connections: usize,
    ) -> (TaskInitializer, Workers) {
        let (queue, waiting) = mpsc::channel(capacity);
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
        };
        (initializer, Workers { stores })
    }

    /// Makes tasks of requests, each judged on its own; the good ones are stored together.
    pub async fn submit(&self, requests: Vec<TaskRequest>) -> Vec<Result<Accepted, Refusal>> {
        let mut answers = Vec::with_capacity(requests.len());
        let mut good = Vec::new();
        for request in requests {
            match self.admission.admit(request).await {
                Ok(task) => {
                    answers.push(None);
                    good.push(task);
                }
                Err(refusal) => answers.push(Some(Err(refusal))),
            }
        }
        let mut stored = self.store(good).await.into_iter();
        let missing = || Err(Refusal::OutcomeUnknown);
        answers
            .into_iter()
            .map(|answer| answer.or_else(|| stored.next()).unwrap_or_else(missing))
            .collect()
    }

    async fn store(&self, tasks: Vec<NewTask>) -> Vec<Result<Accepted, Refusal>> {
        if tasks.is_empty() {
            return Vec::new();
        }
        let count = tasks.len();
        let all = |refusal: Refusal| vec![Err(refusal); count];
        let (reply, answer) = oneshot::channel();
        match self.queue.try_send(Waiting { tasks, reply }) {
            Ok(()) => answer
                .await
                .unwrap_or_else(|_| all(Refusal::OutcomeUnknown)),
            Err(mpsc::error::TrySendError::Full(_)) => all(Refusal::Busy {
                retry_after: Duration::from_secs(1),
            }),
            Err(mpsc::error::TrySendError::Closed(_)) => all(Refusal::Unavailable),
        }
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

impl Admission {
    /// The task that a request asks for.
    async fn admit(&self, request: TaskRequest) -> Result<NewTask, Refusal> {
        admission::check_fields(&request)?;
        let context = self.check_context(request.context.get())?;
        let options = match &request.options {
            Some(options) => Some(self.check_document(options.get(), "/options")?),
            None => None,
        };
        let found = self
            .templates
            .find(
                &request.namespace,
                &request.name,
                request.version.as_deref(),
            )
            .await;
        let blueprint =
            found
                .map_err(|_| Refusal::Unavailable)?
                .ok_or_else(|| Refusal::UnknownTemplate {
                    namespace: request.namespace.clone(),
                    name: request.name.clone(),
                    version: request.version.clone(),
                })?;
        self.schemas.check(&blueprint, context.as_str())?;
        let now = self.clock.now();
        let roots = blueprint.graph.children(tasker_shared::graph::START).len();
        let key = request.idempotency_key.clone().map(|key| {
            (
                key,
                digest(
                    &request,
                    context.as_str(),
                    options.as_ref().map(Document::as_str),
                ),
            )
        });
        Ok(NewTask {
            task_uuid: ids::new_task_uuid(now),
            template_id: blueprint.template_id,
            namespace: request.namespace,
            name: request.name,
            priority: i16::try_from(request.priority.unwrap_or(0)).unwrap_or(0),
            sampled: false,
            context: context.into(),
            correlation_id: request.correlation_id.unwrap_or_else(Uuid::now_v7),
            parent_correlation_id: request.parent_correlation_id,
            initiator: request.initiator,
            source_system: request.source_system,
            reason: request.reason,
            tags: request.tags,
            key,
            idempotency_key: request.idempotency_key,
            options: options.map(String::from),
            run_at: request.run_at,
            created_at: now,
            begin: self.begin(request.run_at.filter(|at| *at > now), roots),
            failure: None,
        })
    }

    fn begin(&self, later: Option<chrono::DateTime<chrono::Utc>>, roots: usize) -> Begin {
        match later {
            Some(at) => Begin::At(at),
            None if roots > self.roots_at_once => Begin::Spread,
            None => Begin::Now,
        }
    }

    fn check_context(&self, text: &str) -> Result<Document, Refusal> {
        Document::parse(text, self.max_context_bytes, "limits.max_context_bytes").map_err(|error| {
            match error {
                document::Error::TooLarge {
                    limit,
                    limit_bytes,
                    bytes,
                } => Refusal::TooLarge {
                    what: "context",
                    limit,
                    actual: bytes,
                    allowed: limit_bytes,
                },
                other => Refusal::InvalidContext(vec![InputError {
                    pointer: other.pointer().to_owned(),
                    message: other.to_string(),
                }]),
            }
        })
    }

    fn check_document(&self, text: &str, pointer: &str) -> Result<Document, Refusal> {
        Document::parse(text, self.max_context_bytes, "limits.max_context_bytes").map_err(|error| {
            Refusal::InvalidRequest {
                pointer: format!("{pointer}{}", error.pointer()),
                message: error.to_string(),
            }
        })
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
