//! Holds autovacuum off tables that it would read in vain: while some session keeps an old snapshot, it reads the queues and
//! the week's tables once a minute, longer each time, and can remove nothing. A duty of the whole cluster: done by the
//! owner of shard 0.

use std::time::Duration;

use tasker_shared::db;
use tasker_shared::db::autovacuum;
use tasker_shared::db::pool::Pool;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use holding::{Holding, Order};

mod holding;

/// How often is looked: autovacuum comes once a minute.
const INTERVAL: Duration = Duration::from_secs(30);

/// Whoever holds it off.
#[derive(Debug)]
pub struct Autovacuum {
    pub pool: Pool,
    pub shards: watch::Receiver<Vec<i16>>,
}

impl Autovacuum {
    /// Works until `stop`, from the moment this server owns its first shards, and lets autovacuum in again then. Where it is
    /// killed, whoever has this duty next does that first.
    pub async fn run(mut self, stop: CancellationToken) {
        let (mut holding, mut duty) = (Holding::default(), false);
        while !stop.is_cancelled() {
            duty = self.shards.borrow_and_update().contains(&0);
            if duty {
                self.try_pass(&mut holding).await;
            } else {
                holding = Holding::default();
            }
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                _ = self.shards.changed(), if !duty => {}
                () = stop.cancelled() => {}
            }
        }
        if duty {
            self.try_pass(&mut Holding::default()).await;
        }
    }

    async fn try_pass(&self, holding: &mut Holding) {
        if let Err(error) = self.pass(holding).await {
            tracing::warn!(%error, "looking after autovacuum failed; trying again");
        }
    }

    async fn pass(&self, holding: &mut Holding) -> db::Result<()> {
        let tables = autovacuum::list(&self.pool).await?;
        for Order { table, hold } in holding.look(&tables) {
            let done = autovacuum::hold(&self.pool, table, hold).await?;
            if done && hold {
                tracing::info!(
                    table,
                    "autovacuum held off what it would read in vain: some session keeps an old snapshot"
                );
            } else if done {
                tracing::info!(table, "autovacuum let in again");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use sqlx::{Connection, Executor};
    use tasker_shared::db::pool::Target;
    use tasker_shared::db::{Transaction, measure, migrate};
    use tasker_shared::embedded::Temporary;

    use super::*;

    const DIE: &str = "INSERT INTO tasker.results (shard, task_uuid, correlation_id, kind, sent_at, step_no, attempt, tries, lost, template_id, priority, sampled)
        SELECT 0, u.none, u.none, 0, now(), 1, 1, 1, 0, 1, 0, false
          FROM generate_series(1, 200000) n, (VALUES ('00000000-0000-0000-0000-000000000000'::uuid)) AS u(none);
        DELETE FROM tasker.results;
        ALTER TABLE tasker.results SET (autovacuum_enabled = off)";

    async fn migrated() -> (Temporary, Target, Pool) {
        let postgres = Temporary::start().await.unwrap();
        let target = Target::parse(postgres.url(), "test", Duration::from_secs(10)).unwrap();
        migrate::run(&target).await.unwrap();
        let pool = target.pool(2);
        (postgres, target, pool)
    }

    fn keeper(pool: &Pool, shards: watch::Receiver<Vec<i16>>) -> Autovacuum {
        let pool = pool.clone();
        Autovacuum { pool, shards }
    }

    #[tokio::test]
    async fn a_queue_is_held_off_while_a_snapshot_keeps_what_died_in_it() {
        let (_postgres, target, pool) = migrated().await;
        let keeper = keeper(&pool, watch::channel(vec![0]).1);
        let mut holding = Holding::default();

        let mut session = target.connect().await.unwrap();
        let mut snapshot = Transaction::begin(&mut session, "reader").await.unwrap();
        measure::pin(&mut snapshot).await.unwrap();
        let mut connection = target.connect().await.unwrap();
        connection.execute(DIE).await.unwrap();
        connection.close().await.unwrap();
        while autovacuum::list(&pool).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let is_held = async || {
            let tables = autovacuum::list(&pool).await.unwrap();
            tables.first().map(|table| table.is_held)
        };
        for held in [false, false, true] {
            keeper.pass(&mut holding).await.unwrap();
            assert_eq!(is_held().await, Some(held));
            measure::vacuum(&pool).await.unwrap();
        }
        snapshot.rollback().await.unwrap();
        keeper.pass(&mut holding).await.unwrap();
        assert_eq!(is_held().await, Some(false));
        measure::vacuum(&pool).await.unwrap();
        assert_eq!(is_held().await, None, "all that died has gone");
    }

    #[tokio::test]
    async fn autovacuum_is_let_in_when_the_duty_begins_and_when_it_ends() {
        let (_postgres, _, pool) = migrated().await;
        let (_owner, shards) = watch::channel(vec![0]);
        let (keeper, stop) = (keeper(&pool, shards), CancellationToken::new());
        let hold = async || assert!(autovacuum::hold(&pool, "ready", true).await.unwrap());
        let held = async || autovacuum::list(&pool).await.unwrap().len();
        hold().await;
        let running = tokio::spawn(keeper.run(stop.clone()));
        while held().await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        hold().await;
        assert_eq!(held().await, 1);
        stop.cancel();
        running.await.unwrap();
        assert_eq!(held().await, 0);
    }
}
