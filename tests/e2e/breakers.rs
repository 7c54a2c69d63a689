//! Circuit breakers open when what they guard is away, say so everywhere, and close by themselves when it is back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tasker_tests::{Setup, Stack, until};

const PATIENCE: Duration = Duration::from_secs(60);
/// How soon after PostgreSQL's return every breaker is closed.
const BACK: Duration = Duration::from_secs(10);
/// Completions that find no room while PostgreSQL is away, more than open their breaker; and some that find it open.
const FIRST: usize = 16;
const MORE: usize = 4;

const TEMPLATE: &str = "
name: piped
namespace_name: breakers
version: 1.0.0
steps:
  - { name: only, handler: { callable: command, initialization: { argv: [cat] } } }
";

/// Steps whose programs end when a file is there. Each leaves a file of its own when it begins.
fn held_back(name: &str, file: &Path) -> String {
    let file = file.display();
    let wait = format!(": > {file}.$$; until [ -e {file} ]; do sleep 0.05; done; cat");
    format!(
        "
name: {name}
namespace_name: breakers
version: 1.0.0
steps:
  - {{ name: only, handler: {{ callable: command, initialization: {{ argv: [sh, -c, '{wait}'] }} }} }}
"
    )
}

fn request() -> Value {
    request_of("piped")
}

fn request_of(name: &str) -> Value {
    json!({"name": name, "namespace": "breakers", "context": {}})
}

/// A worker that has room for one result and one completion, and keeps its lease however long PostgreSQL is away.
fn narrow() -> Setup {
    Setup::default()
        .configure("channels.results", 1)
        .configure("channels.completions", 1)
        .configure("worker.lease_ms", 60_000)
}

async fn start(setup: Setup) -> Stack {
    Setup {
        templates: vec![TEMPLATE.to_owned()],
        ..setup
    }
    .start()
    .await
}

/// What `/health/detailed` of each process says of its breakers, and whether it lives.
async fn breakers(stack: &Stack) -> BTreeMap<(&'static str, String), Value> {
    let mut shown = BTreeMap::new();
    for (kind, process) in stack.processes() {
        let live = stack.client().get(process.url("/health/live")).send().await;
        assert_eq!(live.unwrap().status(), 200, "the {kind} lives");
        let health = stack.client().get(process.url("/health/detailed")).send();
        let health: Value = health.await.unwrap().json().await.unwrap();
        for breaker in health["circuit_breakers"].as_array().unwrap() {
            let name = breaker["name"].as_str().unwrap().to_owned();
            shown.insert((kind, name), breaker.clone());
        }
    }
    shown
}

fn all() -> BTreeSet<(&'static str, String)> {
    [
        ("server", "web"),
        ("server", "task_readiness"),
        ("server", "pgmq"),
        ("worker", "pgmq"),
        ("worker", "ffi_completion"),
    ]
    .map(|(kind, name)| (kind, name.to_owned()))
    .into()
}

