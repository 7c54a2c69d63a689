//! A worker: its handlers and its configuration, and why it may not come to work.

use std::net::SocketAddr;
use std::time::Duration;

use tasker_shared::access::{self, Gate};
use tasker_shared::clock::Clock;
use tasker_shared::config::{self, Argument, Config, Loaded};
use tasker_shared::db::pool::{BadUrl, Target};
use tasker_shared::metrics::Process;
use tasker_shared::resilience::serving;
use tasker_shared::telemetry;
use tasker_shared::{db, logging};
use uuid::Uuid;

use crate::StepContext;
use crate::completions::{self, Arrivals, Completions};
use crate::handlers::{self, Handler, Registry};

mod assembly;
mod started;

pub use started::Started;
use started::Targets;

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
    #[error("the worker's address cannot be told: {0}")]
    Address(std::io::Error),
}

impl Error {
    /// Whether it may be gone when the database is there.
    fn is_for_want_of_database(&self) -> bool {
        match self {
            Error::Migrate(db::migrate::Error::Unreachable(_)) => true,
            Error::Lease(error) => error.is_unavailable(),
            _ => false,
        }
    }
}

/// A worker to be started.
#[derive(Debug)]
pub struct Worker {
    loaded: Loaded,
    registry: Registry,
    migrate: bool,
    completions: Completions,
    arrivals: Arrivals,
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
        let (completions, arrivals) = completions::door(&loaded.config);
        Worker {
            loaded,
            registry: Registry::default(),
            migrate: true,
            completions,
            arrivals,
        }
    }

    /// The door for handlers of your own that run outside this process.
    pub fn completions(&self) -> Completions {
        self.completions.clone()
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
        let door = command.then(|| self.completions.clone());
        handlers::built_in(&mut self.registry, door);
        self
    }

    /// Binds the address. Migrating and taking the lease is for [`Started::run_until`].
    ///
    /// # Errors
    /// What is configured cannot be used, or the address cannot be had.
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
        let target = Target::parse(url.expose(), "tasker-worker", timeout)?;
        let direct = match &config.database.direct_url {
            Some(url) => Target::parse(url.expose(), "tasker-worker", timeout)?,
            None => target.clone().behind_pooler(config.database.pooler),
        };
        let target = target.behind_pooler(config.database.pooler);
        let pool = target.pool(config.database.max_connections);
        let clock = Clock::of_process();
        let gate = Gate::new(&config.auth, pool.clone(), clock.clone())?;
        let address = config.worker.listen;
        let listener =
            serving::listen(address).map_err(|source| Error::Listen { address, source })?;
        let address = listener.local_addr().map_err(Error::Address)?;
        let telemetry = telemetry::start(
            &config.telemetry,
            Process::Worker,
            Uuid::now_v7(),
            &self.loaded.environment,
        )?;
        Ok(Started {
            address,
            listener,
            targets: Targets {
                target,
                direct,
                pool,
            },
            gate,
            clock,
            telemetry,
            worker: self,
        })
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
