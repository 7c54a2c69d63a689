//! What a second worker process adds, where handlers take their time.

use clap::Args;
use serde_json::json;

use super::quantiles::rounded;
use super::report::whole;
use super::shape::{Graph, MEASURED, Shape};
use super::stage::Cast;
use super::throughput;
use super::{Bench, Outcome};
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Scale {
    /// How many tasks of one step, with each number of workers
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    tasks: u64,
    /// How long each handler takes
    #[arg(long, default_value_t = 5, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=60_000))]
    handler_ms: u64,
    /// Steps that each worker runs at once
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    concurrency: u32,
}

impl Scale {
    pub(crate) async fn run(&self, bench: &mut Bench) -> Result<Outcome, Failure> {
        let parameters = json!({"tasks": self.tasks, "handler_ms": self.handler_ms, "concurrency": self.concurrency});
        let mut outcome = Outcome::of("scale", parameters);
        let graph = Graph {
            shape: Shape::Single,
            namespace: MEASURED,
            sleep_ms: Some(self.handler_ms),
        };
        let mut rates = Vec::new();
        for workers in [1, 2] {
            let cast = Cast {
                workers,
                concurrency: Some(self.concurrency),
                namespace: None,
            };
            let measured = throughput::by_batch(bench, &cast, graph, self.tasks).await?;
            rates.push(measured.steps_per_s.unwrap_or_default());
            outcome.measured(measured);
        }
        if let [one, two] = rates[..] {
            let times = two / one.max(1e-9);
            outcome.find("one_worker_steps_per_s", one);
            outcome.find("two_workers_steps_per_s", two);
            outcome.find("times", rounded(times));
            outcome.tell("one worker", format!("{} steps/s", whole(one)));
            outcome.tell(
                "two workers",
                format!("{} steps/s, {times:.2} times as many", whole(two)),
            );
        }
        Ok(outcome)
    }
}
