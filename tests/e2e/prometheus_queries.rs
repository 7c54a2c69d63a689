//! A real Prometheus that scrapes a server and a worker every second answers what people ask of it, right after a
//! burst of tasks and with series that come and go with correlation ids.

mod table;

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use tasker_tests::prometheus::{Answer, Prometheus};
use tasker_tests::{Setup, Stack};
use uuid::Uuid;

use table::{Fault, QUERIES, Verdict};

const PATIENCE: Duration = Duration::from_secs(60);
const BURST: usize = 26;
/// The correlation id that the queries ask for.
const ASKED: Uuid = Uuid::from_u128(0x0199_c3e0_ccdb_7581_87ab_3f67_daea_a4a5);

const TEMPLATES: [&str; 4] = [
    "
name: line
namespace_name: burst
version: 1.0.0
steps:
  - { name: first, handler: { callable: echo } }
  - { name: second, dependencies: [first], handler: { callable: sleep, initialization: { ms: 20 } } }
  - { name: third, dependencies: [second], handler: { callable: echo } }
",
    "
name: broken
namespace_name: burst
version: 1.0.0
steps:
  - { name: first, handler: { callable: echo } }
  - { name: second, dependencies: [first], handler: { callable: fail, initialization: { kind: permanent } } }
",
    "
name: single
namespace_name: crowd
version: 1.0.0
steps: [ { name: only, handler: { callable: echo } } ]
",
    "
name: piped
namespace_name: crowd
version: 1.0.0
steps: [ { name: only, handler: { callable: command, initialization: { argv: [cat] } } } ]
",
];

/// The alerts that this fault makes fire.
fn alerts_of(wanted: &Fault) -> Vec<&'static str> {
    let fires =
        |verdict: &Verdict| matches!(verdict, Verdict::Alert { fault, .. } if fault == wanted);
    let alerts = QUERIES.iter().filter(|(_, verdict)| fires(verdict));
    let alerts: Vec<&str> = alerts.map(|(query, _)| *query).collect();
    assert!(!alerts.is_empty(), "{wanted:?}");
    alerts
}

async fn start(setup: Setup) -> (Stack, Prometheus) {
    let stack = Setup {
        templates: TEMPLATES.map(str::to_owned).to_vec(),
        ..setup
    }
    .start()
    .await;
    let targets: Vec<_> = stack
        .processes()
        .map(|(kind, process)| (kind, process.address()))
        .collect();
    let prometheus = Prometheus::start(stack.directory("prometheus"), &targets).await;
    prometheus.wait_scrapes(1).await;
    (stack, prometheus)
}

/// Some tasks at once: most end well, and one of them has the id that is asked for; a few fail.
async fn burst(stack: &Stack) {
    let request = |name: &str| json!({"name": name, "namespace": "burst", "context": {}});
    let mut requests: Vec<Value> = (0..BURST)
        .map(|n| request(if n % 8 == 7 { "broken" } else { "line" }))
        .collect();
    requests[0]["correlation_id"] = json!(ASKED);
    stack.submit_all(&requests).await;
    stack.wait_all_at_rest(PATIENCE).await;
}

/// Submissions pile up while tasks cannot be stored, and what is asked fires; then they go on.
async fn crowd(stack: &Stack, prometheus: &Prometheus, alert: &str) {
    let mut transaction = stack.sql().begin().await.unwrap();
    sqlx::query("LOCK TABLE tasker.tasks IN EXCLUSIVE MODE")
        .execute(&mut *transaction)
        .await
        .unwrap();
    let request = json!({"name": "single", "namespace": "crowd", "context": {}});
    let url = stack.url("/v1/tasks");
    let sending: Vec<_> = (0..8)
        .map(|_| tokio::spawn(stack.client().post(&url).json(&request).send()))
        .collect();
    prometheus
        .wait_query(alert, PATIENCE, |answers| !answers.is_empty())
        .await;
    transaction.rollback().await.unwrap();
    for answer in join_all(sending).await {
        let status = answer.unwrap().unwrap().status().as_u16();
        assert!([201, 503].contains(&status), "{status}");
    }
    stack.wait_all_at_rest(PATIENCE).await;
    prometheus
        .wait_query(alert, PATIENCE, |answers| answers.is_empty())
        .await;
}

/// The database goes away, and what is asked fires; then it comes back.
async fn outage(stack: &mut Stack, prometheus: &Prometheus, alerts: &[&str]) {
    stack.postgres().kill_now().await.unwrap();
    let request = json!({"name": "single", "namespace": "crowd", "context": {}});
    // A series appears with a zero first; what comes later is a rise.
    stack.wait_refused(&request).await;
    prometheus.wait_scrapes(2).await;
    stack.wait_refused(&request).await;
    for alert in alerts {
        prometheus
            .wait_query(alert, PATIENCE, |answers| !answers.is_empty())
            .await;
    }
    stack.postgres().restart().await.unwrap();
    let task = stack.wait_accepted(&request).await;
    stack.wait_complete(task, PATIENCE).await;
    for alert in alerts {
        prometheus
            .wait_query(alert, PATIENCE, |answers| answers.is_empty())
            .await;
    }
}

/// What is wrong with the answers to a query; `None` where they are data.
fn fault(query: &str, answers: &[Answer]) -> Option<String> {
    if answers.iter().all(|answer| answer.value.is_nan()) {
        return Some("no data".to_owned());
    }
    let moves = ["rate(", "histogram_quantile("];
    if moves.iter().any(|function| query.contains(function))
        && !answers.iter().any(|a| a.value > 0.0)
    {
        return Some("nothing but zero".to_owned());
    }
    let grouped = query
        .split("by (")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    for label in grouped
        .flat_map(|labels| labels.split(", "))
        .filter(|label| *label != "le")
    {
        if answers
            .iter()
            .all(|answer| answer.labels.get(label).is_none_or(String::is_empty))
        {
            return Some(format!("no {label} to group by"));
        }
    }
    None
}

