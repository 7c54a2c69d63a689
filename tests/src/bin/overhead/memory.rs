//! Memory of server and worker while very many correlation ids pass by, and what a scrape is then.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tasker_shared::machine;
use tasker_tests::otlp::{Manner, Protocol, Receiver};
use tasker_tests::{Setup, Stack};
use uuid::Uuid;

use crate::wait_open;

/// Sent before memory is compared: caches, pools and buffers have their size then. They are tasks that make many
/// series, and fill all places for ids.
const WARM_UP: usize = 20_000;
const BATCH: usize = 10_000;
/// Under way at once, so that what is measured is not a backlog.
const OPEN: i64 = 5_000;
const MIB: f64 = 1024.0 * 1024.0;

const SINGLE: &str = "name: single
namespace_name: overhead
version: 1.0.0
steps:
  - {name: a, handler: {callable: echo}}
";

const RETRYING: &str = "name: retrying
namespace_name: overhead
version: 1.0.0
steps:
  - {name: a, handler: {callable: fail, initialization: {times: 1}}, retry: {max_attempts: 2, backoff: none}}
  - {name: b, handler: {callable: echo}, dependencies: [a]}
  - {name: c, handler: {callable: echo}, dependencies: [b]}
  - {name: d, handler: {callable: echo}, dependencies: [c]}
";

pub(super) async fn measure(tasks: usize) {
    let receiver = Receiver::start_as(Manner::Counts, Protocol::Grpc).await;
    for mode in ["window", "exemplar", "off", "no telemetry"] {
        let setup = Setup {
            templates: vec![SINGLE.to_owned(), RETRYING.to_owned()],
            ..Setup::default()
        };
        let setup = setup
            .export_to(&receiver.endpoint())
            .configure("telemetry.opentelemetry.logs", true)
            .configure("telemetry.sample_rate", 0.01);
        let setup = match mode {
            "no telemetry" => setup.configure("telemetry.enabled", false),
            mode => setup.configure("telemetry.metrics.correlation", mode),
        };
        let stack = setup.start().await;
        println!("mode {mode}, {tasks} tasks with ids of their own");
        print(&stack, "at start", &[]).await;
        run(&stack, "retrying", WARM_UP).await;
        let warm = resident(&stack);
        print(&stack, "warmed up", &[]).await;
        run(&stack, "single", tasks).await;
        print(&stack, "at the end", &warm).await;
    }
}

async fn run(stack: &Stack, name: &str, tasks: usize) {
    let mut sent = 0;
    while sent < tasks {
        let batch: Vec<Value> = (0..BATCH.min(tasks - sent))
            .map(|_| {
                let id = Uuid::new_v4();
                json!({"namespace": "overhead", "name": name, "context": {}, "correlation_id": id})
            })
            .collect();
        sent += stack.submit_all(&batch).await.len();
        wait_open(stack, OPEN).await;
        for (_, process) in stack.processes() {
            process.scrape("memory").await;
        }
    }
    wait_open(stack, 0).await;
}

/// Bytes that are in memory of each process.
fn resident(stack: &Stack) -> Vec<f64> {
    let pids = stack.processes().map(|(_, process)| process.pid());
    pids.map(|pid| machine::rss_bytes(pid).unwrap() as f64)
        .collect()
}

async fn print(stack: &Stack, when: &str, before: &[f64]) {
    // The last exchange of buffers is done.
    tokio::time::sleep(Duration::from_secs(1)).await;
    for (at, ((kind, process), now)) in stack.processes().zip(resident(stack)).enumerate() {
        let grown = match before.get(at) {
            Some(before) => format!(" ({:+.1} since it was warm)", (now - before) / MIB),
            None => String::new(),
        };
        let begun = Instant::now();
        let reply = stack
            .client()
            .get(process.url("/metrics"))
            .send()
            .await
            .unwrap();
        let bytes = reply.bytes().await.unwrap().len();
        println!(
            "  {when:10} {kind}: {:6.1} MiB{grown}; a scrape is {:.2} MiB and takes {:.1} ms",
            now / MIB,
            bytes as f64 / MIB,
            begun.elapsed().as_secs_f64() * 1_000.0
        );
    }
}
