//! What a storm shows at its end: a table, as the documents have it, and what in it is not as it must be.

use std::fmt;
use std::time::Duration;

use super::audit::Audit;
use super::kind::{Kind, Place};

/// What a killed or frozen worker had is with others in this time.
const WORKER: Duration = Duration::from_secs(20);
/// Work goes on this soon after PostgreSQL is back.
const DATABASE: Duration = Duration::from_secs(10);

/// How a strike was got over.
#[derive(Debug)]
pub struct Recovery {
    /// The faults, each with how much it struck, where that is counted.
    pub kinds: Vec<(Kind, usize)>,
    /// The processes that each struck, where it struck some and not all alike.
    pub whom: Vec<String>,
    /// From the end of the faults until tasks asked for then were complete.
    pub recovered: Duration,
    /// Where a worker that held something was struck down.
    pub taken_over: Option<TakenOver>,
}

impl Recovery {
    fn is_alone(&self) -> bool {
        self.kinds.len() == 1
    }

    /// Until all of it had been got over.
    fn time(&self) -> Duration {
        let taken = self.taken_over.map(|taken| taken.time);
        self.recovered.max(taken.unwrap_or_default())
    }
}

/// How the steps of a worker came to others.
#[derive(Debug, Clone, Copy)]
pub struct TakenOver {
    /// What happened to it.
    pub kind: Kind,
    /// From then until others had claimed all that it held.
    pub time: Duration,
}

/// All that is to be said of a storm.
#[derive(Debug)]
pub struct Report {
    pub seed: u64,
    pub took: Duration,
    /// The kinds of faults that were to strike.
    pub kinds: Vec<Kind>,
    pub recoveries: Vec<Recovery>,
    /// Kinds that were not possible here, and why.
    pub skipped: Vec<(Kind, String)>,
    pub audit: Audit,
}

impl Report {
    /// How many faults there were.
    #[must_use]
    pub fn faults(&self) -> usize {
        self.recoveries
            .iter()
            .map(|strike| strike.kinds.len())
            .sum()
    }

    /// The strikes with one of the kinds, where nothing else was wrong at the same time, or where something was.
    fn strikes(&self, of: impl Fn(Kind) -> bool, alone: bool) -> impl Iterator<Item = &Recovery> {
        self.recoveries.iter().filter(move |strike| {
            strike.is_alone() == alone && strike.kinds.iter().any(|(kind, _)| of(*kind))
        })
    }

    /// The longest that work took to go on after PostgreSQL's return, where nothing else was wrong.
    #[must_use]
    pub fn longest_without_database(&self) -> Option<Duration> {
        let strikes = self.strikes(|kind| kind.place() == Place::Database, true);
        strikes.map(|strike| strike.recovered).max()
    }

    /// The longest that a worker's steps took to be with others when it was killed or frozen, where nothing else was
    /// wrong.
    #[must_use]
    pub fn longest_taken_over(&self, kind: Kind) -> Option<Duration> {
        let taken = self.strikes(|other| other == kind, true);
        taken
            .filter_map(|strike| strike.taken_over)
            .map(|taken| taken.time)
            .max()
    }

    /// How much of a kind was struck.
    fn struck(&self, kind: Kind) -> usize {
        let faults = self.recoveries.iter().flat_map(|strike| &strike.kinds);
        let of_kind = faults.filter(|(other, _)| *other == kind);
        of_kind.map(|(_, count)| count).sum()
    }

    /// All that is not as it must be, in words: what the audit found, kinds that struck nothing, and times over their
    /// goals or not measured.
    #[must_use]
    pub fn wrong(&self) -> Vec<String> {
        let mut wrong = self.audit.wrong.clone();
        if self.audit.finished != self.audit.accepted {
            let (finished, accepted) = (self.audit.finished, self.audit.accepted);
            wrong.push(format!("{finished} of {accepted} tasks finished"));
        }
        for kind in &self.kinds {
            if self.struck(*kind) == 0
                && let Some(what) = kind.counted()
            {
                wrong.push(format!("{kind}: it struck nothing ({what})"));
            }
        }
        for (what, took, goal) in self.goals() {
            if took.is_none_or(|took| took >= goal) {
                let took = seconds(took);
                wrong.push(format!("{what} took {took}, the goal is under {goal:?}"));
            }
        }
        wrong
    }

