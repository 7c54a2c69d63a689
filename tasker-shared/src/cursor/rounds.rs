//! Everything over and over, by whoever is told with each look how far ids go by then.

use std::time::{Duration, Instant};

use super::{Slices, Span};

/// What of all there is to look at next, and when. Pure: the caller brings the time.
#[derive(Debug, Clone, Default)]
pub struct Rounds {
    slices: Slices,
    /// The id that had been given out last when it was looked.
    newest: i64,
}

impl Rounds {
    /// The ids to look at now, where that is due; the first time all. A look of which nothing is told did not take place.
    pub fn due_span(&mut self, now: Instant) -> Option<Span> {
        let is_due = self.slices.are_due(now);
        is_due.then(|| self.slices.next(self.newest))
    }

    /// The ids that were last asked for have been looked at until `now`, which took so long.
    pub fn looked(&mut self, newest: i64, took: Duration, now: Instant) {
        self.newest = newest;
        self.slices.looked(newest, None, took, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The looks of so many seconds, of which one at each id above `free` takes a microsecond: where each was, and how
    /// long it took. A hundred ids are given out each second.
    fn looks(free: i64, seconds: u64) -> Vec<(Span, Duration)> {
        let start = Instant::now();
        let mut rounds = Rounds::default();
        let (mut looks, mut newest) = (Vec::new(), 20_000_000);
        for second in (0..seconds).step_by(2) {
            let now = start + Duration::from_secs(second);
            newest += 200;
            if let Some(span) = rounds.due_span(now) {
                let ids = span.until.min(newest) - span.behind.max(free);
                let took = Duration::from_micros(u64::try_from(ids).unwrap_or(0));
                rounds.looked(newest, took, now);
                looks.push((span, took));
            }
        }
        looks
    }

    #[test]
    fn where_looking_takes_no_time_everything_is_looked_at_twice_a_minute() {
        let looks = looks(i64::MAX, 120);
        assert_eq!(looks.len(), 4);
        assert!(looks.iter().all(|(span, _)| *span == Span::behind(0)));
    }

    #[test]
    fn where_it_takes_long_only_the_first_look_does() {
        let looks = looks(0, 14_400);
        assert!(looks[0].1 > Duration::from_secs(19), "nobody knew");
        let longest = looks[1..].iter().map(|(_, took)| *took).max();
        assert!(longest <= Some(Duration::from_millis(110)), "{longest:?}");
        let rounds = looks.iter().filter(|(span, _)| span.is_open()).count();
        assert!(rounds >= 4, "{rounds}");
    }
}
