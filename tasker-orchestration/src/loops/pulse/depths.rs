//! How much waits in the queues, for whoever asks how the server is: counted by the pulse on its own connection, at most
//! once a second however many ask, and never where nobody does.

use std::time::{Duration, Instant};

use tasker_shared::db::queue_views::{self, Depth};
use tokio::sync::{Notify, watch};

use super::{PATIENCE, Pinned};

/// For so long a count is told again.
const FRESH: Duration = Duration::from_secs(1);
/// For so long after one that was not answered in time none is made: what waits for a lock goes on waiting in the
/// database.
const PAUSE: Duration = Duration::from_secs(30);

/// What was counted last, and whether somebody waits for more.
#[derive(Debug, Default)]
pub struct Depths {
    wanted: Notify,
    counted: watch::Sender<Option<Counted>>,
}

#[derive(Debug, Clone, Copy)]
struct Counted {
    good_until: Instant,
    depth: Option<Depth>,
}

impl Depths {
    /// How much waits, by a count not older than a second; `None` where the database does not tell.
    pub async fn get(&self) -> Option<Depth> {
        let mut counted = self.counted.subscribe();
        let is_good = |counted: &Counted| Instant::now() < counted.good_until;
        if let Some(counted) = counted.borrow_and_update().filter(is_good) {
            return counted.depth;
        }
        self.wanted.notify_one();
        match tokio::time::timeout(PATIENCE, counted.changed()).await {
            Ok(Ok(())) => counted.borrow().and_then(|counted| counted.depth),
            _ => None,
        }
    }

    /// Returns when somebody wants a count.
    pub(super) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Counts, and tells those who wait.
    pub(super) async fn count(&self, connection: &mut Pinned) {
        let counting = tokio::time::timeout(PATIENCE, async {
            let result = match connection.get().await {
                Ok(connection) => queue_views::depth(connection).await,
                Err(error) => Err(error),
            };
            connection.check(result)
        });
        let (depth, good_for) = match counting.await {
            Ok(Ok(depth)) => (Some(depth), FRESH),
            Ok(Err(error)) => {
                tracing::debug!(%error, "what waits in the queues could not be counted");
                (None, FRESH)
            }
            Err(_) => {
                connection.forget();
                (None, PAUSE)
            }
        };
        self.tell(depth, good_for);
    }

    /// Tells those who wait that there is nothing to be had now.
    pub(super) fn cannot(&self) {
        self.tell(None, Duration::ZERO);
    }

    fn tell(&self, depth: Option<Depth>, good_for: Duration) {
        let good_until = Instant::now() + good_for;
        self.counted
            .send_replace(Some(Counted { good_until, depth }));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use futures::future::join_all;
    use tasker_shared::db::migrate;
    use tasker_shared::db::pool::Target;
    use tasker_shared::embedded::Temporary;

    use super::*;

    #[tokio::test]
    async fn however_many_ask_there_is_one_count_and_its_answer_serves_for_a_while() {
        let postgres = Temporary::start().await.unwrap();
        let target = Target::parse(postgres.url(), "depths", Duration::from_secs(10)).unwrap();
        migrate::run(&target).await.unwrap();
        let (depths, mut connection) = (Arc::new(Depths::default()), Pinned::new(target));
        let asked = (0..50).map(|_| depths.get());
        let counts = async {
            depths.wanted().await;
            depths.count(&mut connection).await;
        };
        let (answers, ()) = tokio::join!(join_all(asked), counts);
        assert!(
            answers
                .iter()
                .all(|depth| depth.is_some_and(|d| d.ready == 0))
        );
        // Nobody counts any more, and the answer is there. One permit may be left of those who asked before the count.
        assert!(depths.get().await.is_some());

        let nowhere = "postgres://nobody@127.0.0.1:1/none";
        let target = Target::parse(nowhere, "depths", Duration::from_millis(200)).unwrap();
        let (depths, mut connection) = (Depths::default(), Pinned::new(target));
        let counts = async {
            depths.wanted().await;
            depths.count(&mut connection).await;
        };
        let (answer, ()) = tokio::join!(depths.get(), counts);
        assert_eq!(answer, None);
    }
}
