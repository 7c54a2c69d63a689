//! Upkeep: partitions made ahead, weeks that are over indexed, answers of old controls removed, counts of tasks and
//! statistics folded. A duty of the whole cluster: done by the owner of shard 0.

use std::time::Duration;

use tasker_shared::clock::Clock;
use tasker_shared::db;
use tasker_shared::db::pool::Pool;
use tasker_shared::db::{circuits, gauges, stats, upkeep};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often.
const INTERVAL: Duration = Duration::from_secs(600);
/// How soon again where something went wrong.
const SOON: Duration = Duration::from_secs(60);
/// How far ahead partitions are made.
const WEEKS_AHEAD: i32 = 4;

/// The caretaker.
#[derive(Debug)]
pub struct Upkeep {
    pub pool: Pool,
    pub clock: Clock,
    pub shards: watch::Receiver<Vec<i16>>,
}

impl Upkeep {
    /// Works until `stop`, from the moment this server owns its first shards.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let duty = self.shards.borrow_and_update().contains(&0);
            let mut pause = INTERVAL;
            if duty && let Err(error) = self.pass().await {
                tracing::warn!(%error, "upkeep failed; trying again in a minute");
                pause = SOON;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = self.shards.changed(), if !duty => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn pass(&self) -> db::Result<()> {
        let made = upkeep::ensure_partitions(&self.pool, self.clock.now(), WEEKS_AHEAD).await?;
        if made > 0 {
            tracing::info!(partitions = made, "partitions made ahead, or put back");
        }
        upkeep::delete_old_controls(&self.pool).await?;
        circuits::delete_old(&self.pool).await?;
        stats::fold(&self.pool).await?;
        // Where telemetry is off nobody else does.
        gauges::fold(&self.pool).await?;
        upkeep::index_closed_weeks(&self.pool, self.clock.now()).await?;
        Ok(())
    }
}
