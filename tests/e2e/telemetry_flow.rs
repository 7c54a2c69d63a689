//! What a task counts on its way, for itself and among all; and who is shown what of it, and when.

mod correlation;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tasker_tests::exposition::{Exposition, Sample, whole};
use tasker_tests::otlp::Receiver;
use tasker_tests::{Setup, Stack, until};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(60);
const STEPS: u64 = 7;

/// Seven steps that fan out and join.
const DAG: &str = "
name: dag
namespace_name: flow
version: 1.0.0
steps:
  - { name: start, handler: { callable: echo } }
  - { name: left, dependencies: [start], handler: { callable: echo } }
  - { name: right, dependencies: [start], handler: { callable: echo } }
  - { name: check, dependencies: [left], handler: { callable: echo } }
  - { name: merge, dependencies: [left, right], handler: { callable: echo } }
  - { name: audit, dependencies: [right], handler: { callable: echo } }
  - { name: end, dependencies: [check, merge, audit], handler: { callable: echo } }
";

/// The doors on a task's way: its name, and whether the server or the worker counts it.
const WAY: [(&str, bool); 7] = [
    ("tasker_tasks_requests_total", true),
    ("tasker_steps_enqueued_total", true),
    ("tasker_steps_executions_total", false),
    ("tasker_steps_successes_total", false),
    ("tasker_steps_results_submitted_total", false),
    ("tasker_step_results_processed_total", true),
    ("tasker_tasks_completions_total", true),
];

fn setup() -> Setup {
    Setup {
        templates: vec![DAG.to_owned()],
        ..Setup::default()
    }
}

fn request(correlation: Uuid) -> Value {
    json!({"name": "dag", "namespace": "flow", "context": {}, "correlation_id": correlation})
}

/// Runs a task with an id of its own to its end.
async fn run(stack: &Stack) -> Uuid {
    let correlation = Uuid::now_v7();
    let task = stack.submit(request(correlation)).await;
    stack.wait_complete(task, PATIENCE).await;
    correlation
}

/// What the doors count, for one id or for all.
fn way(server: &Exposition, worker: &Exposition, correlation: Option<&str>) -> [u64; 7] {
    let labels: Vec<(&str, &str)> = correlation
        .map(|id| ("correlation_id", id))
        .into_iter()
        .collect();
    WAY.map(|(name, in_server)| {
        let shown = if in_server { server } else { worker };
        whole(shown.sum(name, &labels))
    })
}

/// One and N and one, so many times.
fn expected(tasks: u64) -> [u64; 7] {
    [1, STEPS, STEPS, STEPS, STEPS, STEPS, 1].map(|count| count * tasks)
}

/// Waits until the doors have counted so many tasks in all: what was committed is counted a moment later.
async fn wait_counted(stack: &mut Stack, tasks: u64) -> (Exposition, Exposition) {
    until(PATIENCE, async || {
        let (server, worker) = (
            stack.server().metrics().await,
            stack.worker().metrics().await,
        );
        let found = way(&server, &worker, None);
        if found == expected(tasks) {
            Ok((server, worker))
        } else {
            Err(format!("{found:?} instead of {:?}", expected(tasks)))
        }
    })
    .await
}

/// The values of `correlation_id` in a document.
fn ids(shown: &Exposition) -> BTreeSet<String> {
    let samples = shown.families.values().flat_map(|family| &family.samples);
    samples
        .filter_map(|sample| sample.labels.get("correlation_id").cloned())
        .collect()
}

#[tokio::test]
async fn a_task_of_n_steps_counts_one_then_n_at_each_door_then_one() {
    let mut stack = setup().start().await;
    let mut tasks = Vec::new();
    for _ in 0..3 {
        tasks.push(run(&stack).await.to_string());
    }
    let (server, worker) = wait_counted(&mut stack, 3).await;
    for task in &tasks {
        assert_eq!(way(&server, &worker, Some(task)), expected(1), "{task}");
        let steps = server.sum_by(
            "step_name",
            "tasker_steps_enqueued_total",
            &[("correlation_id", task), ("namespace", "flow")],
        );
        assert_eq!(steps.len(), 7, "{steps:?}");
        assert!(steps.values().all(|count| *count == 1), "{steps:?}");
    }
    // Histograms stand beside the counters of the same doors.
    for (shown, histogram, count) in [
        (
            &server,
            "tasker_task_initialization_duration_milliseconds",
            1,
        ),
        (
            &worker,
            "tasker_step_execution_duration_milliseconds",
            STEPS,
        ),
        (
            &worker,
            "tasker_step_result_submission_duration_milliseconds",
            STEPS,
        ),
        (
            &server,
            "tasker_step_result_processing_duration_milliseconds",
            STEPS,
        ),
        (&server, "tasker_task_finalization_duration_milliseconds", 1),
    ] {
        let name = format!("{histogram}_count");
        for task in &tasks {
            assert_eq!(
                whole(shown.sum(&name, &[("correlation_id", task)])),
                count,
                "{name}"
            );
        }
        assert_eq!(whole(shown.sum(&name, &[])), 3 * count, "{name}");
        assert!(shown.sum(&format!("{histogram}_sum"), &[]) > 0.0, "{name}");
    }
}

