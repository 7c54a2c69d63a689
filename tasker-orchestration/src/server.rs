//! The orchestration server: its connections, its loops and its API, from start to stop.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tasker_shared::access::{self, Gate};
use tasker_shared::blueprints::Blueprints;
use tasker_shared::clock::Clock;
use tasker_shared::config::{Config, Loaded};
use tasker_shared::db;
use tasker_shared::db::pool::{BadUrl, Pinned, Target};
use tasker_shared::db::wake::{self, Patience, Throttle, Topic, Wakes};
use tasker_shared::metrics::Process;
use tasker_shared::plan::advance::Rules;
use tasker_shared::telemetry::{self, Telemetry};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::lifecycle::Progress;
use crate::lifecycle::admission::Schemas;
use crate::lifecycle::control::Controls;
use crate::lifecycle::registry::{ApplyError, Templates};
use crate::lifecycle::result_processor::ResultProcessor;
use crate::lifecycle::task_initializer::{self, Admission, Outbox, TaskInitializer};
use crate::loops::delayed::Timer;
use crate::loops::gauges;
use crate::loops::rescue::Rescue;
use crate::loops::shards::Owner;
use crate::loops::staleness::Watcher;
use crate::loops::unroutable::GivingUp;
use crate::loops::upkeep::Upkeep;
use crate::web;

mod directory;
mod targets;

use targets::Targets;

/// Topics that a server is woken for.
const TOPICS: &[Topic] = &[Topic::Results, Topic::Requests, Topic::Controls];
/// Children told of one step's end at once, and roots of a task enqueued with it: large enough that most
/// fan-outs are one go, small enough that no transaction is long.
const SLICE: usize = 1_000;

/// How long telemetry may take to leave when the server has stopped.
const FLUSH: Duration = Duration::from_secs(5);

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
    #[error("telemetry cannot be started: {0}")]
    Telemetry(#[from] telemetry::Error),
    #[error("the server's address cannot be served: {0}")]
    Serve(std::io::Error),
}

fn faults(error: &ApplyError) -> String {
    match error {
        ApplyError::Invalid(faults) => faults.iter().map(|fault| format!("\n  {fault}")).collect(),
        _ => String::new(),
    }
}

/// A server that has started: it answers and works from `run_until` on.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    listener: TcpListener,
    state: web::State,
    loops: Loops,
    shutdown_timeout: Duration,
    telemetry: Telemetry,
}

#[derive(Debug)]
struct Loops {
    owner: Owner,
    results: ResultProcessor,
    outbox: Outbox,
    timer: Timer,
    rescue: Rescue,
    watcher: Watcher,
    giving_up: Option<GivingUp>,
    upkeep: Upkeep,
    gauges: gauges::Reader,
    stores: task_initializer::Workers,
    listen: Option<(Target, Wakes)>,
}

/// Which server this is, and what tells of it.
#[derive(Debug)]
struct Identity {
    server: Uuid,
    telemetry: Telemetry,
}

