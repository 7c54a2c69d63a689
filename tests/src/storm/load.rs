//! The load of a storm: tasks of all shapes are asked for by REST one by one, by REST in batches and by SQL, each
//! under an idempotency key of its own, and each again and again until somebody says that it is accepted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::shapes::{NAMESPACE, Shape};
use crate::process::client;

/// How long a server may take to answer before another is asked.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);
/// With so many steps waiting no more is asked for: recovery is measured, not the way through a backlog.
const MOST_READY: i64 = 200;
const BATCH: usize = 10;
const SUBMITTERS: i64 = 4;

/// A task that somebody accepted.
#[derive(Debug, Clone)]
pub(super) struct Accepted {
    pub task: Uuid,
    pub shape: &'static str,
    pub n: i64,
}

/// What was accepted, by idempotency key.
pub(super) type Acceptances = BTreeMap<String, Accepted>;

/// Asks for tasks until it is told to stop.
#[derive(Debug)]
pub(super) struct Load {
    shared: Arc<Shared>,
    submitters: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    shapes: Vec<Shape>,
    /// URLs of the servers that should be running.
    servers: RwLock<Vec<String>>,
    client: reqwest::Client,
    pool: PgPool,
    accepted: Mutex<Acceptances>,
    crowded: AtomicBool,
    stop: AtomicBool,
}

/// What a submitter asks for, one after the other: the same for the same seed, however often and whom it has to ask.
#[derive(Debug)]
struct Wishes {
    /// Which submitter.
    which: u8,
    last: i64,
    shapes: Xoshiro256PlusPlus,
    servers: Xoshiro256PlusPlus,
}

impl Wishes {
    fn new(seed: u64, which: u8) -> Self {
        let random = |stream: u64| Xoshiro256PlusPlus::seed_from_u64(seed ^ (stream << 32));
        let which_stream = 2 * u64::from(which);
        Self {
            which,
            last: 0,
            shapes: random(1 + which_stream),
            servers: random(2 + which_stream),
        }
    }

    fn next(&mut self, shapes: &[Shape]) -> Wanted {
        self.last += 1;
        let mut ticket = self.shapes.random_range(0..100);
        let shape = shapes.iter().find(|shape| {
            let hit = ticket < shape.weight;
            ticket = ticket.saturating_sub(shape.weight);
            hit
        });
        Wanted {
            key: format!("load-{}-{}", self.which, self.last),
            shape: shape.expect("weights make a hundred").name,
            n: SUBMITTERS * self.last + i64::from(self.which),
        }
    }
}

/// A request that is asked for until it is accepted.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    key: String,
    shape: &'static str,
    n: i64,
}

impl Load {
    /// Begins to ask for some `tasks_per_second`.
    pub(super) async fn start(
        seed: u64,
        shapes: Vec<Shape>,
        servers: Vec<String>,
        database_url: &str,
        tasks_per_second: f64,
    ) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(3)
            .acquire_timeout(PATIENCE)
            .connect_lazy(database_url)
            .unwrap();
        let shared = Arc::new(Shared {
            shapes,
            servers: RwLock::new(servers),
            client: client(),
            pool,
            accepted: Mutex::default(),
            crowded: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let mut submitters = JoinSet::new();
        let wishes = |which| Wishes::new(seed, which);
        let every = |share: f64| Duration::from_secs_f64(1.0 / (tasks_per_second * share));
        submitters.spawn(Arc::clone(&shared).one_by_one(wishes(0), every(0.25)));
        submitters.spawn(Arc::clone(&shared).one_by_one(wishes(1), every(0.25)));
        submitters.spawn(Arc::clone(&shared).in_batches(wishes(2), every(0.3)));
        submitters.spawn(Arc::clone(&shared).by_sql(wishes(3), every(0.2)));
        submitters.spawn(Arc::clone(&shared).look_out());
        Self { shared, submitters }
    }

    /// Tells where the servers are now.
    pub(super) fn servers_are(&self, urls: Vec<String>) {
        let mut servers = self
            .shared
            .servers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *servers = urls;
    }

    /// Stops asking, and answers what was accepted when the last request has been.
    pub(super) async fn stop(self) -> Acceptances {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.submitters.join_all().await;
        let mut accepted = self
            .shared
            .accepted
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut accepted)
    }

