//! What a server is made of: its loops and its API, put together and set to work.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tasker_shared::access::Gate;
use tasker_shared::blueprints::Blueprints;
use tasker_shared::clock::Clock;
use tasker_shared::config::{Config, Loaded};
use tasker_shared::db::pool::{Pinned, Pool, Target};
use tasker_shared::db::wake::{self, Pace, Patience, Throttle, Topic, Wakes};
use tasker_shared::plan::advance::Rules;
use tasker_shared::resilience::vitals::Vitals;
use tasker_shared::stats;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::targets::Targets;
use crate::Breakers;
use crate::lifecycle::Progress;
use crate::lifecycle::admission::Schemas;
use crate::lifecycle::control::Controls;
use crate::lifecycle::pressure::Pressure;
use crate::lifecycle::registry::Templates;
use crate::lifecycle::result_processor::{Asks, ResultProcessor};
use crate::lifecycle::task_initializer::{self, Admission, Choice, Outbox, TaskInitializer};
use crate::loops::autovacuum::Autovacuum;
use crate::loops::delayed::Timer;
use crate::loops::gauges;
use crate::loops::pulse::{Answering, Depths, Pulse};
use crate::loops::rescue::Rescue;
use crate::loops::retention::Retention;
use crate::loops::shards::Owner;
use crate::loops::staleness::Watcher;
use crate::loops::unroutable::GivingUp;
use crate::loops::upkeep::Upkeep;
use crate::web;

/// Topics that a server is woken for.
const TOPICS: &[Topic] = &[
    Topic::Results,
    Topic::Requests,
    Topic::Controls,
    Topic::Delayed,
];
/// Children told of one step's end at once, and roots of a task enqueued with it: large enough that most
/// fan-outs are one go, small enough that no transaction is long.
const SLICE: usize = 1_000;

/// Which server this is.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) server: Uuid,
    pub(super) address: SocketAddr,
    pub(super) clock: Clock,
}

/// A server put together.
#[derive(Debug)]
pub(super) struct Assembled {
    pub(super) state: web::State,
    pub(super) loops: Loops,
    /// Of these loops.
    pub(super) vitals: Vitals,
    pub(super) drain_delay: Duration,
    pub(super) shutdown_timeout: Duration,
}

#[derive(Debug)]
pub(super) struct Loops {
    owner: Owner,
    results: ResultProcessor,
    outbox: Outbox,
    timer: Timer,
    rescue: Rescue,
    watcher: Watcher,
    giving_up: Option<GivingUp>,
    pulse: Pulse,
    upkeep: Upkeep,
    autovacuum: Autovacuum,
    retention: Option<Retention>,
    pool: Pool,
    gauges: gauges::Reader,
    stores: task_initializer::Workers,
    listen: Option<(Target, Wakes)>,
}

impl Assembled {
    /// Everything a server works with; its database has been prepared.
    pub(super) fn new(
        loaded: Loaded,
        identity: &Identity,
        targets: Targets,
        gate: Gate,
        blueprints: Blueprints,
        templates: Templates,
        breakers: Breakers,
    ) -> Assembled {
        let config = loaded.config.clone();
        let (server, address) = (identity.server, identity.address);
        let (clock, wakes) = (identity.clock.clone(), Wakes::default());
        let (vitals, answering) = (Vitals::default(), Arc::new(Answering::default()));
        let depths: Arc<Depths> = Arc::default();
        let (pool, duties) = (targets.pool.clone(), targets.target.duties());
        let pressure = Pressure::new(
            config.backpressure.clone(),
            pool.clone(),
            config.database.max_connections,
        );
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
            pressure.clone(),
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
            asks: Asks::default(),
            look_at: None,
            throttle: Throttle::new(Instant::now()),
            pace: Pace::default(),
            breaker: breakers.task_readiness.clone(),
        };
        let loops = Loops {
            owner: Owner {
                connection: Pinned::new(targets.target.by_key()),
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
                breaker: breakers.pgmq.clone(),
                choice: Choice::default(),
            },
            timer: Timer {
                pool: duties.clone(),
                shards: shards.clone(),
                delayed,
                wakes: wakes.clone(),
                patience: Patience::new(interval),
                breaker: breakers.pgmq.clone(),
            },
            rescue: Rescue {
                pool: duties.clone(),
                shards: shards.clone(),
                breaker: breakers.pgmq.clone(),
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
            pulse: Pulse {
                pool: pool.clone(),
                connection: Pinned::new(targets.target.clone()),
                breaker: breakers.web.clone(),
                pressure,
                answering: Arc::clone(&answering),
                depths: Arc::clone(&depths),
            },
            upkeep: Upkeep {
                pool: pool.clone(),
                clock: clock.clone(),
                shards: shards.clone(),
            },
            autovacuum: Autovacuum {
                pool: pool.clone(),
                shards: shards.clone(),
            },
            retention: config.retention.keep_days.map(|keep_days| Retention {
                target: targets.direct.clone(),
                pool: pool.clone(),
                clock: clock.clone(),
                shards: shards.clone(),
                keep_days,
                archive_directory: config.retention.archive_directory.clone(),
            }),
            pool: pool.clone(),
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
        Assembled {
            state: web::State::new(web::Parts {
                gate,
                pool,
                loaded,
                initializer,
                controls,
                templates,
                blueprints,
                clock,
                progress,
                shards,
                breakers,
                vitals: vitals.clone(),
                answering,
                depths,
            }),
            loops,
            vitals,
            drain_delay: Duration::from_millis(config.server.drain_delay_ms),
            shutdown_timeout: Duration::from_millis(config.server.shutdown_timeout_ms),
        }
    }
}

impl Loops {
    /// Sets them to work, until `working` is cancelled; those that store what the API accepts end by themselves when
    /// nothing more can come.
    pub(super) fn spawn(
        self,
        vitals: &Vitals,
        working: &CancellationToken,
    ) -> (TaskTracker, JoinHandle<()>) {
        let loops = TaskTracker::new();
        macro_rules! spawn {
            ($($name:literal: $work:expr),+ $(,)?) => {
                $(loops.spawn(vitals.clone().keep($name, working.clone(), $work.run(working.clone())));)+
            };
        }
        spawn! {
            "shards": self.owner,
            "result_processor": self.results,
            "outbox": self.outbox,
            "timer": self.timer,
            "rescue": self.rescue,
            "staleness": self.watcher,
            "pulse": self.pulse,
            "upkeep": self.upkeep,
            "autovacuum": self.autovacuum,
        }
        if let Some(giving_up) = self.giving_up {
            spawn!("unroutable": giving_up);
        }
        if let Some(retention) = self.retention {
            spawn!("retention": retention);
        }
        let counting = stats::keep(self.pool, working.clone());
        loops.spawn(vitals.clone().keep("stats", working.clone(), counting));
        if tasker_shared::metrics::is_on() {
            spawn!("gauges": self.gauges);
        }
        if let Some((target, wakes)) = self.listen {
            let listening = wake::listen(target, TOPICS, wakes, |_| {}, working.clone());
            loops.spawn(vitals.clone().keep("listener", working.clone(), listening));
        }
        loops.close();
        let stores = vitals.clone().guard("stores", self.stores.run());
        (loops, tokio::spawn(stores))
    }
}

fn rules(config: &Config) -> Rules {
    Rules {
        slice: SLICE,
        children: 2 * SLICE,
        max_lost: i32::try_from(config.limits.max_lost_leases).unwrap_or(i32::MAX),
    }
}