#[tokio::test]
async fn every_breaker_opens_when_postgresql_goes_and_closes_when_it_comes_back() {
    let mut stack = start(narrow()).await;
    let states = breakers(&stack).await;
    assert!(states.keys().eq(all().iter()), "{states:?}");
    assert!(
        states.values().all(|b| b["state"] == "closed"),
        "{states:?}"
    );
    let directory = stack.directory("held_back");
    let (first, more) = (directory.join("first"), directory.join("more"));
    stack.apply_template(&held_back("first", &first)).await;
    stack.apply_template(&held_back("more", &more)).await;
    let mut tasks = stack.submit_all(&vec![request_of("first"); FIRST]).await;
    tasks.extend(stack.submit_all(&vec![request_of("more"); MORE]).await);
    until(PATIENCE, async || {
        match std::fs::read_dir(&directory).unwrap().count() {
            n if n == tasks.len() => Ok(()),
            n => Err(format!("{n} programs run")),
        }
    })
    .await;

    stack.postgres().kill_now().await.unwrap();
    std::fs::write(&first, "").unwrap();
    let mut opened = BTreeSet::new();
    until(PATIENCE, async || {
        for (which, breaker) in breakers(&stack).await {
            if breaker["state"] == "open" {
                assert!(breaker["opened_at"].is_string(), "{breaker}");
                assert!(breaker["failures"].as_u64() >= Some(5), "{breaker}");
                opened.insert(which);
            }
        }
        match opened == all() {
            true => Ok(()),
            false => Err(format!("only {opened:?} have opened")),
        }
    })
    .await;
    until(PATIENCE, async || {
        let shown = stack.processes().next().unwrap().1.metrics().await;
        let web = shown.sum("tasker_circuit_breaker_state", &[("component", "web")]);
        let api = shown.sum("api_circuit_breaker_state", &[]);
        match (web, api) {
            (2.0, 2.0) => Ok(()),
            other => Err(format!("the metrics show {other:?}")),
        }
    })
    .await;

    let refused = stack.wait_refused(&request()).await;
    let after = refused["error"]["retry_after_seconds"].as_u64().unwrap();
    assert!((1..=2).contains(&after), "{refused}");
    let shown = stack.server().metrics().await;
    let endpoint = [("endpoint", "/v1/tasks")];
    assert!(shown.sum("api_requests_rejected_total", &endpoint) >= 1.0);
    for path in ["/health", "/health/live", "/metrics", "/config"] {
        assert!(
            stack
                .client()
                .get(stack.url(path))
                .send()
                .await
                .unwrap()
                .status()
                .is_success()
        );
    }
    let ready = stack.client().get(stack.url("/health/ready")).send().await;
    assert_eq!(ready.unwrap().status(), 503);
    std::fs::write(&more, "").unwrap();
    until(PATIENCE, async || {
        let shown = stack.processes().find(|(kind, _)| *kind == "worker");
        let shown = shown.unwrap().1.metrics().await;
        match shown.sum("ffi_completion_circuit_open_rejections_total", &[]) {
            1.0.. => Ok(()),
            n => Err(format!("{n} completions found their breaker open")),
        }
    })
    .await;

    stack.postgres().restart().await.unwrap();
    let back = Instant::now();
    let task = stack.wait_accepted(&request()).await;
    stack.wait_complete(task, PATIENCE).await;
    println!(
        "a task was done {:?} after PostgreSQL came back",
        back.elapsed()
    );
    until(PATIENCE, async || {
        let states = breakers(&stack).await;
        match states.values().all(|breaker| breaker["state"] == "closed") {
            true => Ok(()),
            false => Err(format!("{states:?}")),
        }
    })
    .await;
    let closed = back.elapsed();
    println!("every breaker was closed {closed:?} after PostgreSQL came back");
    assert!(closed < BACK, "{closed:?}");
    let ended = stack.wait_all_final(&tasks, PATIENCE).await;
    assert_eq!(ended.get("complete"), Some(&tasks.len()), "{ended:?}");
    for (kind, name) in all() {
        let log = match kind {
            "server" => stack.server().log(),
            _ => stack.worker().log(),
        };
        for said in [
            "circuit breaker opened",
            "circuit breaker half-open",
            "circuit breaker closed",
        ] {
            let told = log
                .lines()
                .any(|line| line.contains(said) && line.contains(&name));
            assert!(told, "the {kind} does not log `{said}` of {name}");
        }
    }
}

#[tokio::test]
async fn completions_wait_while_their_breaker_is_open_and_every_program_ran_once() {
    let mut stack = start(narrow()).await;
    let tasks = stack.slow_completions(&request()).await;
    let once =
        "SELECT count(*) FROM tasker.attempts WHERE outcome = 0 AND attempt = 1 AND $1 <> ''";
    let attempts = "SELECT count(*) FROM tasker.attempts WHERE $1 <> ''";
    let count = i64::try_from(tasks.len()).unwrap();
    assert_eq!(stack.count(once, "-").await, count);
    assert_eq!(
        stack.count(attempts, "-").await,
        count,
        "none was handed back"
    );
    let shown = stack.worker().metrics().await;
    assert!(shown.sum("ffi_completion_slow_sends_total", &[]) >= 5.0);
    until(PATIENCE, async || {
        let task = stack.submit(request()).await;
        stack.wait_complete(task, PATIENCE).await;
        let breaker = &breakers(&stack).await[&("worker", "ffi_completion".to_owned())];
        match breaker["state"] == "closed" {
            true => Ok(()),
            false => Err(breaker.to_string()),
        }
    })
    .await;
}
