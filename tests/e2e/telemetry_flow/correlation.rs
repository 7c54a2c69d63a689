//! What becomes of correlation ids in metrics: series of their own as long as there is room and they are not quiet,
//! exemplars, or nothing; and that no count is lost whatever becomes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use tasker_tests::exposition::{Exposition, Labels, Sample, whole};
use tasker_tests::otlp::Receiver;
use uuid::Uuid;

use super::{PATIENCE, WAY, expected, ids, request, run, setup, wait_counted, way};

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