    /// How many were accepted so far.
    pub(super) fn accepted(&self) -> usize {
        self.shared.lock().len()
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Acceptances> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Watches how much waits.
    async fn look_out(self: Arc<Self>) {
        while self.goes_on() {
            let ready = sqlx::query_scalar("SELECT count(*) FROM tasker.ready");
            let ready: Result<i64, _> = ready.fetch_one(&self.pool).await;
            self.crowded
                .store(ready.is_ok_and(|n| n > MOST_READY), Ordering::Relaxed);
            tokio::time::sleep(5 * PAUSE).await;
        }
    }

    /// Waits for the next turn; less while there is room, longer while there is none.
    async fn turn(&self, pause: Duration) -> bool {
        tokio::time::sleep(pause).await;
        while self.goes_on() && self.crowded.load(Ordering::Relaxed) {
            tokio::time::sleep(PAUSE).await;
        }
        self.goes_on()
    }

    fn accept(&self, wanted: &Wanted, task: Uuid) {
        let accepted = Accepted {
            task,
            shape: wanted.shape,
            n: wanted.n,
        };
        self.lock().insert(wanted.key.clone(), accepted);
    }

    async fn one_by_one(self: Arc<Self>, mut wishes: Wishes, pause: Duration) {
        while self.turn(pause).await {
            let wanted = wishes.next(&self.shapes);
            let body = wanted.request();
            let task = loop {
                let answer = self.post(&mut wishes.servers, "/v1/tasks", &body).await;
                if let Some(task) = answer.as_ref().and_then(|a| uuid(&a["task_uuid"])) {
                    break task;
                }
                tokio::time::sleep(PAUSE).await;
            };
            self.accept(&wanted, task);
        }
    }

    async fn in_batches(self: Arc<Self>, mut wishes: Wishes, pause: Duration) {
        while self.turn(pause * u32::try_from(BATCH).unwrap_or(1)).await {
            let mut open: Vec<Wanted> = (0..BATCH).map(|_| wishes.next(&self.shapes)).collect();
            while !open.is_empty() {
                let requests: Vec<Value> = open.iter().map(Wanted::request).collect();
                let body = json!({ "tasks": requests });
                let answer = self
                    .post(&mut wishes.servers, "/v1/tasks/batch", &body)
                    .await;
                let results = answer.as_ref().and_then(|a| a["results"].as_array());
                // What was not accepted this time is asked for again.
                let tasks: Vec<Option<Uuid>> = match results {
                    Some(results) => results.iter().map(|r| uuid(&r["task_uuid"])).collect(),
                    None => vec![None; open.len()],
                };
                let mut tasks = tasks.into_iter();
                open.retain(|wanted| match tasks.next().flatten() {
                    Some(task) => {
                        self.accept(wanted, task);
                        false
                    }
                    None => true,
                });
                if !open.is_empty() {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn by_sql(self: Arc<Self>, mut wishes: Wishes, pause: Duration) {
        while self.turn(pause).await {
            let wanted = wishes.next(&self.shapes);
            let task = loop {
                let asked = sqlx::query_scalar(
                    "SELECT tasker.submit_task($1, $2, $3::json, idempotency_key => $4)",
                )
                .bind(NAMESPACE)
                .bind(wanted.shape)
                .bind(json!({ "n": wanted.n }).to_string())
                .bind(&wanted.key);
                match asked.fetch_one(&self.pool).await {
                    Ok(task) => break task,
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            };
            self.accept(&wanted, task);
        }
    }

    /// What one of the servers answers, where it does: a refusal for good is none of a storm's answers.
    async fn post(
        &self,
        random: &mut Xoshiro256PlusPlus,
        path: &str,
        body: &Value,
    ) -> Option<Value> {
        let url = {
            let servers = self.servers.read().unwrap_or_else(PoisonError::into_inner);
            format!("{}{path}", servers[random.random_range(0..servers.len())])
        };
        let request = self.client.post(url).timeout(PATIENCE).json(body);
        let reply = request.send().await.ok()?;
        let status = reply.status();
        let answer: Value = reply.json().await.ok()?;
        assert!(
            status.is_success() || status.is_server_error() || status == 429,
            "{status}: {answer}"
        );
        Some(answer)
    }
}

impl Wanted {
    fn request(&self) -> Value {
        json!({
            "name": self.shape,
            "namespace": NAMESPACE,
            "context": { "n": self.n },
            "idempotency_key": self.key,
        })
    }
}

fn uuid(value: &Value) -> Option<Uuid> {
    value.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storm::shapes;

    #[test]
    fn a_submitter_asks_for_the_same_whomever_it_has_to_ask() {
        let shapes = shapes::all();
        let asked = |times: usize, which| -> Vec<Wanted> {
            let mut wishes = Wishes::new(7, which);
            let next = |_| {
                for _ in 0..times {
                    let _: u64 = wishes.servers.random();
                }
                wishes.next(&shapes)
            };
            (0..50).map(next).collect()
        };
        assert_eq!(asked(1, 0), asked(5, 0));
        assert_ne!(asked(1, 0), asked(1, 1));
    }
}
