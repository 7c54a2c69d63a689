//! Export by OTLP: both protocols bring everything, what is recorded leaves before a process ends, and an endpoint
//! that is down, slow or wrong costs a log line and nothing else.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::Duration;

use serde_json::{Value, json};
use tasker_tests::otlp::{Manner, Protocol, Receiver};
use tasker_tests::{Setup, Stack, until};

const PATIENCE: Duration = Duration::from_secs(60);

const LINE: &str = "
name: line
namespace_name: export
version: 1.0.0
steps:
  - { name: a, handler: { callable: echo } }
  - { name: b, dependencies: [a], handler: { callable: echo } }
";

fn setup(endpoint: &str) -> Setup {
    Setup {
        templates: vec![LINE.to_owned()],
        ..Setup::default()
    }
    .export_to(endpoint)
    .configure("telemetry.opentelemetry.logs", true)
}

fn requests(count: usize) -> Vec<Value> {
    vec![json!({"name": "line", "namespace": "export", "context": {}}); count]
}

async fn run(stack: &Stack, count: usize) {
    stack.submit_all(&requests(count)).await;
    stack.wait_all_at_rest(PATIENCE).await;
}

#[tokio::test]
async fn metrics_traces_and_logs_arrive_by_either_protocol_with_the_headers_asked_for() {
    for protocol in [Protocol::Grpc, Protocol::Http] {
        let receiver = Receiver::start_as(Manner::Keeps, protocol).await;
        let mut setup = setup(&receiver.endpoint())
            .configure("telemetry.service_name", "shop")
            .configure(
                "telemetry.opentelemetry.protocol",
                if protocol == Protocol::Http {
                    "http"
                } else {
                    "grpc"
                },
            );
        setup.environment = vec![(
            "OTEL_EXPORTER_OTLP_HEADERS".to_owned(),
            "x-tenant=a%20b,x-key=secret".to_owned(),
        )];
        let mut stack = setup.start().await;
        run(&stack, 5).await;
        receiver
            .wait("all metrics and spans", PATIENCE, |receiver| {
                let completed = receiver.sum("server", "tasker.tasks.completions.total", &[]);
                let executed = receiver.sum("worker", "tasker.step.execution.duration", &[]);
                let spans = receiver.spans().len();
                (completed == 5.0 && executed == 10.0 && spans == 5 * 8).then_some(())
            })
            .await;
        assert!(receiver.saw_header("x-tenant", "a b"), "{protocol:?}");
        assert!(receiver.saw_header("x-key", "secret"), "{protocol:?}");
        assert!(stack.worker().term().await.success());
        assert!(stack.server().term().await.success());
        receiver
            .wait("the last log lines", PATIENCE, |receiver| {
                let logs = receiver.logs();
                let stopped = logs.iter().filter(|log| log.body == "stopped");
                let of: BTreeSet<_> = stopped
                    .map(|log| log.resource["tasker.process"].clone())
                    .collect();
                (of.len() == 2).then_some(())
            })
            .await;
        assert_resources(&receiver);
    }
}

/// Every signal says of which process it is, in the same way.
fn assert_resources(receiver: &Receiver) {
    let mut of_metrics = BTreeSet::new();
    let mut of_spans = BTreeSet::new();
    let mut of_logs = BTreeSet::new();
    of_metrics.extend(
        receiver
            .points()
            .iter()
            .map(|point| (*point.resource).clone()),
    );
    of_spans.extend(receiver.spans().iter().map(|span| (*span.resource).clone()));
    of_logs.extend(receiver.logs().iter().map(|log| (*log.resource).clone()));
    assert_eq!(of_metrics.len(), 2, "a server and a worker: {of_metrics:?}");
    assert_eq!(of_metrics, of_spans);
    assert_eq!(of_metrics, of_logs);
    for resource in of_metrics {
        assert_eq!(resource["service.name"], "shop");
        assert_eq!(resource["deployment.environment.name"], "test");
        for key in [
            "service.version",
            "service.instance.id",
            "process.pid",
            "host.name",
        ] {
            assert!(!resource[key].is_empty(), "{key}");
        }
    }
}

#[tokio::test]
async fn a_process_that_ends_has_sent_everything_first() {
    let receiver = Receiver::start().await;
    let mut stack = setup(&receiver.endpoint())
        .configure("telemetry.opentelemetry.export_interval_seconds", 3_600)
        .start()
        .await;
    run(&stack, 20).await;
    assert!(stack.worker().term().await.success());
    assert!(stack.server().term().await.success());
    let counts = [
        ("server", "tasker.tasks.requests.total", 20.0),
        ("server", "tasker.tasks.completions.total", 20.0),
        ("server", "tasker.step_results.processed.total", 40.0),
        ("worker", "tasker.steps.successes.total", 40.0),
        ("worker", "tasker.steps.results_submitted.total", 40.0),
    ];
    for (process, metric, count) in counts {
        assert_eq!(receiver.sum(process, metric, &[]), count, "{metric}");
    }
    assert_eq!(receiver.spans().len(), 20 * 8);
}

