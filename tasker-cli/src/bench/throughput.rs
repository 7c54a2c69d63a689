//! How many steps a second: tasks of one shape, asked for as fast as they are taken, until the last has ended.

use clap::Args;
use serde_json::json;

use super::load::{Load, Via};
use super::report::whole;
use super::shape::{self, Graph, Shape};
use super::stage::{Cast, Stage};
use super::stretch::{Measured, Stretch, until_done};
use super::{Bench, Outcome, sketch};
use crate::failure::Failure;

/// Requests at once, where each is for one task.
const SINGLE_CONNECTIONS: usize = 64;
/// Requests at once, where each is for a thousand: one is sent while the other is stored.
const BATCH_CONNECTIONS: usize = 2;

#[derive(Debug, Args)]
pub(crate) struct Throughput {
    /// single, linear, diamond, dag7, tree8 or fanout:N
    #[arg(long, default_value = "linear", value_name = "SHAPE", value_parser = shape::parse)]
    shape: Shape,
    /// How many tasks [default: as many as run for a second or so]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    tasks: Option<u64>,
    /// How many worker processes
    #[arg(long, default_value_t = 1, value_name = "W", value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: u16,
    /// How tasks are asked for
    #[arg(long, value_enum, default_value_t = Via::Batch)]
    via: Via,
    /// Requests at once [default: 2, with --via rest 64]
    #[arg(long, value_name = "C", value_parser = clap::value_parser!(u16).range(1..=4096))]
    connections: Option<u16>,
    /// Run the bare cycle of steps in PostgreSQL as well, and compare
    #[arg(long)]
    sketch: bool,
}

impl Throughput {
    pub(crate) async fn run(&self, bench: &mut Bench) -> Result<Outcome, Failure> {
        let graph = Graph::measured(self.shape);
        let tasks = self.tasks.unwrap_or(self.shape.usual_tasks());
        let connections = self
            .connections
            .map_or(usual_connections(self.via), usize::from);
        let parameters = json!({
            "shape": self.shape.to_string(), "tasks": tasks, "workers": self.workers, "via": self.via,
            "connections": connections, "sketch": self.sketch,
        });
        let mut outcome = Outcome::of("throughput", parameters);
        let cast = Cast {
            workers: usize::from(self.workers),
            ..Cast::default()
        };
        let measured = run(bench, &cast, graph, tasks, (self.via, connections)).await?;
        let steps_per_s = measured.steps_per_s.unwrap_or_default();
        outcome.measured(measured);
        if self.sketch {
            let sketch = sketch::run(bench, tasks * self.shape.steps()).await?;
            let share = steps_per_s / sketch.max(1.0);
            outcome.find("sketch_steps_per_s", sketch);
            outcome.find("share_of_sketch", super::quantiles::rounded(share));
            let text = format!("{:.0} % of its {} steps/s", share * 100.0, whole(sketch));
            outcome.tell("of the sketch", text);
        }
        Ok(outcome)
    }
}

fn usual_connections(via: Via) -> usize {
    match via {
        Via::Rest => SINGLE_CONNECTIONS,
        Via::Batch | Via::Sql => BATCH_CONNECTIONS,
    }
}

/// Measures so many tasks with processes of their own. Other tasks that wait, and are not served, may be there.
pub(super) async fn run(
    bench: &mut Bench,
    cast: &Cast,
    graph: Graph,
    tasks: u64,
    (via, connections): (Via, usize),
) -> Result<Measured, Failure> {
    bench.progress.begin("starting a server and workers");
    let mut stage = Stage::start(&bench.ground, cast, Some(graph)).await?;
    let stretch = Stretch::begin(bench, &mut stage, graph).await?;
    bench
        .progress
        .begin(format!("running {} tasks", graph.name()));
    let load = Load::new(graph, tasks);
    load.send(&bench.ground, &stage, via, connections).await?;
    until_done(bench, &mut stage, stretch.beside(), tasks).await?;
    stretch.finish(bench, stage, tasks).await
}

/// The same by batch.
pub(super) async fn by_batch(
    bench: &mut Bench,
    cast: &Cast,
    graph: Graph,
    tasks: u64,
) -> Result<Measured, Failure> {
    run(bench, cast, graph, tasks, (Via::Batch, BATCH_CONNECTIONS)).await
}
