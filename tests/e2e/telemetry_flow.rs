//! What a task counts on its way, for itself and among all; who is shown what of it, and when; and that nothing is
//! lost whatever becomes of its correlation id.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use tasker_tests::exposition::{Exposition, Labels, Sample, whole};
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
            if name.contains("_sql_") || name.contains("_db_") || family.kind == "gauge" {
                continue; // These move by themselves.
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
async fn in_mode_exemplar_no_id_has_series_and_every_series_of_tasks_names_a_recent_one() {
    let receiver = Receiver::start().await;
    let mut stack = setup()
        .configure("telemetry.metrics.correlation", "exemplar")
        .export_to(&receiver.endpoint())
        .start()
        .await;
    let mut recent = BTreeSet::new();
    for _ in 0..3 {
        recent.insert(run(&stack).await.simple().to_string());
    }
    wait_counted(&mut stack, 3).await;
    for (_, process) in stack.processes() {
        let shown = process.openmetrics().await;
        assert_eq!(ids(&shown), BTreeSet::from([String::new()]));
        let mut with_exemplar = BTreeSet::new();
        let mut series = BTreeSet::new();
        for (name, family) in &shown.families {
            let is_of_tasks = |s: &Sample| s.labels.contains_key("correlation_id");
            for sample in family.samples.iter().filter(|s| is_of_tasks(s)) {
                if sample.value > 0.0 {
                    series.insert((name.clone(), sample.series()));
                }
                if let Some(exemplar) = &sample.exemplar {
                    let id = &exemplar.labels["trace_id"];
                    assert!(recent.contains(id), "{sample}: {id}");
                    assert!(exemplar.at.is_some(), "{sample} has a time");
                    with_exemplar.insert((name.clone(), sample.series()));
                }
            }
        }
        assert!(!series.is_empty());
        assert_eq!(series, with_exemplar);
        let text = &shown.families["tasker_sql_queries_total"];
        assert!(text.samples.iter().all(|sample| sample.exemplar.is_none()));
    }
    // The text format has no exemplars; reading it strictly found none.
    stack.server().metrics().await;
    receiver
        .wait("exemplars", PATIENCE, |receiver| {
            let latest = receiver.latest();
            let counted = |process: &str, metric: &str| {
                latest.values().any(|point| {
                    point.is_of(process)
                        && point.metric == metric
                        && point.exemplars.iter().any(|id| recent.contains(id))
                })
            };
            (counted("server", "tasker.tasks.completions.total")
                && counted("worker", "tasker.step.execution.duration"))
            .then_some(())
        })
        .await;
}

#[tokio::test]
async fn in_mode_off_there_is_neither_id_nor_exemplar() {
    let mut stack = setup()
        .configure("telemetry.metrics.correlation", "off")
        .start()
        .await;
    run(&stack).await;
    wait_counted(&mut stack, 1).await;
    for (_, process) in stack.processes() {
        let shown = process.openmetrics().await;
        assert_eq!(ids(&shown), BTreeSet::from([String::new()]));
        let mut samples = shown.families.values().flat_map(|family| &family.samples);
        assert!(samples.all(|sample| sample.exemplar.is_none()));
    }
}

#[tokio::test]
async fn no_more_ids_than_the_limit_have_series_and_the_others_count_together() {
    let mut stack = setup()
        .configure("telemetry.metrics.correlation_limit", 3)
        .start()
        .await;
    let mut tasks = Vec::new();
    for _ in 0..10 {
        tasks.push(run(&stack).await.to_string());
    }
    let (server, worker) = wait_counted(&mut stack, 10).await;
    let admitted = &tasks[..3];
    for task in admitted {
        assert_eq!(way(&server, &worker, Some(task)), expected(1), "{task}");
    }
    let all: BTreeSet<String> = admitted.iter().cloned().chain([String::new()]).collect();
    assert_eq!((ids(&server), ids(&worker)), (all.clone(), all));
    assert_eq!(way(&server, &worker, Some("")), expected(7));

    // Who asks to be followed is, beyond the limit too.
    let asked = Uuid::now_v7();
    let traceparent = format!("00-{}-00f067aa0ba902b7-01", asked.simple());
    let post = stack.client().post(stack.url("/v1/tasks"));
    let post = post.header("traceparent", traceparent);
    let request = json!({"name": "dag", "namespace": "flow", "context": {}});
    assert_eq!(post.json(&request).send().await.unwrap().status(), 201);
    stack.wait_all_at_rest(PATIENCE).await;
    let (server, worker) = wait_counted(&mut stack, 11).await;
    let asked = asked.to_string();
    assert_eq!(way(&server, &worker, Some(&asked)), expected(1));
}

/// What a scraper that comes again and again adds up, as `increase()` does: from one sample of a series to its next.
#[derive(Default)]
struct Increases {
    last: BTreeMap<(String, Labels), f64>,
    sums: BTreeMap<String, f64>,
    ids: BTreeSet<String>,
    most_ids_at_once: usize,
}

impl Increases {
    fn scraped(&mut self, shown: &Exposition) {
        let mut now = BTreeMap::new();
        for sample in shown.families.values().flat_map(|family| &family.samples) {
            if !sample.labels.contains_key("correlation_id") || sample.labels.contains_key("le") {
                continue;
            }
            let key = (sample.name.clone(), sample.labels.clone());
            if let Some(before) = self.last.get(&key) {
                let increase = sample.value - before;
                assert!(increase >= 0.0, "{sample} was {before}");
                *self.sums.entry(sample.name.clone()).or_default() += increase;
            }
            now.insert(key, sample.value);
        }
        let ids = ids(shown);
        self.most_ids_at_once = self.most_ids_at_once.max(ids.len());
        self.ids.extend(ids);
        // A series that is left out is over: where it comes again it begins anew.
        self.last = now;
    }

    fn way(&self) -> [u64; 7] {
        WAY.map(|(name, _)| whole(self.sums.get(name).copied().unwrap_or_default()))
    }
}

#[tokio::test]
async fn nothing_is_lost_when_series_are_forgotten_and_every_scraper_has_seen_it_all() {
    let mut stack = setup()
        .configure("telemetry.metrics.correlation_window_seconds", 1)
        .configure("telemetry.metrics.correlation_limit", 20)
        .start()
        .await;
    let mut scrapers =
        ["fast", "slow"].map(|name| (name, Increases::default(), Increases::default()));
    let mut tasks = 0;
    let mut evicted = 0.0;
    for round in 0.. {
        for (name, server, worker) in &mut scrapers {
            if *name == "slow" && round % 3 != 0 {
                continue;
            }
            server.scraped(&stack.server().scrape(name).await);
            worker.scraped(&stack.worker().scrape(name).await);
        }
        if round < 20 {
            // Some get series of their own, some do not; one comes back again and again.
            let same = Uuid::from_u128(0x0199_c3e0_ccdb_7581_87ab_3f67_daea_a4a5);
            let mut batch: Vec<Value> = (0..8).map(|_| request(Uuid::now_v7())).collect();
            batch.push(request(same));
            tasks += stack.submit_all(&batch).await.len() as u64;
            stack.wait_all_at_rest(PATIENCE).await;
        } else {
            let shown = stack.server().metrics().await;
            evicted = shown.sum("telemetry_series_evicted_total", &[]);
            let done = |(_, server, worker): &(_, Increases, Increases)| {
                let (server, worker) = (server.way(), worker.way());
                let both: Vec<u64> = (0..7).map(|i| server[i] + worker[i]).collect();
                both == expected(tasks)
            };
            let left = ids(&shown).len();
            if left <= 1 && scrapers.iter().all(done) {
                break;
            }
            let sums: Vec<_> = scrapers.iter().map(|s| (s.1.way(), s.2.way())).collect();
            assert!(round < 200, "{tasks} tasks; {left} ids are left; {sums:?}");
        }
        // The window passes by the clock.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(evicted > 0.0);
    for (name, server, worker) in &scrapers {
        assert!(server.ids.len() > 20, "{name}: places were given anew");
        for seen in [server, worker] {
            assert!(
                seen.most_ids_at_once <= 41,
                "{name}: {}",
                seen.most_ids_at_once
            );
        }
    }
    // What is still shown is exact for the others; what was forgotten is in no series any more.
    let shown = stack.server().metrics().await;
    let remaining = whole(shown.sum("tasker_tasks_requests_total", &[]));
    assert!(remaining < tasks, "{remaining}");
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
