//! What a worker remembers of the targets it serves: pure, told the time.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use tasker_shared::db::claim::Take;
use tasker_shared::db::lanes::Lane;
use tasker_shared::name::Name;

use super::Verdict;

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct Known {
    targets: HashMap<Name, Target>,
    /// Targets whose circuits are just being opened for an attempt.
    opening: HashSet<Name>,
    /// How often this worker opened, closed or parked something itself.
    changes: u64,
    /// When a lane gave the step of a probe, counted in probes; the others never did.
    turns: HashMap<i32, u64>,
    turn: u64,
}

/// What had been changed when a listing was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked(u64);

/// A target of which there is something to remember.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Target {
    /// Attempts in a row that found it in trouble.
    failures: u32,
    /// While its circuit is open: when a probe may be asked for.
    probe_at: Option<Instant>,
}

impl Target {
    fn is_open(&self) -> bool {
        self.probe_at.is_some()
    }
}

impl Known {
    pub(super) fn is_open(&self, target: Name) -> bool {
        self.targets.get(&target).is_some_and(Target::is_open)
    }

    pub(super) fn any_open(&self) -> bool {
        self.targets.values().any(Target::is_open)
    }

    /// Takes note of a verdict; `true` where the circuit is to be opened for it, until [`Known::opened`].
    pub(super) fn hear(&mut self, target: Name, verdict: &Verdict, threshold: u32) -> bool {
        let known = match (self.targets.get_mut(&target), verdict) {
            (Some(known), _) => known,
            (None, Verdict::Troubled { .. }) => self.targets.entry(target).or_default(),
            (None, _) => return false,
        };
        match verdict {
            Verdict::Answered => known.failures = 0,
            Verdict::Troubled { .. } => known.failures = known.failures.saturating_add(1),
            Verdict::Nothing => {}
        }
        let is_due = known.failures >= threshold && !known.is_open();
        let is_trouble = matches!(verdict, Verdict::Troubled { .. });
        is_due && is_trouble && self.opening.insert(target)
    }

    /// Whoever was to open the circuit has, or could not: then the next attempt does.
    pub(super) fn opened(&mut self, target: Name) {
        self.opening.remove(&target);
    }

    /// The circuit is open, and a probe may be asked for from `probe_at` on.
    pub(super) fn park(&mut self, target: Name, probe_at: Instant) {
        self.changes += 1;
        self.targets.entry(target).or_default().probe_at = Some(probe_at);
    }

    /// The circuit is closed.
    pub(super) fn close(&mut self, target: Name) {
        self.changes += 1;
        self.targets.remove(&target);
    }

    /// A probe is being asked for; not again before `again`.
    pub(super) fn ask_again(&mut self, target: Name, again: Instant) {
        if let Some(known) = self.targets.get_mut(&target) {
            known.probe_at = known.probe_at.map(|_| again);
        }
    }

    /// A parked target that a probe may be asked for now, among these.
    pub(super) fn due(&self, mut among: impl Iterator<Item = Name>, now: Instant) -> Option<Name> {
        among.find(|name| {
            let probe_at = self.targets.get(name).and_then(|target| target.probe_at);
            probe_at.is_some_and(|at| at <= now)
        })
    }

    /// When the next probe may be asked for.
    pub(super) fn next_probe(&self) -> Option<Instant> {
        self.targets
            .values()
            .filter_map(|target| target.probe_at)
            .min()
    }

    /// A listing is about to be asked for.
    pub(super) fn ask(&self) -> Asked {
        Asked(self.changes)
    }

    /// Takes over which circuits are open, as a listing has it, and forgets what no lane of it has as its target.
    /// `false`, and nothing is taken over, where this worker has changed something since it `asked`: the listing may
    /// not know of it.
    pub(super) fn listed(&mut self, lanes: &[Lane], asked: Asked, now: Instant) -> bool {
        if asked != self.ask() {
            return false;
        }
        let mut listed = HashSet::new();
        for lane in lanes.iter().filter(|lane| !lane.target.is_empty()) {
            let name = Name::of(&lane.target);
            listed.insert(name);
            let probe_at = lane
                .parked_ms
                .map(|ms| now + Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
            match (self.targets.get_mut(&name), probe_at) {
                (Some(target), None) if target.is_open() => {
                    self.targets.remove(&name);
                }
                (Some(target), Some(_)) => target.probe_at = probe_at,
                (None, Some(_)) => {
                    let failures = 0;
                    self.targets.insert(name, Target { failures, probe_at });
                }
                (_, None) => {}
            }
        }
        self.targets.retain(|name, _| listed.contains(name));
        self.turns
            .retain(|number, _| lanes.iter().any(|lane| lane.lane == *number));
        true
    }

    /// Puts what may be taken for a probe in its order: what never was first, then what was longest ago, so that
    /// steps which cannot succeed do not stand in the way of others for ever.
    pub(super) fn in_turn(&self, mut takes: Vec<Take>) -> Vec<Take> {
        takes.sort_by_key(|take| self.turns.get(&take.lane).copied());
        takes
    }

    /// A lane gave the step of a probe.
    pub(super) fn had_its_turn(&mut self, lane: i32) {
        self.turn += 1;
        self.turns.insert(lane, self.turn);
    }
}

#[cfg(test)]
mod tests {
    use tasker_shared::cursor::Span;

