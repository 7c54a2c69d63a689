//! Whether throughput holds while another session keeps a snapshot open, so that vacuum can remove nothing.

use std::time::Duration;

use clap::Args;
use serde_json::json;
use tasker_shared::db::{Transaction, measure};
use tokio::time::Instant;

use super::ground::asked;
use super::load::Load;
use super::quantiles::{median, rounded};
use super::report::whole;
use super::shape::{self, Graph, Shape};
use super::stage::{Cast, Stage};
use super::stretch::{Stretch, until_done};
use super::{Bench, Outcome};
use crate::failure::Failure;

/// Tasks under way at once: enough to be busy, few enough to be no backlog.
const AHEAD_STEPS: u64 = 40_000;
/// Tasks asked for at once.
const PORTION: u64 = 1_000;
const LOOK: Duration = Duration::from_millis(100);
/// Throughput is told for stretches of so long, and before the snapshot for so many of them.
const WINDOW: Duration = Duration::from_secs(10);
const WINDOWS_BEFORE: usize = 6;

#[derive(Debug, Args)]
pub(crate) struct Pinned {
    /// For how many minutes the snapshot is held
    #[arg(long, default_value_t = 10.0, value_name = "M", value_parser = minutes)]
    minutes: f64,
    /// single, linear, diamond, dag7, tree8 or fanout:N
    #[arg(long, default_value = "linear", value_name = "SHAPE", value_parser = shape::parse)]
    shape: Shape,
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes = text.parse().ok();
    minutes
        .filter(|minutes: &f64| (0.01..=1_440.0).contains(minutes))
        .ok_or_else(|| "is a number of minutes, such as 10 or 0.5".to_owned())
}

fn lowest(rates: &[f64]) -> f64 {
    rates.iter().copied().fold(f64::INFINITY, f64::min)
}

/// Keeps the server busy.
struct Pump<'a> {
    bench: &'a mut Bench,
    stage: &'a mut Stage,
    graph: Graph,
    sent: u64,
}

impl Pinned {
    pub(crate) async fn run(&self, bench: &mut Bench) -> Result<Outcome, Failure> {
        let graph = Graph::measured(self.shape);
        let parameters = json!({"minutes": self.minutes, "shape": self.shape.to_string()});
        let mut outcome = Outcome::of("pinned", parameters);
        bench.progress.begin("starting a server and a worker");
        let cast = Cast {
            workers: 1,
            ..Cast::default()
        };
        let mut stage = Stage::start(&bench.ground, &cast, Some(graph)).await?;
        let stretch = Stretch::begin(bench, &mut stage, graph).await?;
        // Short runs have short windows.
        let held = Duration::from_secs_f64(self.minutes * 60.0);
        let window = WINDOW.min(held / 3);

        let target = bench.ground.target.clone();
        let mut pump = Pump {
            bench,
            stage: &mut stage,
            graph,
            sent: 0,
        };
        pump.bench.progress.begin("running without a snapshot");
        let before = pump.run(window, WINDOWS_BEFORE).await?;
        let mut session = asked(target.connect().await)?;
        let mut snapshot = asked(Transaction::begin(&mut session, "pin_snapshot").await)?;
        asked(measure::pin(&mut snapshot).await)?;
        pump.bench
            .progress
            .begin("running while a snapshot is held");
        let count = (held.as_secs_f64() / window.as_secs_f64()).round() as usize;
        let during = pump.run(window, count).await?;
        asked(snapshot.rollback().await)?;
        let sent = pump.sent;
        until_done(bench, &mut stage, 0, sent).await?;
        outcome.measured(stretch.finish(bench, stage, sent).await?);

        let (base, typical) = (median(&before), median(&during));
        let shares = [lowest(&before), typical, lowest(&during)];
        let [lowest_before, ratio, lowest_ratio] =
            shares.map(|rate| rounded(rate / base.max(1e-9)));
        outcome.find("before_steps_per_s", base);
        outcome.find("before_lowest_ratio", lowest_before);
        outcome.find("during_steps_per_s", typical);
        outcome.find("ratio", ratio);
        outcome.find("lowest_ratio", lowest_ratio);
        outcome.find("windows_steps_per_s", json!(during));
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        // A machine of its own whims has such stretches without a snapshot, too.
        let text = format!(
            "{} steps/s, {} of that at its lowest",
            whole(base),
            percent(lowest_before)
        );
        outcome.tell("before", text);
        let text = format!(
            "{} of that, {} at its lowest",
            percent(ratio),
            percent(lowest_ratio)
        );
        outcome.tell("while it is held", text);
        Ok(outcome)
    }
}

impl Pump<'_> {
    /// Steps a second in so many windows, one after the other.
    async fn run(&mut self, window: Duration, count: usize) -> Result<Vec<f64>, Failure> {
        let steps = self.graph.shape.steps();
        let mut rates = Vec::with_capacity(count);
        let mut open = self.open().await?;
        for number in 0..count {
            let (began, done) = (Instant::now(), self.sent - open);
            while began.elapsed() < window {
                while open * steps < AHEAD_STEPS {
                    let load = Load::new(self.graph, PORTION.min(AHEAD_STEPS / steps).max(1));
                    let load = load.after(self.sent);
                    load.in_batches(self.stage, 1).await?;
                    self.sent += load.count();
                    open += load.count();
                }
                tokio::time::sleep(LOOK).await;
                open = self.open().await?;
                self.stage.check()?;
            }
            let ended = (self.sent - open) - done;
            rates.push(rounded(
                (ended * steps) as f64 / began.elapsed().as_secs_f64(),
            ));
            self.bench.progress.at(number as u64 + 1, count as u64);
        }
        Ok(rates)
    }

    async fn open(&self) -> Result<u64, Failure> {
        let open = asked(measure::open(&self.bench.ground.pool).await)?.unsigned_abs();
        Ok(open.min(self.sent))
    }
}
