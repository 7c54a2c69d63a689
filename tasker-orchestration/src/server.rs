//! The orchestration server: its address, what it answers while it starts, its work, and its end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use tasker_shared::access::{self, Gate};
use tasker_shared::blueprints::Blueprints;
use tasker_shared::clock::Clock;
use tasker_shared::config::Loaded;
use tasker_shared::db;
use tasker_shared::db::pool::BadUrl;
use tasker_shared::metrics::Process;
use tasker_shared::resilience::serving::{self, Bounds, Serving};
use tasker_shared::telemetry::{self, Telemetry};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::Breakers;
use crate::lifecycle::registry::{ApplyError, Templates};
use crate::web;

mod assembly;
mod directory;
mod targets;

use assembly::{Assembled, Identity};
use targets::Targets;

/// How long telemetry may take to leave when the server has stopped.
const FLUSH: Duration = Duration::from_secs(5);
/// How long a database that is not there is waited for before a server gives up starting, and how often it is looked for.
const DATABASE_PATIENCE: Duration = Duration::from_secs(60);
const DATABASE_PAUSE: Duration = Duration::from_secs(1);

/// Why a server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no database is configured; set DATABASE_URL, or database.url in the configuration")]
    NoDatabase,
    #[error(transparent)]
    Url(#[from] BadUrl),
    #[error(transparent)]
    Migrate(#[from] db::migrate::Error),
    #[error("the database cannot be prepared: {0}")]
    Prepare(#[from] db::Error),
    #[error(
        "cannot listen on {address}: {source}; choose another address with --listen or server.listen"
    )]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("{}: {source}", path.display())]
    ReadTemplates {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{file}: {source}{}", faults(source))]
    ApplyTemplate { file: String, source: ApplyError },
    #[error(transparent)]
    Exposed(#[from] access::Exposed),
    #[error(transparent)]
    Access(#[from] access::SetupError),
    #[error(transparent)]
    Archive(#[from] db::archive::Error),
    #[error("telemetry cannot be started: {0}")]
    Telemetry(#[from] telemetry::Error),
    #[error("the server's address cannot be told: {0}")]
    Address(std::io::Error),
}

fn faults(error: &ApplyError) -> String {
    match error {
        ApplyError::Invalid(faults) => faults.iter().map(|fault| format!("\n  {fault}")).collect(),
        _ => String::new(),
    }
}

impl Error {
    /// Whether it may be gone when the database is there.
    fn is_for_want_of_database(&self) -> bool {
        match self {
            Error::Migrate(db::migrate::Error::Unreachable(_)) => true,
            Error::Prepare(error)
            | Error::ApplyTemplate {
                source: ApplyError::Database(error),
                ..
            } => error.is_unavailable(),
            _ => false,
        }
    }
}

/// A server that holds its address: it answers from `run_until` on, and works once it has started.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    listener: TcpListener,
    loaded: Loaded,
    migrate: bool,
    targets: Targets,
    gate: Gate,
    clock: Clock,
    server: Uuid,
    telemetry: Telemetry,
}

impl Server {
    /// Binds the address. Where `migrate` says so, pending migrations are applied before anything else; that, and
    /// storing the templates of the configured directory, is for `run_until`.
    ///
    /// # Errors
    /// What is configured cannot be used, or the address cannot be had.
    pub async fn start(loaded: Loaded, migrate: bool) -> Result<Server, Error> {
        let config = &loaded.config;
        access::check_exposure(
            config.server.listen,
            config.auth.enabled,
            config.server.allow_anonymous,
            "server.allow_anonymous",
        )?;
        if let (Some(_), Some(directory)) = (
            config.retention.keep_days,
            &config.retention.archive_directory,
        ) {
            db::archive::require(directory)?;
        }
        let targets = Targets::of(config)?;
        let clock = Clock::of_process();
        let gate = Gate::new(&config.auth, targets.pool.clone(), clock.clone())?;
        let address = config.server.listen;
        let listener =
            serving::listen(address).map_err(|source| Error::Listen { address, source })?;
        let address = listener.local_addr().map_err(Error::Address)?;
        let server = Uuid::now_v7();
        let telemetry = telemetry::start(
            &config.telemetry,
            Process::Server,
            server,
            &loaded.environment,
        )?;
        Ok(Server {
            address,
            listener,
            loaded,
            migrate,
            targets,
            gate,
            clock,
            server,
            telemetry,
        })
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Says how it is from the first moment, starts, and answers and works until `shutdown`; then says that it is not
    /// ready, takes no more requests, ends what runs, and hands its shards over.
    ///
    /// # Errors
    /// The database cannot be prepared, or is not there within a minute; a template of the directory cannot be
    /// stored.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let mut shutdown = pin!(shutdown);
        let patience = Duration::from_millis(self.loaded.config.server.shutdown_timeout_ms);
        let (doing, told) = watch::channel("it has just begun");
        let breakers = Breakers::new(&self.loaded.config.circuit_breakers);
        let starting = web::Starting {
            loaded: self.loaded.clone(),
            clock: self.clock.clone(),
            doing: told,
            breakers: breakers.clone(),
        };
        let bounds = Bounds::of(self.loaded.config.server.max_connections);
        let serving = Serving::begin(self.listener, web::starting(starting), bounds);
        tracing::info!(address = %self.address, "listening");
        let prepared = tokio::select! {
            prepared = prepare(&self.loaded, &self.targets, self.migrate, &doing) => prepared.map(Some),
            () = &mut shutdown => Ok(None),
        };
        let worked = match prepared {
            Ok(Some((blueprints, templates))) => {
                let identity = Identity {
                    server: self.server,
                    address: self.address,
                    clock: self.clock,
                };
                let assembled = Assembled::new(
                    self.loaded,
                    &identity,
                    self.targets,
                    self.gate,
                    blueprints,
                    templates,
                    breakers,
                );
                work(assembled, serving, shutdown).await;
                Ok(())
            }
            Ok(None) => {
                serving.end_within(patience).await;
                Ok(())
            }
            Err(error) => Err(error),
        };
        tracing::info!("stopped");
        self.telemetry.shutdown(FLUSH).await;
        worked
    }
}

/// Works until `shutdown`. Where a loop dies before that, the others end, so that other servers take over what this one
/// owns, and it says that it needs a new start.
async fn work(
    Assembled {
        state,
        loops,
        vitals,
        drain_delay,
        shutdown_timeout,
    }: Assembled,
    serving: Serving<axum::Router>,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = pin!(shutdown);
    let working = CancellationToken::new();
    let (loops, stores) = loops.spawn(&vitals, &working);
    let health = state.health().clone();
    serving.start(web::router(state, serving.closing()));
    tokio::select! {
        () = &mut shutdown => {}
        () = vitals.died() => {
            working.cancel();
            shutdown.await;
        }
    }
    tracing::info!("stopping");
    health.stopping();
    // Whoever sends requests here has to see that it is not ready before the port is closed.
    tokio::time::sleep(drain_delay).await;
    // What was accepted is stored before the loops stop: the stores end with the last request.
    let ended = tokio::time::timeout(shutdown_timeout, async {
        serving.end().await;
        let _ = stores.await;
    })
    .await;
    if ended.is_err() {
        tracing::warn!("requests did not end in time; they are cut off");
    }
    working.cancel();
    if tokio::time::timeout(shutdown_timeout, loops.wait())
        .await
        .is_err()
    {
        tracing::warn!("loops did not stop in time; what they did is taken up by the next server");
    }
}

/// Prepares the database. One that is not there yet is waited for.
async fn prepare(
    loaded: &Loaded,
    targets: &Targets,
    migrate: bool,
    doing: &watch::Sender<&'static str>,
) -> Result<(Blueprints, Templates), Error> {
    let until = Instant::now() + DATABASE_PATIENCE;
    loop {
        match try_prepare(loaded, targets, migrate, doing).await {
            Err(error) if error.is_for_want_of_database() && Instant::now() < until => {
                tracing::warn!(%error, "the database cannot be reached yet");
                doing.send_replace("waiting for the database");
                tokio::time::sleep(DATABASE_PAUSE).await;
            }
            done => return done,
        }
    }
}

async fn try_prepare(
    loaded: &Loaded,
    targets: &Targets,
    migrate: bool,
    doing: &watch::Sender<&'static str>,
) -> Result<(Blueprints, Templates), Error> {
    let config = &loaded.config;
    if migrate {
        doing.send_replace("migrating the database");
        db::migrate::run(&targets.direct).await?;
    }
    if targets.target.is_pooled() {
        doing.send_replace("preparing the role for a pooler");
        db::pooler::prepare(&targets.pool, &targets.direct).await?;
    }
    doing.send_replace("storing its templates");
    let limit = i64::try_from(config.limits.max_context_bytes).unwrap_or(i64::MAX);
    db::upkeep::set_setting(&targets.pool, "limits.max_context_bytes", limit).await?;
    let blueprints = Blueprints::new(targets.pool.clone(), &loaded.environment);
    let templates = Templates::new(
        targets.target.clone(),
        targets.pool.clone(),
        config.limits.max_steps_per_task,
        blueprints.clone(),
    );
    if let Some(directory) = &config.server.templates {
        directory::apply(&templates, directory).await?;
    }
    Ok((blueprints, templates))
}
