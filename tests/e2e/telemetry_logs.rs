//! Log lines say of which task and step they are, on standard error and by OTLP, and how much is said can be changed
//! while a process runs.

use std::time::Duration;

use serde_json::{Value, json};
use tasker_tests::otlp::Receiver;
use tasker_tests::{Process, Setup, Stack, until};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(60);

const TELL: &str = "
name: tell
namespace_name: logs
version: 1.0.0
steps: [ { name: only, handler: { callable: tells } } ]
";

async fn with(setup: Setup) -> Stack {
    let mut stack = Setup {
        workers: 0,
        templates: vec![TELL.to_owned()],
        ..setup
    }
    .start()
    .await;
    stack.add_faulty_worker().await;
    stack
}

/// Runs a task whose handler logs; answers its correlation id, its uuid and its step's.
async fn run(stack: &Stack) -> [String; 3] {
    let correlation = Uuid::now_v7();
    let request =
        json!({"name": "tell", "namespace": "logs", "context": {}, "correlation_id": correlation});
    let task = stack.submit(request).await;
    stack.wait_complete(task, PATIENCE).await;
    let step = stack.steps(task).await["only"]["step_uuid"]
        .as_str()
        .unwrap()
        .to_owned();
    [correlation.to_string(), task.to_string(), step]
}

async fn line(process: &Process, has: &[&str]) -> String {
    until(PATIENCE, async || {
        let log = process.log();
        let mut lines = log
            .lines()
            .filter(|line| has.iter().all(|part| line.contains(part)));
        lines
            .next()
            .map(str::to_owned)
            .ok_or_else(|| format!("no line with {has:?}"))
    })
    .await
}

#[tokio::test]
async fn what_a_handler_logs_names_its_task_step_and_correlation_id_in_text_and_json() {
    for format in ["text", "json"] {
        let mut stack = with(Setup::default().configure("logging.format", format)).await;
        let [correlation, task, step] = run(&stack).await;
        let line = line(stack.worker(), &["it tells", &correlation]).await;
        assert!(line.contains(&task) && line.contains(&step), "{line}");
        if format == "json" {
            let line: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(
                (&line["message"], &line["answer"]),
                (&json!("it tells"), &json!(42))
            );
            let of = |key: &str| line.get(key).or_else(|| line["span"].get(key)).cloned();
            assert_eq!(of("correlation_id"), Some(json!(correlation)));
            assert_eq!(of("task_uuid"), Some(json!(task)));
            assert_eq!(of("step_uuid"), Some(json!(step)));
        }
        let log = stack.worker().log();
        assert!(!log.contains("in detail"), "that is for debugging");
    }
}

#[tokio::test]
async fn log_records_leave_by_otlp_within_their_trace() {
    let receiver = Receiver::start().await;
    let setup = Setup::default()
        .export_to(&receiver.endpoint())
        .configure("telemetry.opentelemetry.logs", true);
    let stack = with(setup).await;
    let [correlation, task, step] = run(&stack).await;
    let trace: String = correlation.replace('-', "");
    let told = receiver.wait("the log record", PATIENCE, |receiver| {
        receiver
            .logs()
            .into_iter()
            .find(|log| log.body == "it tells")
    });
    let told = told.await;
    assert_eq!(told.resource["tasker.process"], "worker");
    assert_eq!((told.severity, &told.attributes["answer"]), (9, &json!(42)));
    for (key, value) in [
        ("correlation_id", correlation),
        ("task_uuid", task),
        ("step_uuid", step),
    ] {
        assert_eq!(told.attributes[key], json!(value), "{key}");
    }
    let span = receiver.wait("the span", PATIENCE, |receiver| {
        let spans = receiver.trace(&trace);
        spans.into_iter().find(|span| span.name == "step.execute")
    });
    let span = span.await;
    assert_eq!((told.trace_id, told.span_id), (trace, span.span_id));
    let of_export = ["h2", "hyper", "tonic", "tower", "opentelemetry"];
    for log in receiver.logs() {
        let said = format!("{log:?}");
        assert!(
            !of_export
                .iter()
                .any(|name| said.contains(&format!("\"{name}"))),
            "{said}"
        );
    }
}

#[tokio::test]
async fn without_the_switch_no_log_record_leaves() {
    let receiver = Receiver::start().await;
    let mut stack = with(Setup::default().export_to(&receiver.endpoint())).await;
    run(&stack).await;
    assert!(stack.worker().term().await.success());
    assert!(stack.server().term().await.success());
    assert!(!receiver.spans().is_empty());
    assert!(receiver.logs().is_empty());
}

#[tokio::test]
async fn how_much_is_logged_is_changed_while_a_process_runs() {
    let stack = with(Setup::default()).await;
    let client = stack.client();
    for (_, process) in stack.processes() {
        let url = process.url("/config/log-level");
        let before: Value = client.get(&url).send().await.unwrap().json().await.unwrap();
        assert_eq!(before, json!({"level": "info"}));
        let put = client.put(&url).json(&json!({"level": "debug"}));
        let after: Value = put.send().await.unwrap().json().await.unwrap();
        assert_eq!(after, json!({"level": "debug"}));
        let wrong = client.put(&url).json(&json!({"level": "a=loud"}));
        assert_eq!(wrong.send().await.unwrap().status(), 400);
    }
    let [correlation, ..] = run(&stack).await;
    let (_, worker) = stack.processes().last().unwrap();
    line(worker, &["in detail", &correlation]).await;

    let said = stack.tasker(&["log-level", "warn"]).await;
    assert!(said.status.success(), "{said:?}");
    let url = stack.url("/config/log-level");
    let now: Value = client.get(&url).send().await.unwrap().json().await.unwrap();
    assert_eq!(now, json!({"level": "warn"}));
}
