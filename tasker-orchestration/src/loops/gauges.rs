//! The gauges of the whole cluster: tasks by state, steps and messages that wait. A duty of the whole cluster, so that
//! sums over servers do not double: done by the owner of shard 0, while the others show none.

use std::time::Duration;

use tasker_shared::db;
use tasker_shared::db::gauges::{self, Gauges};
use tasker_shared::db::pool::Pinned;
use tasker_shared::metrics::{messaging, orchestration};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often they are read, however often they are looked at.
const INTERVAL: Duration = Duration::from_secs(5);

/// The reader of gauges.
#[derive(Debug)]
pub struct Reader {
    pub connection: Pinned,
    pub shards: watch::Receiver<Vec<i16>>,
}

impl Reader {
    /// Works until `stop`, from the moment this server owns its first shards.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let duty = self.shards.borrow_and_update().contains(&0);
            if duty {
                self.pass().await;
            } else {
                show(&Gauges::default());
            }
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                _ = self.shards.changed() => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// What could not be read is not shown: an old number would look like a true one.
    async fn pass(&mut self) {
        let result = self.read().await;
        match self.connection.check(result) {
            Ok(gauges) => show(&gauges),
            Err(error) => {
                tracing::warn!(%error, "reading the gauges failed; trying again");
                show(&Gauges::default());
            }
        }
    }

    async fn read(&mut self) -> db::Result<Gauges> {
        let connection = self.connection.get().await?;
        gauges::fold(&mut *connection).await?;
        gauges::read(connection).await
    }
}

fn show(gauges: &Gauges) {
    orchestration::show_active(&gauges.tasks);
    orchestration::show_ready(&gauges.ready);
    messaging::show_depth(&gauges.depths);
    messaging::show_age(&gauges.ages);
}
