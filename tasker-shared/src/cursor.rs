//! A cursor over a queue whose messages are taken from its low end: where to begin looking. Beginning behind
//! what was seen before costs nothing for entries that are dead but not yet removed, however long some
//! session keeps them so; what commits late, below the cursor, is found by sweeps.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

pub use rounds::Rounds;
use slices::Slices;

mod rounds;
mod slices;

/// A message that commits within this time of a later one is found without a sweep.
const SETTLING: Duration = Duration::from_secs(1);
/// Most that commit late do so within this time: they are found by any look that does not go on from the last one.
const NEAR: Duration = Duration::from_millis(100);
/// How often it is noted how far looks have come.
const NOTE: Duration = Duration::from_millis(50);
/// How often a look goes back by `MARGIN` ids.
const SWEEP: Duration = Duration::from_secs(2);
/// How far behind what was seen messages that are on time can lie: what all processes together take of the ids in some
/// seconds.
const MARGIN: i64 = 100_000;
/// How long at least after a look at all that is not settled the next one is. Whoever begins there steps over what has
/// just been taken, row by row.
const BACK: Duration = Duration::from_millis(100);
/// How many times as long as it took, and how long at most.
const REST_BACK: u32 = 20;
const LONGEST_BACK: Duration = Duration::from_secs(1);
/// How many times as long as a sweep or a slice took is waited for the next, which will take as long.
const REST: u32 = 100;
/// The longest such wait: one that took long because everything stood still says nothing of the next.
const LONGEST_REST: Duration = Duration::from_secs(30);

fn rest(took: Duration) -> Duration {
    took.saturating_mul(REST).min(LONGEST_REST)
}

/// The ids to look at: above `behind`, and up to `until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub behind: i64,
    pub until: i64,
}

impl Span {
    /// Everything above an id.
    pub fn behind(id: i64) -> Span {
        Span {
            behind: id,
            until: i64::MAX,
        }
    }

    /// Whether it has everything above its beginning.
    pub fn is_open(self) -> bool {
        self.until == i64::MAX
    }
}

/// Where to begin, for one lane or shard. Pure: the caller brings the time.
#[derive(Debug, Clone)]
pub struct Cursor {
    /// What commits below this may be found by sweeps alone.
    settled: i64,
    /// What the frontier was at some times, the oldest first: settled once that is `SETTLING` ago.
    noted: VecDeque<(Instant, i64)>,
    /// Everything up to here that could be seen was taken.
    frontier: i64,
    highest: i64,
    /// Whether the last look brought all it asked for.
    is_filled: bool,
    look: Look,
    /// What was asked for, and when.
    span: Span,
    asked: Instant,
    back_due: Instant,
    sweep_due: Instant,
    slices: Slices,
}

/// What a look is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// Everything from the start, or a slice of it.
    Slice,
    /// What committed late.
    Sweep,
    /// What is not settled.
    Back,
    /// What came lately.
    Near,
    /// What comes after the last look.
    Ahead,
}

impl Cursor {
    /// A cursor whose first look begins at the start.
    pub fn new(now: Instant) -> Cursor {
        Cursor {
            settled: 0,
            noted: VecDeque::new(),
            frontier: 0,
            highest: 0,
            is_filled: false,
            look: Look::Slice,
            span: Span::behind(0),
            asked: now,
            back_due: now,
            sweep_due: now,
            slices: Slices::default(),
        }
    }

    /// The ids to look at, beginning now. What the look brings is to be told by [`Cursor::brought`]; a look of
    /// which nothing is told did not take place.
    pub fn span(&mut self, now: Instant) -> Span {
        self.settle(now);
        self.asked = now;
        self.look = if self.slices.are_due(now) {
            Look::Slice
        } else if now >= self.sweep_due {
            Look::Sweep
        } else if now >= self.back_due {
            Look::Back
        } else if self.is_filled {
            Look::Ahead
        } else {
            Look::Near
        };
        // A sweep that was filled leaves the frontier below what is settled, until looks have passed that again.
        let back = self.settled.min(self.frontier);
        self.span = match self.look {
            Look::Slice => self.slices.next(self.settled),
            Look::Sweep => Span::behind((back - MARGIN).max(0)),
            Look::Back => Span::behind(back),
            Look::Near => Span::behind(self.near(now)),
            Look::Ahead => Span::behind(self.frontier),
        };
        self.span
    }

