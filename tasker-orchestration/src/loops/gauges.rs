//! The gauges of the whole cluster: tasks by state, steps and messages that wait, dead letters that are pending. A duty of the whole cluster, so that
//! sums over servers do not double: done by the owner of shard 0, while the others show none.

use std::collections::BTreeMap;
use std::time::Duration;

use tasker_shared::db;
use tasker_shared::db::dead_letter_views;
use tasker_shared::db::gauges::{self, Gauges, Marks};
use tasker_shared::db::pool::Pinned;
use tasker_shared::metrics::{messaging, orchestration};
use tasker_shared::name::Name;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often they are read, however often they are looked at.
const INTERVAL: Duration = Duration::from_secs(5);
/// How many times as long as reading took is rested: while some session holds an old snapshot, reading goes over
/// what has been taken out of the queues since.
const REST: u32 = 50;
/// And how long at most: nobody should look at older ones.
const LONGEST: Duration = Duration::from_secs(60);

/// The reader of gauges.
#[derive(Debug)]
pub struct Reader {
    pub connection: Pinned,
    pub shards: watch::Receiver<Vec<i16>>,
}

impl Reader {
    /// Works until `stop`, from the moment this server owns its first shards.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut marks = Marks::default();
        while !stop.is_cancelled() {
            let began = Instant::now();
            let duty = self.shards.borrow_and_update().contains(&0);
            if duty {
                self.pass(&mut marks).await;
            } else {
                show_nothing();
            }
            tokio::select! {
                () = tokio::time::sleep(rest(began.elapsed())) => {}
                _ = self.shards.changed() => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// What could not be read is not shown: an old number would look like a true one.
    async fn pass(&mut self, marks: &mut Marks) {
        let result = self.read(marks).await;
        match self.connection.check(result) {
            Ok((gauges, dead)) => {
                show(&gauges);
                show_dead_letters(&gauges, &dead);
            }
            Err(error) => {
                tracing::warn!(%error, "reading the gauges failed; trying again");
                // A crash of the database may have taken ids back.
                *marks = Marks::default();
                show_nothing();
            }
        }
    }

    async fn read(&mut self, marks: &mut Marks) -> db::Result<(Gauges, Vec<(String, u64)>)> {
        let connection = self.connection.get().await?;
        gauges::fold(&mut *connection).await?;
        let gauges = gauges::read(&mut *connection, marks).await?;
        let dead = dead_letter_views::count_open(connection).await?;
        Ok((gauges, dead))
    }
}

/// How long to rest after reading for so long.
fn rest(took: Duration) -> Duration {
    took.saturating_mul(REST).clamp(INTERVAL, LONGEST)
}

fn show_nothing() {
    show(&Gauges::default());
    orchestration::show_dead_letters(&[]);
}

/// Every namespace that has lanes is shown, so that the first entry of one is a change and not a beginning.
fn show_dead_letters(gauges: &Gauges, dead: &[(String, u64)]) {
    let mut open: BTreeMap<Name, u64> = gauges.ready.iter().map(|(name, _)| (*name, 0)).collect();
    open.extend(dead.iter().map(|(name, count)| (Name::of(name), *count)));
    orchestration::show_dead_letters(&open.into_iter().collect::<Vec<_>>());
}

fn show(gauges: &Gauges) {
    orchestration::show_active(&gauges.tasks);
    orchestration::show_ready(&gauges.ready);
    messaging::show_depth(&gauges.depths);
    messaging::show_age(&gauges.ages);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_takes_a_fiftieth_of_the_time_until_gauges_would_be_a_minute_old() {
        assert_eq!(rest(Duration::from_millis(20)), INTERVAL);
        assert_eq!(rest(Duration::from_millis(200)), Duration::from_secs(10));
        assert_eq!(rest(Duration::MAX), LONGEST);
    }
}