impl Server {
    /// Connects, migrates where `migrate` says so, stores the templates of the configured directory and
    /// binds the address.
    pub async fn start(loaded: Loaded, migrate: bool) -> Result<Server, Error> {
        let config = &loaded.config;
        access::check_exposure(
            config.server.listen,
            config.auth.enabled,
            config.server.allow_anonymous,
            "server.allow_anonymous",
        )?;
        let targets = Targets::of(config)?;
        let server = Uuid::now_v7();
        let telemetry = telemetry::start(
            &config.telemetry,
            Process::Server,
            server,
            &loaded.environment,
        )?;
        if migrate {
            db::migrate::run(&targets.direct).await?;
        }
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
        let address = config.server.listen;
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| Error::Listen { address, source })?;
        let identity = Identity { server, telemetry };
        Server::assemble(loaded, identity, targets, blueprints, templates, listener)
    }

    fn assemble(
        loaded: Loaded,
        Identity { server, telemetry }: Identity,
        targets: Targets,
        blueprints: Blueprints,
        templates: Templates,
        listener: TcpListener,
    ) -> Result<Server, Error> {
        let config = loaded.config.clone();
        let address = listener.local_addr().map_err(Error::Serve)?;
        let (clock, wakes) = (Clock::of_process(), Wakes::default());
        let (owned, shards) = watch::channel(Vec::new());
        let interval = Duration::from_millis(config.server.poll_interval_ms);
        let progress: Arc<Progress> = Arc::default();
        let delayed: Arc<Notify> = Arc::default();
        let admission = Admission {
            templates: templates.clone(),
            schemas: Schemas::default(),
            clock: clock.clone(),
            max_context_bytes: config.limits.max_context_bytes,
            sample_rate: config.telemetry.sample_rate,
            roots_at_once: SLICE,
        };
        let (initializer, stores) = TaskInitializer::new(
            admission.clone(),
            &targets.target,
            &blueprints,
            config.channels.submissions,
            config.server.submit_connections as usize,
        );
        let results = ResultProcessor {
            server,
            connection: Pinned::new(targets.target.batches()),
            blueprints: blueprints.clone(),
            shards: shards.clone(),
            rules: rules(&config),
            batch: config.server.advance_batch as usize,
            wakes: wakes.clone(),
            patience: Patience::new(interval),
            delayed: Arc::clone(&delayed),
            progress: Arc::clone(&progress),
            cursors: HashMap::new(),
            throttle: Throttle::new(Instant::now()),
        };
        let pool = targets.pool.clone();
        let loops = Loops {
            owner: Owner {
                pool: pool.clone(),
                server,
                name: format!("{}@{address}", std::process::id()),
                owned,
            },
            results,
            outbox: Outbox {
                connection: Pinned::new(targets.target.acceptance()),
                blueprints: blueprints.clone(),
                admission,
                wakes: wakes.clone(),
                patience: Patience::new(interval),
            },
            timer: Timer {
                pool: pool.clone(),
                shards: shards.clone(),
                delayed,
                wakes: wakes.clone(),
                interval,
            },
            rescue: Rescue {
                pool: pool.clone(),
                shards: shards.clone(),
            },
            watcher: Watcher {
                server,
                connection: Pinned::new(targets.target.batches()),
                blueprints: blueprints.clone(),
                shards: shards.clone(),
                wakes: wakes.clone(),
            },
            giving_up: config
                .dead_letters
                .unroutable_after_seconds
                .map(|seconds| GivingUp {
                    pool: pool.clone(),
                    shards: shards.clone(),
                    after_seconds: i64::from(seconds),
                }),
            upkeep: Upkeep {
                pool: pool.clone(),
                clock: clock.clone(),
                shards: shards.clone(),
            },
            gauges: gauges::Reader {
                connection: Pinned::new(targets.target.batches()),
                shards: shards.clone(),
            },
            stores,
            listen: config
                .database
                .listen
                .then(|| (targets.direct.clone(), wakes.clone())),
        };
        let controls = Controls::new(
            pool.clone(),
            wakes,
            Duration::from_millis(config.server.control_timeout_ms),
            config.limits.max_result_bytes,
        );
        let channels = vec![initializer.watch()];
        Ok(Server {
            address,
            listener,
            state: web::State::new(web::Parts {
                gate: Gate::new(&config.auth, pool.clone(), clock.clone())?,
                pool,
                loaded,
                initializer,
                controls,
                templates,
                blueprints,
                clock,
                progress,
                shards,
                channels,
            }),
            loops,
            shutdown_timeout: Duration::from_millis(config.server.shutdown_timeout_ms),
            telemetry,
        })
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers and works until `shutdown`; then takes no more requests, ends what runs, and hands its shards
    /// over.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let (working, serving) = (CancellationToken::new(), CancellationToken::new());
        let loops = TaskTracker::new();
        loops.spawn(self.loops.owner.run(working.clone()));
        loops.spawn(self.loops.results.run(working.clone()));
        loops.spawn(self.loops.outbox.run(working.clone()));
        loops.spawn(self.loops.timer.run(working.clone()));
        loops.spawn(self.loops.rescue.run(working.clone()));
        loops.spawn(self.loops.watcher.run(working.clone()));
        if let Some(giving_up) = self.loops.giving_up {
            loops.spawn(giving_up.run(working.clone()));
        }
        loops.spawn(self.loops.upkeep.run(working.clone()));
        if tasker_shared::metrics::is_on() {
            loops.spawn(self.loops.gauges.run(working.clone()));
        }
        if let Some((target, wakes)) = self.loops.listen {
            loops.spawn(wake::listen(target, TOPICS, wakes, |_| {}, working.clone()));
        }
        let stores = tokio::spawn(self.loops.stores.run());
        let health = self.state.health().clone();
        let stop_serving = serving.clone();
        let router = web::router(self.state, serving.clone())
            .into_make_service_with_connect_info::<SocketAddr>();
        let serve = axum::serve(self.listener, router)
            .with_graceful_shutdown(async move { stop_serving.cancelled().await });
        let serve = tokio::spawn(serve.into_future());
        tracing::info!(address = %self.address, "listening");

        shutdown.await;
        tracing::info!("stopping");
        health.stopping();
        serving.cancel();
        // What was accepted is stored before the loops stop: the stores end with the last request.
        let served = tokio::time::timeout(self.shutdown_timeout, async {
            let served = serve.await;
            let _ = stores.await;
            served
        })
        .await;
        working.cancel();
        loops.close();
        if tokio::time::timeout(self.shutdown_timeout, loops.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                "loops did not stop in time; what they did is taken up by the next server"
            );
        }
        tracing::info!("stopped");
        self.telemetry.shutdown(FLUSH).await;
        match served {
            Ok(Ok(served)) => served.map_err(Error::Serve),
            _ => Ok(()),
        }
    }
}

fn rules(config: &Config) -> Rules {
    Rules {
        slice: SLICE,
        children: 2 * SLICE,
        max_lost: i32::try_from(config.limits.max_lost_leases).unwrap_or(i32::MAX),
    }
}
