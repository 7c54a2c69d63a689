//! Tasks that cannot go on become dead letters that say why, and go on when somebody has mended what was wrong.

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

/// Lets so much time pass for a task as nobody wants to wait.
async fn age(stack: &Stack, task: Uuid) {
    for sql in [
        "UPDATE tasker.tasks SET created_at = created_at - interval '2 hours' WHERE task_uuid = $1",
        "UPDATE tasker.steps SET changed_at = changed_at - interval '2 hours' WHERE task_uuid = $1",
        "UPDATE tasker.deadlines SET since = since - interval '2 hours', due_at = now() WHERE task_uuid = $1",
    ] {
        sqlx::query(sql)
            .bind(task)
            .execute(stack.sql())
            .await
            .unwrap();
    }
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

fn slow(name: &str, lifecycle: &str) -> String {
    format!(
        "name: {name}
namespace_name: letters
version: 1.0.0
lifecycle: {{ {lifecycle} }}
steps:
  - {{ name: runs, handler: {{ callable: sleep, initialization: {{ ms: 600000 }} }} }}
  - {{ name: waits, dependencies: [runs], handler: {{ callable: echo }} }}
"
    )
}

#[tokio::test]
async fn a_task_past_a_limit_of_its_lifecycle_is_stopped_and_kept() {
    let stack = Setup::default()
        .configure("worker.heartbeat_interval_ms", 500)
        .start()
        .await;
    let place = stack.directory("place");
    stack
        .apply_template(&slow("kept", "max_steps_in_process_minutes: 60"))
        .await;
    stack
        .apply_template(&slow(
            "dropped",
            "max_duration_minutes: 60, staleness_action: error",
        ))
        .await;
    stack
        .apply_template(&slow(
            "shown",
            "max_steps_in_process_minutes: 60, staleness_action: none",
        ))
        .await;
    let more = "lifecycle: { max_waiting_for_retry_minutes: 60 }\n";
    let retries = broken("retries", more, 1, &place).replace(
        "backoff: none",
        "backoff: linear, backoff_base_ms: 7200000, max_backoff_ms: 7200000",
    );
    stack.apply_template(&retries).await;
    let mut tasks = Vec::new();
    for name in ["kept", "dropped", "shown", "retries"] {
        tasks.push(stack.submit(request(name)).await);
    }
    let [kept, dropped, shown, retries] = tasks[..] else {
        unreachable!()
    };
    stack
        .wait_for(retries, &["waiting_for_retry"], PATIENCE)
        .await;
    let running = "SELECT count(*) FROM tasker.ready WHERE worker IS NOT NULL";
    stack
        .wait_count("running", running, PATIENCE, |running| running == 3)
        .await;
    for &task in &tasks {
        age(&stack, task).await;
    }
    for task in [kept, retries] {
        assert_eq!(stack.wait_final(task, PATIENCE).await["status"], "error");
        let entry = entry(&stack, task).await;
        let reasons = (&entry["reason"], &entry["dlq_reason"]);
        assert_eq!(reasons, (&json!("stale"), &json!("StalenessTimeout")));
        let message = entry["failed_steps"][0]["message"].as_str().unwrap();
        assert!(
            message.contains("lifecycle.max_") && message.contains("60 min"),
            "{message}"
        );
    }
    assert_eq!(stack.wait_final(dropped, PATIENCE).await["status"], "error");
    assert_eq!(stack.task(shown).await["status"], "steps_in_process");
    // The handlers that ran are told, and no longer run.
    let busy = "SELECT busy::int8 FROM tasker.workers WHERE stopped_at IS NULL";
    stack
        .wait_count("busy", busy, PATIENCE, |busy| busy == 1)
        .await;

    let listed = stack.get("/v1/dlq/staleness").await;
    assert_fits("[StalenessMonitoring]", &listed);
    let of = listed.as_array().unwrap().iter();
    let of: Vec<_> = of
        .map(|t| (&t["task_uuid"], &t["health_status"], &t["action"]))
        .collect();
    assert_eq!(of, [(&json!(shown), &json!("stale"), &json!("none"))]);

    // Its error is the whole of it.
    let (status, _) = stack
        .call(Method::GET, &format!("/v1/dlq/task/{dropped}"), None)
        .await;
    assert_eq!(status, 404);
    let messages = "SELECT count(*) FROM tasker.results";
    stack
        .wait_count("messages", messages, PATIENCE, |messages| messages == 0)
        .await;

    // What is put back has all its time again.
    std::fs::write(place.join("mended"), "").unwrap();
    assert_eq!(requeue(&stack, &entry(&stack, retries).await).await.0, 200);
    stack.wait_complete(retries, PATIENCE).await;
    assert_eq!(requeue(&stack, &entry(&stack, kept).await).await.0, 200);
    stack
        .wait_count("running", running, PATIENCE, |running| running == 2)
        .await;
    let (status, cancelled) = stack
        .call(Method::DELETE, &format!("/v1/tasks/{kept}"), None)
        .await;
    assert_eq!(
        (status.as_u16(), &cancelled["status"]),
        (200, &json!("cancelled"))
    );
}

#[tokio::test]
async fn a_step_that_no_worker_serves_is_given_up_where_configured() {
    let stack = Setup::default()
        .configure("dead_letters.unroutable_after_seconds", 1)
        .start()
        .await;
    let template = "name: lonely\nnamespace_name: letters\nversion: 1.0.0\nsteps: [ { name: only, handler: { callable: nobody_has_this } } ]\n";
    stack.apply_template(template).await;
    let task = stack.submit(request("lonely")).await;
    assert_eq!(stack.wait_final(task, PATIENCE).await["status"], "error");
    let first = entry(&stack, task).await;
    let reasons = (&first["reason"], &first["dlq_reason"]);
    assert_eq!(reasons, (&json!("unroutable"), &json!("WorkerUnavailable")));
    let message = first["failed_steps"][0]["message"].as_str().unwrap();
    assert!(message.contains("nobody_has_this"), "{message}");
    // A person may end it instead.
    let step = &stack.steps(task).await["only"]["step_uuid"];
    let path = format!("/v1/tasks/{task}/workflow_steps/{}", step.as_str().unwrap());
    let action = json!({"action_type": "complete_manually", "reason": "done by hand", "completed_by": "me", "completion_data": {"result": 1}});
    let (status, done) = stack.call(Method::PATCH, &path, Some(&action)).await;
    assert_eq!(status, 200, "{done}");
    let entry = stack.get(&format!("/v1/dlq/entry/{}", id(&first))).await;
    assert_eq!(entry["resolution_status"], "ManuallyResolved");
    let said = (&entry["resolved_by"], &entry["resolution_notes"]);
    assert_eq!(said, (&json!("me"), &json!("done by hand")));
}
