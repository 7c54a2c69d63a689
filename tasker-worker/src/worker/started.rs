//! A worker that holds its address: what it answers while it starts, its work, and its end.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tasker_shared::access::Gate;
use tasker_shared::clock::Clock;
use tasker_shared::db;
use tasker_shared::db::pool::{Pool, Target};
use tasker_shared::db::wake::{self, Topic};
use tasker_shared::resilience::serving::{Bounds, Serving};
use tasker_shared::stats;
use tasker_shared::telemetry::Telemetry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::assembly::{Assembled, Lease, Loops};
use super::{Error, Worker};
use crate::running::{Running, Stop};
use crate::web;

/// Topics that a worker is woken for.
const TOPICS: &[Topic] = &[Topic::Steps, Topic::Lanes, Topic::Cancels];
/// How long telemetry may take to leave when the worker has stopped.
const FLUSH: Duration = Duration::from_secs(5);
/// How long after the drain time handlers that are told to stop, and results that are on their way, are waited for.
const HAND_BACK: Duration = Duration::from_secs(5);
/// How long after the drain time the lease is given to end, whatever hangs.
const END: Duration = Duration::from_secs(10);
/// How long requests that are being answered may take when all else has stopped.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// How long a database that is not there is waited for before a worker gives up starting, and how often it is looked for.
const DATABASE_PATIENCE: Duration = Duration::from_secs(60);
const DATABASE_PAUSE: Duration = Duration::from_secs(1);

/// A worker that holds its address: it answers from `run_until` on, and claims once it has its lease.
#[derive(Debug)]
pub struct Started {
    pub(super) address: SocketAddr,
    pub(super) listener: TcpListener,
    pub(super) targets: Targets,
    pub(super) gate: Gate,
    pub(super) clock: Clock,
    pub(super) telemetry: Telemetry,
    pub(super) worker: Worker,
}

/// How to reach the database.
#[derive(Debug)]
pub(super) struct Targets {
    pub(super) target: Target,
    /// Without a pooler between.
    pub(super) direct: Target,
    pub(super) pool: Pool,
}

impl Started {
    /// Where the worker listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Says how it is from the first moment, takes its lease, and works until `shutdown`; then drains: claims no more,
    /// lets running steps end within the drain time, hands the others back, sends what is left and ends the lease.
    ///
    /// # Errors
    /// The database cannot be migrated, or is not there within a minute.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let mut shutdown = pin!(shutdown);
        let (doing, told) = watch::channel("it has just begun");
        let mut lease = Lease::new(&self.worker, self.address, &self.targets, &self.clock);
        let serving = Serving::begin(
            self.listener,
            web::starting(web::Starting {
                loaded: self.worker.loaded.clone(),
                started_at: self.clock.now(),
                clock: self.clock.clone(),
                doing: told,
                breakers: lease.breakers(&self.worker),
            }),
            Bounds::of(self.worker.loaded.config.worker.max_connections),
        );
        tracing::info!(address = %self.address, "listening");
        let migrate = self.worker.migrate.then_some(&self.targets.direct);
        let prepared = tokio::select! {
            prepared = prepare(&self.targets, migrate, &mut lease, &doing) => prepared.map(|()| true),
            () = &mut shutdown => Ok(false),
        };
        let worked = match prepared {
            Ok(true) => {
                let assembled =
                    Assembled::new(self.worker, lease, self.targets, self.gate, self.clock);
                work(assembled, serving, shutdown).await;
                Ok(())
            }
            Ok(false) => {
                serving.end_within(LAST_ANSWERS).await;
                Ok(())
            }
            Err(error) => Err(error),
        };
        tracing::info!("stopped");
        self.telemetry.shutdown(FLUSH).await;
        worked
    }
}

