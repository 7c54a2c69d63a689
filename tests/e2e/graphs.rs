//! Graphs of every shape end as they should, each step once, with the results that their parents' give.

mod failures;
mod help;
mod stops;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
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
    tasker_tests::until(PATIENCE, async || {
        let steps = stack.steps(task).await;
        match wished(&steps) {
            true => Ok(steps),
            false => Err(format!("{steps:#?}")),
        }
    })
    .await
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
