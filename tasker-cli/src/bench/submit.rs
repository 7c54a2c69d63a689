//! How many single requests a server takes: each for one task of one step, over many connections at once.

use clap::Args;
use serde_json::{json, to_value};

use super::judged::Judged;
use super::load::Load;
use super::progress::grouped;
use super::quantiles::Quantiles;
use super::report::milliseconds;
use super::shape::{Graph, Shape};
use super::stage::{Cast, Stage};
use super::stretch::{Stretch, until_done};
use super::{Bench, Outcome};
use crate::failure::Failure;

const TASKS: u64 = 20_000;

#[derive(Debug, Args)]
pub(crate) struct Submit {
    /// Requests at once
    #[arg(long, default_value_t = 64, value_name = "C", value_parser = clap::value_parser!(u16).range(1..=4096))]
    connections: u16,
    /// How many tasks
    #[arg(long, default_value_t = TASKS, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    tasks: u64,
}

impl Submit {
    pub(crate) async fn run(&self, bench: &mut Bench) -> Result<Outcome, Failure> {
        let graph = Graph::measured(Shape::Single);
        let parameters = json!({"connections": self.connections, "tasks": self.tasks});
        let mut outcome = Outcome::of("submit", parameters);
        bench.progress.begin("starting a server and a worker");
        let cast = Cast {
            workers: 1,
            ..Cast::default()
        };
        let mut stage = Stage::start(&bench.ground, &cast, Some(graph)).await?;
        let stretch = Stretch::begin(bench, &mut stage, graph).await?;
        bench
            .progress
            .begin(format!("asking for {} tasks", grouped(self.tasks)));
        let load = Load::new(graph, self.tasks);
        let answers = load
            .one_by_one(&stage, usize::from(self.connections), false)
            .await?;
        until_done(bench, &mut stage, 0, answers.created).await?;
        let measured = stretch.finish(bench, stage, answers.created).await?;
        outcome.measured(measured);

        let bad = answers.server_errors + answers.broken;
        if bad > 0 {
            let words = answers.words.unwrap_or_default();
            outcome.judged(Judged {
                faults: vec![format!(
                    "{bad} requests were answered neither 201 nor an honest 503: {words}"
                )],
                ..Judged::default()
            });
        }
        outcome.find("created", answers.created);
        outcome.find("unavailable", answers.unavailable);
        outcome.find("server_errors", answers.server_errors);
        outcome.find("broken", answers.broken);
        let told = format!(
            "{} × 201   {} × 503   {} other",
            grouped(answers.created),
            grouped(answers.unavailable),
            grouped(bad)
        );
        outcome.tell("answers", told);
        if let Some(took) = Quantiles::of(answers.took_ms) {
            outcome.find("request_ms", to_value(took).unwrap_or_default());
            outcome.tell("request to answer", milliseconds(took));
        }
        Ok(outcome)
    }
}
