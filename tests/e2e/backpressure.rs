//! A server that cannot keep up says so before it stores anything, and when to come back.

use std::time::Duration;

use futures::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tasker_tests::{Setup, Stack, until};

const PATIENCE: Duration = Duration::from_secs(60);
const CHANNEL: usize = 10;
const MOST_STEPS: i64 = 5;

const TEMPLATES: [&str; 2] = [
    "
name: quick
namespace_name: pressure
version: 1.0.0
steps: [ { name: only, handler: { callable: echo } } ]
",
    "
name: unserved
namespace_name: pressure
version: 1.0.0
steps: [ { name: only, handler: { callable: nobody_has_this } } ]
",
];

fn request(name: &str, tag: &str) -> Value {
    json!({"name": name, "namespace": "pressure", "context": {}, "tags": [tag]})
}

async fn start(setup: Setup) -> Stack {
    Setup {
        templates: TEMPLATES.map(str::to_owned).to_vec(),
        ..setup
    }
    .start()
    .await
}

/// Keeps tasks from being stored as long as it lives.
async fn lock(stack: &Stack) -> sqlx::Transaction<'static, sqlx::Postgres> {
    let mut transaction = stack.sql().begin().await.unwrap();
    sqlx::query("LOCK TABLE tasker.tasks IN EXCLUSIVE MODE")
        .execute(&mut *transaction)
        .await
        .unwrap();
    transaction
}

/// Holds that an answer is back-pressure for this cause, with an honest time.
fn assert_busy(status: StatusCode, retry_after: &str, body: &Value, cause: &str) {
    let error = &body["error"];
    assert_eq!(status, 503, "{body}");
    assert_eq!(
        (&error["code"], &error["details"]["cause"]),
        (&"BACKPRESSURE".into(), &cause.into())
    );
    let seconds: u64 = retry_after.parse().unwrap();
    assert!((1..=30).contains(&seconds), "{seconds}");
    assert_eq!(error["retry_after_seconds"], seconds, "{body}");
}

/// Submits; the answer where there is one in that time.
async fn try_submit(
    stack: &Stack,
    path: &str,
    body: &Value,
    patience: Duration,
) -> Option<(StatusCode, String, Value)> {
    let request = stack.client().post(stack.url(path)).json(body);
    let answer = request.timeout(patience).send().await.ok()?;
    let retry_after = answer.headers().get("retry-after");
    let retry_after = retry_after
        .map_or("", |value| value.to_str().unwrap())
        .to_owned();
    Some((answer.status(), retry_after, answer.json().await.ok()?))
}

/// Waits until a submission is refused for this cause, and so is a batch; nothing of either is stored.
async fn wait_busy(stack: &Stack, cause: &str) {
    until(PATIENCE, async || {
        // What is not refused yet may be kept waiting.
        let soon = Duration::from_millis(500);
        match try_submit(stack, "/v1/tasks", &request("quick", "probe"), soon).await {
            Some((status, after, body)) if body["error"]["code"] == "BACKPRESSURE" => {
                assert_busy(status, &after, &body, cause);
                Ok(())
            }
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let refused = request("quick", "refused");
    let batch = json!({"tasks": [refused, refused]});
    for (path, body) in [("/v1/tasks", &refused), ("/v1/tasks/batch", &batch)] {
        let answer = try_submit(stack, path, body, PATIENCE).await;
        let (status, after, body) = answer.unwrap();
        assert_busy(status, &after, &body, cause);
    }
    assert_eq!(stack.call(Method::GET, "/v1/tasks", None).await.0, 200);
}

async fn assert_none_stored(stack: &Stack) {
    let refused = "SELECT count(*) FROM tasker.tasks WHERE 'refused' = ANY (tags) AND $1 <> ''";
    assert_eq!(stack.count(refused, "-").await, 0);
}

#[tokio::test]
async fn submissions_are_refused_while_the_channel_is_nearly_full_and_taken_again_behind_it() {
    let narrow = Setup::default()
        .configure("server.submit_connections", 1)
        .configure("channels.submissions", CHANNEL);
    let stack = start(narrow).await;
    let locked = lock(&stack).await;
    let url = stack.url("/v1/tasks");
    let sending: Vec<_> = (0..2 * CHANNEL)
        .map(|_| {
            let request = stack.client().post(&url).json(&request("quick", "waits"));
            tokio::spawn(request.send())
        })
        .collect();
    wait_busy(&stack, "submissions").await;
    locked.rollback().await.unwrap();
    let answers = join_all(sending).await;
    let statuses: Vec<u16> = answers
        .into_iter()
        .map(|a| a.unwrap().unwrap().status().as_u16())
        .collect();
    assert!(
        statuses.iter().all(|status| [201, 503].contains(status)),
        "{statuses:?}"
    );
    let stored = statuses.iter().filter(|status| **status == 201).count();
    let waiting = "SELECT count(*) FROM tasker.tasks WHERE 'waits' = ANY (tags) AND $1 <> ''";
    assert_eq!(
        stack.count(waiting, "-").await,
        i64::try_from(stored).unwrap()
    );
    stack.wait_accepted(&request("quick", "after")).await;
    assert_none_stored(&stack).await;
}

#[tokio::test]
async fn submissions_are_refused_while_one_made_by_sql_is_too_old() {
    let short = Setup::default()
        .configure("backpressure.oldest_request_seconds", 1)
        .configure("server.submit_connections", 1);
    let stack = start(short).await;
    let locked = lock(&stack).await;
    sqlx::query("SELECT tasker.submit_task('pressure', 'quick', '{}')")
        .execute(stack.sql())
        .await
        .unwrap();
    wait_busy(&stack, "requests").await;
    locked.rollback().await.unwrap();
    stack.wait_accepted(&request("quick", "after")).await;
    assert_none_stored(&stack).await;
}

#[tokio::test]
async fn submissions_are_refused_while_more_steps_wait_than_may() {
    let shallow = Setup::default().configure("backpressure.max_queue_depth", MOST_STEPS);
    let stack = start(shallow).await;
    let unserved = vec![request("unserved", "waits"); usize::try_from(MOST_STEPS).unwrap() + 1];
    let tasks = stack.submit_all(&unserved).await;
    wait_busy(&stack, "queue_depth").await;
    assert_none_stored(&stack).await;
    for task in tasks {
        let path = format!("/v1/tasks/{task}");
        assert_eq!(stack.call(Method::DELETE, &path, None).await.0, 200);
    }
    stack.wait_accepted(&request("quick", "after")).await;
}

#[tokio::test]
async fn a_worker_claims_no_more_than_it_can_run() {
    const SLOTS: f64 = 3.0;
    let setup = Setup::default().configure("worker.concurrency", SLOTS);
    let mut stack = start(setup).await;
    stack
        .apply_template(
            "
name: long
namespace_name: pressure
version: 1.0.0
steps: [ { name: only, handler: { callable: sleep, initialization: { ms: 300 } } } ]
",
        )
        .await;
    stack.submit_all(&vec![request("long", "-"); 15]).await;
    let ended = "SELECT count(*) FROM tasker.attempts WHERE outcome = 0 AND $1 <> ''";
    let mut most: f64 = 0.0;
    while stack.count(ended, "-").await < 15 {
        let shown = stack.worker().metrics().await;
        most = most.max(shown.sum("tasker_steps_active_executions", &[]));
    }
    assert_eq!(most, SLOTS);
}
