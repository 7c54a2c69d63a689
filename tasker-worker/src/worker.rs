//! A worker: its handlers, its connections and its loops, from start to drain.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tasker_shared::access::{self, Gate};
use tasker_shared::blueprints::Blueprints;
use tasker_shared::clock::Clock;
use tasker_shared::config::{self, Argument, Config, Loaded};
use tasker_shared::db::pool::Pool;
use tasker_shared::db::pool::{BadUrl, Pinned, Target};
use tasker_shared::db::wake::{self, Patience, Topic, Wakes};
use tasker_shared::db::workers::Registration;
use tasker_shared::metrics::Process;
use tasker_shared::metrics::worker::ClaimMethod;
use tasker_shared::telemetry::{self, Telemetry};
use tasker_shared::{db, logging};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::circuits::Circuits;
use crate::handlers::{self, Handler, Registry};
use crate::heartbeat::Heartbeat;
use crate::measure;
use crate::result_sender;
use crate::running::{Running, Stop};
use crate::schema::Schemas;
use crate::step_claim::{Claim, Lanes};
use crate::step_executor::Executor;
use crate::web::{self, Progress};
use crate::{Limits, StepContext};

/// Topics that a worker is woken for.
const TOPICS: &[Topic] = &[Topic::Steps, Topic::Lanes, Topic::Cancels];
/// How long telemetry may take to leave when the worker has stopped.
const FLUSH: Duration = Duration::from_secs(5);
/// How long handlers that are told to stop after the drain time may take to be handed back.
const HAND_BACK: Duration = Duration::from_secs(5);

