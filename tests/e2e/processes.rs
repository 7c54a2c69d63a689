//! Processes start, become ready and end as they are told to.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tasker_tests::{Setup, Stack, until};

const LINE: &str = "
name: line
namespace_name: tests
version: 1.0.0
steps:
  - name: first
    handler: { callable: echo, initialization: { result: 1 } }
  - name: second
    handler: { callable: echo, initialization: { result: 2 } }
    dependencies: [first]
";

const PATIENCE: Duration = Duration::from_secs(30);

async fn stack_with_line() -> Stack {
    let templates = vec![LINE.to_owned()];
    Stack::with(Setup {
        templates,
        ..Setup::default()
    })
    .await
}

fn request() -> serde_json::Value {
    json!({ "name": "line", "namespace": "tests", "context": {} })
}

#[tokio::test]
async fn a_template_sent_later_runs_and_everything_ends_well_when_told_to() {
    let mut stack = Stack::start().await;
    stack.apply_template(LINE).await;
    let task = stack.submit(request()).await;
    stack.wait_complete(task, PATIENCE).await;
    assert_eq!(stack.steps(task).await["second"]["results"], 2);
    assert!(stack.worker().term().await.success());
    assert!(stack.server().term().await.success());
}

#[tokio::test]
async fn a_server_that_is_told_to_stop_is_not_ready_first_and_serves_on_meanwhile() {
    let mut stack = Setup {
        templates: vec![LINE.to_owned()],
        ..Setup::default()
    }
    .configure("server.drain_delay_ms", 8_000)
    .start()
    .await;
    stack.server().signal(Signal::TERM);
    let ready = stack.url("/health/ready");
    until(PATIENCE, async || {
        let answer = stack.client().get(&ready).send().await.unwrap();
        match answer.status().as_u16() {
            503 => Ok(()),
            status => Err(format!("{status}")),
        }
    })
    .await;
    // Health of a server that is not ready, and the exit status that says so.
    let health = stack.tasker(&["health", "--detailed"]).await;
    let told = String::from_utf8_lossy(&health.stdout).into_owned();
    assert_eq!(health.status.code(), Some(1), "{told}");
    assert!(
        told.contains("GracefulShutdown") && told.contains("submissions"),
        "{told}"
    );
    stack.submit(request()).await;
    assert!(stack.server().ended().await.success());
}

#[tokio::test]
async fn killed_processes_that_come_back_go_on_where_they_were() {
    let mut stack = stack_with_line().await;
    stack.worker().kill_9().await;
    let task = stack.submit(request()).await;
    stack.server().kill_9().await;
    stack.worker().restart().await;
    stack.server().restart().await;
    stack.wait_complete(task, PATIENCE).await;
}

#[tokio::test]
async fn processes_find_a_restarted_database_again() {
    let mut stack = stack_with_line().await;
    stack.postgres().kill_now().await.unwrap();
    stack.postgres().restart().await.unwrap();
    let task = loop {
        // Refused with 503 until the server has found the database again.
        let (status, body) = stack
            .call(reqwest::Method::POST, "/v1/tasks", Some(&request()))
            .await;
        if status.is_success() {
            break body["task_uuid"].as_str().unwrap().parse().unwrap();
        }
        assert_eq!(status, 503, "{body}");
    };
    stack.wait_complete(task, PATIENCE).await;
}
