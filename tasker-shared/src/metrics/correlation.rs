//! Which correlation ids have series of their own. An id is admitted once, when its task is accepted; its place is
//! free again when nothing has been recorded for it for the window, and its series have been seen by whoever reads.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustc_hash::{FxBuildHasher, FxHashSet};
use uuid::Uuid;

use super::{Correlation, Mode, Settings, catalog, collect, export, settings};

/// A task with this many steps or more counts as several ids: each step's name is a series.
const STEPS_PER_PLACE: usize = 16;
/// Ids that asked to be followed may take as many places again as there are for those that did not.
const ROOM_FOR_ASKED: usize = 2;
/// How often ids are looked through for those that are quiet.
const SWEEP: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy)]
struct Held {
    last: Instant,
    places: usize,
}

#[derive(Debug)]
struct Ids {
    held: HashMap<u128, Held, FxBuildHasher>,
    places: usize,
    swept: Option<Instant>,
}

static IDS: Mutex<Ids> = Mutex::new(Ids {
    held: HashMap::with_hasher(FxBuildHasher),
    places: 0,
    swept: None,
});
/// Servers among which the limit is shared.
static SHARERS: AtomicUsize = AtomicUsize::new(1);

/// Tells how many servers admit ids, this one included; each admits its share.
pub fn share_among(servers: usize) {
    SHARERS.store(servers.max(1), Ordering::Relaxed);
}

/// Decides whether a task's id gets series of its own: while there is room, and where its request `asked` to be
/// followed even beyond. An id that has them already keeps them.
pub fn admit(id: Uuid, steps: usize, asked: bool) -> bool {
    let Some(settings) = settings().filter(|s| s.mode == Mode::Window && s.limit > 0) else {
        return false;
    };
    let limit = if asked {
        settings.limit * ROOM_FOR_ASKED
    } else {
        settings.limit.div_ceil(SHARERS.load(Ordering::Relaxed))
    };
    let places = 1 + steps / STEPS_PER_PLACE;
    IDS.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .hold(settings, id.as_u128(), places, limit)
}

/// Gives back the place of an id that was admitted and has no series.
pub fn release(id: Uuid) {
    let mut ids = IDS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(held) = ids.held.remove(&id.as_u128()) {
        ids.places -= held.places;
    }
}

/// The id to label a record with, as a number; 0 for none.
pub(super) fn label(settings: &Settings, correlation: Correlation) -> u128 {
    if settings.mode != Mode::Window || !correlation.sampled {
        return 0;
    }
    let id = correlation.id.as_u128();
    // Other processes admit too, each its share; this bound is for what they could not know of each other.
    let limit = settings.limit * ROOM_FOR_ASKED;
    let held = IDS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .hold(settings, id, 1, limit);
    if held { id } else { 0 }
}

/// Drops ids that are quiet, with their series.
pub(super) fn sweep() {
    if let Some(settings) = settings() {
        IDS.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .sweep(settings, Instant::now());
    }
}

impl Ids {
    /// Notes a record of an id, which gets its places where there is room.
    fn hold(&mut self, settings: &Settings, id: u128, places: usize, limit: usize) -> bool {
        let now = Instant::now();
        if let Some(held) = self.held.get_mut(&id) {
            held.last = now;
            return true;
        }
        if self.places + places > limit {
            self.sweep(settings, now);
        }
        if self.places + places > limit {
            return false;
        }
        self.places += places;
        self.held.insert(id, Held { last: now, places });
        true
    }

    /// While the ids are locked nothing is recorded for one that is being dropped, so no count is lost.
    fn sweep(&mut self, settings: &Settings, now: Instant) {
        if self.swept.is_some_and(|at| now.duration_since(at) < SWEEP) {
            return;
        }
        self.swept = Some(now);
        let mut quiet = FxHashSet::default();
        self.held.retain(|id, held| {
            let gone = now.duration_since(held.last) >= settings.window
                && collect::seen_by_all(held.last, now);
            if gone {
                self.places -= held.places;
                quiet.insert(*id);
            }
            !gone
        });
        if !quiet.is_empty() {
            let dropped: usize = catalog::INSTRUMENTS.iter().map(|i| i.forget(&quiet)).sum();
            export::evicted(dropped as u64);
        }
    }
}
