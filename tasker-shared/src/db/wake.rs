//! Wakes: notifications from the database that there may be work. They may be lost; every loop that waits for one
//! looks again by itself after a while. One about results may tell of them, so that a server which has nothing else to
//! do need not look.

mod pace;
mod told;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sqlx::postgres::PgListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use pace::{Found, Pace, Patience, Throttle};
pub use told::{Notice, TOLD};

use self::told::Told;
use super::pool::Target;
use super::pool::silence::{ANSWER, doubtful, silent, within};
use crate::plan::Message;

/// What a wake is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// Steps became ready.
    Steps,
    /// There is a new lane.
    Lanes,
    /// Messages for the owners of shards.
    Results,
    /// A submission from a user's transaction.
    Requests,
    /// A task was cancelled.
    Cancels,
    /// A control was answered.
    Controls,
    /// A task is to start at a time.
    Delayed,
}

impl Topic {
    const ALL: [Topic; 7] = [
        Topic::Steps,
        Topic::Lanes,
        Topic::Results,
        Topic::Requests,
        Topic::Cancels,
        Topic::Controls,
        Topic::Delayed,
    ];

    fn channel(self) -> &'static str {
        match self {
            Topic::Steps => "tasker_steps",
            Topic::Lanes => "tasker_lanes",
            Topic::Results => "tasker_results",
            Topic::Requests => "tasker_requests",
            Topic::Cancels => "tasker_cancels",
            Topic::Controls => "tasker_controls",
            Topic::Delayed => "tasker_delayed",
        }
    }
}

/// The waiting side: one signal a topic. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Wakes(Arc<Signals>);

#[derive(Debug, Default)]
struct Signals {
    topics: [Notify; Topic::ALL.len()],
    /// What wakes about results told.
    told: Told,
    /// Whether a listener passes notifications on now.
    hears: AtomicBool,
}

impl Wakes {
    /// Waits for a wake, at most `patience`; a wake that came since the last wait counts. Says whether
    /// there was one.
    pub async fn wait(&self, topic: Topic, patience: Duration) -> bool {
        tokio::time::timeout(patience, self.0.topics[topic as usize].notified())
            .await
            .is_ok()
    }

    /// Waits for a wake about results as [`Wakes::wait`] does. Answers the messages that it told of, where that is all
    /// there is to know; else a look has to find out.
    pub async fn told(&self, patience: Duration) -> Option<Vec<Message>> {
        let woken = self.wait(Topic::Results, patience).await;
        self.0.told.take().filter(|_| woken)
    }

    /// Wakes whoever waits for `topic` in this process, or will next.
    pub fn wake(&self, topic: Topic) {
        self.heard(topic, "");
    }

    fn heard(&self, topic: Topic, payload: &str) {
        let signal = &self.0.topics[topic as usize];
        match topic {
            Topic::Results => self.0.told.add(payload),
            // Many wait for the answers to theirs. Elsewhere this would make the one loop that waits go round twice.
            Topic::Controls => signal.notify_waiters(),
            _ => {}
        }
        signal.notify_one();
    }

    /// Whether notifications are heard now, so that little is found by looking without having been woken.
    pub fn hears(&self) -> bool {
        self.0.hears.load(Ordering::Relaxed)
    }

    fn set_hears(&self, hears: bool) {
        self.0.hears.store(hears, Ordering::Relaxed);
    }
}

/// The longest silence before the listener checks by a notification to itself that it still hears.
const SILENCE: Duration = Duration::from_secs(10);

/// Listens for `topics` and passes wakes on until `stop`. After every reconnection all topics are woken,
/// since anything may have been missed. `hears` is told whether notifications arrive.
pub async fn listen(
    target: Target,
    topics: &'static [Topic],
    wakes: Wakes,
    hears: impl Fn(bool),
    stop: CancellationToken,
) {
    let mut pause = Duration::from_millis(100);
    while !stop.is_cancelled() {
        let heard = tokio::select! {
            heard = listen_once(&target, topics, &wakes, &hears, &mut pause) => heard,
            () = stop.cancelled() => return,
        };
        wakes.set_hears(false);
        hears(false);
        if let Err(error) = heard {
            tracing::debug!(%error, "listening for wakes failed; trying again");
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

/// Listens until the connection breaks.
async fn listen_once(
    target: &Target,
    topics: &[Topic],
    wakes: &Wakes,
    hears: &impl Fn(bool),
    pause: &mut Duration,
) -> Result<(), sqlx::Error> {
    let (pool, opened) = (target.unmeasured_pool(1), Instant::now());
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.ignore_pool_close_event(true);
    let own = format!("tasker_self_{}", uuid::Uuid::new_v4().simple());
    let channels = topics.iter().map(|t| t.channel()).chain([own.as_str()]);
    within(ANSWER, listener.listen_all(channels)).await?;
    *pause = Duration::from_millis(100);
    wakes.set_hears(true);
    hears(true);
    topics.iter().for_each(|&topic| wakes.wake(topic));
    let mut tested = false;
    loop {
        let patience = if tested { ANSWER } else { SILENCE };
        let heard = tokio::select! {
            heard = tokio::time::timeout(patience, listener.try_recv()) => heard,
            () = doubtful(opened) => return Err(silent()),
        };
        match heard {
            Ok(Ok(Some(notification))) => {
                tested = false;
                let topic = topics
                    .iter()
                    .find(|t| t.channel() == notification.channel());
                topic
                    .iter()
                    .for_each(|&&topic| wakes.heard(topic, notification.payload()));
            }
            Ok(Ok(None)) => return Err(sqlx::Error::PoolClosed),
            Ok(Err(error)) => return Err(error),
            Err(_) if tested => return Err(silent()),
            Err(_) => {
                tested = true;
                let test = sqlx::query("SELECT pg_notify($1, '')").bind(&own);
                within(ANSWER, test.execute(&mut listener)).await?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    #[tokio::test(start_paused = true)]
    async fn a_wake_makes_a_loop_go_round_once() {
        let wakes = Wakes::default();
        wakes.wake(Topic::Steps);
        assert!(wakes.wait(Topic::Steps, SHORT).await, "it came before");
        assert!(!wakes.wait(Topic::Steps, SHORT).await);
        let (waited, ()) = tokio::join!(wakes.wait(Topic::Steps, SHORT), async {
            tokio::task::yield_now().await;
            wakes.wake(Topic::Steps);
        });
        assert!(waited && !wakes.wait(Topic::Steps, SHORT).await);
    }

    #[tokio::test(start_paused = true)]
    async fn everyone_who_waits_for_a_control_is_woken() {
        let wakes = Wakes::default();
        let wait = || wakes.wait(Topic::Controls, SHORT);
        let woken = tokio::join!(wait(), wait(), async {
            tokio::task::yield_now().await;
            wakes.wake(Topic::Controls);
        });
        assert_eq!((woken.0, woken.1), (true, true));
    }
}
