//! Prints how fast this build is on this machine: steps a second for many linear tasks of four no-op steps,
//! how long one such task takes alone, and how many single-step tasks 64 connections get accepted, each run
//! a few times. Everything is a process of its own; PostgreSQL flushes. `cargo run --release --bin figures`
//! after `cargo build --release`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that cannot go on says so by panicking, and prints what it found"
)]

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use serde_json::{Value, json};
use tasker_tests::{Setup, Stack};

const RUNS: usize = 5;
const TASKS: usize = 10_000;
const ALONE: usize = 200;
const CONNECTIONS: usize = 64;
const PATIENCE: Duration = Duration::from_secs(120);

const LINEAR: &str = "name: linear
namespace_name: figures
version: 1.0.0
steps:
  - {name: a, handler: {callable: echo}}
  - {name: b, handler: {callable: echo}, dependencies: [a]}
  - {name: c, handler: {callable: echo}, dependencies: [b]}
  - {name: d, handler: {callable: echo}, dependencies: [c]}
";

const SINGLE: &str = "name: single
namespace_name: figures
version: 1.0.0
steps:
  - {name: a, handler: {callable: echo}}
";

#[tokio::main]
async fn main() {
    let stack = Setup {
        templates: vec![LINEAR.to_owned(), SINGLE.to_owned()],
        durable: true,
        ..Setup::default()
    }
    .start()
    .await;
    let mut throughput = Vec::new();
    let mut accepted = Vec::new();
    alone(&stack).await;
    for _ in 0..RUNS {
        throughput.push(linear(&stack).await);
        accepted.push(single(&stack).await);
    }
    let alone = alone(&stack).await;
    print("linear of 4 by batch, steps/s", &mut throughput);
    print(
        "single-step tasks accepted and done over 64 connections, tasks/s",
        &mut accepted,
    );
    let mut alone = alone;
    print("linear of 4 alone, request to final, ms", &mut alone);
}

/// Steps a second, from the first request to the last task's end.
async fn linear(stack: &Stack) -> f64 {
    let requests = vec![request("linear"); TASKS];
    let since = Instant::now();
    stack.submit_all(&requests).await;
    all_done(stack).await;
    4.0 * TASKS as f64 / since.elapsed().as_secs_f64()
}

/// Tasks a second, one request each.
async fn single(stack: &Stack) -> f64 {
    let since = Instant::now();
    stream::iter(0..TASKS)
        .for_each_concurrent(CONNECTIONS, |_| async {
            stack.submit(request("single")).await;
        })
        .await;
    all_done(stack).await;
    TASKS as f64 / since.elapsed().as_secs_f64()
}

/// Milliseconds of each of some tasks that are alone on the machine, by the database's clock.
async fn alone(stack: &Stack) -> Vec<f64> {
    let mut took = Vec::new();
    for _ in 0..ALONE {
        let task = stack.submit(request("linear")).await;
        stack.wait_complete(task, PATIENCE).await;
        let ms = "SELECT extract(epoch FROM completed_at - created_at)::float8 * 1000 FROM tasker.tasks WHERE task_uuid = $1";
        took.push(
            sqlx::query_scalar(ms)
                .bind(task)
                .fetch_one(stack.sql())
                .await
                .unwrap(),
        );
    }
    took
}

/// Waits until no task is under way, and checks that every one completed.
async fn all_done(stack: &Stack) {
    let until = Instant::now() + PATIENCE;
    let count = "SELECT count(*) FILTER (WHERE state < 8), count(*) FILTER (WHERE state > 8) FROM tasker.tasks";
    loop {
        let (open, failed): (i64, i64) =
            sqlx::query_as(count).fetch_one(stack.sql()).await.unwrap();
        assert_eq!(failed, 0, "tasks failed");
        if open == 0 {
            return;
        }
        assert!(Instant::now() < until, "{open} tasks are not done");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn request(name: &str) -> Value {
    json!({"namespace": "figures", "name": name, "context": {}})
}

fn print(what: &str, values: &mut [f64]) {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share) as usize];
    println!(
        "{what}: median {:.1}, min {:.1}, max {:.1}",
        at(0.5),
        at(0.0),
        at(1.0)
    );
}