#[tokio::test]
async fn a_new_series_is_sent_at_zero_and_then_at_its_value() {
    let receiver = Receiver::start().await;
    let stack = setup(&receiver.endpoint()).start().await;
    run(&stack, 1).await;
    let metric = "tasker.tasks.completions.total";
    let points = receiver.wait("two values", PATIENCE, |receiver| {
        let mut points = receiver.points();
        points.retain(|point| point.metric == metric);
        (points.len() >= 2).then_some(points)
    });
    let points = points.await;
    let values: Vec<_> = points
        .iter()
        .map(|point| point.reading.count())
        .take(2)
        .collect();
    assert_eq!(values, [0.0, 1.0]);
    assert!(points[0].since > 0 && points.iter().all(|point| point.since == points[0].since));
    assert!(points.windows(2).all(|pair| pair[0].at < pair[1].at));
}

/// Lines of a log that speak of the export.
fn complaints(log: &str) -> Vec<String> {
    let lines = log
        .lines()
        .filter(|line| line.contains("WARN") || line.contains("ERROR"));
    lines.map(str::to_owned).collect()
}

/// Runs tasks while the endpoint does not do its part; then ends both processes.
async fn assert_works_without(endpoint: &str) {
    let mut stack = setup(endpoint)
        .configure("telemetry.opentelemetry.timeout_ms", 300)
        .start()
        .await;
    for _ in 0..3 {
        run(&stack, 200).await;
    }
    stack.ledger("line").await.assert_each_once(600, 2);
    for (kind, process) in stack.processes() {
        until(PATIENCE, async || {
            let shown = process.metrics().await;
            let failed =
                |signal| shown.sum("telemetry_export_failures_total", &[("signal", signal)]);
            match (failed("metrics"), failed("traces")) {
                (metrics, traces) if metrics >= 3.0 && traces >= 1.0 => Ok(()),
                failed => Err(format!(
                    "{kind}: failures of metrics and traces: {failed:?}"
                )),
            }
        })
        .await;
        // However often it fails, and by whichever signal, one line a minute says so.
        let said = complaints(&process.log());
        assert_eq!(said.len(), 1, "{kind}: {said:#?}");
    }
    assert!(stack.worker().term().await.success(), "in bounded time");
    assert!(stack.server().term().await.success(), "in bounded time");
}

#[tokio::test]
async fn an_endpoint_that_is_down_costs_a_log_line_and_nothing_else() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    assert_works_without(&endpoint).await;
}

#[tokio::test]
async fn an_endpoint_that_never_answers_costs_a_log_line_and_nothing_else() {
    let receiver = Receiver::start_as(Manner::Hangs, Protocol::Grpc).await;
    assert_works_without(&receiver.endpoint()).await;
    assert!(receiver.requests() > 0);
}

#[tokio::test]
async fn an_endpoint_that_refuses_costs_a_log_line_and_nothing_else() {
    let receiver = Receiver::start_as(Manner::Refuses, Protocol::Grpc).await;
    assert_works_without(&receiver.endpoint()).await;
    assert!(receiver.requests() > 0);
    // One of the other protocol.
    let receiver = Receiver::start_as(Manner::Keeps, Protocol::Http).await;
    assert_works_without(&receiver.endpoint()).await;
}

#[tokio::test]
async fn an_endpoint_that_comes_back_gets_what_was_counted_meanwhile() {
    let place = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = place.local_addr().unwrap();
    drop(place);
    let stack = setup(&format!("http://{address}")).start().await;
    run(&stack, 30).await;
    for (_, process) in stack.processes() {
        until(PATIENCE, async || {
            let shown = process.metrics().await;
            match shown.sum("telemetry_export_failures_total", &[("signal", "metrics")]) {
                failed if failed >= 1.0 => Ok(()),
                _ => Err("it has not failed".to_owned()),
            }
        })
        .await;
    }
    let receiver = Receiver::start_at(address).await;
    receiver
        .wait("all counts", PATIENCE, |receiver| {
            let completed = receiver.sum("server", "tasker.tasks.completions.total", &[]);
            let succeeded = receiver.sum("worker", "tasker.steps.successes.total", &[]);
            (completed == 30.0 && succeeded == 60.0).then_some(())
        })
        .await;
}
