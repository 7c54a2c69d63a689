//! How often a loop notifies, rests and looks by itself.

use std::time::{Duration, Instant};

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

    /// Whether nothing was spared lately.
    pub fn is_calm(&self) -> bool {
        self.allowed >= Throttle::BURST / 2.0
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
/// followed by the next at once. So is one that carried so much that its rows are all it cost: a rest would leave a
/// processor idle. And one that left something behind, which is for whoever asks to know.
#[derive(Debug, Default)]
pub struct Pace {
    rest: Duration,
}

impl Pace {
    /// A statement that carries so much is one under load.
    const MANY: usize = 8;
    /// One that carries so much costs nothing worth saving besides its rows.
    const PLENTY: usize = 128;
    /// The longest rest.
    const LONGEST: Duration = Duration::from_millis(4);

    /// Takes note of a statement that carried so much and took so long.
    pub fn carried(&mut self, count: usize, took: Duration) {
        self.rest = match (Pace::MANY..Pace::PLENTY).contains(&count) {
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
    fn a_loop_rests_after_statements_that_carry_some_and_no_longer_than_they_took() {
        let mut pace = Pace::default();
        let mut rest = |count, took_ms| {
            pace.carried(count, Duration::from_millis(took_ms));
            pace.rest
        };
        assert_eq!(rest(7, 3), Duration::ZERO);
        assert_eq!(rest(8, 3), Duration::from_millis(3));
        assert_eq!(rest(127, 50), Pace::LONGEST);
        assert_eq!(rest(128, 50), Duration::ZERO, "its rows are what it cost");
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
