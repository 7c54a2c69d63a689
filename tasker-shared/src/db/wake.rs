//! Wakes: notifications from the database that there may be work. They carry no data and may be lost; every
//! loop that waits for one looks again by itself after a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sqlx::postgres::PgListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::pool::Target;
use super::pool::silence::{ANSWER, doubtful, silent, within};

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

    /// Wakes whoever waits for `topic` in this process.
    pub fn wake(&self, topic: Topic) {
        self.0.topics[topic as usize].notify_one();
    }

    /// Wakes everyone who waits for `topic` in this process now.
    pub fn wake_all(&self, topic: Topic) {
        self.0.topics[topic as usize].notify_waiters();
        self.0.topics[topic as usize].notify_one();
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
    topics.iter().for_each(|&topic| wakes.wake_all(topic));
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
                topic.iter().for_each(|&&topic| wakes.wake_all(topic));
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

/// Lets a notification ride along at most once in two milliseconds on average: a commit with one takes a lock
/// that the whole database shares, and under load whoever is woken finds more to do without being told. The hops
/// of a lone task come faster than that and each need theirs, so a few may follow one another at once.
#[derive(Debug)]
pub struct Throttle {
    allowed: f64,
    counted: Instant,
}

impl Throttle {
    const INTERVAL: Duration = Duration::from_millis(2);
    const BURST: f64 = 16.0;

    /// A throttle that lets a burst pass first.
    pub fn new(now: Instant) -> Throttle {
        Throttle {
            allowed: Throttle::BURST,
            counted: now,
        }
    }

    /// Whether to notify now.
    pub fn pass(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.counted);
        let earned = since.as_secs_f64() / Throttle::INTERVAL.as_secs_f64();
        self.allowed = (self.allowed + earned).min(Throttle::BURST);
        self.counted = now;
        let pass = self.allowed >= 1.0;
        if pass {
            self.allowed -= 1.0;
        }
        pass
    }
}

/// Makes a loop under load rest for as long as its last statement took, so that the next one carries more: what a
/// statement costs besides its rows is paid less often then, when there is least to spare. One that carried little is
/// followed by the next at once. So is one that left something behind, which is for whoever asks to know.
#[derive(Debug, Default)]
pub struct Pace {
    rest: Duration,
}

impl Pace {
    /// A statement that carries so much is one under load.
    const MANY: usize = 8;
    /// The longest rest.
    const LONGEST: Duration = Duration::from_millis(4);

    /// Takes note of a statement that carried so much and took so long.
    pub fn carried(&mut self, count: usize, took: Duration) {
        self.rest = match count >= Pace::MANY {
            true => took.min(Pace::LONGEST),
            false => Duration::ZERO,
        };
    }

    /// Rests, where the last statement was one under load.
    pub async fn rest(&mut self) {
        let rest = std::mem::take(&mut self.rest);
        if !rest.is_zero() {
            tokio::time::sleep(rest).await;
        }
    }
}

/// What a look for work found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    Nothing,
    /// Everything there was: what comes next is told, or found after the shortest wait. To look again at once would
    /// find nothing, and take the processor from whoever makes what is waited for.
    All,
    /// There may be more: a look again, at once, finds it.
    Part,
}

/// How long a loop waits before it looks again by itself: briefly after it found work, since a wake may
/// have been spared, and longer and longer while it finds none; longest while notifications are heard.
#[derive(Debug)]
pub struct Patience {
    current: Duration,
    longest: Duration,
}

/// The longest wait while notifications are heard. Doubled from milliseconds, it is reached long after whatever was
/// not told has been found.
const HEARING: Duration = Duration::from_secs(4);

impl Patience {
    const SHORTEST: Duration = Duration::from_millis(8);

    /// Waits up to `longest` when nothing happens.
    pub fn new(longest: Duration) -> Patience {
        Patience {
            current: longest,
            longest,
        }
    }

    /// Takes note of what a look found; says whether to wait before the next one.
    pub fn found(&mut self, found: Found) -> bool {
        if found != Found::Nothing {
            self.current = Patience::SHORTEST.min(self.longest);
        }
        found != Found::Part
    }

    /// There was none: how long to wait, with jitter so that processes do not look in step. `hears` says whether
    /// whatever comes is told by a notification.
    pub fn wait(&mut self, hears: bool) -> Duration {
        let longest = self.longest(hears);
        let wait = self.current.min(longest);
        self.current = (wait * 2).min(longest);
        wait.mul_f64(rand::random_range(0.8..1.2))
    }

    /// The longest wait there is.
    pub fn longest(&self, hears: bool) -> Duration {
        match hears {
            true => self.longest.max(HEARING),
            false => self.longest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttle_lets_bursts_pass_and_holds_a_flood_to_its_rate() {
        let start = Instant::now();
        let mut throttle = Throttle::new(start);
        let burst = (0..100).filter(|_| throttle.pass(start)).count();
        assert_eq!(burst, 16);
        let second = (1..=10_000)
            .filter(|n| throttle.pass(start + Duration::from_micros(n * 100)))
            .count();
        assert!((495..=500).contains(&second), "{second} in a second");
    }

    #[test]
    fn a_loop_rests_after_statements_that_carry_much_and_no_longer_than_they_took() {
        let mut pace = Pace::default();
        let mut rest = |count, took_ms| {
            pace.carried(count, Duration::from_millis(took_ms));
            pace.rest
        };
        assert_eq!(rest(7, 3), Duration::ZERO);
        assert_eq!(rest(8, 3), Duration::from_millis(3));
        assert_eq!(rest(200, 50), Pace::LONGEST);
        assert_eq!(
            rest(1, 3),
            Duration::ZERO,
            "what came before does not matter"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_rest_is_taken_once() {
        let mut pace = Pace::default();
        pace.carried(8, Duration::from_millis(3));
        let start = tokio::time::Instant::now();
        pace.rest().await;
        pace.rest().await;
        let rested = start.elapsed();
        assert!(
            (3..=4).contains(&rested.as_millis()),
            "{rested:?}: the clock has whole milliseconds"
        );
    }

    #[test]
    fn patience_grows_while_nothing_is_found_and_shrinks_when_something_is() {
        let longest = Duration::from_millis(250);
        let mut patience = Patience::new(longest);
        assert!(!patience.found(Found::Part) && patience.found(Found::All));
        let waits: Vec<Duration> = (0..8).map(|_| patience.wait(false)).collect();
        assert!(waits[0] < Duration::from_millis(10) && waits[7] > Duration::from_millis(190));
        assert!(waits[7] < Duration::from_millis(310));
        let waits: Vec<Duration> = (0..8).map(|_| patience.wait(true)).collect();
        assert!(
            waits[7] > Duration::from_millis(3_000),
            "what is told need not be looked for"
        );
        assert!(
            patience.wait(false) < Duration::from_millis(310),
            "what is not told any more is"
        );
    }
}
