//! Tasks that cannot go on become dead letters that say why, and go on when somebody has mended what was wrong.

mod limits;
mod people;

use std::path::Path;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tasker_tests::{Setup, Stack, until};
use uuid::Uuid;

use crate::wire_tables::assert_fits;

const PATIENCE: Duration = Duration::from_secs(60);

/// A task whose first step fails with this exit status for as long as it is not mended.
fn broken(name: &str, more: &str, status: u8, place: &Path) -> String {
    let place = json!(place.to_str().unwrap());
    format!(
        "name: {name}
namespace_name: letters
version: 1.0.0
{more}steps:
  - name: first
    handler: {{ callable: command, initialization: {{ argv: [sh, -c, 'test -e mended && cat || exit {status}'], cwd: {place} }} }}
    retry: {{ max_attempts: 2, backoff: none }}
  - {{ name: second, dependencies: [first], handler: {{ callable: echo, initialization: {{ result: 2 }} }} }}
"
    )
}

fn request(name: &str) -> Value {
    json!({"name": name, "namespace": "letters", "context": {"n": 1.50}})
}

/// The newest entry of a task, once it is there and pending.
async fn entry(stack: &Stack, task: Uuid) -> Value {
    let path = format!("/v1/dlq/task/{task}");
    let found = until(PATIENCE, async || {
        match stack.call(Method::GET, &path, None).await {
            (status, entry) if status == 200 && entry["resolution_status"] == "Pending" => {
                Ok(entry)
            }
            (status, body) => Err(format!("{status} {body}")),
        }
    })
    .await;
    assert_fits("DlqEntry", &found);
    found
}

fn id(entry: &Value) -> &str {
    entry["dlq_entry_uuid"].as_str().unwrap()
}

async fn requeue(stack: &Stack, entry: &Value) -> (u16, Value) {
    let path = format!("/v1/dlq/entry/{}/requeue", id(entry));
    let said = json!({"requeued_by": "me", "note": "mended"});
    let (status, body) = stack.call(Method::POST, &path, Some(&said)).await;
    (status.as_u16(), body)
}

async fn dlq_counter(stack: &Stack, reason: &str) -> f64 {
    let mut sum = 0.0;
    for (_, process) in stack.processes().filter(|(kind, _)| *kind == "server") {
        let labels = [("namespace", "letters"), ("reason", reason)];
        sum += process
            .metrics()
            .await
            .sum("tasker_dlq_entries_total", &labels);
    }
    sum
}

#[tokio::test]
async fn a_task_that_failed_goes_on_when_what_was_wrong_is_mended() {
    let stack = Stack::start().await;
    let place = stack.directory("place");
    for (name, more, status) in [
        ("hopeless", "", 64),
        ("stubborn", "", 1),
        ("blocked", "on_failure: block\n", 64),
    ] {
        stack
            .apply_template(&broken(name, more, status, &place))
            .await;
    }
    let mut entries = Vec::new();
    for (name, state, exact, reason) in [
        ("hopeless", "error", "permanent", "MaxRetriesExceeded"),
        ("stubborn", "error", "exhausted", "MaxRetriesExceeded"),
        (
            "blocked",
            "blocked_by_failures",
            "permanent",
            "MaxRetriesExceeded",
        ),
    ] {
        let task = stack.submit(request(name)).await;
        assert_eq!(stack.wait_final(task, PATIENCE).await["status"], state);
        let entry = entry(&stack, task).await;
        assert_eq!(
            (&entry["reason"], &entry["dlq_reason"]),
            (&json!(exact), &json!(reason))
        );
        assert_eq!(entry["original_state"], state);
        assert_eq!(
            (&entry["namespace"], &entry["task_name"]),
            (&json!("letters"), &json!(name))
        );
        let failed = &entry["failed_steps"][0];
        assert_eq!(failed["name"], "first");
        assert_eq!(failed["attempts"], if exact == "exhausted" { 2 } else { 1 });
        let steps = entry["task_snapshot"]["steps"].as_array().unwrap();
        let states: Vec<_> = steps.iter().map(|s| (&s["name"], &s["state"])).collect();
        let expected = [
            (json!("first"), json!("error")),
            (json!("second"), json!("skipped")),
        ];
        let expected: Vec<_> = expected.iter().map(|(name, state)| (name, state)).collect();
        assert_eq!(states, expected);
        assert_eq!(entry["task_snapshot"]["task"]["context"], json!({"n": 1.5}));
        let summary = stack.get(&format!("/v1/tasks/{task}/summary")).await;
        let dlq = json!({"in_dlq": true, "dlq_reason": "max_retries_exceeded", "resolution_status": "pending"});
        assert_eq!(summary["dlq"], dlq);
        entries.push((task, entry));
    }
    let counted = (
        dlq_counter(&stack, "permanent").await,
        dlq_counter(&stack, "exhausted").await,
    );
    assert_eq!(counted, (2.0, 1.0));
    wait_depth(&stack, 3.0).await;

    // It fails again as long as nothing is mended, which is another entry.
    let (task, first) = &entries[0];
    assert_eq!(requeue(&stack, first).await.0, 200);
    assert_eq!(stack.wait_final(*task, PATIENCE).await["status"], "error");
    let again = entry(&stack, *task).await;
    assert_ne!(id(&again), id(first));
    let (status, refused) = requeue(&stack, first).await;
    assert_eq!(
        (status, &refused["error"]["code"]),
        (409, &json!("CONFLICT"))
    );
    entries[0].1 = again;

    std::fs::write(place.join("mended"), "").unwrap();
    for (task, entry) in &entries {
        let (status, done) = requeue(&stack, entry).await;
        assert_eq!(status, 200, "{done}");
        assert_eq!(done["task_uuid"], json!(task));
        stack.wait_complete(*task, PATIENCE).await;
        let resolved = stack.get(&format!("/v1/dlq/entry/{}", id(entry))).await;
        assert_fits("DlqEntry", &resolved);
        assert_eq!(resolved["resolution_status"], "ManuallyResolved");
        let said = (&resolved["resolved_by"], &resolved["resolution_notes"]);
        assert_eq!(said, (&json!("me"), &json!("mended")));
        assert!(resolved["resolution_timestamp"].is_string());
        let summary = stack.get(&format!("/v1/tasks/{task}/summary")).await;
        assert_eq!(summary["dlq"]["in_dlq"], false);
    }
    wait_depth(&stack, 0.0).await;
}

