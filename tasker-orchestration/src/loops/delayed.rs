//! Waking what is due: retries, and tasks with `run_at`. The timer is set to the earliest; what is put in
//! meanwhile is told, by this process or a notification, and looked for by itself from time to time.

use std::sync::Arc;
use std::time::Duration;

use tasker_shared::db;
use tasker_shared::db::delayed;
use tasker_shared::db::pool::Pool;
use tasker_shared::db::wake::{Patience, Topic, Wakes};
use tasker_shared::resilience::breaker::{Admitted, Breaker};
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
    pub patience: Patience,
    pub breaker: Breaker,
}

impl Timer {
    /// Works until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let pause = match self.breaker.admit() {
                Ok(call) => self.guarded_pass(call).await,
                Err(open) => open.retry_after,
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.delayed.notified() => {}
                _ = self.wakes.wait(Topic::Delayed, pause) => {}
                _ = self.shards.changed() => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn guarded_pass(&mut self, call: Admitted) -> Duration {
        if self.shards.borrow_and_update().is_empty() {
            self.breaker.let_go(call);
            return self.patience.longest(self.wakes.hears());
        }
        db::tell(&self.breaker, self.pass().await).unwrap_or_else(|error| {
            tracing::warn!(%error, "waking what is due failed; trying again");
            self.patience.longest(false)
        })
    }

    /// Wakes what is due and returns how long to wait for the next.
    async fn pass(&self) -> db::Result<Duration> {
        let shards = self.shards.borrow().clone();
        let promoted = delayed::promote(&self.pool, &shards, MOST).await?;
        if promoted.count > 0 {
            self.wakes.wake(Topic::Results);
        }
        if promoted.count >= MOST {
            // A shard may have more than fitted.
            return Ok(SHORTEST);
        }
        let longest = self.patience.longest(self.wakes.hears());
        let pause = promoted.next_due_ms.map_or(longest, |ms| {
            Duration::from_millis(u64::try_from(ms).unwrap_or(0))
        });
        Ok(pause.clamp(SHORTEST, longest))
    }
}
