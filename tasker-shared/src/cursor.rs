//! A cursor over a queue whose messages are taken from its low end: where to begin looking. Beginning behind
//! what was seen before costs nothing for entries that are dead but not yet removed, however long some
//! session keeps them so; what commits late, below the cursor, is found by sweeps.

use std::time::{Duration, Instant};

/// A message that commits within this time of a later one is found by the next look.
const SETTLING: Duration = Duration::from_secs(1);
/// How often a look goes back by `MARGIN` ids.
const SWEEP: Duration = Duration::from_secs(2);
/// How far such a look goes back: what all processes together take of the ids in a second or two.
const MARGIN: i64 = 100_000;
/// How often a look begins at the very start.
const FULL_SWEEP: Duration = Duration::from_secs(30);

/// Where to begin, for one lane or shard. Pure: the caller brings the time.
#[derive(Debug, Clone)]
pub struct Cursor {
    /// Everything up to here was seen at least `SETTLING` ago.
    settled: i64,
    /// The highest id seen when `marked` was taken, and since.
    at_mark: i64,
    highest: i64,
    marked: Instant,
    swept: Instant,
    fully_swept: Option<Instant>,
}

impl Cursor {
    /// A cursor whose first look begins at the start.
    pub fn new(now: Instant) -> Cursor {
        Cursor {
            settled: 0,
            at_mark: 0,
            highest: 0,
            marked: now,
            swept: now,
            fully_swept: None,
        }
    }

    /// The id behind which to look now.
    pub fn behind(&mut self, now: Instant) -> i64 {
        if now.duration_since(self.marked) >= SETTLING {
            self.settled = self.at_mark;
            self.at_mark = self.highest;
            self.marked = now;
        }
        let full_is_due = self
            .fully_swept
            .is_none_or(|at| now.duration_since(at) >= FULL_SWEEP);
        if full_is_due {
            self.fully_swept = Some(now);
            self.swept = now;
            return 0;
        }
        if now.duration_since(self.swept) >= SWEEP {
            self.swept = now;
            return (self.settled - MARGIN).max(0);
        }
        self.settled
    }

    /// A message with this id was taken.
    pub fn saw(&mut self, id: i64) {
        self.highest = self.highest.max(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn the_cursor_follows_what_was_seen_once_it_has_settled() {
        let start = Instant::now();
        let mut cursor = Cursor::new(start);
        assert_eq!(cursor.behind(start), 0);
        cursor.saw(200_000);
        assert_eq!(
            cursor.behind(at(start, 500)),
            0,
            "a neighbour may commit late"
        );
        assert_eq!(cursor.behind(at(start, 1_000)), 0);
        cursor.saw(200_500);
        assert_eq!(cursor.behind(at(start, 1_900)), 0);
        assert_eq!(
            cursor.behind(at(start, 2_050)),
            100_000,
            "a sweep goes back by the margin"
        );
        assert_eq!(cursor.behind(at(start, 2_060)), 200_000);
        assert_eq!(cursor.behind(at(start, 3_060)), 200_500);
    }

    #[test]
    fn from_time_to_time_a_look_begins_at_the_start() {
        let start = Instant::now();
        let mut cursor = Cursor::new(start);
        cursor.behind(start);
        cursor.saw(1_000_000);
        let looks: Vec<i64> = (1..=62)
            .map(|s| cursor.behind(at(start, s * 1_000 + 1)))
            .collect();
        assert_eq!(
            looks.iter().skip(3).filter(|behind| **behind == 0).count(),
            2
        );
    }
}
