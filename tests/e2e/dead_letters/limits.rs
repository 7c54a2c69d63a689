//! Tasks that take longer than they may become dead letters: past a limit of their lifecycle, and where no worker serves
//! a step of theirs.

use reqwest::Method;
use serde_json::json;
use tasker_tests::{Setup, Stack};
use uuid::Uuid;

use super::{PATIENCE, broken, entry, id, request, requeue};
use crate::wire_tables::assert_fits;

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