/// Works until `shutdown`, then drains. Where a loop dies before that, it drains at once, so that others get its steps,
/// and says that it needs a new start.
async fn work(
    assembled: Assembled,
    serving: Serving<axum::Router>,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = pin!(shutdown);
    let Assembled {
        router,
        loops,
        vitals,
        pool,
        running,
        progress,
        drain_timeout,
    } = assembled;
    let Loops {
        claim,
        sender,
        arrivals,
        results,
        heartbeat,
        listen,
    } = loops;
    let [claiming, arriving, beating] = [(); 3].map(|()| CancellationToken::new());
    let beside = TaskTracker::new();
    if let Some((target, wakes)) = listen {
        let told = Arc::clone(&progress);
        let hears = move |hears| told.set_listening(hears);
        let listening = wake::listen(target, TOPICS, wakes, hears, beating.clone());
        beside.spawn(vitals.clone().keep("listener", beating.clone(), listening));
    }
    let counting = stats::keep(pool, beating.clone());
    beside.spawn(vitals.clone().keep("stats", beating.clone(), counting));
    let beats = heartbeat.run(beating.clone());
    beside.spawn(vitals.clone().keep("heartbeat", beating.clone(), beats));
    let arrived = arrivals.run(async move || results.room().await);
    // Whoever makes a worker may keep the door open for longer than it works.
    let arrived = arriving
        .clone()
        .run_until_cancelled_owned(arrived)
        .map(drop);
    beside.spawn(vitals.clone().guard("completions", arrived));
    let claims = claim.run(claiming.clone());
    let mut claims = tokio::spawn(vitals.clone().keep("claims", claiming.clone(), claims));
    let mut sending = tokio::spawn(vitals.clone().guard("result_sender", sender.run()));
    serving.start(router);

    let is_told = tokio::select! {
        () = &mut shutdown => true,
        () = vitals.died() => false,
    };
    tracing::info!(running = running.count(), "draining");
    progress.drain();
    claiming.cancel();
    let drained = Instant::now() + drain_timeout;
    let (last, until) = (drained + HAND_BACK, drained + END);
    // The claim loop holds the way to the executor; when it and the last step are gone, the channels close.
    if timeout_at(last, &mut claims).await.is_err() {
        claims.abort();
    }
    drain(&running, drained).await;
    arriving.cancel();
    if timeout_at(last, &mut sending).await.is_err() {
        sending.abort();
        tracing::error!("not every result could be handed in; their steps run again elsewhere");
    }
    beating.cancel();
    beside.close();
    if timeout_at(until, beside.wait()).await.is_err() {
        tracing::warn!("the lease could not be ended; it runs out by itself");
    }
    if !is_told {
        shutdown.await;
    }
    serving.end_within(LAST_ANSWERS).await;
}

/// Migrates what `migrate` leads to, and takes the lease. A database that is not there yet is waited for.
async fn prepare(
    targets: &Targets,
    migrate: Option<&Target>,
    lease: &mut Lease,
    doing: &watch::Sender<&'static str>,
) -> Result<(), Error> {
    let until = Instant::now() + DATABASE_PATIENCE;
    loop {
        match try_prepare(targets, migrate, lease, doing).await {
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
    targets: &Targets,
    migrate: Option<&Target>,
    lease: &mut Lease,
    doing: &watch::Sender<&'static str>,
) -> Result<(), Error> {
    if let Some(target) = migrate {
        doing.send_replace("migrating the database");
        db::migrate::run(target).await?;
    }
    if targets.target.is_pooled() {
        doing.send_replace("preparing the role for a pooler");
        db::pooler::prepare(&targets.pool, &targets.direct)
            .await
            .map_err(Error::Lease)?;
    }
    doing.send_replace("taking its lease");
    lease.heartbeat.register().await?;
    Ok(())
}

/// Waits for what runs until `drained`; what is not done by then is told to stop and handed back.
async fn drain(running: &Running, drained: Instant) {
    let empty = async || {
        while running.count() > 0 {
            running.freed().await;
        }
    };
    if timeout_at(drained, empty()).await.is_ok() {
        return;
    }
    tracing::warn!(
        running = running.count(),
        "the drain time is over; handing back what still runs"
    );
    running.stop_all(Stop::Drained);
    if timeout_at(drained + HAND_BACK, empty()).await.is_err() {
        tracing::error!(
            running = running.count(),
            "handlers do not stop; their steps run again elsewhere"
        );
    }
}
