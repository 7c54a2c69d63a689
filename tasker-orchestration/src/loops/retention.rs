//! Retention: weeks of history that are old enough are archived and dropped. A duty of the whole cluster: done by the
//! owner of shard 0, on a connection of its own. What a pass leaves undone, the next one takes up.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;
use tasker_shared::clock::Clock;
use tasker_shared::db;
use tasker_shared::db::archive::{self, Shelf};
use tasker_shared::db::partitions::leaving::{self, Mark, Settled};
use tasker_shared::db::partitions::{self, Hold, Table, Week};
use tasker_shared::db::pool::{Pool, Target};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often: the look at a week that is held reads its tasks.
const INTERVAL: Duration = Duration::from_secs(3_600);
/// How soon again where something was busy or went wrong.
const SOON: Duration = Duration::from_secs(60);
/// By how much the clocks of machines that are looked after may differ.
const MOST_SKEW: TimeDelta = TimeDelta::minutes(1);

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
    #[error(
        "the database's clock is {0} s from this machine's, and one of them is wrong: nothing goes by it"
    )]
    Clock(i64),
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
        let mut connection = self.target.connect().await?;
        if !leaving::take_turn(&mut connection).await? {
            return Ok(Passed::Busy);
        }
        let now = partitions::now(&mut connection).await?;
        let cutoff = partitions::cutoff(agreed(now, self.clock.now())?, self.keep_days);
        let forgotten = leaving::delete_dead_letters(&self.pool, cutoff).await?;
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
            if self.remove(&mut connection, &week, cutoff).await? == Passed::Busy {
                passed = Passed::Busy;
            }
        }
        Ok(passed)
    }

    /// Archives a week, takes it out of its tables and drops it. It is archived where it lies: while that takes its
    /// time, or fails, history is all there.
    async fn remove(
        &self,
        connection: &mut PgConnection,
        week: &Week,
        cutoff: DateTime<Utc>,
    ) -> Result<Passed, Error> {
        let marks = match self.archive(connection, week).await {
            Ok(marks) => marks,
            Err(error) => {
                // Somebody who died had begun to take it away: it is not kept from sight for want of an archive.
                if week.is_leaving() && !leaving::put_back(connection, week).await? {
                    tracing::info!(week = %week.begins, "history is in use and cannot be put back yet; trying again");
                }
                return Err(error);
            }
        };
        for &table in week.tables.keys() {
            if !leaving::detach(connection, week, table).await? {
                tracing::info!(week = %week.begins, table = table.as_str(), "history is in use and cannot be dropped yet; trying again");
                return Ok(Passed::Busy);
            }
        }
        match leaving::settle(connection, week, cutoff, &marks).await? {
            Settled::Gone => self.forget(connection, week, &marks).await,
            Settled::Busy => Ok(Passed::Busy),
            Settled::Held(holds) => {
                tell(week, &holds);
                put_back(connection, week).await
            }
            Settled::Changed => put_back(connection, week).await,
        }
    }

    async fn archive(
        &self,
        connection: &mut PgConnection,
        week: &Week,
    ) -> Result<BTreeMap<Table, Mark>, Error> {
        let mut marks = BTreeMap::new();
        if let Some(directory) = &self.archive_directory {
            let shelf = Shelf::open(connection, directory).await?;
            for &table in week.tables.keys() {
                let mark = shelf.write(connection, week, table).await?;
                marks.insert(table, mark);
            }
        }
        Ok(marks)
    }

    async fn forget(
        &self,
        connection: &mut PgConnection,
        week: &Week,
        marks: &BTreeMap<Table, Mark>,
    ) -> Result<Passed, Error> {
        let keys = leaving::forget(&self.pool, week).await?;
        if !leaving::drop_emptied(connection, week).await? {
            return Ok(Passed::Busy);
        }
        let rows: u64 = marks.values().map(|mark| mark.rows).sum();
        tracing::info!(week = %week.begins, idempotency_keys = keys, archived_rows = rows, "a week of history was dropped");
        Ok(Passed::Done)
    }
}

/// The database's time, where this machine's is about the same. By a clock that has jumped, everything may be old.
fn agreed(database: DateTime<Utc>, machine: DateTime<Utc>) -> Result<DateTime<Utc>, Error> {
    let skew = database - machine;
    if skew.abs() > MOST_SKEW {
        return Err(Error::Clock(skew.abs().num_seconds()));
    }
    Ok(database)
}

async fn put_back(connection: &mut PgConnection, week: &Week) -> Result<Passed, Error> {
    tracing::warn!(week = %week.begins, "a task came to life again while its week was taken away; it is put back");
    // It is looked at anew when it is its time again; until it is back, soon.
    match leaving::put_back(connection, week).await? {
        true => Ok(Passed::Done),
        false => Ok(Passed::Busy),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_old_by_clocks_that_differ_by_more_than_a_minute() {
        let now = Utc::now();
        for (seconds, expected) in [
            (0, true),
            (-59, true),
            (59, true),
            (61, false),
            (-3_600, false),
        ] {
            let machine = now + TimeDelta::seconds(seconds);
            let agreed = agreed(now, machine);
            assert_eq!(agreed.ok(), expected.then_some(now), "{seconds} s");
        }
    }
}
