//! Whether what has ended slows down what runs: the same load on an empty database, and beside a long history.

use std::time::Instant;

use chrono::{TimeDelta, Utc};
use clap::Args;
use futures::stream::{self, StreamExt};
use serde_json::{json, to_value};
use tasker_shared::db;
use tasker_shared::db::measure;
use tasker_shared::db::measure::fill::{self, Batch};
use tasker_shared::db::upkeep;

use super::ground::asked;
use super::progress::grouped;
use super::quantiles::{Quantiles, rounded};
use super::report::{milliseconds, whole};
use super::shape::{self, Graph, Shape, WAITING};
use super::stage::{Cast, Stage};
use super::throughput;
use super::{Bench, Outcome};
use crate::failure::Failure;

/// Tasks that one statement stores.
const FILL: u64 = 5_000;
const LISTINGS: usize = 200;
/// What is listed: the newest, a page in the middle, by state, by template, and what hardly any task has.
const PAGES: [&str; 8] = [
    "/v1/tasks?per_page=50",
    "/v1/tasks?per_page=50&page=20",
    "/v1/tasks?per_page=50&status=complete",
    "/v1/tasks?per_page=50&namespace=bench_waiting",
    "/v1/tasks?per_page=50&status=error",
    "/v1/tasks?per_page=50&status=blocked_by_failures",
    "/v1/tasks?per_page=50&tag=rare",
    "/v1/tasks?per_page=50&initiator=nobody",
];

#[derive(Debug, Args)]
pub(crate) struct History {
    /// How many tasks have ended before
    #[arg(long, default_value_t = 2_500_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    tasks: u64,
    /// Over how many weeks, and so partitions, they are spread
    #[arg(long, default_value_t = 52, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=520))]
    weeks: i32,
    /// single, linear, diamond, dag7, tree8 or fanout:N
    #[arg(long, default_value = "linear", value_name = "SHAPE", value_parser = shape::parse)]
    shape: Shape,
    /// How many tasks are measured [default: as many as run for a second or so]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    measured_tasks: Option<u64>,
}

impl History {
    pub(crate) async fn run(&self, bench: &mut Bench) -> Result<Outcome, Failure> {
        let graph = Graph::measured(self.shape);
        let tasks = self.measured_tasks.unwrap_or(self.shape.usual_tasks());
        let history_steps = self.tasks * self.shape.steps();
        let parameters = json!({
            "tasks": self.tasks, "steps": history_steps, "weeks": self.weeks, "shape": self.shape.to_string(), "measured_tasks": tasks,
        });
        let mut outcome = Outcome::of("history", parameters);
        let cast = Cast {
            workers: 1,
            ..Cast::default()
        };
        let empty = throughput::by_batch(bench, &cast, graph, tasks).await?;
        let empty_rate = empty.steps_per_s.unwrap_or_default();
        outcome.judged(empty.judged);
        self.fill(bench).await?;
        let full = throughput::by_batch(bench, &cast, graph, tasks).await?;
        let ratio = full.steps_per_s.unwrap_or_default() / empty_rate.max(1e-9);
        outcome.measured(full);
        outcome.find("empty_steps_per_s", empty_rate);
        outcome.find("ratio", rounded(ratio));
        outcome.tell("without history", format!("{} steps/s", whole(empty_rate)));
        let text = format!(
            "{:.0} % of that, {} steps of history in {} weeks",
            ratio * 100.0,
            grouped(history_steps),
            self.weeks
        );
        outcome.tell("with history", text);
        if let Some(took) = list(bench, &cast).await? {
            outcome.find("listing_ms", to_value(took).unwrap_or_default());
            outcome.tell("listing tasks", milliseconds(took));
        }
        Ok(outcome)
    }

    async fn fill(&self, bench: &mut Bench) -> Result<(), Failure> {
        let graph = Graph {
            namespace: WAITING,
            ..Graph::measured(self.shape)
        };
        store(bench, graph).await?;
        bench.progress.begin("storing a history");
        let name = graph.name();
        let until = Utc::now();
        let past = TimeDelta::weeks(self.weeks.into());
        let at = |number: u64| {
            let share = number as f64 / self.tasks as f64;
            let into = past.num_microseconds().unwrap_or_default() as f64 * share;
            until - past + TimeDelta::microseconds(into as i64)
        };
        let pool = bench.ground.pool.clone();
        asked(upkeep::ensure_partitions(&pool, until - past, self.weeks).await)?;
        in_parts(bench, self.tasks, |first, last| {
            let batch = Batch {
                namespace: graph.namespace,
                name: &name,
                first: first.cast_signed(),
                last: last.cast_signed() - 1,
            };
            fill::ended(&pool, batch, (at(first), at(last)))
        })
        .await?;
        // As a server has done to weeks that are over, long before.
        asked(upkeep::index_closed_weeks(&bench.ground.pool, until).await)?;
        bench.progress.begin("vacuuming");
        asked(measure::vacuum(&bench.ground.pool).await)
    }
}

/// Stores so many tasks, some thousands a statement, as fast as two connections can: `store` gets the number of the
/// first and of the one behind the last.
pub(super) async fn in_parts<F: Future<Output = db::Result<()>>>(
    bench: &mut Bench,
    tasks: u64,
    store: impl Fn(u64, u64) -> F,
) -> Result<(), Failure> {
    let firsts = (0..tasks).step_by(FILL as usize);
    let parts = firsts.map(|first| {
        let last = (first + FILL).min(tasks);
        let stored = store(first, last);
        async move { stored.await.map(|()| last - first) }
    });
    let mut stored = stream::iter(parts).buffer_unordered(2);
    let mut done = 0;
    while let Some(part) = stored.next().await {
        done += asked(part)?;
        bench.progress.at(done, tasks);
    }
    Ok(())
}

/// Has a server store the template of a graph whose tasks nobody asks for.
pub(super) async fn store(bench: &mut Bench, graph: Graph) -> Result<(), Failure> {
    bench.progress.begin("storing a template");
    let stage = Stage::start(&bench.ground, &Cast::default(), Some(graph)).await?;
    stage.stop().await
}

/// How long the server takes to list tasks, as a person would.
async fn list(bench: &mut Bench, cast: &Cast) -> Result<Option<Quantiles>, Failure> {
    let stage = Stage::start(&bench.ground, cast, None).await?;
    bench.progress.begin("listing tasks");
    let mut took = Vec::new();
    for page in PAGES.into_iter().cycle().take(LISTINGS) {
        let began = Instant::now();
        let answer = stage.http().get(stage.url(page)).send().await;
        let answer = answer.map_err(|source| stage.silent(source))?;
        let status = answer.status();
        let body = answer.text().await.map_err(|source| stage.silent(source))?;
        if !status.is_success() {
            return Err(Failure::refused(status, body));
        }
        took.push(began.elapsed().as_secs_f64() * 1e3);
    }
    stage.stop().await?;
    Ok(Quantiles::of(took))
}
