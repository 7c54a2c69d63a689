//! `tasker bench`: which scenario, and where. What scenarios do is in [`crate::bench`].

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{print, print_line};
use crate::bench::{
    self, Backlog, History, Idle, Latency, Outcome, Pinned, Place, Report, Scale, Submit,
    Throughput,
};
use crate::failure::Failure;
use crate::output::palette::Palette;

#[derive(Debug, Args)]
#[command(
    after_help = "Server and workers are processes of this program, configured as everything else is here. \
        Every run checks its results: the exit status is 1 where one is wrong, missing or there twice."
)]
pub(crate) struct Bench {
    #[command(subcommand)]
    scenario: Scenario,
    /// Print one JSON object and nothing else
    #[arg(long, global = true)]
    json: bool,
    /// Measure in this database, which has to be empty, instead of one made for the occasion
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<String>,
    /// Directory on a disk that the database is made in [default: the one for temporary files]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        conflicts_with = "database_url"
    )]
    data: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// How many steps a second
    Throughput(Throughput),
    /// How long a task takes, alone or at a steady rate
    Latency(Latency),
    /// How many single requests a server takes over many connections
    Submit(Submit),
    /// Whether tasks that wait slow down others
    Backlog(Backlog),
    /// Whether tasks that have ended slow down others
    History(History),
    /// Whether throughput holds while another session keeps a snapshot open
    Pinned(Pinned),
    /// What a server and a worker cost that have nothing to do
    Idle(Idle),
    /// What a second worker process adds
    Scale(Scale),
}

impl Bench {
    pub(crate) fn wants_json(&self) -> bool {
        self.json
    }

    /// Fails where anything was lost, made twice or is wrong, when all has been printed.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let measured = self.measure().await;
        // Standard output has to say it too, where programs read that alone.
        if let (true, Err(Failure::Verdict(fault))) = (self.json, &measured) {
            let version = env!("CARGO_PKG_VERSION");
            print_line(&json!({"version": version, "faults": [fault]}).to_string())?;
        }
        let report = measured?;
        match self.json {
            true => {
                let text = serde_json::to_string(&report);
                print_line(
                    &text.map_err(|source| Failure::setup("cannot write the report", source))?,
                )?;
            }
            false => print(&report.table(Palette::of_stdout()))?,
        }
        match report.faults.as_slice() {
            [] => Ok(()),
            faults => Err(Failure::Verdict(faults.join("; "))),
        }
    }

    async fn measure(&self) -> Result<Report, Failure> {
        let place = Place {
            database_url: self.database_url.clone(),
            data: self.data.clone(),
            exact_ends: matches!(self.scenario, Scenario::Latency(_)),
        };
        let mut bench = bench::Bench::open(&place).await?;
        let outcome = self.scenario.run(&mut bench).await?;
        bench.close(outcome).await
    }
}

impl Scenario {
    async fn run(&self, bench: &mut bench::Bench) -> Result<Outcome, Failure> {
        match self {
            Scenario::Throughput(scenario) => scenario.run(bench).await,
            Scenario::Latency(scenario) => scenario.run(bench).await,
            Scenario::Submit(scenario) => scenario.run(bench).await,
            Scenario::Backlog(scenario) => scenario.run(bench).await,
            Scenario::History(scenario) => scenario.run(bench).await,
            Scenario::Pinned(scenario) => scenario.run(bench).await,
            Scenario::Idle(scenario) => scenario.run(bench).await,
            Scenario::Scale(scenario) => scenario.run(bench).await,
        }
    }
}
