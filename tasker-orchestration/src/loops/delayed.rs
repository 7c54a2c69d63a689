//! Waking what is due: retries, and tasks with `run_at`. The timer is set to the earliest; the interval is
//! for what other servers and users' transactions put in.

use std::sync::Arc;
use std::time::Duration;

use tasker_shared::db;
use tasker_shared::db::delayed;
use tasker_shared::db::pool::Pool;
use tasker_shared::db::wake::{Topic, Wakes};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// Messages made of one shard's delayed in one pass.
const MOST: i64 = 500;
/// The shortest wait between two looks.
const SHORTEST: Duration = Duration::from_millis(1);

/// The timer.
#[derive(Debug)]
pub struct Timer {
    pub pool: Pool,
    pub shards: watch::Receiver<Vec<i16>>,
    /// Something was delayed by this process.
    pub delayed: Arc<Notify>,
    pub wakes: Wakes,
    pub interval: Duration,
}

impl Timer {
    /// Works until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let pause = match self.pass().await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::warn!(%error, "waking what is due failed; trying again");
                    self.interval
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.delayed.notified() => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Wakes what is due and returns how long to wait for the next.
    async fn pass(&self) -> db::Result<Duration> {
        let shards = self.shards.borrow().clone();
        if shards.is_empty() {
            return Ok(self.interval);
        }
        let promoted = delayed::promote(&self.pool, &shards, MOST).await?;
        if promoted > 0 {
            self.wakes.wake(Topic::Results);
        }
        let next = delayed::next_due_ms(&self.pool, &shards).await?;
        let pause = next.map_or(self.interval, |ms| {
            Duration::from_millis(u64::try_from(ms).unwrap_or(0))
        });
        Ok(pause.clamp(SHORTEST, self.interval))
    }
}
