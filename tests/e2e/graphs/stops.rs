//! What becomes of steps that run when their task is cancelled, or their worker is told to end.

use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};
use tasker_shared::machine;
use tasker_tests::Setup;

use super::{PATIENCE, cancel, request, steps, until};

#[tokio::test]
async fn cancelling_reaches_running_handlers_at_once() {
    // One slot a worker, so that the next step shows that the slot is free; a heartbeat so rare that it is not
    // by its chance that the worker hears of it.
    let stack = Setup::default()
        .configure("worker.concurrency", 1)
        .configure("worker.heartbeat_interval_ms", 300_000)
        .configure("worker.lease_ms", 900_000)
        .start()
        .await;
    let directory = stack.directory("cancelled");
    let here = json!(directory.to_str().unwrap());
    let sleep = "{ callable: sleep, initialization: { ms: 600000 } }";
    let command = format!(
        "{{ callable: command, initialization: {{ argv: [sh, -c, 'sleep 600 & echo $! > child; wait'], cwd: {here} }} }}"
    );
    stack
        .apply_template(&steps(
            "quick",
            "  - { name: only, handler: { callable: echo } }\n",
        ))
        .await;
    for (name, handler) in [("sleeping", sleep), ("running", &command)] {
        let lines = format!(
            "  - {{ name: long, handler: {handler} }}\n  - {{ name: later, handler: {{ callable: echo }}, dependencies: [long] }}\n"
        );
        stack.apply_template(&steps(name, &lines)).await;
        let task = stack.submit(request(name, 1)).await;
        until(&stack, task, |steps| {
            steps["long"]["current_state"] == "in_progress"
                && (name == "sleeping" || child_of(&directory).is_some())
        })
        .await;
        let begun = Instant::now();
        cancel(&stack, task).await;
        let next = stack.submit(request("quick", 1)).await;
        stack.wait_complete(next, PATIENCE).await;
        eprintln!(
            "{name}: cancelled and its slot used again after {:?}",
            begun.elapsed()
        );
        let steps = stack.steps(task).await;
        for step in ["long", "later"] {
            assert_eq!(steps[step]["current_state"], "cancelled", "{step}");
        }
        assert_eq!(stack.task(task).await["status"], "cancelled");
    }
    let child = child_of(&directory).expect("it ran");
    tasker_tests::until(PATIENCE, async || match machine::is_alive(child) {
        true => Err("the program's child still runs".to_owned()),
        false => Ok(()),
    })
    .await;
}

fn child_of(directory: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(directory.join("child")).ok()?;
    text.trim().parse().ok()
}

#[tokio::test]
async fn a_worker_that_is_told_to_end_ends_its_steps_and_claims_no_more() {
    let lines = "  - { name: first, handler: { callable: sleep, initialization: { ms: 100, result: 1 } } }
  - { name: second, dependencies: [first], handler: { callable: transform, initialization: { jq: '.dependencies.first + 1' } } }
";
    let mut stack = Setup::default()
        .configure("worker.concurrency", 16)
        .start()
        .await;
    stack.apply_template(&steps("drained", lines)).await;
    let requests: Vec<Value> = (0..200).map(|n| request("drained", n)).collect();
    stack.submit_all(&requests).await;
    stack.wait_attempts(40, PATIENCE).await;
    assert!(stack.worker().term().await.success());
    let held = "SELECT count(*) FROM tasker.ready WHERE worker IS NOT NULL AND $1 <> ''";
    assert_eq!(stack.count(held, "-").await, 0, "nothing stays claimed");
    let left = stack
        .count(
            "SELECT count(*) FROM tasker.tasks WHERE state = 3 AND $1 <> ''",
            "-",
        )
        .await;
    assert!(left > 0, "it ended in the middle");
    assert!(stack.server().term().await.success());
    stack.server().restart().await;
    stack.worker().restart().await;
    stack.wait_all_at_rest(PATIENCE).await;
    stack
        .ledger("drained")
        .await
        .assert_each_once_but_released(200, 2);
}

#[tokio::test]
async fn what_does_not_end_in_the_drain_time_is_handed_back_and_runs_elsewhere() {
    let mut stack = Setup::default()
        .configure("worker.drain_timeout_ms", 200)
        .start()
        .await;
    let directory = stack.directory("held");
    let lines = format!(
        "  - {{ name: only, handler: {{ callable: command, initialization: {{ argv: [sh, -c, 'until [ -e go ]; do sleep 0.1; done; echo $TASKER_ATTEMPT'], cwd: {} }} }} }}\n",
        json!(directory.to_str().unwrap())
    );
    stack.apply_template(&steps("held", &lines)).await;
    let task = stack.submit(request("held", 1)).await;
    until(&stack, task, |steps| {
        steps["only"]["current_state"] == "in_progress"
    })
    .await;
    assert!(stack.worker().term().await.success());
    let steps = until(&stack, task, |steps| {
        steps["only"]["current_state"] == "enqueued"
    })
    .await;
    assert_eq!(stack.outcomes(&steps["only"]).await, ["released"]);
    std::fs::write(directory.join("go"), "").unwrap();
    stack.worker().restart().await;
    stack.wait_complete(task, PATIENCE).await;
    let step = &stack.steps(task).await["only"];
    assert_eq!(stack.outcomes(step).await, ["released", "success"]);
    assert_eq!(
        (&step["attempts"], &step["results"]),
        (&json!(1), &json!(1)),
        "what was handed back is no attempt of the handler"
    );
}
