//! Everything that can happen to tasks, brought about from outside.

use reqwest::Method;
use serde_json::{Value, json};
use tasker_tests::{Setup, Stack, until};
use uuid::Uuid;

use super::PATIENCE;

/// Attempts whose handler returned something that is no result of its step.
pub(super) const BAD_RESULTS: u64 = 1;

pub(super) const TEMPLATES: &[(&str, &str)] = &[
    ("diamond", "
  - { name: top, handler: { callable: echo } }
  - { name: left, dependencies: [top], handler: { callable: sleep, initialization: { ms: 20 } } }
  - { name: right, dependencies: [top], handler: { callable: transform, initialization: { jq: '1' } } }
  - { name: bottom, dependencies: [left, right], handler: { callable: command, initialization: { argv: [cat] } } }
"),
    ("single", "
  - { name: only, handler: { callable: echo } }
"),
    ("broken", "
  - { name: hopeless, handler: { callable: fail, initialization: { kind: permanent } } }
  - { name: never, dependencies: [hopeless], handler: { callable: echo } }
"),
    ("stubborn", "
  - { name: twice, handler: { callable: fail, initialization: { times: 2 } }, retry: { max_attempts: 3, backoff: none } }
"),
    ("slow", "
  - { name: hangs, timeout_seconds: 1, handler: { callable: sleep, initialization: { ms: 600000 } }, retry: { max_attempts: 2, backoff: none } }
"),
    ("wild", "
  - { name: once, handler: { callable: panics, initialization: { times: 1 } }, retry: { max_attempts: 2, backoff: none } }
"),
    ("big", "
  - { name: much, handler: { callable: transform, initialization: { jq: '[range(10000)]' } }, retry: { max_attempts: 1 } }
"),
    ("odd", "
  - { name: text, result_schema: { type: object }, handler: { callable: echo, initialization: { result: a text } }, retry: { max_attempts: 1 } }
"),
    ("long", "
  - { name: sleeps, handler: { callable: sleep, initialization: { ms: 600000 } } }
"),
    ("telling", "
  - { name: tells, handler: { callable: tells } }
"),
    ("patient", "
  - { name: waits, handler: { callable: fail }, retry: { max_attempts: 2, backoff: linear, backoff_base_ms: 600000, max_backoff_ms: 600000 } }
"),
    ("overdue", "
  - { name: sleeps, handler: { callable: sleep, initialization: { ms: 600000 } } }
"),
    ("lonely", "
  - { name: only, handler: { callable: nobody_has_this } }
"),
    ("strict", "
  - { name: only, handler: { callable: echo } }
"),
    ("piped", "
  - { name: only, handler: { callable: command, initialization: { argv: [cat] } } }
"),
];

/// One that stops where it fails.
const BLOCKED: &str = "name: blocked
namespace_name: contract
version: 1.0.0
on_failure: block
steps:
  - { name: hopeless, handler: { callable: fail, initialization: { kind: permanent } } }
";

pub(super) fn templates() -> Vec<String> {
    let head = |name: &str| {
        let schema = match name {
            "strict" => "input_schema: { type: object, required: [id] }\n",
            "overdue" => "lifecycle: { max_duration_minutes: 1 }\n",
            _ => "",
        };
        format!("name: {name}\nnamespace_name: contract\nversion: 1.0.0\n{schema}steps:")
    };
    let templates = TEMPLATES.iter().map(|(name, steps)| head(name) + steps);
    templates.chain([BLOCKED.to_owned()]).collect()
}

/// Every bound so low that it is soon met.
pub(super) fn limits() -> Setup {
    Setup::default()
        .configure("worker.drain_timeout_ms", 200)
        .configure("server.submit_connections", 1)
        .configure("channels.submissions", 1)
        .configure("channels.results", 1)
        .configure("channels.completions", 1)
        .configure("limits.max_result_bytes", 16_384)
}

pub(super) fn setup(endpoint: &str) -> Setup {
    Setup {
        templates: templates(),
        ..limits()
    }
    .configure("limits.max_lost_leases", 2)
    // Longer than any worker is away.
    .configure("dead_letters.unroutable_after_seconds", 20)
    .configure("worker.lease_ms", 3_000)
    .configure("worker.heartbeat_interval_ms", 1_000)
    .export_to(endpoint)
}

pub(super) fn request(name: &str) -> Value {
    json!({"name": name, "namespace": "contract", "context": {"n": 1}})
}

pub(super) async fn submit(stack: &Stack, name: &str) -> Uuid {
    stack.submit(request(name)).await
}

pub(super) async fn cancel(stack: &Stack, task: Uuid) {
    let path = format!("/v1/tasks/{task}");
    let (status, answer) = stack.call(Method::DELETE, &path, None).await;
    assert_eq!(status, 200, "{answer}");
}

/// Tasks that end well, asked for in every way.
pub(super) async fn fine(stack: &Stack) {
    for _ in 0..3 {
        let task = submit(stack, "diamond").await;
        stack.wait_complete(task, PATIENCE).await;
    }
    stack.submit_all(&vec![request("diamond"); 5]).await;
    for _ in 0..3 {
        sqlx::query("SELECT tasker.submit_task('contract', 'single', '{}')")
            .execute(stack.sql())
            .await
            .unwrap();
    }
    stack.wait_all_at_rest(PATIENCE).await;
}

/// Tasks that fail in every way that a handler can, some of them for good.
pub(super) async fn failing(stack: &mut Stack) {
    stack.add_faulty_worker().await;
    sqlx::query("SELECT tasker.submit_task('contract', 'strict', '{}')")
        .execute(stack.sql())
        .await
        .unwrap();
    for (name, state) in [
        ("broken", "error"),
        ("stubborn", "complete"),
        ("slow", "error"),
        ("wild", "complete"),
        ("big", "error"),
        ("odd", "error"),
    ] {
        let task = submit(stack, name).await;
        let ended = stack.wait_final(task, PATIENCE).await;
        assert_eq!(ended["status"], state, "{ended}");
    }
}

/// Tasks that somebody cancels or resolves, and some that stay where they are: pending, waiting for a retry, blocked.
pub(super) async fn by_hand(stack: &Stack) {
    let running = submit(stack, "long").await;
    until(PATIENCE, async || {
        match &stack.steps(running).await["sleeps"]["current_state"] {
            state if state == "in_progress" => Ok(()),
            state => Err(format!("it is {state}")),
        }
    })
    .await;
    let mut later = request("single");
    later["run_at"] = json!(chrono::Utc::now() + chrono::Duration::hours(1));
    let pending = stack.submit(later.clone()).await;
    for task in [running, pending] {
        cancel(stack, task).await;
    }
    stack.submit(later).await;
    let waiting = submit(stack, "patient").await;
    stack
        .wait_for(waiting, &["waiting_for_retry"], PATIENCE)
        .await;
    for resolved in [false, true] {
        let task = submit(stack, "blocked").await;
        stack
            .wait_for(task, &["blocked_by_failures"], PATIENCE)
            .await;
        if resolved {
            let step = &stack.steps(task).await["hopeless"]["step_uuid"];
            let path = format!("/v1/tasks/{task}/workflow_steps/{}", step.as_str().unwrap());
            let action =
                json!({"action_type": "resolve_manually", "reason": "so", "resolved_by": "me"});
            let (status, answer) = stack.call(Method::PATCH, &path, Some(&action)).await;
            assert_eq!(status, 200, "{answer}");
            stack.wait_for(task, &["resolved_manually"], PATIENCE).await;
        }
    }
}

/// Tasks that are given up without their handlers, and one that somebody wants to be looked at.
pub(super) async fn giving_up(stack: &Stack) {
    let lonely = submit(stack, "lonely").await;
    let overdue = submit(stack, "overdue").await;
    sqlx::query("UPDATE tasker.deadlines SET since = since - interval '1 hour', due_at = now()")
        .execute(stack.sql())
        .await
        .unwrap();
    let fine = submit(stack, "single").await;
    let path = format!("/v1/dlq/task/{fine}");
    let (status, answer) = stack.call(Method::POST, &path, None).await;
    assert_eq!(status, 201, "{answer}");
    for (task, state) in [(fine, "complete"), (overdue, "error"), (lonely, "error")] {
        let ended = stack.wait_final(task, PATIENCE).await;
        assert_eq!(ended["status"], state, "{ended}");
    }
}
