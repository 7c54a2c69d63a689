//! What becomes of a graph when a step fails, hangs, is cancelled or is helped by hand.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use serde_json::json;
use uuid::Uuid;

use super::{PATIENCE, cancel, request, stack, steps, until};

#[tokio::test]
async fn a_step_that_fails_at_first_waits_by_its_back_off_and_then_succeeds() {
    const BASE_MS: i64 = 200;
    let kinds: [(&str, [i64; 3]); 4] = [
        ("none", [0, 0, 0]),
        ("linear", [1, 2, 3]),
        ("exponential", [1, 2, 4]),
        ("fibonacci", [1, 1, 2]),
    ];
    let mut lines = String::new();
    for (kind, _) in &kinds {
        writeln!(
            lines,
            "  - name: {kind}
    handler: {{ callable: fail, initialization: {{ times: 3 }} }}
    retry: {{ max_attempts: 4, backoff: {kind}, backoff_base_ms: {BASE_MS}, max_backoff_ms: 60000 }}"
        )
        .unwrap();
    }
    let stack = stack(&[&steps("stubborn", &lines)]).await;
    let task = stack.submit(request("stubborn", 1)).await;
    stack.wait_complete(task, PATIENCE).await;

    let steps = stack.steps(task).await;
    for (kind, multiples) in kinds {
        let step = &steps[kind];
        assert_eq!(step["attempts"], 4, "{step}");
        assert_eq!(
            step["results"],
            json!({"context": {"n": 1}, "attempt": 4}),
            "{kind}"
        );
        let mut outcomes = vec!["retryable"; 3];
        outcomes.push("success");
        assert_eq!(stack.outcomes(step).await, outcomes, "{kind}");
        let uuid: Uuid = step["step_uuid"].as_str().unwrap().parse().unwrap();
        let step_no = i32::try_from(uuid.as_u128() & 0xf_ffff).unwrap();
        let times: Vec<(DateTime<Utc>, DateTime<Utc>)> = sqlx::query_as(
            "SELECT started_at, finished_at FROM tasker.attempts WHERE task_uuid = $1 AND step_no = $2 ORDER BY attempt",
        )
        .bind(task)
        .bind(step_no)
        .fetch_all(stack.sql())
        .await
        .unwrap();
        for (pair, multiple) in times.windows(2).zip(multiples) {
            let waited = (pair[1].0 - pair[0].1).num_milliseconds();
            // Jitter takes away a quarter at most.
            assert!(
                waited >= multiple * BASE_MS * 3 / 4,
                "{kind}: {waited} ms instead of {multiple} times {BASE_MS}"
            );
        }
    }
}

#[tokio::test]
async fn a_step_that_fails_too_often_or_for_good_ends_its_task_in_error_after_the_other_branches() {
    let lines = "  - { name: stubborn, handler: { callable: fail }, retry: { max_attempts: 3, backoff: none } }
  - { name: hopeless, handler: { callable: fail, initialization: { kind: permanent } }, retry: { max_attempts: 3, backoff: none } }
  - { name: once, handler: { callable: fail }, retry: { retryable: false } }
  - { name: fine, handler: { callable: sleep, initialization: { ms: 300 } } }
  - { name: after_fine, handler: { callable: echo }, dependencies: [fine] }
  - { name: after_both, handler: { callable: echo }, dependencies: [fine, stubborn] }
  - { name: last, handler: { callable: echo }, dependencies: [after_both] }
";
    let stack = stack(&[&steps("broken", lines)]).await;
    let task = stack.submit(request("broken", 1)).await;
    let shown = stack.wait_final(task, PATIENCE).await;
    assert_eq!(shown["status"], "error");
    let steps = stack.steps(task).await;
    for (name, state, outcomes) in [
        ("stubborn", "error", &["retryable"; 3][..]),
        ("hopeless", "error", &["permanent"]),
        ("once", "error", &["retryable"]),
        ("fine", "complete", &["success"]),
        ("after_fine", "complete", &["success"]),
        ("after_both", "skipped", &[]),
        ("last", "skipped", &[]),
    ] {
        assert_eq!(steps[name]["current_state"], state, "{name}");
        assert_eq!(stack.outcomes(&steps[name]).await, outcomes, "{name}");
        assert_eq!(steps[name]["attempts"], outcomes.len(), "{name}");
    }
}

#[tokio::test]
async fn a_step_is_stopped_at_its_timeout_and_tried_again() {
    let lines = "  - name: hangs
    handler: { callable: sleep, initialization: { ms: 600000 } }
    timeout_seconds: 1
    retry: { max_attempts: 2, backoff: none }
  - name: program
    handler: { callable: command, initialization: { argv: [sleep, '600'] } }
    timeout_seconds: 1
    retry: { max_attempts: 1 }
";
    let stack = stack(&[&steps("slow", lines)]).await;
    let task = stack.submit(request("slow", 1)).await;
    assert_eq!(stack.wait_final(task, PATIENCE).await["status"], "error");
    let steps = stack.steps(task).await;
    assert_eq!(stack.outcomes(&steps["hangs"]).await, ["timeout"; 2]);
    assert_eq!(stack.outcomes(&steps["program"]).await, ["timeout"]);
    for attempt in stack.audit(&steps["hangs"]).await {
        let ran = attempt["execution_time_ms"].as_i64().unwrap();
        assert!(ran >= 1_000, "{attempt}");
    }
}

#[tokio::test]
async fn a_step_that_no_worker_knows_waits_unclaimed_and_says_so() {
    let lines = "  - { name: known, handler: { callable: echo } }
  - { name: unknown, handler: { callable: nobody_has_this } }
  - { name: later, handler: { callable: echo }, dependencies: [known, unknown] }
";
    let stack = stack(&[&steps("lonely", lines)]).await;
    let task = stack.submit(request("lonely", 1)).await;
    let steps = until(&stack, task, |steps| {
        steps["known"]["current_state"] == "complete"
    })
    .await;
    // The worker goes on claiming other work beside it.
    for _ in 0..3 {
        let other = stack.submit(request("lonely", 2)).await;
        until(&stack, other, |steps| {
            steps["known"]["current_state"] == "complete"
        })
        .await;
    }
    let unknown = &steps["unknown"];
    assert_eq!(unknown["blocked_by"]["kind"], "no_worker", "{unknown}");
    let steps = stack.steps(task).await;
    assert_eq!(
        (
            &steps["unknown"]["current_state"],
            &steps["unknown"]["attempts"]
        ),
        (&json!("enqueued"), &json!(0))
    );
    assert_eq!(steps["later"]["blocked_by"]["kind"], "dependencies");
    let claimed = stack
        .count(
            "SELECT count(*) FROM tasker.ready JOIN tasker.lanes USING (lane) WHERE callable = $1 AND worker IS NOT NULL",
            "nobody_has_this",
        )
        .await;
    assert_eq!(claimed, 0);
    cancel(&stack, task).await;
}
