//! Rescue: steps whose worker stopped without handing in a result become messages to the owners of their
//! shards, who put them back or give them up. A duty of the whole cluster: done by the owner of shard 0.

use std::time::{Duration, Instant};

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
/// For how long a worker that stopped is still looked after: longer than most claims take to commit.
const RECENT_MS: i64 = 15_000;
/// How often whatever is claimed is looked through for steps whose worker is not alive: a claim may be committed
/// later than that, and whoever had this duty before may have died in the middle of it.
const ALL: Duration = Duration::from_secs(60);

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
        let mut looked: Option<Instant> = None;
        while !stop.is_cancelled() {
            if !self.shards.borrow().contains(&0) {
                looked = None;
            } else if self.breaker.admit().is_ok() {
                let all = looked.is_none_or(|at| at.elapsed() >= ALL);
                match db::tell(&self.breaker, self.pass(all).await) {
                    Ok(()) if all => looked = Some(Instant::now()),
                    Ok(()) => {}
                    Err(error) => {
                        tracing::warn!(%error, "rescuing steps failed; trying again");
                        looked = None;
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Takes back what workers had that stopped lately, or `all` that is claimed by whoever is not alive.
    async fn pass(&self, all: bool) -> db::Result<()> {
        let stopped = workers::expire(&self.pool, RECENT_MS, all).await?;
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
