//! Throughput, and processor time for each step, with everything on against telemetry off. Both stand side by side, so
//! that what the machine does otherwise meets both alike; the one that is not measured is frozen meanwhile. Throughput
//! also pays for whoever scrapes and receives, here on the same machine, and changes from run to run more than it may
//! change by telemetry; the processor time is that of Tasker and its database alone.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tasker_tests::otlp::{Manner, Protocol, Receiver};
use tasker_tests::{Setup, Stack};
use tokio::task::JoinHandle;

use crate::{median, wait_open};

const TASKS: usize = 10_000;
/// Run before each measurement: a process that was frozen has to find its leases and connections again.
const WARM_UP: usize = 500;

const LINEAR: &str = "name: linear
namespace_name: overhead
version: 1.0.0
steps:
  - {name: a, handler: {callable: echo}}
  - {name: b, handler: {callable: echo}, dependencies: [a]}
  - {name: c, handler: {callable: echo}, dependencies: [b]}
  - {name: d, handler: {callable: echo}, dependencies: [c]}
";

pub(super) async fn measure(pairs: usize, seconds: usize) {
    let every = Duration::from_secs(seconds as u64);
    let receiver = Receiver::start_as(Manner::Counts, Protocol::Grpc).await;
    let setup = Setup {
        templates: vec![LINEAR.to_owned()],
        durable: true,
        ..Setup::default()
    }
    // Longer than any freezing.
    .configure("worker.lease_ms", 600_000);
    let on = setup
        .clone()
        .export_to(&receiver.endpoint())
        .configure("telemetry.opentelemetry.export_interval_seconds", seconds)
        .configure("telemetry.opentelemetry.logs", true)
        .configure("telemetry.sample_rate", 0.01)
        .start()
        .await;
    let off = setup.configure("telemetry.enabled", false).start().await;
    freeze(&on);
    freeze(&off);
    let (mut of_on, mut of_off) = (Vec::new(), Vec::new());
    // The first pair warms up everything that is not warmed up before each.
    for pair in 0..=pairs {
        let (with, without) = if pair % 2 == 0 {
            let with = Run::of(&on, Some(every)).await;
            (with, Run::of(&off, None).await)
        } else {
            let without = Run::of(&off, None).await;
            (Run::of(&on, Some(every)).await, without)
        };
        tell(&[with], &[without]);
        if pair > 0 {
            of_on.push(with);
            of_off.push(without);
        }
    }
    println!("medians of {pairs} pairs:");
    tell(&of_on, &of_off);
    println!(
        "{} records in {} requests were exported",
        receiver.records(),
        receiver.requests()
    );
}

/// The medians of runs with telemetry and those without, and of their ratios.
fn tell(on: &[Run], off: &[Run]) {
    type Figure = fn(&Run) -> f64;
    let figures: [(&str, Figure); 2] = [
        ("steps/s", |run| run.steps_per_s),
        ("us of processor time a step", |run| run.cpu_us),
    ];
    for (what, of) in figures {
        let on: Vec<f64> = on.iter().map(of).collect();
        let off: Vec<f64> = off.iter().map(of).collect();
        let ratios: Vec<f64> = on.iter().zip(&off).map(|(on, off)| on / off).collect();
        println!(
            "on {:.0}, off {:.0} {what}: {:.3}",
            median(&on),
            median(&off),
            median(&ratios)
        );
    }
}

fn freeze(stack: &Stack) {
    for (_, process) in stack.processes() {
        process.signal(Signal::STOP);
    }
}

/// What a run came to.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// From the first request to the last task's end.
    steps_per_s: f64,
    /// For each step, in microseconds.
    cpu_us: f64,
}

impl Run {
    async fn of(stack: &Stack, scraped: Option<Duration>) -> Run {
        for (_, process) in stack.processes() {
            process.signal(Signal::CONT);
        }
        run(stack, WARM_UP).await;
        let scraping = scraped.map(|every| scrape(stack, every));
        let (since, before) = (Instant::now(), stack.cpu_seconds());
        run(stack, TASKS).await;
        let (took, used) = (since.elapsed(), stack.cpu_seconds() - before);
        if let Some(scraping) = scraping {
            scraping.abort();
        }
        freeze(stack);
        let steps = (4 * TASKS) as f64;
        Run {
            steps_per_s: steps / took.as_secs_f64(),
            cpu_us: 1e6 * used / steps,
        }
    }
}

/// Comes again and again, as Prometheus does.
fn scrape(stack: &Stack, every: Duration) -> JoinHandle<()> {
    let urls: Vec<String> = stack
        .processes()
        .map(|(_, process)| process.url("/metrics"))
        .collect();
    let client = stack.client().clone();
    tokio::spawn(async move {
        loop {
            for url in &urls {
                let get = client
                    .get(url)
                    .header("X-Prometheus-Scrape-Timeout-Seconds", "1");
                get.send().await.unwrap().bytes().await.unwrap();
            }
            tokio::time::sleep(every).await;
        }
    })
}

async fn run(stack: &Stack, tasks: usize) {
    let request: Value = json!({"namespace": "overhead", "name": "linear", "context": {}});
    // A server that was frozen has lost its shards, and takes requests again when it has them.
    stack.submit_all(&vec![request; tasks]).await;
    wait_open(stack, 0).await;
}
