//! The heartbeat: renews the worker's lease, learns which tasks go on no more, and, where the lease was
//! taken as run out, lets go of everything and begins anew under another id.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tasker_shared::clock::Clock;
use tasker_shared::db;
use tasker_shared::db::pool::Pinned;
use tasker_shared::db::wake::{Topic, Wakes};
use tasker_shared::db::workers::{self, Registration};
use tasker_shared::resilience::breaker::Breaker;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::running::{Running, Stop};
use crate::web::Progress;

/// The wait before the next try after the database could not be reached.
const PAUSE: Duration = Duration::from_millis(500);
/// How often the connection is asked whether it still answers.
const TEST: Duration = Duration::from_secs(2);

/// The heartbeat loop.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    /// Its own: a pool may be busy for longer than the lease lasts.
    pub(crate) connection: Pinned,
    /// What the worker says of itself; its id changes with every lease.
    pub(crate) registration: Registration,
    pub(crate) interval: Duration,
    /// Tells the claim loop the id.
    pub(crate) worker: watch::Sender<Uuid>,
    pub(crate) running: Running,
    pub(crate) wakes: Wakes,
    pub(crate) progress: Arc<Progress>,
    pub(crate) clock: Clock,
    /// Told how renewing goes, and never asked.
    pub(crate) breaker: Breaker,
}

impl Heartbeat {
    /// Takes the first lease.
    pub(crate) async fn register(&mut self) -> db::Result<()> {
        self.registration.worker = Uuid::now_v7();
        let connection = self.connection.get().await?;
        let registered = workers::register(connection, &self.registration).await;
        self.connection.check(registered)?;
        self.worker.send_replace(self.registration.worker);
        self.progress.named(self.registration.worker);
        self.progress.renewed(self.clock.now());
        Ok(())
    }

    /// Beats until `stop`, then ends the lease.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut due = Instant::now() + self.interval;
        while !stop.is_cancelled() {
            let pause = due.saturating_duration_since(Instant::now()).min(TEST);
            let woken = tokio::select! {
                woken = self.wakes.wait(Topic::Cancels, pause) => woken,
                () = stop.cancelled() => break,
            };
            // One that has fallen silent would be waited for until the lease is lost.
            let tested = self.connection.test().await;
            let is_due = woken || due <= Instant::now();
            let beaten = match tested {
                Ok(()) if !is_due => continue,
                Err(error) if !is_due => Err(error),
                _ => self.beat().await,
            };
            let pause = match db::tell(&self.breaker, self.connection.check(beaten)) {
                Ok(()) => self.interval,
                Err(error) => {
                    tracing::warn!(%error, "renewing the lease failed; trying again");
                    PAUSE
                }
            };
            due = Instant::now() + pause;
        }
        if let Err(error) = self.end().await {
            tracing::warn!(%error, "ending the lease failed; it runs out by itself");
        }
    }

    async fn end(&mut self) -> db::Result<()> {
        workers::stop(self.connection.get().await?, self.registration.worker).await
    }

    async fn beat(&mut self) -> db::Result<()> {
        let busy = i32::try_from(self.running.count()).unwrap_or(i32::MAX);
        let tasks = self.running.tasks();
        let registration = &self.registration;
        let beat = workers::beat(
            &mut self.connection,
            registration.worker,
            registration.lease_ms,
            busy,
            &tasks,
        )
        .await?;
        if beat.alive {
            self.progress.renewed(self.clock.now());
            self.running.stop_tasks(&beat.ended);
            return Ok(());
        }
        tracing::warn!(worker = %registration.worker, "the lease ran out; letting go of what runs and beginning anew");
        self.running.stop_all(Stop::LeaseLost);
        self.register().await
    }
}
