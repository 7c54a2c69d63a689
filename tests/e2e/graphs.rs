//! Graphs of every shape end as they should, each step once, with the results that their parents' give; and what
//! becomes of a graph when a step fails, hangs, is cancelled or is helped by hand.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use reqwest::Method;
use serde_json::{Value, json};
use tasker_shared::machine;
use tasker_tests::{Setup, Stack};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(60);

/// A graph as steps with their parents.
type Graph = [(&'static str, &'static [&'static str])];

const SINGLE: &Graph = &[("only", &[])];
const LINEAR: &Graph = &[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("d", &["c"])];
const DIAMOND: &Graph = &[
    ("top", &[]),
    ("left", &["top"]),
    ("right", &["top"]),
    ("bottom", &["left", "right"]),
];
const DAG7: &Graph = &[
    ("start", &[]),
    ("left", &["start"]),
    ("right", &["start"]),
    ("check", &["left"]),
    ("merge", &["left", "right"]),
    ("audit", &["right"]),
    ("end", &["check", "merge", "audit"]),
];
const TREE8: &Graph = &[
    ("root", &[]),
    ("left", &["root"]),
    ("right", &["root"]),
    ("left_a", &["left"]),
    ("left_b", &["left"]),
    ("right_a", &["right"]),
    ("right_b", &["right"]),
    ("end", &["left_a", "left_b", "right_a", "right_b"]),
];

/// Each step gives its number plus the sum of its parents' results, a root plus the context's `n`.
fn template(name: &str, graph: &Graph) -> String {
    let mut yaml = format!("name: {name}\nnamespace_name: graphs\nversion: 1.0.0\nsteps:\n");
    for (number, (step, parents)) in graph.iter().enumerate() {
        let jq = format!(
            "{number} + if .dependencies == {{}} then .context.n else [.dependencies[]] | add end"
        );
        writeln!(
            yaml,
            "  - {{ name: {step}, dependencies: {}, handler: {{ callable: transform, initialization: {{ jq: {} }} }} }}",
            json!(parents),
            json!(jq)
        )
        .unwrap();
    }
    yaml
}

/// What the steps of [`template`] have to give.
fn expected(graph: &Graph, n: u64) -> BTreeMap<&'static str, u64> {
    let mut results = BTreeMap::new();
    for (number, (step, parents)) in (0..).zip(graph) {
        let inputs: u64 = match parents {
            [] => n,
            parents => parents.iter().map(|parent| results[parent]).sum(),
        };
        results.insert(*step, number + inputs);
    }
    results
}

fn request(name: &str, n: u64) -> Value {
    json!({"name": name, "namespace": "graphs", "context": {"n": n}})
}

/// One server and one worker with these templates.
async fn stack(templates: &[&str]) -> Stack {
    let stack = Stack::start().await;
    for template in templates {
        stack.apply_template(template).await;
    }
    stack
}

/// A template of those steps, given as lines of YAML.
fn steps(name: &str, lines: &str) -> String {
    format!("name: {name}\nnamespace_name: graphs\nversion: 1.0.0\nsteps:\n{lines}")
}

/// Asks for the steps until they are as wished.
async fn until(
    stack: &Stack,
    task: Uuid,
    wished: impl Fn(&BTreeMap<String, Value>) -> bool,
) -> BTreeMap<String, Value> {
    let end = Instant::now() + PATIENCE;
    loop {
        let steps = stack.steps(task).await;
        if wished(&steps) {
            return steps;
        }
        assert!(Instant::now() < end, "{steps:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

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

async fn cancel(stack: &Stack, task: Uuid) {
    let path = format!("/v1/tasks/{task}");
    let (status, answer) = stack.call(Method::DELETE, &path, None).await;
    assert_eq!(
        (status.as_u16(), &answer["status"]),
        (200, &json!("cancelled"))
    );
}

#[tokio::test]
async fn small_graphs_give_every_result_and_run_each_step_once() {
    let stack = Stack::start().await;
    for (name, graph) in [
        ("single", SINGLE),
        ("linear", LINEAR),
        ("diamond", DIAMOND),
        ("dag7", DAG7),
        ("tree8", TREE8),
    ] {
        stack.apply_template(&template(name, graph)).await;
        for n in [0, 7, 1 << 40] {
            let task = stack.submit(request(name, n)).await;
            let shown = stack.wait_complete(task, PATIENCE).await;
            assert_eq!(shown["total_steps"], graph.len(), "{name}");
            assert_eq!(shown["completed_steps"], graph.len(), "{name}");
            let steps = stack.steps(task).await;
            let mut results = BTreeMap::new();
            for (step, _) in graph {
                let found = &steps[*step];
                let state = (&found["current_state"], &found["attempts"]);
                assert_eq!(state, (&json!("complete"), &json!(1)), "{name}: {found}");
                assert_eq!(stack.outcomes(found).await, ["success"], "{name}: {step}");
                results.insert(*step, found["results"].as_u64().unwrap());
            }
            assert_eq!(results, expected(graph, n), "{name}");
            assert_eq!(steps.len(), graph.len());
        }
        let ledger = stack.ledger(name).await;
        ledger.assert_each_once(3, i64::try_from(graph.len()).unwrap());
    }
}

#[tokio::test]
async fn a_thousand_children_run_once_each_and_their_parent_s_join_sees_all_results() {
    let children = 1..=1_000_u64;
    let mut lines = String::from(
        "  - { name: start, handler: { callable: transform, initialization: { jq: .context.n } } }\n",
    );
    for child in children.clone() {
        let handler = match child % 2 {
            0 => format!("callable: echo, initialization: {{ result: {child} }}"),
            _ => format!(
                "callable: transform, initialization: {{ jq: '.dependencies.start + {child}' }}"
            ),
        };
        writeln!(
            lines,
            "  - {{ name: child_{child}, dependencies: [start], handler: {{ {handler} }} }}"
        )
        .unwrap();
    }
    let names: Vec<String> = children.map(|child| format!("child_{child}")).collect();
    let jq = "{ number: (.dependencies | length), sum: ([.dependencies[]] | add), last: .dependencies.child_999 }";
    writeln!(
        lines,
        "  - {{ name: end, dependencies: {}, handler: {{ callable: transform, initialization: {{ jq: '{jq}' }} }} }}",
        json!(names)
    )
    .unwrap();
    let stack = stack(&[&steps("wide", &lines)]).await;
    let task = stack.submit(request("wide", 10_000)).await;
    stack.wait_complete(task, PATIENCE).await;

    let result = stack.steps(task).await["end"]["results"].clone();
    let sum = 500_500 + 500 * 10_000;
    assert_eq!(
        result,
        json!({"number": 1_000, "sum": sum, "last": 10_999}),
        "the join has every result"
    );
    stack.ledger("wide").await.assert_each_once(1, 1_002);
}

#[tokio::test]
async fn ten_thousand_independent_tasks_all_complete_with_their_own_results() {
    let stack = stack(&[&steps(
        "alone",
        "  - { name: only, handler: { callable: echo } }\n",
    )])
    .await;
    let requests: Vec<Value> = (0..10_000).map(|n| request("alone", n)).collect();
    stack.submit_all(&requests).await;
    stack.wait_all_at_rest(PATIENCE * 2).await;
    stack.ledger("alone").await.assert_each_once(10_000, 1);
    let right = stack
        .count(
            "SELECT count(DISTINCT a.result->'context'->>'n') FROM tasker.attempts AS a JOIN tasker.tasks AS t USING (task_uuid)
               JOIN tasker.templates AS m USING (template_id)
              WHERE m.name = $1 AND a.result::text = '{\"context\":' || t.context::text || ',\"attempt\":1}'",
            "alone",
        )
        .await;
    assert_eq!(right, 10_000, "each result is made of its own context");
}

#[tokio::test]
async fn two_servers_and_two_workers_share_tasks_without_running_a_step_twice() {
    let mut stack = Setup {
        servers: 2,
        workers: 2,
        ..Setup::default()
    }
    .configure("worker.concurrency", 16)
    .start()
    .await;
    stack.apply_template(&template("dag7", DAG7)).await;
    stack
        .wait_count(
            "shared among both servers",
            "SELECT count(DISTINCT owner) FROM tasker.shards",
            PATIENCE,
            |owners| owners == 2,
        )
        .await;
    let batch: Vec<Value> = (0..150).map(|n| request("dag7", n)).collect();
    for server in 0..2 {
        let url = stack.servers()[server].url("/v1/tasks/batch");
        let post = stack.client().post(url).json(&json!({"tasks": batch}));
        let answer: Value = post.send().await.unwrap().json().await.unwrap();
        let results = answer["results"].as_array().unwrap();
        assert!(results.iter().all(|result| result["status"] == 201));
    }
    stack.wait_all_at_rest(PATIENCE).await;
    stack.ledger("dag7").await.assert_each_once(300, 7);
    let rows: Vec<(i64, i64)> = sqlx::query_as(
        "SELECT (t.context->>'n')::bigint, (a.result#>>'{}')::bigint
           FROM tasker.attempts AS a JOIN tasker.tasks AS t USING (task_uuid) WHERE a.step_no = 7",
    )
    .fetch_all(stack.sql())
    .await
    .unwrap();
    for (n, result) in rows {
        let n = u64::try_from(n).unwrap();
        assert_eq!(u64::try_from(result).unwrap(), expected(DAG7, n)["end"]);
    }
    let workers = "SELECT count(DISTINCT worker) FROM tasker.attempts WHERE $1 <> ''";
    assert_eq!(stack.count(workers, "-").await, 2, "both took part");
}

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
    let end = Instant::now() + PATIENCE;
    while machine::is_alive(child) {
        assert!(Instant::now() < end, "the program's child still runs");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
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
