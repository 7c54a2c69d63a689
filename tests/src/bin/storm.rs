//! The long form of the fault suite: raises a storm and prints its table; the exit status says whether all was well.

use std::process::ExitCode;

use clap::Parser;
use tasker_tests::storm::{self, Options};

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
    if !options.names_a_kind() {
        eprintln!("no kind of faults has {:?} in its name", options.only);
        return ExitCode::FAILURE;
    }
    let report = storm::run(&options).await;
    println!("{report}");
    let wrong = report.wrong();
    for words in &wrong {
        eprintln!("wrong: {words}");
    }
    match wrong.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
