//! Where counting what waits begins. Who begins at the start goes over everything that has been taken out of the queues
//! since the oldest snapshot that some session holds, at every reading.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::NEWEST;
use crate::cursor::{Rounds, Span};

/// How far behind a part's first message counting begins: what has been taken from there is gone over each time, and
/// what commits even later is found by the look below.
const LATE: i64 = 10_000;

/// A queue's part, as rows name it: what it is, and the lane or shard.
type Part = (i32, i32);

/// Below which ids nothing waits, for each lane and shard and for requests. What commits late is looked for below that,
/// now and then.
#[derive(Debug, Clone, Default)]
pub struct Marks {
    /// The first message of those parts that have any.
    firsts: HashMap<Part, i64>,
    /// The id that had been given out last: what comes into all other parts lies behind it.
    newest: i64,
    rounds: Rounds,
}

/// What to bind: ids to begin behind, of the parts that have one of their own and of all others.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Begin {
    pub(super) whats: Vec<i32>,
    pub(super) parts: Vec<i32>,
    pub(super) behind: Vec<i64>,
    pub(super) behind_all: i64,
}

impl Marks {
    /// Ids of which to look for the first message of each part, where that is due.
    pub(super) fn due_span(&mut self, now: Instant) -> Option<Span> {
        self.rounds.due_span(now)
    }

    /// The first messages that were found of the parts.
    pub(super) fn looked_for(&mut self, found: &[(i32, i32, i64)], took: Duration, now: Instant) {
        let mut newest = self.newest;
        for &(what, part, id) in found {
            match what {
                NEWEST => newest = id,
                _ => {
                    let first = self.firsts.entry((what, part)).or_insert(id);
                    *first = id.min(*first);
                }
            }
        }
        self.rounds.looked(newest, took, now);
        // The first look is at everything, so what is not among it has nothing.
        if self.newest == 0 {
            self.newest = newest;
        }
    }

    pub(super) fn begin(&self) -> Begin {
        let behind = |first: i64| (first - 1 - LATE).max(0);
        Begin {
            whats: self.firsts.keys().map(|part| part.0).collect(),
            parts: self.firsts.keys().map(|part| part.1).collect(),
            behind: self.firsts.values().copied().map(behind).collect(),
            behind_all: behind(self.newest + 1),
        }
    }

    /// The first messages that a reading met in the parts that have any.
    pub(super) fn read(&mut self, firsts: impl Iterator<Item = (i32, i32, i64)>) {
        self.firsts.clear();
        for (what, part, id) in firsts {
            match what {
                NEWEST => self.newest = id,
                _ => drop(self.firsts.insert((what, part), id)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_read_from_its_first_message_and_an_empty_one_from_what_comes() {
        let start = Instant::now();
        let mut marks = Marks::default();
        assert_eq!(marks.due_span(start), Some(Span::behind(0)));
        let found = [(2, 7, 300_001), (3, 1, 450_001), (NEWEST, 0, 900_000)];
        marks.looked_for(&found, Duration::ZERO, start);
        let begin = marks.begin();
        let mut own: Vec<_> = begin.parts.iter().copied().zip(begin.behind).collect();
        own.sort_unstable();
        assert_eq!(own, [(1, 440_000), (7, 290_000)]);
        assert_eq!(begin.behind_all, 890_000);

        marks.read([(2, 7, 4_000), (NEWEST, 0, 950_000)].into_iter());
        let begin = marks.begin();
        assert_eq!(
            (begin.whats, begin.parts, begin.behind),
            (vec![2], vec![7], vec![0])
        );
        assert_eq!(begin.behind_all, 940_000);
    }

    #[test]
    fn what_committed_late_is_found_by_a_look_below() {
        let start = Instant::now();
        let mut marks = Marks::default();
        marks.due_span(start);
        marks.looked_for(&[(NEWEST, 0, 900_000)], Duration::from_secs(9), start);
        marks.read([(2, 7, 890_000), (NEWEST, 0, 900_000)].into_iter());
        assert_eq!(marks.due_span(start), None);
        let later = start + Duration::from_secs(1_000);
        let slice = Span {
            behind: 0,
            until: 5_000,
        };
        assert_eq!(marks.due_span(later), Some(slice));
        let late = [(2, 7, 4_000), (2, 8, 4_500), (NEWEST, 0, 990_000)];
        marks.looked_for(&late, Duration::ZERO, later);
        let begin = marks.begin();
        assert_eq!(begin.behind, [0, 0]);
        assert_eq!(
            begin.behind_all, 890_000,
            "parts that are empty were not read since"
        );
    }
}
