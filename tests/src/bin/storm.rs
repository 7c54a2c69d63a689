//! The long form of the fault suite: raises a storm and prints its table. It judges what the suite leaves open, the
//! times; the exit status says whether all was well.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tasker_tests::storm::kind::Place;
use tasker_tests::storm::{self, Options, Report};

/// A killed worker's steps are with others in this time.
const WORKER: Duration = Duration::from_secs(20);
/// Work goes on this soon after PostgreSQL is back.
const DATABASE: Duration = Duration::from_secs(10);

/// Raises a storm of faults on Tasker and audits what it has left.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many faults, at least.
    #[arg(long, default_value_t = 200)]
    faults: usize,
    /// Repeats a storm; by default chance decides.
    #[arg(long)]
    seed: Option<u64>,
    /// Leases of three seconds instead of the default.
    #[arg(long)]
    short_leases: bool,
    /// Tasks asked for each second.
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// Only kinds of faults whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut options = Options::new(arguments.faults);
    options.seed = arguments.seed.unwrap_or(options.seed);
    options.short_leases = arguments.short_leases;
    options.tasks_per_second = arguments.rate;
    options.only = arguments.only;
    let report = storm::run(&options).await;
    println!("{report}");
    for words in report.audit.wrong.iter().chain(&late(&report)) {
        eprintln!("wrong: {words}");
    }
    match report.audit.wrong.is_empty() && late(&report).is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// What took too long.
fn late(report: &Report) -> Vec<String> {
    let goals = [
        (
            "a killed worker's steps",
            report.longest_taken_over(),
            WORKER,
        ),
        (
            "PostgreSQL's return",
            report.longest_alone(|kind| kind.place() == Place::Database),
            DATABASE,
        ),
    ];
    let missed = goals
        .into_iter()
        .filter(|(_, took, goal)| took.is_some_and(|took| took > *goal));
    missed
        .map(|(what, took, goal)| format!("{what} took {took:?}, the goal is {goal:?}"))
        .collect()
}