/// Why a query does not get the verdict that the table gives it; `None` where it does.
async fn try_verdict(prometheus: &Prometheus, query: &str, verdict: &Verdict) -> Option<String> {
    let ask = async |query: &str| match prometheus.query(query).await {
        Ok(answers) => fault(query, &answers),
        Err(error) => Some(error),
    };
    match verdict {
        Verdict::AsWritten => ask(query).await,
        Verdict::Corrected(right) => match (ask(query).await, ask(right).await) {
            (None, _) => Some("it answers as it is written".to_owned()),
            (Some(_), fault) => fault.map(|fault| format!("{right}: {fault}")),
        },
        Verdict::Alert { left, .. } => match prometheus.query(query).await {
            Ok(answers) if answers.is_empty() => ask(left).await,
            other => Some(format!("it fires without a fault: {other:?}")),
        },
    }
}

#[tokio::test]
async fn every_query_of_the_reference_gets_its_verdict_after_a_burst() {
    let small = Setup::default()
        .configure("server.submit_connections", 1)
        .configure("channels.submissions", 1)
        .configure("channels.results", 1)
        .configure("channels.completions", 1);
    let (mut stack, prometheus) = start(small).await;
    for alert in alerts_of(&Fault::Crowd) {
        crowd(&stack, &prometheus, alert).await;
    }
    let piped = json!({"name": "piped", "namespace": "crowd", "context": {}});
    stack.slow_completions(&piped).await;
    outage(&mut stack, &prometheus, &alerts_of(&Fault::Outage)).await;
    burst(&stack).await;
    prometheus.wait_scrapes(3).await;
    let mut wrong = Vec::new();
    for (query, verdict) in QUERIES {
        if let Some(fault) = try_verdict(&prometheus, query, verdict).await {
            wrong.push(format!("{query}\n    {verdict:?}: {fault}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} queries:\n{}",
        wrong.len(),
        QUERIES.len(),
        wrong.join("\n")
    );
}

#[tokio::test]
async fn rates_and_sums_count_every_task_once() {
    let (stack, prometheus) = start(Setup::default()).await;
    burst(&stack).await;
    prometheus.wait_scrapes(10).await;
    let broken = BURST / 8;
    let line = BURST - broken;
    for (metric, count) in [
        ("tasker_tasks_requests_total", BURST),
        ("tasker_tasks_completions_total", line),
        ("tasker_tasks_failures_total", broken),
        ("tasker_steps_enqueued_total", 3 * line + 2 * broken),
        ("tasker_steps_executions_total", 3 * line + 2 * broken),
        ("tasker_steps_successes_total", 3 * line + broken),
        ("tasker_steps_failures_total", broken),
        (
            "tasker_steps_results_submitted_total",
            3 * line + 2 * broken,
        ),
        ("tasker_step_results_processed_total", 3 * line + 2 * broken),
        (
            "tasker_step_execution_duration_milliseconds_count",
            3 * line + 2 * broken,
        ),
    ] {
        let count = u32::try_from(count).map(f64::from).unwrap();
        let one = async |query: String| {
            let answers = prometheus.query(&query).await.unwrap();
            assert_eq!(answers.len(), 1, "{query}: {answers:?}");
            answers[0].value
        };
        assert_eq!(one(format!("sum({metric})")).await, count, "{metric}");
        // What a series rose by from its first sample to its last: nothing is hidden in the first.
        let rose = format!("sum(max_over_time({metric}[10m]) - min_over_time({metric}[10m]))");
        assert_eq!(one(rose).await, count, "{metric}");
        // Prometheus extends what it has seen to the edges of what it has not.
        let increase = one(format!("sum(increase({metric}[5m]))")).await;
        assert!(
            (count * 0.999..=count * 1.25).contains(&increase),
            "{metric}: {increase} of {count}"
        );
    }
    let own = prometheus
        .query("count(tasker_tasks_requests_total{correlation_id!=\"\"})")
        .await
        .unwrap();
    assert_eq!(
        own[0].value,
        f64::from(u32::try_from(BURST).unwrap()),
        "each id has its own"
    );
}

#[tokio::test]
async fn prometheus_keeps_the_exemplars_that_lead_to_traces() {
    let exemplars = Setup::default().configure("telemetry.metrics.correlation", "exemplar");
    let (stack, prometheus) = start(exemplars).await;
    burst(&stack).await;
    prometheus.wait_scrapes(3).await;
    let id = "SELECT replace(correlation_id::text, '-', '') FROM tasker.tasks";
    let ids: Vec<String> = sqlx::query_scalar(id).fetch_all(stack.sql()).await.unwrap();
    for metric in [
        "tasker_tasks_completions_total",
        "tasker_steps_successes_total",
        "tasker_step_execution_duration_milliseconds_bucket",
        "tasker_task_initialization_duration_milliseconds_bucket",
    ] {
        let kept = prometheus.exemplars(metric).await.unwrap();
        assert!(!kept.is_empty(), "{metric}");
        for exemplar in kept {
            assert!(ids.contains(&exemplar.labels["trace_id"]), "{exemplar:?}");
            assert_eq!(exemplar.series.get("correlation_id"), None, "{exemplar:?}");
        }
    }
}