    /// Notes how far looks have come, and takes as settled what was noted long enough ago.
    fn settle(&mut self, now: Instant) {
        let is_past = |past: Instant, span| now.duration_since(past) >= span;
        while let Some((_, frontier)) = self.noted.pop_front_if(|(at, _)| is_past(*at, SETTLING)) {
            self.settled = self.settled.max(frontier);
        }
        let last = self.noted.back();
        if last.is_none_or(|(at, _)| is_past(*at, NOTE)) {
            self.noted.push_back((now, self.frontier));
        }
    }

    /// How far looks had come a short while ago.
    fn near(&self, now: Instant) -> i64 {
        let noted = self.noted.iter().rev();
        let mut past = noted.skip_while(|(at, _)| now.duration_since(*at) < NEAR);
        let near = past.next().map_or(self.settled, |(_, frontier)| *frontier);
        near.min(self.frontier)
    }

    /// The look that was last asked for has ended: the highest id that was taken, and whether there were as many as were
    /// asked for, so that there may be more behind it. Says whether another look must follow before it is known that
    /// there is nothing.
    pub fn brought(&mut self, last: Option<i64>, filled: bool, now: Instant) -> bool {
        let took = now.duration_since(self.asked);
        self.highest = self.highest.max(last.unwrap_or(0));
        let behind = last.filter(|_| filled);
        let is_open = self.span.is_open();
        if self.look == Look::Slice {
            self.slices.looked(self.highest, behind, took, now);
        }
        if is_open && matches!(self.look, Look::Slice | Look::Sweep) {
            self.sweep_due = now + SWEEP.max(rest(took));
        }
        if is_open && !matches!(self.look, Look::Near | Look::Ahead) {
            let rest = BACK.max(took.saturating_mul(REST_BACK));
            self.back_due = now + rest.min(LONGEST_BACK);
        }
        // A slice that brought less says nothing of what is above it.
        if is_open || filled {
            self.frontier = behind.unwrap_or(self.highest);
            self.is_filled = filled;
        }
        if is_open && took >= SETTLING {
            self.settled = self.settled.max(self.frontier);
        }
        !filled && (self.look == Look::Ahead || !is_open)
    }

    /// Whether looks have taken this id or one above it.
    pub fn has_reached(&self, id: i64) -> bool {
        id <= self.highest
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
        let mut look = |ms, last| {
            let behind = cursor.span(at(start, ms)).behind;
            assert!(!cursor.brought(last, false, at(start, ms)));
            behind
        };
        assert_eq!(look(0, Some(200_000)), 0);
        assert_eq!(look(500, None), 0, "a neighbour may commit late");
        assert_eq!(look(1_000, Some(200_500)), 0);
        assert_eq!(look(1_400, None), 0);
        assert_eq!(look(1_500, None), 200_000);
        assert_eq!(
            look(2_050, None),
            100_000,
            "a sweep goes back by the margin"
        );
        assert_eq!(look(2_160, None), 200_000);
        assert_eq!(look(2_400, None), 200_500);
    }

    #[test]
    fn from_time_to_time_a_look_begins_at_the_start() {
        let start = Instant::now();
        let mut cursor = Cursor::new(start);
        cursor.span(start);
        cursor.brought(Some(1_000_000), false, start);
        let mut begins = Vec::new();
        for second in 1..=62 {
            let now = at(start, second * 1_000 + 1);
            begins.push(cursor.span(now).behind);
            // The answer of one in three never comes.
            if second % 3 != 0 {
                cursor.brought(None, false, now);
            }
        }
        let full = begins.iter().skip(3).filter(|behind| **behind == 0);
        assert_eq!(
            full.count(),
            3,
            "one of them again, since nothing was heard of it"
        );
    }

    #[test]
    fn a_look_that_stood_still_puts_off_the_next_from_the_start_by_half_a_minute_at_most() {
        let start = Instant::now();
        let mut cursor = Cursor::new(start);
        cursor.span(start);
        let stood = at(start, 600_000);
        cursor.brought(Some(1_000_000), false, stood);
        let from_the_start = |ms| {
            let now = at(stood, ms);
            let mut cursor = cursor.clone();
            cursor.span(now).behind == 0
        };
        assert!(!from_the_start(29_999));
        assert!(from_the_start(30_000));
    }

