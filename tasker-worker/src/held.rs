//! The messages that this worker knows to be its own, from the claim until their results are in. What the database
//! says is claimed by it and it does not know of came with an answer that was never heard: such steps would wait
//! for as long as the worker lives, so they are handed back.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tasker_shared::cursor::{Rounds, Span};

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

/// When and where to look for steps that were claimed unheard: everywhere for a while after a claim may have lost its
/// answer, and round by round at any time, because a claim may have waited for a lock for longer, or a step may have
/// been let go of that could not be handed back. Pure: the caller brings the time.
#[derive(Debug)]
pub(crate) struct Unheard {
    until: Option<Instant>,
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
            until: None,
            next: now,
            rounds: Rounds::default(),
            rounds_begin: now + BEGIN,
            goes_round: false,
        }
    }

    /// A claim may have got no answer.
    pub(crate) fn missed(&mut self, now: Instant) {
        self.until = Some(now + MAY_COMMIT);
        self.next = now;
    }

    /// The ids to look at now, where that is due. A look of which nothing is told did not take place.
    pub(crate) fn due_span(&mut self, now: Instant) -> Option<Span> {
        self.goes_round = self.until.is_none() || now < self.next;
        match self.goes_round {
            true if now < self.rounds_begin => None,
            true => self.rounds.due_span(now),
            false => Some(Span::behind(0)),
        }
    }

    /// It was looked there until `now`, which took so long; the id that had been given out last by then.
    pub(crate) fn looked(&mut self, newest: i64, took: Duration, now: Instant) {
        if self.goes_round {
            self.rounds.looked(newest, took, now);
            return;
        }
        self.until = self.until.filter(|until| now < *until);
        self.next = now + INTERVAL;
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

    /// The looks of so many seconds.
    fn looks(unheard: &mut Unheard, start: Instant, seconds: u64) -> Vec<(u64, Span)> {
        let mut looks = Vec::new();
        for second in 0..seconds {
            let now = start + Duration::from_secs(second);
            if let Some(within) = unheard.due_span(now) {
                looks.push((second, within));
                unheard.looked(1_000, Duration::ZERO, now);
            }
        }
        looks
    }

    #[test]
    fn after_a_claim_without_an_answer_is_looked_often_for_as_long_as_it_may_commit() {
        let start = Instant::now();
        let mut unheard = Unheard::new(start);
        unheard.missed(start);
        let looks = looks(&mut unheard, start, 100);
        assert!(looks.iter().all(|(_, within)| *within == EVERYWHERE));
        let seconds: Vec<u64> = looks.into_iter().map(|(second, _)| second).collect();
        let often = [0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30];
        assert_eq!(seconds[..11], often);
        assert_eq!(seconds[11..], [60, 90], "and now and then at any time");
    }

    #[test]
    fn a_worker_looks_everywhere_round_by_round() {
        let start = Instant::now();
        let looks = looks(&mut Unheard::new(start), start, 100);
        assert_eq!(looks, [(60, EVERYWHERE), (90, EVERYWHERE)]);
    }

    #[test]
    fn a_look_that_failed_is_due_again() {
        let start = Instant::now();
        let mut unheard = Unheard::new(start);
        let now = start + BEGIN;
        for _ in 0..2 {
            assert_eq!(unheard.due_span(now), Some(EVERYWHERE));
        }
        unheard.looked(1_000, Duration::ZERO, now);
        assert_eq!(unheard.due_span(now), None);
    }
}
