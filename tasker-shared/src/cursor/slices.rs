//! Everything from the very start, over and over: at one go where that takes no time, and a slice at a time where it
//! does, because some session keeps what was taken long ago from being removed.

use std::time::{Duration, Instant};

use super::Span;

/// How long after everything was looked at it is looked at again.
const ROUND: Duration = Duration::from_secs(30);
/// How long looking at a slice is to take at most: whoever looks does nothing else meanwhile.
const LONG: Duration = Duration::from_millis(50);
/// A slice that takes so many times less takes no time.
const SHORT: u32 = 4;
/// How long after a slice the next one is looked at.
const PAUSE: Duration = Duration::from_secs(1);

/// Which slice is next, and when. Pure: the caller brings the time.
#[derive(Debug, Clone)]
pub(super) struct Slices {
    /// The next one begins behind this id.
    begin: i64,
    /// Looking at ids below this takes no time, however many they are: what was taken before any snapshot was.
    free: i64,
    /// How many ids a slice of those above it covers: all there are while that takes no time.
    width: i64,
    /// When it is due; the first one is at once.
    due: Option<Instant>,
    /// The last one that was asked for.
    asked: Span,
}

impl Default for Slices {
    fn default() -> Slices {
        Slices {
            begin: 0,
            free: 0,
            width: i64::MAX,
            due: None,
            asked: Span::behind(0),
        }
    }
}

impl Slices {
    /// Whether the next slice is due.
    pub(super) fn are_due(&self, now: Instant) -> bool {
        self.due.is_none_or(|due| due <= now)
    }

    /// The next slice of what is below `end`. The last one is open, so where one is enough that is everything.
    pub(super) fn next(&mut self, end: i64) -> Span {
        let until = self.begin.saturating_add(self.width).max(self.free);
        self.asked = Span {
            behind: self.begin,
            until: if until < end { until } else { i64::MAX },
        };
        self.asked
    }

    /// The last one was looked at until `now`, which took so long; `end` is the highest id known now. Where it had more
    /// than was asked for, the next one begins `behind` what it brought, unless it was the last: who reads on from there
    /// comes to the rest.
    pub(super) fn looked(&mut self, end: i64, behind: Option<i64>, took: Duration, now: Instant) {
        let Span {
            behind: begin,
            until,
        } = self.asked;
        // What is above is what took long, where there is any.
        let above_free = if until > self.free {
            begin.max(self.free)
        } else {
            begin
        };
        let covered = until.min(end).saturating_sub(above_free);
        if took > LONG && covered > 0 {
            let share = LONG.as_secs_f64() / took.as_secs_f64();
            self.width = ((covered as f64 * share) as i64).max(1);
            self.free = self.free.min(above_free);
        } else if took < LONG / SHORT && begin >= self.free {
            self.width = self.width.saturating_mul(2);
            if begin == self.free {
                self.free = until.min(end);
            }
        }
        let (next, pause) = match self.asked.is_open() {
            true => (0, ROUND),
            false => (behind.unwrap_or(until), PAUSE),
        };
        self.begin = next;
        self.due = Some(now + pause.max(super::rest(took)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The slices of so many looks at 10,000,000 ids of which each above `free` takes a microsecond: how long each took,
    /// and how often everything had been looked at.
    fn look(slices: &mut Slices, looks: usize, free: i64) -> (Vec<Duration>, usize) {
        const END: i64 = 10_000_000;
        let mut now = Instant::now();
        let (mut times, mut wholes) = (Vec::new(), 0);
        for _ in 0..looks {
            let span = slices.next(END);
            let ids = span.until.min(END) - span.behind.max(free);
            let took = Duration::from_micros(u64::try_from(ids).unwrap_or(0));
            now += took;
            slices.looked(END, None, took, now);
            assert!(!slices.are_due(now));
            let begin = if span.is_open() { 0 } else { span.until };
            assert_eq!(slices.begin, begin, "nothing is left out");
            wholes += usize::from(begin == 0);
            now = slices.due.unwrap_or(now);
            assert!(slices.are_due(now));
            times.push(took);
        }
        (times, wholes)
    }

    #[test]
    fn where_looking_takes_no_time_everything_is_looked_at_each_time() {
        let mut slices = Slices::default();
        assert_eq!(look(&mut slices, 10, 10_000_000).1, 10);
    }

    #[test]
    fn where_looking_takes_long_a_look_is_at_a_slice_until_all_were() {
        for (free, looks) in [(0, 601), (7_000_000, 301)] {
            let mut slices = Slices::default();
            let (times, wholes) = look(&mut slices, looks, free);
            assert!(times[0] >= Duration::from_secs(3), "nobody knew");
            // What is free makes slices wider, until they come to what is not: each time a shorter way beyond.
            let long: Vec<_> = times[1..].iter().filter(|took| **took > LONG * 4).collect();
            assert!(long.len() <= 2, "{free}: {long:?}");
            assert!(wholes >= 4, "{free}: {wholes}");
        }
    }

    #[test]
    fn what_took_no_time_before_is_one_slice() {
        let mut slices = Slices::default();
        slices.next(7_000_000);
        slices.looked(7_000_000, None, Duration::ZERO, Instant::now());
        let (times, wholes) = look(&mut slices, 301, 7_000_000);
        assert_eq!(times[0], Duration::from_secs(3), "nobody knew");
        assert!(times[1..].iter().all(|took| *took <= LONG));
        assert!(wholes >= 4, "{wholes}");
    }

    #[test]
    fn what_was_removed_at_last_makes_slices_wide_again() {
        let mut slices = Slices::default();
        look(&mut slices, 100, 0);
        look(&mut slices, 250, 10_000_000);
        assert_eq!(look(&mut slices, 10, 10_000_000).1, 10);
    }

    #[test]
    fn a_slice_that_had_more_is_gone_on_with() {
        let start = Instant::now();
        let mut slices = Slices::default();
        let mut look = |behind, took| {
            let span = slices.next(1_000);
            slices.looked(1_000, behind, took, start);
            (span.behind, span.until)
        };
        assert_eq!(look(Some(7), LONG * 10), (0, i64::MAX));
        assert_eq!(look(Some(8), LONG), (0, 100));
        assert_eq!(look(None, LONG), (8, 108));
        assert_eq!(look(None, LONG), (108, 208));
    }
}