    #[test]
    fn looks_that_are_filled_go_ahead_and_back_from_time_to_time() {
        let start = Instant::now();
        let mut cursor = Cursor::new(start);
        let mut look = |ms, last, filled| {
            let behind = cursor.span(at(start, ms)).behind;
            (behind, cursor.brought(last, filled, at(start, ms)))
        };
        assert_eq!(look(0, Some(500), true), (0, false));
        assert_eq!(look(10, Some(900), true), (500, false));
        assert_eq!(look(99, Some(950), true), (900, false));
        assert_eq!(look(100, Some(970), true), (0, false), "a look back");
        assert_eq!(
            look(110, Some(980), false),
            (970, true),
            "what committed late may be behind"
        );
        assert_eq!(look(111, None, false), (0, false));
        assert_eq!(look(112, None, false), (0, false));
    }

    #[test]
    fn looks_that_are_not_filled_go_back_a_little_and_from_time_to_time_to_what_is_settled() {
        let start = Instant::now();
        let mut cursor = Cursor::new(start);
        let mut look = |ms, last| {
            let behind = cursor.span(at(start, ms)).behind;
            assert!(!cursor.brought(Some(last), false, at(start, ms)));
            behind
        };
        assert_eq!([look(0, 100), look(100, 200), look(150, 300)], [0; 3]);
        assert_eq!(look(300, 400), 0, "all that is not settled");
        assert_eq!(look(350, 500), 200, "what was seen until 150");
        assert_eq!(look(399, 600), 200);
        assert_eq!(look(400, 700), 0, "all that is not settled");
    }

    #[test]
    fn looks_at_all_that_is_not_settled_are_the_fewer_the_longer_they_take() {
        let start = Instant::now();
        for (took_ms, rest_ms) in [(1, 100), (5, 100), (12, 240), (600, 1_000)] {
            let mut cursor = Cursor::new(start);
            cursor.span(start);
            let ended = at(start, took_ms);
            cursor.brought(Some(500), true, ended);
            let behind = |ms| cursor.clone().span(at(ended, ms)).behind;
            assert_eq!(behind(rest_ms - 1), 500, "{took_ms}");
            assert_eq!(behind(rest_ms), 0, "{took_ms}");
        }
    }

    /// Every id that was taken lies in the way, and costs a microsecond, as while some session holds a snapshot.
    #[test]
    fn what_commits_late_is_found_by_looks_that_are_short_whatever_lies_in_the_way() {
        let mut now = Instant::now();
        let mut cursor = Cursor::new(now);
        let (mut highest, mut times, mut is_found) = (10_000_000, Vec::new(), false);
        while !is_found && times.len() < 200_000 {
            let Span { behind, until } = cursor.span(now);
            let ids = until.min(highest) - behind;
            let took = Duration::from_micros(ids.unsigned_abs());
            times.push(took);
            now += took + Duration::from_millis(5);
            highest += 1;
            cursor.brought(Some(highest), false, now);
            let late = behind + 1..=until;
            is_found = times.len() > 1_000 && late.contains(&3_000_000);
        }
        assert!(is_found);
        assert_eq!(times[0], Duration::from_secs(10), "nobody knew");
        let longest = times[1..].iter().max();
        assert!(
            longest.is_some_and(|took| *took < Duration::from_millis(300)),
            "{longest:?}"
        );
        let spent: Duration = times[1..].iter().sum();
        let rested = times.len() as f64 * 0.005;
        assert!(spent.as_secs_f64() < rested / 4.0, "{spent:?} of {rested}");
    }

    /// Ids in the order in which they commit: a batch of 5,000 that comes `late_ms` after 5,000 with higher ids. Whoever
    /// looks has ten slots and frees them every 10 ms.
    fn slowest_second(late_ms: u64) -> usize {
        let start = Instant::now();
        let mut cursor = Cursor::new(start);
        let mut queue: std::collections::BTreeSet<i64> = (1_005_001..=1_010_000).collect();
        let mut taken_in = vec![0; 10];
        for ms in (0..10_000).step_by(10) {
            if ms == late_ms {
                queue.extend(1_000_001..=1_005_000);
            }
            let now = at(start, ms);
            let Span { behind, until } = cursor.span(now);
            let took: Vec<i64> = queue.range(behind + 1..=until).take(10).copied().collect();
            cursor.brought(took.last().copied(), took.len() == 10, now);
            for id in &took {
                queue.remove(id);
            }
            taken_in[usize::try_from(ms / 1_000).unwrap_or(0)] += took.len();
        }
        assert!(queue.is_empty(), "{} are left", queue.len());
        taken_in.into_iter().min().unwrap_or(0)
    }

    #[test]
    fn what_commits_after_higher_ids_is_taken_as_fast_as_everything_else() {
        for late_ms in [0, 50, 500, 1_500, 2_500, 4_000] {
            assert_eq!(slowest_second(late_ms), 1_000, "{late_ms} ms late");
        }
    }
}