    use super::*;

    const THRESHOLD: u32 = 3;

    fn bank() -> Name {
        Name::of("bank:443")
    }

    fn troubled() -> Verdict {
        Verdict::Troubled {
            reason: "no connection".to_owned(),
            asked: None,
        }
    }

    fn lane(number: i32, target: &str, parked_ms: Option<i64>) -> Lane {
        Lane {
            lane: number,
            namespace: "n".into(),
            callable: "c".into(),
            priority: 0,
            target: target.to_owned(),
            parked_ms,
        }
    }

    #[test]
    fn failures_in_a_row_open_a_circuit_and_one_answer_begins_the_count_anew() {
        let mut known = Known::default();
        let told = [
            (troubled(), false),
            (troubled(), false),
            (Verdict::Answered, false),
            (troubled(), false),
            (Verdict::Nothing, false),
            (troubled(), false),
            (troubled(), true),
        ];
        for (place, (verdict, opens)) in told.into_iter().enumerate() {
            let heard = known.hear(bank(), &verdict, THRESHOLD);
            assert_eq!(heard, opens, "{place}: {verdict:?}");
        }
    }

    #[test]
    fn one_attempt_opens_a_circuit_and_the_next_where_it_could_not() {
        let mut known = Known::default();
        let mut heard = || known.hear(bank(), &troubled(), THRESHOLD);
        assert_eq!((0..10).filter(|_| heard()).count(), 1);
        known.opened(bank());
        assert!(!known.hear(bank(), &Verdict::Nothing, THRESHOLD));
        assert!(known.hear(bank(), &troubled(), THRESHOLD));
        known.park(bank(), Instant::now());
        known.opened(bank());
        assert!(!known.hear(bank(), &troubled(), THRESHOLD));
    }

    #[test]
    fn a_circuit_that_is_open_is_not_opened_again() {
        let mut known = Known::default();
        known.park(bank(), Instant::now());
        assert!((0..10).all(|_| !known.hear(bank(), &troubled(), THRESHOLD)));
    }

    #[test]
    fn nothing_is_remembered_of_a_target_that_is_well() {
        let mut known = Known::default();
        known.hear(bank(), &Verdict::Answered, THRESHOLD);
        known.hear(bank(), &Verdict::Nothing, THRESHOLD);
        assert!(known.targets.is_empty());
    }

    #[test]
    fn a_listing_that_may_not_know_of_a_change_changes_nothing() {
        let (mut known, now) = (Known::default(), Instant::now());
        let lanes = |parked_ms| [lane(1, "bank:443", parked_ms)];
        let before = known.ask();
        known.park(bank(), now);
        assert!(!known.listed(&lanes(None), before, now));
        assert!(known.is_open(bank()), "it was opened after the question");
        let before = known.ask();
        known.close(bank());
        assert!(!known.listed(&lanes(Some(500)), before, now));
        assert!(!known.is_open(bank()), "it was closed after the question");

        assert!(known.listed(&lanes(Some(500)), known.ask(), now));
        assert!(known.is_open(bank()));
        assert!(known.listed(&lanes(None), known.ask(), now));
        assert!(!known.is_open(bank()));
    }

    #[test]
    fn a_target_that_no_lane_has_any_more_is_forgotten() {
        let (mut known, now) = (Known::default(), Instant::now());
        known.park(bank(), now);
        known.hear(Name::of("mail"), &troubled(), THRESHOLD);
        assert!(known.listed(&[lane(1, "mail", None)], known.ask(), now));
        assert!(!known.any_open());
        assert_eq!(known.targets[&Name::of("mail")].failures, 1);
    }

    #[test]
    fn a_probe_is_asked_for_when_it_is_due_and_the_next_is_known() {
        let (mut known, now) = (Known::default(), Instant::now());
        assert_eq!(known.next_probe(), None);
        let later = now + Duration::from_secs(5);
        known.park(bank(), later);
        known.park(Name::of("mail"), later + Duration::from_secs(1));
        let due = |known: &Known, at| known.due([bank()].into_iter(), at);
        assert_eq!((due(&known, now), due(&known, later)), (None, Some(bank())));
        assert_eq!(known.next_probe(), Some(later));
        known.ask_again(bank(), later + Duration::from_secs(2));
        assert_eq!(due(&known, later), None);
        assert_eq!(known.next_probe(), Some(later + Duration::from_secs(1)));
    }

    #[test]
    fn lanes_take_turns_in_giving_the_step_of_a_probe() {
        let mut known = Known::default();
        let takes = || {
            let take = |lane| Take {
                lane,
                span: Span::behind(0),
                most: 1,
            };
            [7, 3, 5].map(take).to_vec()
        };
        let mut gave = Vec::new();
        for _ in 0..7 {
            let first = known.in_turn(takes())[0].lane;
            known.had_its_turn(first);
            gave.push(first);
        }
        assert_eq!(gave, [7, 3, 5, 7, 3, 5, 7], "the highest priority first");
        known.had_its_turn(3);
        assert_eq!(known.in_turn(takes())[0].lane, 5, "3 was out of turn");
    }
}