#[tokio::test]
async fn a_scraper_is_shown_a_new_series_at_zero_once_and_anybody_else_its_value_at_once() {
    let mut stack = setup().start().await;
    stack.server().scrape("first").await;
    stack.worker().scrape("first").await;
    let first = run(&stack).await.to_string();
    wait_counted(&mut stack, 1).await;

    // One that has come before, and one that comes for the first time.
    for scraper in ["first", "second"] {
        for count in [0, 1, 1] {
            let server = stack.server().scrape(scraper).await;
            let worker = stack.worker().scrape(scraper).await;
            let found = way(&server, &worker, Some(&first));
            assert_eq!(found, expected(count), "{scraper}");
            let labels: &[_] = &[("correlation_id", first.as_str())];
            let took = "tasker_step_execution_duration_milliseconds";
            assert_eq!(
                whole(worker.sum(&format!("{took}_count"), labels)),
                STEPS * count
            );
            assert!((worker.sum(&format!("{took}_sum"), labels) > 0.0) == (count > 0));
        }
    }
    // The second task of an id adds to series that every scraper knows.
    let again = stack.submit(request(first.parse().unwrap())).await;
    stack.wait_complete(again, PATIENCE).await;
    let (server, worker) = wait_counted(&mut stack, 2).await;
    assert_eq!(way(&server, &worker, Some(&first)), expected(2), "a person");
    let server = stack.server().scrape("first").await;
    let worker = stack.worker().scrape("first").await;
    assert_eq!(
        way(&server, &worker, Some(&first)),
        expected(2),
        "a scraper"
    );
}

#[tokio::test]
async fn both_formats_say_the_same() {
    let mut stack = setup().start().await;
    run(&stack).await;
    wait_counted(&mut stack, 1).await;
    for (_, process) in stack.processes() {
        let (text, open) = (process.metrics().await, process.openmetrics().await);
        let names = |shown: &Exposition| shown.families.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&text), names(&open));
        for (name, family) in &text.families {
            let other = &open.families[name];
            assert_eq!(
                (&family.kind, &family.help),
                (&other.kind, &other.help),
                "{name}"
            );
            // These move by themselves.
            let moves = ["_sql_", "_db_", "_queue_"];
            if moves.iter().any(|part| name.contains(part)) || family.kind == "gauge" {
                continue;
            }
            let series = |samples: &[Sample]| {
                let series = samples.iter().map(|s| (s.name.clone(), s.labels.clone()));
                series.collect::<BTreeSet<_>>()
            };
            assert_eq!(series(&family.samples), series(&other.samples), "{name}");
        }
    }
}

#[tokio::test]
async fn with_telemetry_off_nothing_is_shown_nothing_is_sent_and_tasks_run() {
    let receiver = Receiver::start().await;
    let mut stack = setup()
        .export_to(&receiver.endpoint())
        .configure("telemetry.opentelemetry.logs", true)
        .configure("telemetry.enabled", false)
        .start()
        .await;
    run(&stack).await;
    for (_, process) in stack.processes() {
        assert!(process.metrics().await.families.is_empty());
        assert!(process.openmetrics().await.families.is_empty());
        assert!(process.scrape("scraper").await.families.is_empty());
    }
    assert!(stack.worker().term().await.success());
    assert!(stack.server().term().await.success());
    assert_eq!(receiver.requests(), 0);
}

#[tokio::test]
async fn without_export_metrics_are_shown_and_nothing_is_sent() {
    let receiver = Receiver::start().await;
    let mut stack = setup()
        .export_to(&receiver.endpoint())
        .configure("telemetry.opentelemetry.enabled", false)
        .start()
        .await;
    run(&stack).await;
    wait_counted(&mut stack, 1).await;
    assert!(stack.worker().term().await.success());
    assert!(stack.server().term().await.success());
    assert_eq!(receiver.requests(), 0);
}