/// Why a worker could not be made or started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the configuration is wrong:\n{0}")]
    Config(#[from] config::Error),
    #[error(transparent)]
    Logging(#[from] logging::InitError),
    #[error("no database is configured; set DATABASE_URL, or database.url in the configuration")]
    NoDatabase,
    #[error(transparent)]
    Url(#[from] BadUrl),
    #[error("the database cannot be migrated: {0}")]
    Migrate(#[from] db::migrate::Error),
    #[error("the worker cannot take its lease: {0}")]
    Lease(#[from] db::Error),
    #[error(
        "cannot listen on {address}: {source}; choose another address with --listen or worker.listen"
    )]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("a worker without handlers has nothing to do; add one with Worker::handler")]
    NoHandlers,
    #[error("signals cannot be waited for: {0}")]
    Signals(std::io::Error),
    #[error(transparent)]
    Exposed(#[from] access::Exposed),
    #[error(transparent)]
    Access(#[from] access::SetupError),
    #[error("telemetry cannot be started: {0}")]
    Telemetry(#[from] telemetry::Error),
    #[error("the worker's address cannot be served: {0}")]
    Serve(std::io::Error),
}

/// A worker to be started.
#[derive(Debug)]
pub struct Worker {
    loaded: Loaded,
    registry: Registry,
    migrate: bool,
}

/// A worker that has started: it holds its lease, and serves and claims from `run_until` on.
#[derive(Debug)]
pub struct Started {
    address: SocketAddr,
    listener: TcpListener,
    router: axum::Router,
    loops: Loops,
    telemetry: Telemetry,
}

#[derive(Debug)]
struct Loops {
    claim: Claim,
    sender: result_sender::Sender,
    heartbeat: Heartbeat,
    listen: Option<(Target, Wakes)>,
    running: Running,
    progress: Arc<Progress>,
    drain_timeout: Duration,
}

impl Worker {
    /// A worker by the configuration files and the environment; logging is set up too.
    pub fn from_env() -> Result<Worker, Error> {
        Worker::from_env_with(&[])
    }

    /// The same with what the command line says, which wins.
    pub fn from_env_with(arguments: &[Argument]) -> Result<Worker, Error> {
        let loaded = Config::load_with(arguments)?;
        logging::init(
            loaded.config.logging.format,
            loaded.config.logging.level.as_str(),
        )?;
        Ok(Worker::new(loaded))
    }

    /// A worker by a configuration that was loaded already.
    pub fn new(loaded: Loaded) -> Worker {
        Worker {
            loaded,
            registry: Registry::default(),
            migrate: true,
        }
    }

    /// Whether pending migrations are applied at start; they are unless told otherwise.
    #[must_use]
    pub fn migrate(mut self, migrate: bool) -> Worker {
        self.migrate = migrate;
        self
    }

    /// Adds a handler under the name that templates call it by; a later one of the same name replaces it.
    #[must_use]
    pub fn handler<F, Fut, R>(mut self, callable: impl Into<String>, handler: F) -> Worker
    where
        F: Fn(StepContext) -> Fut + Send + Sync + 'static,
        F: Handler,
        Fut: Future<Output = Result<R, crate::StepError>>,
    {
        self.registry.insert(callable, handler);
        self
    }

    /// Adds the built-in handlers; `command`, which runs programs, where the configuration has it, or where
    /// it says nothing and the worker listens on loopback alone.
    #[must_use]
    pub fn built_in_handlers(mut self) -> Worker {
        let worker = &self.loaded.config.worker;
        let command = worker
            .handlers
            .command
            .unwrap_or(worker.listen.ip().is_loopback());
        handlers::built_in(&mut self.registry, command);
        self
    }

    /// Connects, migrates unless told not to, binds the address and takes the lease.
    pub async fn start(self) -> Result<Started, Error> {
        if self.registry.is_empty() {
            return Err(Error::NoHandlers);
        }
        let config = &self.loaded.config;
        access::check_exposure(
            config.worker.listen,
            config.auth.enabled,
            config.worker.allow_anonymous,
            "worker.allow_anonymous",
        )?;
        let url = config.database.url.as_ref().ok_or(Error::NoDatabase)?;
        let timeout = Duration::from_millis(config.database.connect_timeout_ms);
        let telemetry = telemetry::start(
            &config.telemetry,
            Process::Worker,
            Uuid::now_v7(),
            &self.loaded.environment,
        )?;
        let target = Target::parse(url.expose(), "tasker-worker", timeout)?;
        let direct = match &config.database.direct_url {
            Some(url) => Target::parse(url.expose(), "tasker-worker", timeout)?,
            None => target.clone(),
        };
        if self.migrate {
            db::migrate::run(&direct).await?;
        }
        let address = config.worker.listen;
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| Error::Listen { address, source })?;
        let pool = target.pool(config.database.max_connections);
        self.assemble(target, direct, pool, listener, telemetry)
            .await
    }

    async fn assemble(
        self,
        target: Target,
        direct: Target,
        pool: Pool,
        listener: TcpListener,
        telemetry: Telemetry,
    ) -> Result<Started, Error> {
        let config = &self.loaded.config;
        let clock = Clock::of_process();
        let progress: Arc<Progress> = Arc::default();
        let wakes = Wakes::default();
        let running = Running::new(config.worker.concurrency as usize, Arc::clone(&progress));
        let (worker, worker_id) = watch::channel(Uuid::nil());
        let (results, sender) =
            result_sender::channel(config.channels.results, Pinned::new(target.batches()));
        let channels = vec![results.watch()];
        let circuits = Circuits::new(pool.clone(), (&config.worker.circuits).into());
        let executor = Arc::new(Executor {
            registry: self.registry.clone(),
            blueprints: Blueprints::new(pool.clone(), &self.loaded.environment),
            pool: pool.clone(),
            running: running.clone(),
            circuits: circuits.clone(),
            results,
            schemas: Schemas::new(),
            limits: Limits {
                max_result_bytes: config.limits.max_result_bytes,
                max_input_bytes: config.limits.max_input_bytes,
            },
            default_timeout: Duration::from_secs(u64::from(config.worker.default_timeout_seconds)),
            clock: clock.clone(),
        });
        let mut heartbeat = Heartbeat {
            pool: pool.clone(),
            registration: self.registration(listener.local_addr().map_err(Error::Serve)?),
            interval: Duration::from_millis(config.worker.heartbeat_interval_ms),
            worker,
            running: running.clone(),
            wakes: wakes.clone(),
            progress: Arc::clone(&progress),
            clock: clock.clone(),
        };
        heartbeat.register().await?;
        let claim = Claim {
            connection: Pinned::new(target.batches()),
            pool: pool.clone(),
            callables: self.registry.callables(),
            namespaces: config.worker.namespaces.clone(),
            worker: worker_id,
            running: running.clone(),
            executor,
            circuits,
            wakes: wakes.clone(),
            patience: Patience::new(Duration::from_millis(config.worker.poll_interval_ms)),
            progress: Arc::clone(&progress),
            clock: clock.clone(),
            lanes: Lanes::default(),
            method: ClaimMethod::Poll,
        };
        measure::watch(&running);
        let state = web::State {
            gate: Gate::new(&config.auth, pool.clone(), clock.clone())?,
            pool,
            callables: self.registry.callables(),
            started_at: clock.now(),
            clock,
            progress: Arc::clone(&progress),
            channels,
            loaded: self.loaded.clone(),
        };
        Ok(Started {
            address: listener.local_addr().map_err(Error::Serve)?,
            listener,
            router: web::router(Arc::new(state)),
            loops: Loops {
                claim,
                sender,
                heartbeat,
                listen: config.database.listen.then_some((direct, wakes)),
                running,
                progress,
                drain_timeout: Duration::from_millis(config.worker.drain_timeout_ms),
            },
            telemetry,
        })
    }

    fn registration(&self, address: SocketAddr) -> Registration {
        let worker = &self.loaded.config.worker;
        Registration {
            worker: Uuid::nil(),
            name: format!("{}@{address}", std::process::id()),
            namespaces: worker.namespaces.clone(),
            callables: self.registry.callables(),
            slots: i32::try_from(worker.concurrency).unwrap_or(i32::MAX),
            lease_ms: i64::try_from(worker.lease_ms).unwrap_or(i64::MAX),
        }
    }

    /// Starts, and works until SIGTERM or SIGINT; then drains.
    pub async fn run(self) -> Result<(), Error> {
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
                .map_err(Error::Signals)?;
        let started = self.start().await?;
        started
            .run_until(async move {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = tokio::signal::ctrl_c() => {}
                }
            })
            .await
    }
}

impl Started {
    /// Where the worker listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Works until `shutdown`, then drains: claims no more, lets running steps end within the drain time,
    /// hands the others back, sends what is left and ends the lease.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let (claiming, serving, beating) = (
            CancellationToken::new(),
            CancellationToken::new(),
            CancellationToken::new(),
        );
        let loops = TaskTracker::new();
        let Loops {
            claim,
            sender,
            heartbeat,
            listen,
            running,
            progress,
            drain_timeout,
        } = self.loops;
        if let Some((target, wakes)) = listen {
            let told = Arc::clone(&progress);
            let hears = move |hears| told.set_listening(hears);
            loops.spawn(wake::listen(target, TOPICS, wakes, hears, beating.clone()));
        }
        loops.spawn(heartbeat.run(beating.clone()));
        let claims = tokio::spawn(claim.run(claiming.clone()));
        let sending = tokio::spawn(sender.run());
        let stop_serving = serving.clone();
        let router = self
            .router
            .into_make_service_with_connect_info::<SocketAddr>();
        let serve = axum::serve(self.listener, router)
            .with_graceful_shutdown(async move { stop_serving.cancelled().await });
        let serve = tokio::spawn(serve.into_future());
        tracing::info!(address = %self.address, "listening");

        shutdown.await;
        tracing::info!(running = running.count(), "draining");
        progress.drain();
        claiming.cancel();
        // The claim loop holds the way to the executor; when it and the last step are gone, the channel closes.
        let _ = claims.await;
        drain(&running, drain_timeout).await;
        let _ = sending.await;
        beating.cancel();
        serving.cancel();
        loops.close();
        loops.wait().await;
        tracing::info!("stopped");
        self.telemetry.shutdown(FLUSH).await;
        match serve.await {
            Ok(served) => served.map_err(Error::Serve),
            Err(_) => Ok(()),
        }
    }
}

/// Waits for what runs; what is not done in time is told to stop and handed back.
async fn drain(running: &Running, timeout: Duration) {
    let empty = async {
        while running.count() > 0 {
            running.freed().await;
        }
    };
    if tokio::time::timeout(timeout, empty).await.is_ok() {
        return;
    }
    tracing::warn!(
        running = running.count(),
        "the drain time is over; handing back what still runs"
    );
    running.stop_all(Stop::Drained);
    let handed_back = async {
        while running.count() > 0 {
            running.freed().await;
        }
    };
    if tokio::time::timeout(HAND_BACK, handed_back).await.is_err() {
        tracing::error!(
            running = running.count(),
            "handlers do not stop; their steps go back when the lease runs out"
        );
    }
}
