//! Retention: weeks of history that are old enough are archived and dropped. A duty of the whole cluster: done by the
//! owner of shard 0, on a connection of its own. What a pass leaves undone, the next one takes up.

use std::path::PathBuf;
use std::time::Duration;

use sqlx::PgConnection;
use tasker_shared::clock::Clock;
use tasker_shared::db;
use tasker_shared::db::archive;
use tasker_shared::db::partitions::{self, Hold, Table, Week};
use tasker_shared::db::pool::{Pool, Target};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often: the look at a week that is held reads its tasks.
const INTERVAL: Duration = Duration::from_secs(3_600);
/// How soon again where something was busy or went wrong.
const SOON: Duration = Duration::from_secs(60);

/// Whoever drops what is old.
#[derive(Debug)]
pub struct Retention {
    /// Without a pooler between.
    pub target: Target,
    pub pool: Pool,
    pub clock: Clock,
    pub shards: watch::Receiver<Vec<i16>>,
    pub keep_days: u32,
    pub archive_directory: Option<PathBuf>,
}

/// Why a pass ended early.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Database(#[from] db::Error),
    #[error("the archive: {0}")]
    Archive(#[from] archive::Error),
}

/// How a pass went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passed {
    /// Everything that may go has gone.
    Done,
    /// A lock was not had in time, or somebody else is at it.
    Busy,
}

impl Retention {
    /// Works until `stop`, from the moment this server owns its first shards.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let duty = self.shards.borrow_and_update().contains(&0);
            let mut pause = INTERVAL;
            if duty {
                let passed = tokio::select! {
                    passed = self.pass() => passed,
                    () = stop.cancelled() => return,
                };
                pause = match passed {
                    Ok(Passed::Done) => INTERVAL,
                    Ok(Passed::Busy) => SOON,
                    Err(error) => {
                        tracing::warn!(%error, "retention failed; trying again");
                        SOON
                    }
                };
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = self.shards.changed(), if !duty => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn pass(&self) -> Result<Passed, Error> {
        let cutoff = partitions::cutoff(self.clock.now(), self.keep_days);
        let mut connection = self.target.connect().await?;
        if !partitions::take_turn(&mut connection).await? {
            return Ok(Passed::Busy);
        }
        let forgotten = partitions::delete_dead_letters(&self.pool, cutoff).await?;
        if forgotten > 0 {
            tracing::info!(dead_letters = forgotten, "old dead letters removed");
        }
        let mut passed = Passed::Done;
        for week in partitions::list(&mut connection).await? {
            if !week.is_due(cutoff) {
                continue;
            }
            if !week.is_leaving() {
                let holds = partitions::holds(&mut connection, &week, cutoff).await?;
                if !holds.is_empty() {
                    tell(&week, &holds);
                    continue;
                }
            }
            if self.remove(&mut connection, week).await? == Passed::Busy {
                passed = Passed::Busy;
            }
        }
        Ok(passed)
    }

    /// Takes a week out of its tables, archives and drops it. Nothing is dropped before all of it is archived.
    async fn remove(&self, connection: &mut PgConnection, week: Week) -> Result<Passed, Error> {
        if let Some(directory) = &self.archive_directory {
            archive::check(directory)?;
        }
        for &table in week.tables.keys() {
            if !partitions::detach(connection, &week, table).await? {
                tracing::info!(week = %week.begins, table = table.as_str(), "history is in use and cannot be dropped yet; trying again");
                return Ok(Passed::Busy);
            }
        }
        if week.tables.contains_key(&Table::Tasks)
            && let Some(task_uuid) = partitions::find_alive(connection, &week).await?
        {
            tracing::warn!(%task_uuid, week = %week.begins, "a task came to life again while its week was taken away; it is put back");
            return put_back(connection, &week).await;
        }
        let rows = self.archive(connection, &week).await?;
        let keys = partitions::forget(&self.pool, &week).await?;
        // The tasks last: as long as they are there, the others are known to be leaving.
        for &table in week.tables.keys().rev() {
            if !partitions::drop_part(connection, &week, table).await? {
                return Ok(Passed::Busy);
            }
        }
        tracing::info!(week = %week.begins, idempotency_keys = keys, archived_rows = rows, "a week of history was dropped");
        Ok(Passed::Done)
    }

    async fn archive(&self, connection: &mut PgConnection, week: &Week) -> Result<u64, Error> {
        let Some(directory) = &self.archive_directory else {
            return Ok(0);
        };
        let mut rows = 0;
        for &table in week.tables.keys() {
            rows += archive::write(connection, directory, &week.part(table)).await?;
        }
        Ok(rows)
    }
}

async fn put_back(connection: &mut PgConnection, week: &Week) -> Result<Passed, Error> {
    for &table in week.tables.keys().rev() {
        if !partitions::attach(connection, week, table).await? {
            return Ok(Passed::Busy);
        }
    }
    Ok(Passed::Done)
}

fn tell(week: &Week, holds: &[Hold]) {
    for hold in holds {
        tracing::info!(
            week = %week.begins,
            count = hold.count,
            task_uuid = hold.task_uuid.map(tracing::field::display),
            "history is kept for {}",
            hold.what
        );
    }
}
