//! What a process holds while the database takes nothing: bytes are bounded, not counts alone.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tasker_shared::machine;
use tasker_tests::{Process, Setup, Stack, until};

const PATIENCE: Duration = Duration::from_secs(120);
const MIB: usize = 1024 * 1024;
/// Far above what a process needs that holds what it may, and far below what is thrown at it.
const MOST_MIB: usize = 400;

const LARGE: &str = "
name: large
namespace_name: memory
version: 1.0.0
steps: [ { name: only, handler: { callable: large, initialization: { bytes: 1000000 } } } ]
";

/// The memory of a process, in MiB.
fn resident(process: &Process) -> usize {
    let bytes = machine::rss_bytes(process.pid()).unwrap();
    usize::try_from(bytes).unwrap() / MIB
}

async fn lock(stack: &Stack, sql: &'static str) -> sqlx::Transaction<'static, sqlx::Postgres> {
    let mut transaction = stack.sql().begin().await.unwrap();
    sqlx::query(sql).execute(&mut *transaction).await.unwrap();
    transaction
}

#[tokio::test]
async fn large_submissions_that_cannot_be_stored_are_refused_before_they_fill_the_memory() {
    let mut stack = Setup {
        workers: 0,
        templates: vec![LARGE.to_owned()],
        ..Setup::default()
    }
    .configure("backpressure.submission_bytes", 32 * MIB)
    .start()
    .await;
    let held = lock(&stack, "LOCK TABLE tasker.tasks IN SHARE MODE").await;
    let context = json!({"text": "x".repeat(1_000_000)});
    let request = json!({"name": "large", "namespace": "memory", "context": context});
    let sending: Vec<_> = (0..600)
        .map(|_| {
            let request = stack.client().post(stack.url("/v1/tasks")).json(&request);
            tokio::spawn(async move { request.send().await.ok() })
        })
        .collect();
    until(PATIENCE, async || {
        let (status, body) = stack.call(Method::POST, "/v1/tasks", Some(&request)).await;
        match body["error"]["details"]["cause"] == "submission_bytes" {
            true => Ok(()),
            false => Err(format!("{status} {body}")),
        }
    })
    .await;
    let most = resident(stack.server());
    held.rollback().await.unwrap();
    let mut refused = 0;
    for answer in sending {
        let answer = answer.await.unwrap().expect("it is answered");
        if answer.status() == 503 {
            assert!(answer.headers().contains_key("retry-after"));
            refused += 1;
        }
    }
    assert!((400..600).contains(&refused), "{refused} refused");
    let most = most.max(resident(stack.server()));
    assert!(most < MOST_MIB, "{most} MiB");
    stack.wait_accepted(&request).await;
}

#[tokio::test]
async fn a_worker_whose_large_results_cannot_be_stored_claims_no_more() {
    const TASKS: usize = 600;
    const SLOTS: i64 = 20;
    let mut stack = Setup {
        workers: 0,
        templates: vec![LARGE.to_owned()],
        ..Setup::default()
    }
    .configure("worker.concurrency", SLOTS)
    .start()
    .await;
    let request = json!({"name": "large", "namespace": "memory", "context": {}});
    let requests: Vec<Value> = vec![request; TASKS];
    stack.submit_all(&requests).await;
    let held = lock(&stack, "LOCK TABLE tasker.attempts IN SHARE MODE").await;
    stack.add_faulty_worker().await;
    let claimed = "SELECT count(*) FROM tasker.ready WHERE worker IS NOT NULL AND $1 <> ''";
    let worked = "SELECT count(*) FROM tasker.workers WHERE seen_at > started_at + interval '8 s'";
    stack
        .wait_count("at work for a while", worked, PATIENCE, |count| count == 1)
        .await;
    let (most, claimed) = (resident(stack.worker()), stack.count(claimed, "-").await);
    assert!((SLOTS..6 * SLOTS).contains(&claimed), "{claimed} claimed");
    assert!(most < MOST_MIB, "{most} MiB");
    held.rollback().await.unwrap();
    stack.wait_all_at_rest(PATIENCE).await;
    let ended = "SELECT count(*) FROM tasker.attempts WHERE outcome = 0 AND $1 <> ''";
    assert_eq!(stack.count(ended, "-").await, TASKS as i64);
}