async fn wait_depth(stack: &Stack, depth: f64) {
    until(PATIENCE, async || {
        for (_, server) in stack.processes().filter(|(kind, _)| *kind == "server") {
            let shown = server.metrics().await.sum("tasker_dlq_depth", &[]);
            if shown != depth {
                return Err(format!("{shown} are pending"));
            }
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_step_that_kills_its_workers_is_poison() {
    let mut stack = Setup::default()
        .configure("worker.lease_ms", 2_000)
        .configure("worker.heartbeat_interval_ms", 500)
        .configure("limits.max_lost_leases", 1)
        .start()
        .await;
    let place = stack.directory("place");
    // What a killed worker ran goes on, until the test is over at the latest.
    let endless = "until test -e mended || ! test -d $PWD; do sleep 1; done";
    let source = format!(
        "name: endless
namespace_name: letters
version: 1.0.0
steps:
  - {{ name: only, handler: {{ callable: command, initialization: {{ argv: [sh, -c, '{endless}'], cwd: {} }} }} }}
",
        json!(place.to_str().unwrap())
    );
    stack.apply_template(&source).await;
    let task = stack.submit(request("endless")).await;
    for _ in 0..2 {
        let claimed = "SELECT count(*) FROM tasker.ready WHERE worker IS NOT NULL";
        stack
            .wait_count("claimed", claimed, PATIENCE, |claimed| claimed == 1)
            .await;
        stack.worker().kill_9().await;
        let left = "SELECT count(*) FROM tasker.ready WHERE worker IS NOT NULL";
        stack
            .wait_count("left", left, PATIENCE, |left| left == 0)
            .await;
        stack.worker().restart().await;
    }
    let entry = entry(&stack, task).await;
    let reasons = (&entry["reason"], &entry["dlq_reason"]);
    assert_eq!(reasons, (&json!("poison"), &json!("WorkerUnavailable")));
    let failed = &entry["failed_steps"][0];
    assert_eq!(
        (&failed["lost_leases"], &failed["attempts"]),
        (&json!(2), &json!(0))
    );
    std::fs::write(place.join("mended"), "").unwrap();
    assert_eq!(requeue(&stack, &entry).await.0, 200);
    stack.wait_complete(task, PATIENCE).await;
}

#[tokio::test]
async fn an_input_that_breaks_its_schema_is_kept_and_cannot_go_on() {
    let stack = Stack::start().await;
    let template = "name: strict\nnamespace_name: letters\nversion: 1.0.0\ninput_schema: { type: object, required: [id] }
steps: [ { name: only, handler: { callable: echo } } ]\n";
    stack.apply_template(template).await;
    let task: Uuid = sqlx::query_scalar("SELECT tasker.submit_task('letters', 'strict', '{}')")
        .fetch_one(stack.sql())
        .await
        .unwrap();
    let entry = entry(&stack, task).await;
    let reasons = (&entry["reason"], &entry["dlq_reason"]);
    assert_eq!(reasons, (&json!("invalid_input"), &json!("ManualDlq")));
    let failure = &entry["task_snapshot"]["task"]["failure"];
    assert_eq!(failure["code"], "INVALID_CONTEXT");
    let (status, refused) = requeue(&stack, &entry).await;
    assert_eq!(status, 409);
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains("input_schema"), "{message}");
    // It is left alone unless it is meant.
    let (status, done) = stack
        .call(Method::POST, "/v1/dlq/requeue", Some(&json!({"all": true})))
        .await;
    assert_eq!(
        (status.as_u16(), done),
        (200, json!({"requeued": 0, "refused": [], "more": false}))
    );
    let meant = json!({"reason": "invalid_input"});
    let (_, done) = stack
        .call(Method::POST, "/v1/dlq/requeue", Some(&meant))
        .await;
    assert_eq!(done["refused"][0]["error"]["code"], "CONFLICT");
    assert_eq!(
        done["refused"][0]["dlq_entry_uuid"],
        entry["dlq_entry_uuid"]
    );
}
