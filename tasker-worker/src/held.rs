//! The messages that this worker knows to be its own, from the claim until their results are in. What the database
//! says is claimed by it and it does not know of came with an answer that was never heard: such steps would wait
//! for as long as the worker lives, so they are handed back.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tasker_shared::cursor::{Rounds, Span};
use tasker_shared::db::claim::Take;

/// For how long after a claim without an answer it is likely to be committed still.
const MAY_COMMIT: Duration = Duration::from_secs(30);
/// How often is looked meanwhile.
const INTERVAL: Duration = Duration::from_secs(3);

/// When a worker that begins looks everywhere for the first time: until then it has hardly anything.
const BEGIN: Duration = Duration::from_secs(60);

/// The set of messages. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held(Arc<Mutex<HashSet<i64>>>);

/// A message in the set; it leaves when this is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    set: Held,
    id: i64,
}

impl Held {
    fn ids(&self) -> std::sync::MutexGuard<'_, HashSet<i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message.
    pub(crate) fn hold(&self, id: i64) -> Hold {
        self.ids().insert(id);
        Hold {
            set: self.clone(),
            id,
        }
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<i64> {
        self.ids().iter().copied().collect()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.set.ids().remove(&self.id);
    }
}

/// When and where to look for steps that were claimed unheard: for a while where claims looked whose answers did not
/// come, and round by round everywhere, because a claim may have waited for a lock for longer, or a step may have been
/// let go of that could not be handed back. Pure: the caller brings the time.
#[derive(Debug)]
pub(crate) struct Unheard {
    /// Of each lane the lowest id behind which such a claim looked.
    missed: HashMap<i32, i64>,
    until: Instant,
    next: Instant,
    rounds: Rounds,
    rounds_begin: Instant,
    /// Whether the last look was one of the rounds.
    goes_round: bool,
}

impl Unheard {
    /// Of a worker that begins now.
    pub(crate) fn new(now: Instant) -> Unheard {
        Unheard {
            missed: HashMap::new(),
            until: now,
            next: now,
            rounds: Rounds::default(),
            rounds_begin: now + BEGIN,
            goes_round: false,
        }
    }

    /// A claim got no answer.
    pub(crate) fn missed(&mut self, takes: &[Take], now: Instant) {
        for take in takes {
            let behind = self.missed.entry(take.lane).or_insert(take.span.behind);
            *behind = take.span.behind.min(*behind);
        }
        self.until = now + MAY_COMMIT;
        self.next = now;
    }

    /// Where to look now, of these lanes; nowhere where nothing is due. A look of which nothing is told did not take
    /// place.
    pub(crate) fn due(
        &mut self,
        lanes: impl Iterator<Item = i32>,
        now: Instant,
    ) -> Vec<(i32, Span)> {
        self.goes_round = self.missed.is_empty() || now < self.next;
        if self.goes_round {
            let has_begun = now >= self.rounds_begin;
            let span = has_begun.then(|| self.rounds.due_span(now)).flatten();
            return span.map_or_else(Vec::new, |span| lanes.map(|lane| (lane, span)).collect());
        }
        let missed = self.missed.iter();
        missed
            .map(|(lane, behind)| (*lane, Span::behind(*behind)))
            .collect()
    }

    /// It was looked there until `now`, which took so long; the id that had been given out last by then.
    pub(crate) fn looked(&mut self, newest: i64, took: Duration, now: Instant) {
        if self.goes_round {
            self.rounds.looked(newest, took, now);
        } else if now >= self.until {
            self.missed.clear();
        } else {
            self.next = now + INTERVAL;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_held_until_its_hold_is_dropped() {
        let held = Held::default();
        let (first, second) = (held.hold(1), held.hold(2));
        drop(first);
        assert_eq!(held.all(), [2]);
        drop(second);
        assert!(held.all().is_empty());
    }

    const EVERYWHERE: Span = Span {
        behind: 0,
        until: i64::MAX,
    };

    /// The looks of so many seconds, of lanes 7 and 8.
    fn looks(
        unheard: &mut Unheard,
        start: Instant,
        seconds: std::ops::Range<u64>,
    ) -> Vec<(u64, Vec<(i32, Span)>)> {
        let mut looks = Vec::new();
        for second in seconds {
            let now = start + Duration::from_secs(second);
            let mut within = unheard.due([7, 8].into_iter(), now);
            if !within.is_empty() {
                within.sort_by_key(|(lane, _)| *lane);
                looks.push((second, within));
                unheard.looked(1_000, Duration::ZERO, now);
            }
        }
        looks
    }

    #[test]
    fn after_a_claim_without_an_answer_is_looked_where_it_looked_for_as_long_as_it_may_commit() {
        let start = Instant::now();
        let mut unheard = Unheard::new(start);
        looks(&mut unheard, start, 0..100);
        let at = |second| start + Duration::from_secs(second);
        let take = |lane, behind| Take {
            lane,
            span: Span { behind, until: 950 },
            most: 10,
        };
        unheard.missed(&[take(7, 900), take(8, 200)], at(100));
        unheard.missed(&[take(7, 800)], at(101));
        let missed = vec![(7, Span::behind(800)), (8, Span::behind(200))];
        let looks = looks(&mut unheard, start, 101..200);
        let (there, everywhere): (Vec<_>, Vec<_>) =
            looks.into_iter().partition(|(_, within)| *within == missed);
        let seconds: Vec<u64> = there.into_iter().map(|(second, _)| second).collect();
        assert_eq!(
            seconds,
            [101, 104, 107, 110, 113, 116, 119, 122, 125, 128, 131]
        );
        assert_eq!(everywhere.len(), 3, "and everywhere now and then");
        assert!(everywhere.iter().all(|(_, within)| within.len() == 2));
    }

    #[test]
    fn a_worker_looks_through_its_lanes_round_by_round() {
        let start = Instant::now();
        let looks = looks(&mut Unheard::new(start), start, 0..100);
        let open = looks
            .iter()
            .filter(|(_, within)| *within == [(7, EVERYWHERE), (8, EVERYWHERE)]);
        let seconds: Vec<u64> = open.map(|(second, _)| *second).collect();
        assert_eq!(seconds, [60, 90]);
    }

    #[test]
    fn a_look_that_failed_is_due_again() {
        let start = Instant::now();
        let mut unheard = Unheard::new(start);
        let now = start + BEGIN;
        for _ in 0..2 {
            assert_eq!(unheard.due([7].into_iter(), now), [(7, EVERYWHERE)]);
        }
        unheard.looked(1_000, Duration::ZERO, now);
        assert!(unheard.due([7].into_iter(), now).is_empty());
    }
}
