//! How long a task takes from its request to its end: one at a time on an idle machine, or at a steady rate.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args;
use futures::stream::{FuturesUnordered, StreamExt};
use serde_json::{json, to_value};
use tasker_shared::db::measure::{self, Times};
use uuid::Uuid;

use super::ground::{Ground, asked};
use super::load;
use super::quantiles::{Quantiles, rounded};
use super::report::milliseconds;
use super::shape::{self, Graph, Shape};
use super::stage::{Cast, Stage};
use super::stretch::{Stretch, until_done};
use super::{Bench, Outcome, sketch};
use crate::failure::Failure;

const ALONE: u64 = 200;
/// A steady rate is held for so long where nothing is said.
const STEADY_S: f64 = 10.0;
/// Between a task that runs alone and the first look at it, and between two looks: none disturbs a task that takes
/// less, and none is the measure of anything.
const LOOK: Duration = Duration::from_millis(15);
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(crate) struct Latency {
    /// single, linear, diamond, dag7, tree8 or fanout:N
    #[arg(long, default_value = "linear", value_name = "SHAPE", value_parser = shape::parse)]
    shape: Shape,
    /// Steps a second; 0 for one task at a time, each alone
    #[arg(long, default_value_t = 0.0, value_name = "R", value_parser = rate)]
    rate: f64,
    /// How many tasks [default: 200 alone, or ten seconds of the rate]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    tasks: Option<u64>,
    /// Also run the least that four steps in a line can take: bare loops in the same database that claim, load, submit
    /// and advance
    #[arg(long, conflicts_with_all = ["shape", "rate"])]
    sketch: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok();
    rate.filter(|rate: &f64| (0.0..=1e6).contains(rate))
        .ok_or_else(|| "is a number of steps a second, such as 500".to_owned())
}

/// A task that was asked for, and when, by our clock.
type Asked = (Uuid, DateTime<Utc>);

impl Latency {
    pub(crate) async fn run(&self, bench: &mut Bench) -> Result<Outcome, Failure> {
        let graph = Graph::measured(self.shape);
        let tasks = self.tasks.unwrap_or_else(|| self.usual_tasks());
        let parameters = json!({"shape": self.shape.to_string(), "rate": self.rate, "tasks": tasks, "sketch": self.sketch});
        let mut outcome = Outcome::of("latency", parameters);
        bench.progress.begin("starting a server and a worker");
        let cast = Cast {
            workers: 1,
            ..Cast::default()
        };
        let mut stage = Stage::start(&bench.ground, &cast, Some(graph)).await?;
        let stretch = Stretch::begin(bench, &mut stage, graph).await?;
        let asked_for = match self.rate > 0.0 {
            true => steadily(bench, &stage, graph, tasks, self.rate).await?,
            false => alone(bench, &mut stage, graph, tasks).await?,
        };
        until_done(bench, &mut stage, 0, tasks).await?;
        let all: Vec<Uuid> = asked_for.iter().map(|(task, _)| *task).collect();
        let times = asked(measure::times(&bench.ground.pool, &all).await)?;
        let mut measured = stretch.finish(bench, stage, tasks).await?;
        if self.rate == 0.0 {
            // How fast tasks follow each other was our choice.
            (measured.steps_per_s, measured.tasks_per_s) = (None, None);
        }
        outcome.measured(measured);
        self.tell(&mut outcome, &bench.ground, &asked_for, &times);
        if self.sketch {
            let took = sketch::alone(bench, tasks, LOOK).await?;
            self.compare(&mut outcome, Quantiles::of(took));
        }
        Ok(outcome)
    }

    /// Tells how long the sketch's tasks took, and how many times as long ours do.
    fn compare(&self, outcome: &mut Outcome, sketch: Option<Quantiles>) {
        let Some(sketch) = sketch else { return };
        outcome.find("sketch_ms", to_value(sketch).unwrap_or_default());
        outcome.tell("the sketch", milliseconds(sketch));
        if let Some(ours) = outcome.latency_ms {
            let times = rounded(ours.p50 / sketch.p50.max(f64::MIN_POSITIVE));
            outcome.find("times_the_sketch", times);
            outcome.tell("against it", format!("{times:.2} times as long (p50)"));
        }
    }

