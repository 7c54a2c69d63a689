//! Processes start, become ready and end as they are told to.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

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

#[tokio::test]
async fn a_worker_ends_whatever_hangs() {
    let mut stack = Setup {
        workers: 0,
        ..Setup::default()
    }
    .configure("worker.drain_timeout_ms", 500)
    .start()
    .await;
    stack.add_faulty_worker().await;
    stack
        .apply_template(
            "
name: stuck
namespace_name: tests
version: 1.0.0
steps: [ { name: only, handler: { callable: blocks } } ]
",
        )
        .await;
    let request = json!({ "name": "stuck", "namespace": "tests", "context": {} });
    let task = stack.submit(request).await;
    let claimed = "SELECT count(*) FROM tasker.ready WHERE worker IS NOT NULL";
    stack
        .wait_count("claimed", claimed, PATIENCE, |count| count == 1)
        .await;
    // A request that never comes to its end.
    let address = stack
        .worker()
        .url("")
        .trim_start_matches("http://")
        .to_owned();
    let mut unfinished = TcpStream::connect(address).await.unwrap();
    unfinished
        .write_all(b"GET /health HTTP/1.1\r\nHost: ")
        .await
        .unwrap();
    let ended = tokio::time::timeout(PATIENCE, stack.worker().term()).await;
    assert!(ended.is_ok_and(|status| status.success()));
    // Its lease is over, so others may have the step at once.
    stack.add_faulty_worker().await;
    stack
        .wait_count(
            "with the other one",
            "SELECT count(*) FROM tasker.ready JOIN tasker.workers USING (worker) WHERE lost = 1 AND stopped_at IS NULL",
            PATIENCE,
            |count| count == 1,
        )
        .await;
    assert_eq!(stack.steps(task).await["only"]["lost_leases"], 1);
}

#[tokio::test]
async fn processes_end_by_themselves_when_whoever_started_them_was_killed() {
    let mut stack = Stack::start().await;
    stack.add_faulty_worker().await;
    for worker in stack.workers() {
        worker.abandon();
        assert!(worker.ended().await.success());
    }
    stack.server().abandon();
    assert!(stack.server().ended().await.success());
}

#[tokio::test]
async fn a_listener_whose_connection_fell_silent_listens_anew() {
    let setup = Setup {
        meddled: true,
        ..Setup::default()
    };
    let stack = setup.start().await;
    let of_worker = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'tasker-worker%' AND query LIKE 'LISTEN %'";
    let listeners = async || -> Vec<i32> {
        let pids = sqlx::query_scalar(of_worker).fetch_all(stack.sql());
        pids.await.unwrap()
    };
    let silent = until(PATIENCE, async || match listeners().await {
        pids if !pids.is_empty() => Ok(pids),
        _ => Err("nobody listens".to_owned()),
    })
    .await;
    stack.line("worker-1").silence();
    until(2 * PATIENCE, async || match listeners().await {
        pids if pids.iter().any(|pid| !silent.contains(pid)) => Ok(()),
        pids => Err(format!("{pids:?} listen")),
    })
    .await;
}
