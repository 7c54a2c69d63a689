//! Everything from the very start, over and over: at one go where that takes no time, and a slice at a time where it
//! does, because some session keeps what was taken long ago from being removed.

use std::time::{Duration, Instant};

use super::Span;

/// How long after everything was looked at it is looked at again.
const ROUND: Duration = Duration::from_secs(30);
/// How long looking at a slice is to take at most: whoever looks does nothing else meanwhile.
const LONG: Duration = Duration::from_millis(50);
/// A slice that takes so many times less is followed by one that is so many times wider.
const WIDER: u32 = 4;
/// How long after a slice the next one is looked at.
const PAUSE: Duration = Duration::from_secs(1);

/// Which slice is next, and when. Pure: the caller brings the time.
#[derive(Debug, Clone)]
pub struct Slices {
    /// The next one begins behind this id.
    begin: i64,
    /// How many ids it covers: all there are while that takes no time.
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
            width: i64::MAX,
            due: None,
            asked: Span::behind(0),
        }
    }
}

impl Slices {
    /// Whether the next slice is due.
    pub fn are_due(&self, now: Instant) -> bool {
        self.due.is_none_or(|due| due <= now)
    }

    /// The next slice of what is below `end`. The last one is open, so where one is enough that is everything.
    pub fn next(&mut self, end: i64) -> Span {
        let until = self.begin.saturating_add(self.width);
        self.asked = Span {
            behind: self.begin,
            until: if until < end { until } else { i64::MAX },
        };
        self.asked
    }

    /// The last one was looked at until `now`, which took so long; `end` is the highest id known now. Where it had more
    /// than was asked for, the next one begins `behind` what it brought, unless it was the last: who reads on from there
    /// comes to the rest.
    pub fn looked(&mut self, end: i64, behind: Option<i64>, took: Duration, now: Instant) {
        let Span {
            behind: begin,
            until,
        } = self.asked;
        let covered = until.min(end).saturating_sub(begin);
        if took > LONG && covered > 0 {
            let share = LONG.as_secs_f64() / took.as_secs_f64();
            self.width = ((covered as f64 * share) as i64).max(1);
        } else if took < LONG / WIDER {
            self.width = self.width.saturating_mul(i64::from(WIDER));
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

    /// The slices of `rounds` looks at 10,000,000 ids of which each takes so many microseconds: how long each took, and
    /// how often everything had been looked at.
    fn slices(rounds: usize, us_each: u64) -> (Vec<Duration>, usize) {
        const END: i64 = 10_000_000;
        let mut now = Instant::now();
        let mut slices = Slices::default();
        let (mut times, mut wholes, mut reached) = (Vec::new(), 0, 0);
        for _ in 0..rounds {
            let span = slices.next(END);
            assert_eq!(span.behind, reached, "nothing is left out");
            reached = if span.until == i64::MAX {
                0
            } else {
                span.until
            };
            wholes += usize::from(reached == 0);
            let ids = span.until.min(END) - span.behind;
            let took = Duration::from_micros(ids.unsigned_abs() * us_each);
            now += took;
            slices.looked(END, None, took, now);
            assert!(!slices.are_due(now));
            now = slices.due.unwrap_or(now);
            assert!(slices.are_due(now));
            times.push(took);
        }
        (times, wholes)
    }

    #[test]
    fn where_looking_takes_no_time_everything_is_looked_at_each_time() {
        assert_eq!(slices(10, 0).1, 10);
    }

    #[test]
    fn where_looking_takes_long_a_look_is_at_a_slice_until_all_were() {
        let (times, wholes) = slices(500, 1);
        assert_eq!(times[0], Duration::from_secs(10), "nobody knew");
        assert!(times[1..].iter().all(|took| *took <= LONG));
        assert_eq!(wholes, 3);
    }

    #[test]
    fn what_was_removed_at_last_makes_slices_wide_again() {
        let start = Instant::now();
        let mut slices = Slices::default();
        let mut look = |took| {
            let span = slices.next(1_000_000);
            slices.looked(1_000_000, None, took, start);
            (span.behind, span.until)
        };
        assert_eq!(look(Duration::from_secs(5)), (0, i64::MAX));
        assert_eq!(look(Duration::ZERO), (0, 10_000));
        assert_eq!(look(Duration::ZERO), (10_000, 50_000));
        assert_eq!(look(Duration::ZERO), (50_000, 210_000));
        assert_eq!(look(Duration::ZERO), (210_000, 850_000));
        assert_eq!(look(Duration::ZERO), (850_000, i64::MAX));
        assert!(!slices.are_due(start + Duration::from_secs(29)));
        assert!(slices.are_due(start + Duration::from_secs(30)));
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
