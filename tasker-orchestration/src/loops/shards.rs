//! Which shards this server owns. It renews what it holds well before its time is over, takes its fair share
//! of what is free, gives up what is more than that, and hands all over when it stops.

use std::time::{Duration, Instant};

use tasker_shared::db::pool::Pinned;
use tasker_shared::db::shards::{self, Shard};
use tasker_shared::metrics::correlation;
use tasker_shared::{db, ids};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often shards are renewed; they are held for five seconds.
const INTERVAL: Duration = Duration::from_millis(1_500);
/// How often while there is a share to take that nobody has given up yet.
const HUNGRY: Duration = Duration::from_millis(200);
/// After this long without a renewal the shards count as lost.
const HELD_FOR: Duration = Duration::from_millis(4_500);

/// The owner of shards.
#[derive(Debug)]
pub struct Owner {
    /// Its own: a pool may be busy for longer than shards are held.
    pub connection: Pinned,
    pub server: Uuid,
    pub name: String,
    /// Tells the loops what is owned.
    pub owned: watch::Sender<Vec<i16>>,
}

impl Owner {
    /// Works until `stop`, then gives everything back.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut renewed = Instant::now();
        while !stop.is_cancelled() {
            let passed = self.pass().await;
            let pause = match self.connection.check(passed) {
                Ok(sated) => {
                    renewed = Instant::now();
                    if sated { INTERVAL } else { HUNGRY }
                }
                Err(error) => {
                    tracing::warn!(%error, "renewing shards failed; trying again");
                    if renewed.elapsed() > HELD_FOR {
                        own(&self.owned, Vec::new());
                    }
                    HUNGRY
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
        own(&self.owned, Vec::new());
        if let Err(error) = self.leave().await {
            tracing::warn!(%error, "giving shards back failed; they are free in five seconds");
        }
    }

    async fn leave(&mut self) -> db::Result<()> {
        shards::leave(self.connection.get().await?, self.server).await
    }

    /// Renews, takes and gives; says whether this server has its share.
    async fn pass(&mut self) -> db::Result<bool> {
        // One that has fallen silent would be waited for until the shards are lost.
        self.connection.test().await?;
        let connection = self.connection.get().await?;
        let all = shards::renew(&mut *connection, self.server, &self.name).await?;
        let others = all.first().map_or(0, |shard| shard.others);
        correlation::share_among(usize::try_from(others).unwrap_or(0) + 1);
        let mut mine: Vec<i16> = all.iter().filter(|s| s.mine).map(|s| s.shard).collect();
        match balance(&all, others) {
            Balance::Take(most) => {
                let taken = shards::take(connection, self.server, most).await?;
                mine.extend(taken.iter().map(|s| s.shard));
            }
            Balance::Give(count) => {
                let given = mine.split_off(mine.len() - count);
                own(&self.owned, mine.clone());
                shards::release(connection, self.server, &given).await?;
            }
            Balance::Keep => {}
        }
        mine.sort_unstable();
        let sated =
            i64::try_from(mine.len()).unwrap_or(i64::MAX) >= i64::from(ids::SHARDS) / (others + 1);
        own(&self.owned, mine);
        Ok(sated)
    }
}

fn own(owned: &watch::Sender<Vec<i16>>, mine: Vec<i16>) {
    owned.send_if_modified(|owned| {
        if *owned == mine {
            return false;
        }
        tracing::debug!(shards = ?mine, "shards owned");
        *owned = mine;
        true
    });
}

/// What to do about the shards.
#[derive(Debug, PartialEq, Eq)]
enum Balance {
    Take(i64),
    Give(usize),
    Keep,
}

/// Decides by the state of all shards and the number of other servers alive: nobody holds more than its
/// share, rounded up.
fn balance(all: &[Shard], others: i64) -> Balance {
    let count = |pick: fn(&&Shard) -> bool| all.iter().filter(pick).count();
    let share = all.len().div_ceil(usize::try_from(others).unwrap_or(0) + 1);
    let mine = count(|s| s.mine);
    let free = count(|s| s.free);
    if mine > share {
        return Balance::Give(mine - share);
    }
    match free.min(share - mine) {
        0 => Balance::Keep,
        most => Balance::Take(i64::try_from(most).unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards(mine: usize, free: usize) -> Vec<Shard> {
        (0..16)
            .map(|i| Shard {
                shard: i16::try_from(i).unwrap_or(0),
                epoch: 1,
                mine: i < mine,
                free: i >= 16 - free,
                others: 0,
            })
            .collect()
    }

    #[test]
    fn a_server_takes_its_share_and_gives_up_what_is_more() {
        let cases = [
            // mine, free, others -> what to do
            ((0, 16, 0), Balance::Take(16)),
            ((16, 0, 0), Balance::Keep),
            ((16, 0, 1), Balance::Give(8)),
            ((8, 8, 1), Balance::Keep),
            ((8, 8, 0), Balance::Take(8)),
            ((0, 0, 1), Balance::Keep),
            ((5, 1, 2), Balance::Take(1)),
            ((6, 4, 2), Balance::Keep),
            ((0, 16, 40), Balance::Take(1)),
        ];
        for ((mine, free, others), expected) in cases {
            assert_eq!(
                balance(&shards(mine, free), others),
                expected,
                "{mine} mine, {free} free, {others} others"
            );
        }
    }
}
