//! What a worker is made of: its loops and what it answers, put together once it has its lease.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tasker_shared::access::Gate;
use tasker_shared::blueprints::Blueprints;
use tasker_shared::clock::Clock;
use tasker_shared::config::Config;
use tasker_shared::db::pool::{Pinned, Pool, Target};
use tasker_shared::db::wake::{Pace, Patience, Wakes};
use tasker_shared::db::workers::Registration;
use tasker_shared::metrics::worker::ClaimMethod;
use tasker_shared::resilience::breaker::Breaker;
use tasker_shared::resilience::vitals::Vitals;
use tokio::sync::watch;
use uuid::Uuid;

use super::Worker;
use super::started::Targets;
use crate::Limits;
use crate::circuits::Circuits;
use crate::completions::Arrivals;
use crate::heartbeat::Heartbeat;
use crate::held::{Held, Unheard};
use crate::measure;
use crate::result_sender::{self, Results};
use crate::running::Running;
use crate::schema::Schemas;
use crate::step_claim::{Claim, Lanes};
use crate::step_executor::Executor;
use crate::web::{self, Progress};

/// A worker's loops.
#[derive(Debug)]
pub(super) struct Loops {
    pub(super) claim: Claim,
    pub(super) sender: result_sender::Sender,
    pub(super) arrivals: Arrivals,
    /// Where there is room before completions are taken in.
    pub(super) results: Results,
    pub(super) heartbeat: Heartbeat,
    pub(super) listen: Option<(Target, Wakes)>,
}

/// A worker put together.
#[derive(Debug)]
pub(super) struct Assembled {
    pub(super) router: axum::Router,
    pub(super) loops: Loops,
    /// Of these loops.
    pub(super) vitals: Vitals,
    pub(super) pool: Pool,
    pub(super) running: Running,
    pub(super) progress: Arc<Progress>,
    pub(super) drain_timeout: Duration,
}

/// What takes the worker's lease, and who is told of it.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) heartbeat: Heartbeat,
    worker_id: watch::Receiver<Uuid>,
    wakes: Wakes,
    pgmq: Breaker,
}

impl Lease {
    /// Of a worker that has none yet.
    pub(super) fn new(
        worker: &Worker,
        address: SocketAddr,
        targets: &Targets,
        clock: &Clock,
    ) -> Lease {
        let config = &worker.loaded.config;
        let progress: Arc<Progress> = Arc::default();
        let (tell, worker_id) = watch::channel(Uuid::nil());
        let wakes = Wakes::default();
        let pgmq = Breaker::new("pgmq", config.circuit_breakers.pgmq().into());
        let heartbeat = Heartbeat {
            connection: Pinned::new(targets.target.batches()),
            registration: registration(worker, address),
            interval: Duration::from_millis(config.worker.heartbeat_interval_ms),
            worker: tell,
            running: Running::new(config.worker.concurrency as usize, Arc::clone(&progress)),
            wakes: wakes.clone(),
            progress,
            clock: clock.clone(),
            breaker: pgmq.clone(),
        };
        Lease {
            heartbeat,
            worker_id,
            wakes,
            pgmq,
        }
    }

    /// The worker's breakers.
    pub(super) fn breakers(&self, worker: &Worker) -> Vec<Breaker> {
        vec![self.pgmq.clone(), worker.completions.breaker()]
    }
}

impl Assembled {
    /// Everything a worker works with; it holds its lease.
    pub(super) fn new(
        worker: Worker,
        lease: Lease,
        targets: Targets,
        gate: Gate,
        clock: Clock,
    ) -> Assembled {
        let config = &worker.loaded.config;
        let Lease {
            heartbeat,
            worker_id,
            wakes,
            pgmq,
        } = lease;
        let Targets {
            target,
            direct,
            pool,
        } = targets;
        let (running, progress) = (heartbeat.running.clone(), Arc::clone(&heartbeat.progress));
        let vitals = Vitals::default();
        let connection = Pinned::new(target.batches());
        let (results, sender) =
            result_sender::channel(config.channels.results, connection, pgmq.clone());
        let circuits = Circuits::new(pool.clone(), (&config.worker.circuits).into());
        let callables = worker.registry.callables();
        let held = Held::default();
        let executor = Arc::new(Executor {
            registry: worker.registry,
            blueprints: Blueprints::new(pool.clone(), &worker.loaded.environment),
            pool: pool.clone(),
            running: running.clone(),
            held: held.clone(),
            circuits: circuits.clone(),
            results: results.clone(),
            schemas: Schemas::new(),
            limits: limits(config),
            default_timeout: Duration::from_secs(u64::from(config.worker.default_timeout_seconds)),
            clock: clock.clone(),
        });
        let claim = Claim {
            connection: Pinned::new(target.batches()),
            pool: pool.clone(),
            callables: callables.clone(),
            namespaces: config.worker.namespaces.clone(),
            worker: worker_id,
            running: running.clone(),
            executor,
            circuits,
            held,
            unheard: Unheard::new(Instant::now()),
            wakes: wakes.clone(),
            patience: Patience::new(Duration::from_millis(config.worker.poll_interval_ms)),
            pace: Pace::default(),
            progress: Arc::clone(&progress),
            clock: clock.clone(),
            lanes: Lanes::default(),
            method: ClaimMethod::Poll,
            breaker: pgmq.clone(),
        };
        measure::watch(&running);
        let loops = Loops {
            claim,
            sender,
            arrivals: worker.arrivals,
            results,
            heartbeat,
            listen: config.database.listen.then_some((direct, wakes)),
        };
        let drain_timeout = Duration::from_millis(config.worker.drain_timeout_ms);
        let state = web::State {
            gate,
            pool: pool.clone(),
            callables,
            started_at: clock.now(),
            clock,
            progress: Arc::clone(&progress),
            breakers: vec![pgmq, worker.completions.breaker()],
            vitals: vitals.clone(),
            asked: web::Asked::default(),
            loaded: worker.loaded,
        };
        Assembled {
            router: web::router(Arc::new(state)),
            loops,
            vitals,
            pool,
            running,
            progress,
            drain_timeout,
        }
    }
}

fn limits(config: &Config) -> Limits {
    Limits {
        max_result_bytes: config.limits.max_result_bytes,
        max_input_bytes: config.limits.max_input_bytes,
    }
}

fn registration(worker: &Worker, address: SocketAddr) -> Registration {
    let callables = worker.registry.callables();
    let worker = &worker.loaded.config.worker;
    Registration {
        worker: Uuid::nil(),
        name: format!("{}@{address}", std::process::id()),
        namespaces: worker.namespaces.clone(),
        callables,
        slots: i32::try_from(worker.concurrency).unwrap_or(i32::MAX),
        lease_ms: i64::try_from(worker.lease_ms).unwrap_or(i64::MAX),
    }
}
