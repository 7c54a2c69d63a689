//! What a storm shows at its end: a table, as the documents have it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::audit::Audit;
use super::kind::{Kind, Place};

/// How a strike was got over.
#[derive(Debug)]
pub struct Recovery {
    /// The faults, each with how much it struck, where that is counted.
    pub kinds: Vec<(Kind, usize)>,
    /// From the end of the faults until tasks asked for then were complete.
    pub recovered: Duration,
    /// From a worker's death until others had claimed all that it held, and how many steps that was.
    pub taken_over: Option<(Duration, usize)>,
}

/// All that is to be said of a storm.
#[derive(Debug)]
pub struct Report {
    pub seed: u64,
    pub took: Duration,
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

    /// The longest that a strike with one of the kinds took to be got over.
    #[must_use]
    pub fn longest(&self, of: impl Fn(Kind) -> bool) -> Option<Duration> {
        let struck = |strike: &&Recovery| strike.kinds.iter().any(|(kind, _)| of(*kind));
        self.recoveries
            .iter()
            .filter(struck)
            .map(|strike| strike.recovered)
            .max()
    }

    /// The same of strikes where nothing else was wrong at the same time.
    #[must_use]
    pub fn longest_alone(&self, of: impl Fn(Kind) -> bool) -> Option<Duration> {
        let alone = self
            .recoveries
            .iter()
            .filter(|strike| strike.kinds.len() == 1);
        let struck = alone.filter(|strike| strike.kinds.iter().any(|(kind, _)| of(*kind)));
        struck.map(|strike| strike.recovered).max()
    }

    /// The longest that a killed worker's steps took to be with others, where nothing else was wrong at the same time.
    #[must_use]
    pub fn longest_taken_over(&self) -> Option<Duration> {
        let alone = self
            .recoveries
            .iter()
            .filter(|strike| strike.kinds.len() == 1);
        let times = alone.filter_map(|strike| strike.taken_over);
        times
            .filter(|(_, steps)| *steps > 0)
            .map(|(time, _)| time)
            .max()
    }

    fn by_kind(&self) -> BTreeMap<Kind, (usize, usize)> {
        let mut counts: BTreeMap<Kind, (usize, usize)> = BTreeMap::new();
        for (kind, struck) in self.recoveries.iter().flat_map(|strike| &strike.kinds) {
            let count = counts.entry(*kind).or_default();
            count.0 += 1;
            count.1 += struck;
        }
        counts
    }
}

/// What the numbers of a kind count, where it has some.
fn struck(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::WorkerKilled => Some("steps held"),
        Kind::ConnectionsCut
        | Kind::ConnectionsStalled
        | Kind::ConnectionsSilent
        | Kind::ConnectionsSlowed
        | Kind::ConnectionsRefused
        | Kind::ClockForward
        | Kind::ClockBack => Some("processes"),
        Kind::DiskFull => Some("writes refused"),
        Kind::StatementCancelled => Some("statements"),
        Kind::SessionTerminated => Some("sessions"),
        Kind::LateResults => Some("results, none counted"),
        _ => None,
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let audit = &self.audit;
        writeln!(
            f,
            "| fault | times | struck | longest recovery |\n|---|---:|---:|---:|"
        )?;
        for (kind, (times, count)) in self.by_kind() {
            let struck = struck(kind).map_or_else(String::new, |what| format!("{count} {what}"));
            let longest = seconds(self.longest(|other| other == kind));
            writeln!(f, "| {kind} | {times} | {struck} | {longest} |")?;
        }
        for (kind, why) in &self.skipped {
            writeln!(f, "| {kind} | 0 | skipped: {why} | – |")?;
        }
        writeln!(f, "\n| | |\n|---|---:|")?;
        let rows: [(&str, String); 14] = [
            ("seed", self.seed.to_string()),
            ("time", seconds(Some(self.took))),
            ("faults injected", self.faults().to_string()),
            ("tasks accepted", audit.accepted.to_string()),
            ("tasks finished", audit.finished.to_string()),
            ("step results applied", audit.applied.to_string()),
            ("handler runs", audit.runs.to_string()),
            (
                "runs whose result did not count",
                audit.duplicates.to_string(),
            ),
            ("attempts lost with a lease", audit.lost_leases.to_string()),
            ("**lost**", format!("**{}**", audit.lost)),
            ("**applied twice**", format!("**{}**", audit.applied_twice)),
            ("longest recovery", seconds(self.longest(|_| true))),
            (
                "a killed worker's steps with others, longest where nothing else was wrong (goal: under 20 s)",
                seconds(self.longest_taken_over()),
            ),
            (
                "work again after PostgreSQL's return, longest where nothing else was wrong (goal: under 10 s)",
                seconds(self.longest_alone(|kind| kind.place() == Place::Database)),
            ),
        ];
        for (name, value) in rows {
            writeln!(f, "| {name} | {value} |")?;
        }
        Ok(())
    }
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or_else(
        || "–".to_owned(),
        |time| format!("{:.1} s", time.as_secs_f64()),
    )
}
