//! The lanes that a worker serves: what to ask of each, and how far each has been worked off. Pure: the caller brings
//! the time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tasker_shared::cursor::{Cursor, Span};
use tasker_shared::db::claim::{Claimed, Take};
use tasker_shared::db::lanes::Lane;
use tasker_shared::db::wake::Found;
use tasker_shared::metrics::worker as metrics;
use tasker_shared::name::Name;

/// The lanes and how far each has been worked off.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    lanes: Vec<Lane>,
    namespaces: HashMap<i32, Name>,
    /// What the steps of a lane talk to, where that is known.
    targets: HashMap<i32, Name>,
    cursors: HashMap<i32, Cursor>,
    /// Lanes that had work when they were last looked at.
    active: Vec<i32>,
    turn: usize,
    looked_up: Option<Instant>,
}

impl Lanes {
    /// Takes over the lanes that this worker can serve, as they were looked up.
    pub(super) fn replace(&mut self, lanes: Vec<Lane>, now: Instant) {
        self.cursors
            .retain(|lane, _| lanes.iter().any(|l| l.lane == *lane));
        self.namespaces = lanes
            .iter()
            .map(|l| (l.lane, Name::of(&l.namespace)))
            .collect();
        self.targets = lanes
            .iter()
            .filter(|l| !l.target.is_empty())
            .map(|l| (l.lane, Name::of(&l.target)))
            .collect();
        self.lanes = lanes;
        self.looked_up = Some(now);
    }

    /// Looks begin at their starts again: there lies what a crash of the database took back.
    pub(super) fn start_over(&mut self) {
        self.cursors.clear();
    }

    /// They are to be looked up again.
    pub(super) fn outdated(&mut self) {
        self.looked_up = None;
    }

    /// Whether they are to be looked up again, at the latest after `interval`.
    pub(super) fn are_older_than(&self, interval: Duration, now: Instant) -> bool {
        self.looked_up
            .is_none_or(|at| now.duration_since(at) >= interval)
    }

    /// Their numbers.
    pub(super) fn numbers(&self) -> impl Iterator<Item = i32> + '_ {
        self.lanes.iter().map(|lane| lane.lane)
    }

    /// What their steps talk to.
    pub(super) fn targets(&self) -> impl Iterator<Item = Name> + '_ {
        self.targets.values().copied()
    }

    /// The namespace of a lane.
    pub(super) fn namespace(&self, lane: i32) -> Name {
        self.namespaces
            .get(&lane)
            .copied()
            .unwrap_or(metrics::UNKNOWN)
    }

    /// What to ask of each lane that is not parked: highest priority first; within a priority the free slots are
    /// shared among the lanes that have work, and a different lane begins each time.
    pub(super) fn takes(
        &mut self,
        free: usize,
        now: Instant,
        is_parked: impl Fn(Name) -> bool,
    ) -> Vec<Take> {
        if free == 0 {
            return Vec::new();
        }
        self.turn = self.turn.wrapping_add(1);
        let mut takes = Vec::with_capacity(self.lanes.len());
        for lanes in self.lanes.chunk_by(|a, b| a.priority == b.priority) {
            let active = lanes
                .iter()
                .filter(|l| self.active.contains(&l.lane))
                .count();
            let share = i64::try_from(free.div_ceil(active.max(1))).unwrap_or(i64::MAX);
            let first = self.turn % lanes.len();
            for lane in lanes[first..].iter().chain(&lanes[..first]) {
                if self
                    .targets
                    .get(&lane.lane)
                    .copied()
                    .is_some_and(&is_parked)
                {
                    continue;
                }
                let cursor = self
                    .cursors
                    .entry(lane.lane)
                    .or_insert_with(|| Cursor::new(now));
                takes.push(Take {
                    lane: lane.lane,
                    span: cursor.span(now),
                    most: share,
                });
            }
        }
        takes
    }

    /// One step of the lanes of a target, highest priority first.
    pub(super) fn of_target(&mut self, target: Name, now: Instant) -> Vec<Take> {
        let lanes = self.lanes.iter().map(|lane| lane.lane);
        lanes
            .filter(|lane| self.targets.get(lane) == Some(&target))
            .map(|lane| {
                let cursor = self.cursors.entry(lane).or_insert_with(|| Cursor::new(now));
                Take {
                    lane,
                    // A probe is made seldom, so it is not left to find nothing because it is a slice's turn.
                    span: Span::behind(cursor.span(now).behind),
                    most: 1,
                }
            })
            .collect()
    }

    /// Takes note of what a claim of `most` steps, which ended at `now`, brought, and says whether there may be more.
    pub(super) fn claimed(
        &mut self,
        claimed: &[Claimed],
        takes: &[Take],
        most: i64,
        now: Instant,
    ) -> Found {
        let mut gave: HashMap<i32, (i64, i64)> = HashMap::new();
        for step in claimed {
            let (steps, last) = gave.entry(step.lane).or_default();
            (*steps, *last) = (*steps + 1, step.id.max(*last));
        }
        self.active.clear();
        self.active.extend(gave.keys());
        let mut may_be_more = false;
        let mut left = most;
        for take in takes {
            let (steps, last) = gave.get(&take.lane).copied().unwrap_or_default();
            let filled = steps >= take.most.min(left);
            if let Some(cursor) = self.cursors.get_mut(&take.lane) {
                may_be_more |= filled | cursor.brought((steps > 0).then_some(last), filled, now);
            }
            left -= steps;
            if left <= 0 {
                // The claim was full with this lane, and did not come to those behind it.
                break;
            }
        }
        match claimed.len() {
            _ if may_be_more => Found::Part,
            0 => Found::Nothing,
            _ => Found::All,
        }
    }
}

#[cfg(test)]
mod tests;
