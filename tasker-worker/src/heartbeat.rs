//! The heartbeat: renews the worker's lease, learns which tasks go on no more, and, where the lease was
//! taken as run out, lets go of everything and begins anew under another id.

use std::sync::Arc;
use std::time::Duration;

use tasker_shared::clock::Clock;
use tasker_shared::db;
use tasker_shared::db::pool::Pool;
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

/// The heartbeat loop.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    pub(crate) pool: Pool,
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
        workers::register(&self.pool, &self.registration).await?;
        self.worker.send_replace(self.registration.worker);
        self.progress.named(self.registration.worker);
        self.progress.renewed(self.clock.now());
        Ok(())
    }

    /// Beats until `stop`, then ends the lease.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut pause = self.interval;
        while !stop.is_cancelled() {
            tokio::select! {
                _ = self.wakes.wait(Topic::Cancels, pause) => {}
                () = stop.cancelled() => break,
            }
            let beaten = self.beat().await;
            pause = match db::tell(&self.breaker, beaten) {
                Ok(()) => self.interval,
                Err(error) => {
                    tracing::warn!(%error, "renewing the lease failed; trying again");
                    PAUSE
                }
            };
        }
        if let Err(error) = workers::stop(&self.pool, self.registration.worker).await {
            tracing::warn!(%error, "ending the lease failed; it runs out by itself");
        }
    }

    async fn beat(&mut self) -> db::Result<()> {
        let busy = i32::try_from(self.running.count()).unwrap_or(i32::MAX);
        let tasks = self.running.tasks();
        let registration = &self.registration;
        let beat = workers::beat(
            &self.pool,
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
