//! Rescue: steps whose worker stopped without handing in a result become messages to the owners of their
//! shards, who put them back or give them up. A duty of the whole cluster: done by the owner of shard 0.

use std::time::{Duration, Instant};

use tasker_shared::cursor::Rounds;
use tasker_shared::db;
use tasker_shared::db::pool::Pool;
use tasker_shared::db::workers;
use tasker_shared::resilience::breaker::Breaker;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often leases are looked at.
const INTERVAL: Duration = Duration::from_secs(2);
/// Steps taken back in one statement.
const MOST: i64 = 500;
/// For how long a worker that stopped is still looked after: longer than most claims take to commit.
const RECENT_MS: i64 = 15_000;
/// The rescuer. Round by round it looks through whatever is claimed for steps whose worker is not alive: a claim may be
/// committed later than workers are looked after, and whoever had this duty before may have died in the middle of it.
#[derive(Debug)]
pub struct Rescue {
    pub pool: Pool,
    pub shards: watch::Receiver<Vec<i16>>,
    pub breaker: Breaker,
}

impl Rescue {
    /// Works until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut rounds: Option<Rounds> = None;
        while !stop.is_cancelled() {
            if !self.shards.borrow().contains(&0) {
                rounds = None;
            } else if self.breaker.admit().is_ok() {
                let rounds = rounds.get_or_insert_default();
                if let Err(error) = db::tell(&self.breaker, self.pass(rounds).await) {
                    tracing::warn!(%error, "rescuing steps failed; trying again");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Takes back what workers had that stopped lately, or have of what is looked through now and are not alive.
    async fn pass(&self, rounds: &mut Rounds) -> db::Result<()> {
        let began = Instant::now();
        let within = rounds.due_span(began);
        let stopped = workers::expire(&self.pool, RECENT_MS, within).await?;
        let took = began.elapsed();
        if !stopped.workers.is_empty() {
            self.rescue(&stopped.workers).await?;
        }
        if within.is_some() {
            rounds.looked(stopped.newest, took, Instant::now());
        }
        Ok(())
    }

    async fn rescue(&self, stopped: &[Uuid]) -> db::Result<()> {
        loop {
            let rescued = workers::rescue(&self.pool, stopped, MOST).await?;
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
