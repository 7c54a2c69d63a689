//! `tasker bench`: loads a database with a server and workers as processes of their own, measures, and checks every
//! result of every run. A scenario is a file: what it is given, what it does, what it finds.

mod backlog;
mod connection;
mod disk;
mod ground;
mod history;
mod idle;
mod judged;
mod latency;
mod load;
mod pinned;
mod progress;
mod quantiles;
mod report;
mod scale;
mod shape;
mod sketch;
mod stage;
mod stretch;
mod submit;
mod throughput;
mod usage;

use std::path::PathBuf;

use serde_json::{Map, Value};
use tasker_shared::machine::Machine;

use crate::failure::Failure;

pub(crate) use backlog::Backlog;
pub(crate) use history::History;
pub(crate) use idle::Idle;
pub(crate) use latency::Latency;
pub(crate) use pinned::Pinned;
pub(crate) use scale::Scale;
pub(crate) use submit::Submit;
pub(crate) use throughput::Throughput;

use disk::Flush;
use ground::Ground;
use judged::Judged;
use progress::Progress;
use quantiles::Quantiles;
pub(crate) use report::Report;
use report::{Flushes, Scenario};
use stretch::Measured;

/// Where to measure.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// A database that is there, instead of one made for the occasion.
    pub(crate) database_url: Option<String>,
    /// Where the one that is made lies.
    pub(crate) data: Option<PathBuf>,
    /// Whether ends of tasks are measured, so that the database has to note when it committed them.
    pub(crate) exact_ends: bool,
}

/// A database ready to be loaded.
#[derive(Debug)]
pub(crate) struct Bench {
    ground: Ground,
    progress: Progress,
    flush: Option<Flush>,
}

/// What a scenario has found.
#[derive(Debug)]
pub(crate) struct Outcome {
    name: &'static str,
    parameters: Map<String, Value>,
    measured: Option<Measured>,
    latency_ms: Option<Quantiles>,
    start_ms: Option<Quantiles>,
    judged: Judged,
    findings: Map<String, Value>,
    lines: Vec<(&'static str, String)>,
}

impl Bench {
    /// Makes the database, or looks at the one that was named.
    pub(crate) async fn open(place: &Place) -> Result<Bench, Failure> {
        let mut progress = Progress::new();
        progress.begin("preparing a database");
        let ground = match &place.database_url {
            Some(url) => Ground::given(url).await?,
            None => Ground::own(place.data.as_deref(), place.exact_ends).await?,
        };
        let flush = ground.flush().await?;
        Ok(Bench {
            ground,
            progress,
            flush,
        })
    }

    /// Measures the disk once more and puts everything together.
    pub(crate) async fn close(mut self, outcome: Outcome) -> Result<Report, Failure> {
        let after = self.ground.flush().await?;
        let flushes = self.flush.zip(after).map(|(before, after)| Flushes {
            worst: before.worst(after),
            before,
            after,
        });
        let postgres = self.ground.describe().await?;
        self.progress.end();
        let measured = outcome.measured.as_ref();
        let judged = outcome.judged;
        Ok(Report {
            version: env!("CARGO_PKG_VERSION"),
            optimised: !cfg!(debug_assertions),
            machine: Machine::this(),
            postgres,
            scenario: Scenario {
                name: outcome.name,
                parameters: outcome.parameters,
            },
            steps_per_s: measured.and_then(|measured| measured.steps_per_s),
            tasks_per_s: measured.and_then(|measured| measured.tasks_per_s),
            latency_ms: outcome.latency_ms,
            start_ms: outcome.start_ms,
            per_step: measured.and_then(|measured| measured.per_step),
            cpu_s: measured.map(|measured| measured.cpu),
            rss_bytes: measured.map(|measured| measured.rss),
            dead_tuples: measured.map(|measured| measured.dead_tuples),
            fdatasync_us: flushes,
            noisy: flushes.map(Flushes::is_noisy),
            lost: judged.lost,
            duplicated: judged.duplicated,
            faults: judged.faults,
            findings: outcome.findings,
            lines: outcome.lines,
        })
    }
}

impl Outcome {
    /// Of this scenario, run with these parameters, an object.
    fn of(name: &'static str, parameters: Value) -> Outcome {
        let parameters = match parameters {
            Value::Object(parameters) => parameters,
            _ => Map::new(),
        };
        Outcome {
            name,
            parameters,
            measured: None,
            latency_ms: None,
            start_ms: None,
            judged: Judged::default(),
            findings: Map::new(),
            lines: Vec::new(),
        }
    }

    /// Takes what a stretch has found for the scenario's own figures.
    fn measured(&mut self, measured: Measured) {
        self.judged(measured.judged.clone());
        self.measured = Some(measured);
    }

    /// Takes what is wrong.
    fn judged(&mut self, judged: Judged) {
        let before = std::mem::take(&mut self.judged);
        self.judged = before.and(judged);
    }

    /// Adds what only this scenario finds.
    fn find(&mut self, key: &'static str, value: impl Into<Value>) {
        self.findings.insert(key.to_owned(), value.into());
    }

    /// Adds a line of the table.
    fn tell(&mut self, label: &'static str, text: String) {
        self.lines.push((label, text));
    }
}
