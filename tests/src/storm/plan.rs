//! The plan of a storm: which faults, when, for how long and on whom, all from one seed.

use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use super::kind::{Kind, Place};

/// How often a fault comes while another one lasts: once in so many.
const TOGETHER: u32 = 5;

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    pub kind: Kind,
    /// How long it lasts, where it lasts.
    pub hold: Duration,
    /// Whom it strikes and how hard, whatever that is for its kind.
    pub chance: u64,
}

/// One fault, or two at the same time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strike {
    /// How long after the one before has been got over.
    pub pause: Duration,
    pub first: Fault,
    pub second: Option<Fault>,
}

impl Strike {
    /// How many faults it is.
    #[must_use]
    pub fn faults(&self) -> usize {
        1 + usize::from(self.second.is_some())
    }
}

/// The strikes of a storm of at least `faults` faults, and at least one of each of the kinds: kinds come in rounds,
/// each in an order of its own. In the first round the database's faults come alone, since how long they take to be
/// got over is judged by those. The same seed gives the same plan.
#[must_use]
pub fn plan(seed: u64, faults: usize, kinds: &[Kind]) -> Vec<Strike> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut strikes = Vec::new();
    let mut planned = 0;
    let mut round: Vec<Kind> = Vec::new();
    // The first round is ended however many came together in it.
    while planned < faults || strikes.len() < kinds.len() {
        if round.is_empty() {
            round = kinds.to_vec();
            round.shuffle(&mut random);
        }
        let Some(kind) = round.pop() else { break };
        let first = fault(kind, &mut random);
        let judged = strikes.len() < kinds.len() && kind.place() == Place::Database;
        let second = random
            .random_ratio(1, TOGETHER)
            .then(|| partner(kind, &mut random))
            .flatten()
            .filter(|kind| kinds.contains(kind) && !judged)
            .map(|kind| fault(kind, &mut random));
        let strike = Strike {
            pause: Duration::from_millis(random.random_range(100..900)),
            first,
            second,
        };
        planned += strike.faults();
        strikes.push(strike);
    }
    strikes
}

fn fault(kind: Kind, random: &mut Xoshiro256PlusPlus) -> Fault {
    let hold_ms = match kind {
        // Behind their time, which is waited for anyway.
        Kind::WorkerFrozen | Kind::ServerFrozen => 0..1_500,
        // Long enough that a heartbeat or a renewal is missed, now and then a lease too.
        Kind::ConnectionsStalled => 500..7_000,
        Kind::ConnectionsSlowed | Kind::ClockForward | Kind::ClockBack => 500..3_000,
        // Behind what is waited for anyway: its circuit to open, and probes to fail.
        Kind::TargetAway => 0..1_000,
        Kind::DatabaseCrashed | Kind::DatabaseKilled | Kind::ConnectionsRefused => 0..3_500,
        Kind::DiskFull => 300..2_500,
        // Over at once.
        _ => 0..1,
    };
    Fault {
        kind,
        hold: Duration::from_millis(random.random_range(hold_ms)),
        chance: random.random(),
    }
}

/// A process's fault beside one that is none, where both can be done at the same time.
fn partner(kind: Kind, random: &mut Xoshiro256PlusPlus) -> Option<Kind> {
    const PROCESSES: [Kind; 4] = [
        Kind::WorkerKilled,
        Kind::ServerKilled,
        Kind::WorkerTerminated,
        Kind::ServerTerminated,
    ];
    let index = random.random_range(0..PROCESSES.len());
    (kind.place() != Place::Process).then(|| PROCESSES[index])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn kinds_of(strikes: &[Strike]) -> Vec<Kind> {
        let faults = strikes.iter().flat_map(|s| [Some(s.first), s.second]);
        faults.flatten().map(|fault| fault.kind).collect()
    }

    #[test]
    fn a_seed_gives_one_plan_and_another_seed_another() {
        assert_eq!(plan(7, 60, &Kind::ALL), plan(7, 60, &Kind::ALL));
        assert_ne!(plan(7, 60, &Kind::ALL), plan(8, 60, &Kind::ALL));
    }

    #[test]
    fn every_kind_comes_at_least_once_and_there_are_as_many_faults_as_wished() {
        for seed in 0..200 {
            let kinds = kinds_of(&plan(seed, 22, &Kind::ALL));
            assert!(kinds.len() >= 22, "{seed}");
            let different: BTreeSet<Kind> = kinds.into_iter().collect();
            assert_eq!(different.len(), Kind::ALL.len(), "{seed}");
        }
    }

    #[test]
    fn each_fault_of_the_database_comes_alone_at_least_once() {
        for seed in 0..200 {
            let planned = plan(seed, 24, &Kind::ALL);
            let alone = planned.iter().filter(|strike| strike.second.is_none());
            let alone: BTreeSet<Kind> = alone.map(|strike| strike.first.kind).collect();
            let of_database = |kind: &Kind| kind.place() == Place::Database;
            assert!(
                Kind::ALL
                    .iter()
                    .filter(|k| of_database(k))
                    .all(|k| alone.contains(k))
            );
        }
    }

    #[test]
    fn a_kind_that_cannot_be_had_here_does_not_come() {
        let kinds: Vec<Kind> = Kind::ALL
            .into_iter()
            .filter(|&k| k != Kind::DiskFull)
            .collect();
        let planned = kinds_of(&plan(1, 100, &kinds));
        assert!(!planned.contains(&Kind::DiskFull));
    }

    #[test]
    fn no_two_faults_of_a_process_come_together() {
        for strike in plan(3, 500, &Kind::ALL) {
            let both = strike
                .second
                .map(|s| (strike.first.kind.place(), s.kind.place()));
            assert!(both.is_none_or(|(first, second)| first != second));
        }
    }
}
