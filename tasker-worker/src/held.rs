//! The messages that this worker knows to be its own, from the claim until their results are in. What the database
//! says is claimed by it and it does not know of came with an answer that was never heard: such steps would wait
//! for as long as the worker lives, so they are handed back.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For how long after a claim without an answer it is likely to be committed still.
const MAY_COMMIT: Duration = Duration::from_secs(30);
/// How often is looked meanwhile.
const INTERVAL: Duration = Duration::from_secs(3);
/// How often at any other time: a claim may have waited for a lock, or a step may have been let go of that could not
/// be handed back.
const ALWAYS: Duration = Duration::from_secs(60);

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

/// When to look for steps that were claimed unheard. Pure: the caller brings the time.
#[derive(Debug)]
pub(crate) struct Unheard {
    until: Option<Instant>,
    next: Instant,
}

impl Unheard {
    /// Of a worker that begins now.
    pub(crate) fn new(now: Instant) -> Unheard {
        Unheard {
            until: None,
            next: now + ALWAYS,
        }
    }

    /// A claim got no answer.
    pub(crate) fn missed(&mut self, now: Instant) {
        self.until = Some(now + MAY_COMMIT);
        self.next = now;
    }

    /// Whether to look now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        now >= self.next
    }

    /// It was looked.
    pub(crate) fn looked(&mut self, now: Instant) {
        let goes_on = self.until.is_some_and(|until| now < until);
        self.next = now + if goes_on { INTERVAL } else { ALWAYS };
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

    #[test]
    fn after_a_claim_without_an_answer_is_looked_often_for_as_long_as_it_may_commit() {
        let start = Instant::now();
        let mut unheard = Unheard::new(start);
        assert!(!unheard.is_due(start));
        unheard.missed(start);
        let mut looks = Vec::new();
        for second in 0..200 {
            let now = start + Duration::from_secs(second);
            if unheard.is_due(now) {
                unheard.looked(now);
                looks.push(second);
            }
        }
        assert_eq!(looks[..11], [0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30]);
        assert_eq!(looks[11..], [90, 150], "and now and then at any time");
    }
}