    /// What has a goal among what was to strike: its name, how long it took, and the goal.
    fn goals(&self) -> Vec<(&'static str, Option<Duration>, Duration)> {
        let mut goals = Vec::new();
        for (kind, what) in [
            (Kind::WorkerKilled, "a killed worker's steps with others"),
            (Kind::WorkerFrozen, "a frozen worker's steps with others"),
        ] {
            if self.kinds.contains(&kind) {
                goals.push((what, self.longest_taken_over(kind), WORKER));
            }
        }
        let of_database = |kind: &Kind| kind.place() == Place::Database;
        if self.kinds.iter().any(of_database) {
            let what = "work again after PostgreSQL's return";
            goals.push((what, self.longest_without_database(), DATABASE));
        }
        goals
    }

    /// Longest recovery and number of a kind's strikes.
    fn cell(&self, kind: Kind, alone: bool) -> String {
        let times = self.strikes(|other| other == kind, alone);
        let times: Vec<Duration> = times.map(Recovery::time).collect();
        match times.iter().max() {
            Some(longest) => format!("{} ({})", seconds(Some(*longest)), times.len()),
            None => "–".to_owned(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| fault | longest recovery alone (times) | with another (times) | struck |\n|---|---:|---:|---:|"
        )?;
        for kind in &self.kinds {
            let struck = kind.counted();
            let struck = struck.map(|what| format!("{} {what}", self.struck(*kind)));
            let (alone, together) = (self.cell(*kind, true), self.cell(*kind, false));
            let struck = struck.unwrap_or_default();
            writeln!(f, "| {kind} | {alone} | {together} | {struck} |")?;
        }
        for (kind, why) in &self.skipped {
            writeln!(f, "| {kind} | – | – | skipped: {why} |")?;
        }
        writeln!(f, "\n| the whole storm | |\n|---|---:|")?;
        for (name, value) in self.rows() {
            writeln!(f, "| {name} | {value} |")?;
        }
        for (what, took, goal) in self.goals() {
            let goal = goal.as_secs();
            let took = seconds(took);
            writeln!(
                f,
                "| {what}, longest where nothing else was wrong (goal: under {goal} s) | {took} |"
            )?;
        }
        Ok(())
    }
}

impl Report {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let audit = &self.audit;
        let recovered = self.recoveries.iter().map(Recovery::time);
        vec![
            ("seed", self.seed.to_string()),
            ("time", seconds(Some(self.took))),
            ("faults injected", self.faults().to_string()),
            ("tasks accepted", audit.accepted.to_string()),
            ("tasks finished", audit.finished.to_string()),
            ("steps applied", audit.applied.to_string()),
            ("handler runs", audit.runs.to_string()),
            (
                "duplicates caused by lost leases",
                audit.duplicates.to_string(),
            ),
            (
                "runs of a claim that PostgreSQL's crash took back",
                audit.claimed_again.to_string(),
            ),
            ("runs that were handed back", audit.handed_back.to_string()),
            ("leases lost, by steps", audit.lost_leases.to_string()),
            ("steps handed back", audit.released.to_string()),
            ("**lost**", format!("**{}**", audit.lost)),
            ("**applied twice**", format!("**{}**", audit.applied_twice)),
            ("longest recovery", seconds(recovered.max())),
        ]
    }
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or_else(
        || "–".to_owned(),
        |time| format!("{:.1} s", time.as_secs_f64()),
    )
}

#[cfg(test)]
mod tests;
