//! Whether what waits slows down what runs: the same load on an empty queue, beside a backlog in other lanes, and with
//! one in the very same lane.

use chrono::Utc;
use clap::Args;
use serde_json::json;
use tasker_shared::db::lanes::{self, LaneKey};
use tasker_shared::db::measure::fill::{self, Batch};
use tasker_shared::db::measure::{self, verdict};
use tasker_shared::ids;
use uuid::Uuid;

use super::ground::asked;
use super::history::{in_parts, store};
use super::judged::{Judged, judge};
use super::load::Load;
use super::progress::grouped;
use super::quantiles::rounded;
use super::report::whole;
use super::shape::{self, Graph, MEASURED, Shape, WAITING};
use super::stage::{Cast, Stage};
use super::stretch::until_done;
use super::throughput;
use super::{Bench, Outcome};
use crate::failure::Failure;

/// Lanes that a backlog beside lies in: as many priorities.
const OTHER_LANES: i16 = 20;

#[derive(Debug, Args)]
pub(crate) struct Backlog {
    /// How many tasks wait
    #[arg(long, default_value_t = 1_000_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    tasks: u64,
    /// single, linear, diamond, dag7 or tree8
    #[arg(long, default_value = "single", value_name = "SHAPE", value_parser = shape::parse)]
    shape: Shape,
    /// How many tasks are measured [default: as many as run for a second or so]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    measured_tasks: Option<u64>,
}

impl Backlog {
    pub(crate) async fn run(&self, bench: &mut Bench) -> Result<Outcome, Failure> {
        let graph = Graph::measured(self.shape);
        let tasks = self
            .measured_tasks
            .unwrap_or(self.shape.usual_tasks())
            .min(self.tasks);
        let parameters =
            json!({"tasks": self.tasks, "shape": self.shape.to_string(), "measured_tasks": tasks});
        let mut outcome = Outcome::of("backlog", parameters);
        let cast = Cast {
            workers: 1,
            namespace: Some(MEASURED),
            concurrency: None,
        };
        let empty = throughput::by_batch(bench, &cast, graph, tasks).await?;
        let empty_rate = empty.steps_per_s.unwrap_or_default();
        outcome.judged(empty.judged);

        let others = Graph {
            namespace: WAITING,
            ..graph
        };
        let from = self.fill(bench, others, OTHER_LANES).await?;
        let beside = throughput::by_batch(bench, &cast, graph, tasks).await?;
        let beside_rate = beside.steps_per_s.unwrap_or_default();
        outcome.measured(beside);
        outcome.judged(self.drain(bench, others, from).await?);

        let (within_rate, judged) = self.within(bench, graph, tasks).await?;
        outcome.judged(judged);
        outcome.find("empty_steps_per_s", empty_rate);
        outcome.tell("empty queue", format!("{} steps/s", whole(empty_rate)));
        let waiting = grouped(self.tasks);
        for (key, label, rate) in [
            ("other_lanes", "in other lanes", beside_rate),
            ("same_lane", "in the same lane", within_rate),
        ] {
            let ratio = rate / empty_rate.max(1e-9);
            outcome.find(key, json!({"steps_per_s": rate, "ratio": rounded(ratio)}));
            let text = format!(
                "{} steps/s, {:.0} %, {waiting} tasks waiting",
                whole(rate),
                ratio * 100.0
            );
            outcome.tell(label, text);
        }
        Ok(outcome)
    }

    /// Measures from where a backlog in the same lane is being worked off and tasks are asked for behind it, until as
    /// many steps have been run as these have.
    async fn within(
        &self,
        bench: &mut Bench,
        graph: Graph,
        tasks: u64,
    ) -> Result<(f64, Judged), Failure> {
        let from = self.fill(bench, graph, 1).await?;
        let cast = Cast {
            workers: 1,
            ..Cast::default()
        };
        let mut stage = Stage::start(&bench.ground, &cast, Some(graph)).await?;
        bench
            .progress
            .begin("working off a backlog in the same lane");
        let all = self.tasks + tasks;
        // Its first steps stand for a warm-up.
        let warm = self.tasks - (tasks / 10).min(self.tasks / 10);
        until_done(bench, &mut stage, warm, tasks).await?;
        let began = bench.ground.clock_at(Utc::now());
        Load::new(graph, tasks)
            .after(self.tasks)
            .in_batches(&stage, 2)
            .await?;
        until_done(bench, &mut stage, 0, all).await?;
        let runs = stage.handler_runs().await?;
        stage.stop().await?;
        bench.progress.begin("checking every result");
        let pool = &bench.ground.pool;
        let steps = tasks * self.shape.steps();
        let end = asked(measure::nth_end(pool, began, steps.cast_signed()).await)?;
        let took = end
            .map(|end| end - began)
            .and_then(|took| took.num_microseconds());
        let rate = steps as f64 / (took.unwrap_or(i64::MAX) as f64 / 1e6);
        let name = graph.name();
        let found = asked(verdict::judge(pool, (graph.namespace, &name), from).await)?;
        let left = asked(verdict::messages_left(pool).await)?;
        Ok((
            rounded(rate),
            judge(&found, all, all * self.shape.steps(), runs, left),
        ))
    }

    /// Runs what has waited beside, for it to be judged too.
    async fn drain(&self, bench: &mut Bench, graph: Graph, from: Uuid) -> Result<Judged, Failure> {
        let cast = Cast {
            workers: 1,
            ..Cast::default()
        };
        let mut stage = Stage::start(&bench.ground, &cast, None).await?;
        bench.progress.begin("working off the backlog beside");
        until_done(bench, &mut stage, 0, self.tasks).await?;
        let runs = stage.handler_runs().await?;
        stage.stop().await?;
        bench.progress.begin("checking every result");
        let pool = &bench.ground.pool;
        let name = graph.name();
        let found = asked(verdict::judge(pool, (graph.namespace, &name), from).await)?;
        let left = asked(verdict::messages_left(pool).await)?;
        let steps = self.tasks * self.shape.steps();
        Ok(judge(&found, self.tasks, steps, runs, left))
    }

    /// Stores tasks that wait, in so many lanes; none of theirs has a lower uuid than the one that it answers.
    async fn fill(&self, bench: &mut Bench, graph: Graph, count: i16) -> Result<Uuid, Failure> {
        store(bench, graph).await?;
        bench.progress.begin("storing a backlog");
        let lowest = if count > 1 { -count / 2 } else { 0 };
        let keys: Vec<LaneKey> = (lowest..lowest + count)
            .map(|priority| LaneKey {
                namespace: graph.namespace.to_owned(),
                callable: graph.callable().to_owned(),
                priority,
                target: String::new(),
            })
            .collect();
        let pool = bench.ground.pool.clone();
        // The database makes the uuids.
        let from = ids::lowest_uuid_at(asked(measure::clock(&pool).await)?);
        let found = asked(lanes::ensure(&pool, &keys).await)?;
        let lanes: Vec<(i16, i32)> = keys.iter().map(|key| key.priority).zip(found).collect();
        let name = graph.name();
        in_parts(bench, self.tasks, |first, last| {
            let batch = Batch {
                namespace: graph.namespace,
                name: &name,
                first: first.cast_signed(),
                last: last.cast_signed() - 1,
            };
            fill::waiting(&pool, batch, &lanes)
        })
        .await?;
        bench.progress.begin("vacuuming");
        asked(measure::vacuum(&pool).await)?;
        Ok(from)
    }
}
