//! Rescue: steps whose worker stopped without handing in a result become messages to the owners of their
//! shards, who put them back or give them up. A duty of the whole cluster: done by the owner of shard 0.

use std::time::Duration;

use tasker_shared::db;
use tasker_shared::db::pool::Pool;
use tasker_shared::db::workers;
use tasker_shared::resilience::breaker::Breaker;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often leases are looked at.
const INTERVAL: Duration = Duration::from_secs(2);
/// Steps taken back in one statement.
const MOST: i64 = 500;
/// For how long a worker that stopped is still looked after: longer than any claim takes to commit.
const RECENT_MS: i64 = 15_000;
/// The same until a pass has gone well: whoever had this duty before may have died in the middle of it, and
/// workers may have stopped while nobody had it.
const EVER_MS: i64 = 366 * 24 * 60 * 60 * 1_000;

/// The rescuer.
#[derive(Debug)]
pub struct Rescue {
    pub pool: Pool,
    pub shards: watch::Receiver<Vec<i16>>,
    pub breaker: Breaker,
}

impl Rescue {
    /// Works until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut since_ms = EVER_MS;
        while !stop.is_cancelled() {
            if !self.shards.borrow().contains(&0) {
                since_ms = EVER_MS;
            } else if self.breaker.admit().is_ok() {
                since_ms = match db::tell(&self.breaker, self.pass(since_ms).await) {
                    Ok(()) => RECENT_MS,
                    Err(error) => {
                        tracing::warn!(%error, "rescuing steps failed; trying again");
                        EVER_MS
                    }
                };
            }
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Takes back what workers had that stopped within the last `since_ms`.
    async fn pass(&self, since_ms: i64) -> db::Result<()> {
        let stopped = workers::expire(&self.pool, since_ms).await?;
        if stopped.is_empty() {
            return Ok(());
        }
        loop {
            let rescued = workers::rescue(&self.pool, &stopped, MOST).await?;
            if rescued > 0 {
                tracing::warn!(
                    steps = rescued,
                    "steps taken back from workers that stopped"
                );
            }
            if rescued < MOST {
                return Ok(());
            }
        }
    }
}
