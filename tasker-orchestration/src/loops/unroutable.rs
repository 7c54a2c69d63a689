//! Steps that no worker can run become failures, where that is configured: those that have waited for so long in a
//! lane that no live worker serves. A duty of the whole cluster: done by the owner of shard 0.

use std::time::Duration;

use tasker_shared::db;
use tasker_shared::db::pool::Pool;
use tasker_shared::db::unroutable;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often lanes are looked at.
const INTERVAL: Duration = Duration::from_secs(2);
/// Lanes looked at in one pass.
const MOST_LANES: i64 = 100;
/// Steps ended in one statement.
const MOST_STEPS: i64 = 500;

/// The one who gives steps up.
#[derive(Debug)]
pub struct GivingUp {
    pub pool: Pool,
    pub shards: watch::Receiver<Vec<i16>>,
    /// For how long a step waits for a worker.
    pub after_seconds: i64,
}

impl GivingUp {
    /// Works until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if self.shards.borrow().contains(&0)
                && let Err(error) = self.pass().await
            {
                tracing::warn!(%error, "looking for steps that nobody can run failed; trying again");
            }
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn pass(&self) -> db::Result<()> {
        loop {
            let lanes = unroutable::list_lanes(&self.pool, self.after_seconds, MOST_LANES).await?;
            if lanes.is_empty() {
                return Ok(());
            }
            let failed =
                unroutable::fail(&self.pool, &lanes, self.after_seconds, MOST_STEPS).await?;
            if failed > 0 {
                tracing::warn!(steps = failed, "steps given up that no live worker can run");
            }
            if failed < MOST_STEPS {
                return Ok(());
            }
        }
    }
}
