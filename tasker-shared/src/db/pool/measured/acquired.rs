//! How connections have been got from a pool: counted since it was made.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Waiting for a connection for longer than this is slow.
const SLOW: Duration = Duration::from_millis(100);

/// What connections were asked for, and how long that took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Acquires {
    pub total: u64,
    /// Those that took longer than 100 ms.
    pub slow: u64,
    /// Those that failed.
    pub errors: u64,
    /// All of them together.
    pub took: Duration,
    pub longest: Duration,
}

impl Acquires {
    /// How long one took on average.
    #[must_use]
    pub fn average(&self) -> Duration {
        u32::try_from(self.total)
            .ok()
            .and_then(|total| self.took.checked_div(total))
            .unwrap_or_default()
    }
}

/// The sum so far.
#[derive(Debug, Default)]
pub(super) struct Acquired(Mutex<Acquires>);

impl Acquired {
    pub(super) fn add(&self, took: Duration, ok: bool) {
        let mut sum = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sum.total += 1;
        sum.slow += u64::from(took > SLOW);
        sum.errors += u64::from(!ok);
        sum.took += took;
        sum.longest = sum.longest.max(took);
    }

    pub(super) fn sum(&self) -> Acquires {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_got_is_summed_up() {
        let acquired = Acquired::default();
        assert_eq!(acquired.sum().average(), Duration::ZERO);
        acquired.add(Duration::from_millis(2), true);
        acquired.add(Duration::from_millis(400), false);
        let sum = acquired.sum();
        assert_eq!((sum.total, sum.slow, sum.errors), (2, 1, 1));
        assert_eq!(sum.longest, Duration::from_millis(400));
        assert_eq!(sum.average(), Duration::from_millis(201));
    }
}
