//! What a server and a worker cost that have nothing to do.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::quantiles::rounded;
use super::shape::{Graph, Shape};
use super::stage::{Cast, Stage};
use super::stretch::Stretch;
use super::{Bench, Outcome};
use crate::failure::Failure;

/// Caches and connections have found their sizes then.
const SETTLING: Duration = Duration::from_secs(3);

#[derive(Debug, Args)]
pub(crate) struct Idle {
    /// How long
    #[arg(long, default_value_t = 30, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
}

impl Idle {
    pub(crate) async fn run(&self, bench: &mut Bench) -> Result<Outcome, Failure> {
        let mut outcome = Outcome::of("idle", json!({"seconds": self.seconds}));
        let graph = Graph::measured(Shape::Single);
        bench.progress.begin("starting a server and a worker");
        let cast = Cast {
            workers: 1,
            ..Cast::default()
        };
        let mut stage = Stage::start(&bench.ground, &cast, Some(graph)).await?;
        tokio::time::sleep(SETTLING).await;
        let stretch = Stretch::begin(bench, &mut stage, graph).await?;
        bench.progress.begin(format!("waiting {} s", self.seconds));
        let began = tokio::time::Instant::now();
        for second in 1..=self.seconds {
            tokio::time::sleep_until(began + Duration::from_secs(second)).await;
            bench.progress.at(second, self.seconds);
        }
        let seconds = began.elapsed().as_secs_f64();
        stage.check()?;
        let mut measured = stretch.finish(bench, stage, 0).await?;
        let statements = measured
            .statements
            .map(|count| rounded(count as f64 / seconds));
        let cores = measured.cpu.server.zip(measured.cpu.worker);
        let cores = cores.map(|(server, worker)| rounded((server + worker) / seconds));
        (
            measured.steps_per_s,
            measured.tasks_per_s,
            measured.per_step,
        ) = (None, None, None);
        outcome.measured(measured);
        outcome.find("statements_per_s", json!(statements));
        outcome.find("cores", json!(cores));
        if let Some(statements) = statements {
            outcome.tell("statements", format!("{statements:.2} /s"));
        }
        if let Some(cores) = cores {
            outcome.tell(
                "of a core",
                format!("{:.2} % by server and worker", cores * 100.0),
            );
        }
        Ok(outcome)
    }
}