    fn usual_tasks(&self) -> u64 {
        match self.rate > 0.0 {
            true => ((self.rate * STEADY_S / self.shape.steps() as f64).ceil() as u64).max(1),
            false => ALONE,
        }
    }

    fn tell(&self, outcome: &mut Outcome, ground: &Ground, asked_for: &[Asked], times: &[Times]) {
        let requested: HashMap<Uuid, DateTime<Utc>> = asked_for.iter().copied().collect();
        let (mut starts, mut ends, mut overheads) = (vec![], vec![], vec![]);
        for task in times {
            let Some(&at) = requested.get(&task.task_uuid) else {
                continue;
            };
            let at = ground.clock_at(at);
            starts.extend(task.started_at.map(|started| ms(started - at)));
            if let Some(ended) = task.ended_at {
                ends.push(ms(ended - at));
                overheads.push(
                    (ms(ended - at) - task.handlers_ms).max(0.0) / f64::from(self.shape.depth()),
                );
            }
        }
        outcome.start_ms = Quantiles::of(starts);
        outcome.latency_ms = Quantiles::of(ends);
        if let Some(overhead) = Quantiles::of(overheads) {
            outcome.find(
                "overhead_ms_per_step",
                to_value(overhead).unwrap_or_default(),
            );
            outcome.tell("overhead a step", milliseconds(overhead));
        }
    }
}

/// One after the other, each when the one before has ended.
async fn alone(
    bench: &mut Bench,
    stage: &mut Stage,
    graph: Graph,
    tasks: u64,
) -> Result<Vec<Asked>, Failure> {
    bench
        .progress
        .begin(format!("running {} tasks one by one", graph.name()));
    let mut asked_for = Vec::new();
    for number in 0..tasks {
        let at = Utc::now();
        let task = load::submit(stage, graph.request(number)).await?;
        asked_for.push((task, at));
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            tokio::time::sleep(LOOK).await;
            let times = asked(measure::times(&bench.ground.pool, &[task]).await)?;
            if times.iter().any(|times| times.ended_at.is_some()) {
                break;
            }
            stage.check()?;
            if tokio::time::Instant::now() > until {
                return Err(Failure::Verdict(format!(
                    "task {task} has not ended after {} s\n{}",
                    PATIENCE.as_secs(),
                    stage.last_words()
                )));
            }
        }
        bench.progress.at(number + 1, tasks);
    }
    Ok(asked_for)
}

/// At times that do not depend on how fast answers come. Where we are late ourselves, what a task waited for that
/// counts as well.
async fn steadily(
    bench: &mut Bench,
    stage: &Stage,
    graph: Graph,
    tasks: u64,
    steps_per_s: f64,
) -> Result<Vec<Asked>, Failure> {
    let text = format!("running {} tasks at {steps_per_s} steps/s", graph.name());
    bench.progress.begin(text);
    let interval = graph.shape.steps() as f64 / steps_per_s;
    let (began, began_at) = (tokio::time::Instant::now(), Utc::now());
    let mut under_way = FuturesUnordered::new();
    let mut asked_for = Vec::new();
    for number in 0..tasks {
        let ahead = Duration::from_secs_f64(interval * number as f64);
        let due = tokio::time::sleep_until(began + ahead);
        tokio::pin!(due);
        loop {
            tokio::select! {
                biased;
                () = &mut due => break,
                Some(answer) = under_way.next() => asked_for.push(answer?),
            }
        }
        let at = began_at + chrono::Duration::from_std(ahead).unwrap_or_default();
        let body = graph.request(number);
        under_way.push(async move {
            let task = load::submit(stage, body).await?;
            Ok::<Asked, Failure>((task, at))
        });
        bench.progress.at(number + 1, tasks);
    }
    while let Some(answer) = under_way.next().await {
        asked_for.push(answer?);
    }
    Ok(asked_for)
}

fn ms(took: chrono::Duration) -> f64 {
    took.num_microseconds().unwrap_or(i64::MAX) as f64 / 1e3
}
