//! Prints what telemetry costs on this machine. `overhead [PAIRS] [SECONDS]` compares the throughput with everything on
//! (metrics in mode `window`, scraped and exported every so many seconds, by default every one, a hundredth of the
//! traces, log records) with that of telemetry switched off, in alternating pairs; `overhead memory` runs a million
//! tasks with ids of their own in every mode.
//! `cargo run --release -p tasker-tests --bin overhead` after `cargo build --release --workspace --bins`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a measurement that cannot go on says so by panicking, and prints what it found"
)]

mod memory;
mod pairs;

use std::time::{Duration, Instant};

use tasker_tests::Stack;

/// The longest that tasks sent together may take.
const PATIENCE: Duration = Duration::from_secs(300);

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| arguments.get(at).map(|text| text.parse().unwrap());
    match arguments.first().map(String::as_str) {
        Some("memory") => memory::measure(number(1).unwrap_or(1_000_000)).await,
        _ => pairs::measure(number(0).unwrap_or(11), number(1).unwrap_or(1)).await,
    }
}

/// Waits until no more tasks than these are under way, and checks that none failed.
async fn wait_open(stack: &Stack, most: i64) {
    let until = Instant::now() + PATIENCE;
    // Those under way are few and at the end of a long table.
    let count = "SELECT coalesce(sum(change), 0)::int8 FROM tasker.task_counts WHERE state < 8";
    loop {
        let open: i64 = sqlx::query_scalar(count)
            .fetch_one(stack.sql())
            .await
            .unwrap();
        if open <= most {
            return;
        }
        assert!(Instant::now() < until, "{open} tasks are not done");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
