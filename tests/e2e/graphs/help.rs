//! What becomes of a graph whose steps failed when they are retried, or helped by hand.

use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};
use tasker_tests::Stack;
use uuid::Uuid;

use super::{PATIENCE, request, steps};

async fn patch(stack: &Stack, step: &Value, action: &Value) -> Value {
    let path = format!(
        "/v1/tasks/{}/workflow_steps/{}",
        step["task_uuid"].as_str().unwrap(),
        step["step_uuid"].as_str().unwrap()
    );
    let (status, answer) = stack.call(Method::PATCH, &path, Some(action)).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

async fn retry(stack: &Stack, task: Uuid) {
    let path = format!("/v1/tasks/{task}/retry");
    let (status, answer) = stack.call(Method::POST, &path, None).await;
    assert_eq!(status, 200, "{answer}");
}

/// Steps that fail while their file is missing, and what comes after them.
fn mendable(directory: &Path) -> String {
    let here = json!(directory.to_str().unwrap());
    let cat = |name: &str| {
        format!(
            "  - {{ name: {name}, handler: {{ callable: command, initialization: {{ argv: [sh, -c, 'cat {name}.json || exit 64'], cwd: {here} }} }} }}\n"
        )
    };
    let after = "  - { name: sum, dependencies: [one, two], handler: { callable: transform, initialization: { jq: '[.dependencies[]] | add' } } }
  - { name: last, dependencies: [sum], handler: { callable: transform, initialization: { jq: '.dependencies.sum * 2' } } }
";
    [&cat("one"), &cat("two"), after].concat()
}

#[tokio::test]
async fn a_blocked_task_goes_on_when_it_is_retried() {
    let stack = Stack::start().await;
    let directory = stack.directory("blocked");
    let template = steps("blocked", &mendable(&directory));
    stack
        .apply_template(&format!("on_failure: block\n{template}"))
        .await;
    std::fs::write(directory.join("one.json"), "3").unwrap();
    let task = stack.submit(request("blocked", 1)).await;
    let shown = stack.wait_final(task, PATIENCE).await;
    assert_eq!(shown["status"], "blocked_by_failures", "{shown}");

    // Nothing is mended yet: it blocks again.
    retry(&stack, task).await;
    stack.wait_attempts(3, PATIENCE).await;
    stack
        .wait_for(task, &["blocked_by_failures"], PATIENCE)
        .await;

    std::fs::write(directory.join("two.json"), "4").unwrap();
    retry(&stack, task).await;
    stack.wait_for(task, &["complete"], PATIENCE).await;
    let steps = stack.steps(task).await;
    assert_eq!(steps["last"]["results"], 14);
    assert_eq!(
        stack.outcomes(&steps["two"]).await,
        ["permanent", "permanent", "success"]
    );
    assert_eq!(
        stack.outcomes(&steps["one"]).await,
        ["success"],
        "what went well is not run again"
    );
    assert_eq!(stack.outcomes(&steps["last"]).await, ["success"]);
}

#[tokio::test]
async fn failed_steps_are_completed_resolved_and_reset_by_hand() {
    let stack = Stack::start().await;
    let directory = stack.directory("mended");
    stack
        .apply_template(&steps("mended", &mendable(&directory)))
        .await;
    let failed = || async {
        let task = stack.submit(request("mended", 1)).await;
        assert_eq!(stack.wait_final(task, PATIENCE).await["status"], "error");
        (task, stack.steps(task).await)
    };

    let (task, steps) = failed().await;
    let complete = |result: u64| json!({"action_type": "complete_manually", "completion_data": {"result": result}, "reason": "counted by hand", "completed_by": "me"});
    patch(&stack, &steps["one"], &complete(5)).await;
    assert_eq!(
        stack.steps(task).await["sum"]["current_state"],
        "skipped",
        "its other parent is still in error"
    );
    patch(&stack, &steps["two"], &complete(6)).await;
    stack.wait_for(task, &["complete"], PATIENCE).await;
    let steps = stack.steps(task).await;
    assert_eq!(steps["last"]["results"], 22);
    assert_eq!(stack.outcomes(&steps["one"]).await, ["permanent", "manual"]);

    let (task, steps) = failed().await;
    let resolve =
        json!({"action_type": "resolve_manually", "reason": "not needed", "resolved_by": "me"});
    let answer = patch(&stack, &steps["one"], &resolve).await;
    assert_eq!(answer["current_state"], "resolved_manually");
    std::fs::write(directory.join("two.json"), "7").unwrap();
    let reset = json!({"action_type": "reset_for_retry", "reason": "mended", "reset_by": "me"});
    patch(&stack, &steps["two"], &reset).await;
    stack
        .wait_for(task, &["complete", "resolved_manually"], PATIENCE)
        .await;
    let steps = stack.steps(task).await;
    assert_eq!(
        steps["last"]["results"], 14,
        "what was resolved gives null, which adds nothing"
    );
    assert_eq!(
        stack.outcomes(&steps["two"]).await,
        ["permanent", "success"]
    );
}
