//! What is submitted, by REST or in a user's own transaction, runs as asked: exactly if it was committed, once a
//! key, in the order of priority, not before its time, and with its context as it came.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::join_all;
use serde_json::{Value, json};
use tasker_tests::{Setup, Stack};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(60);

const ORDER: &str = "
name: order
namespace_name: submitted
version: 1.0.0
input_schema: { type: object, required: [id], properties: { id: { type: integer } } }
steps: [ { name: only, handler: { callable: transform, initialization: { jq: .context.id } } } ]
";

const SAME: &str = "
name: same
namespace_name: submitted
version: 1.0.0
steps:
  - { name: first, handler: { callable: echo } }
  - { name: second, dependencies: [first], handler: { callable: transform, initialization: { jq: .dependencies.first.context } } }
";

fn order(id: u64) -> Value {
    json!({"name": "order", "namespace": "submitted", "context": {"id": id}})
}

async fn with(setup: Setup) -> Stack {
    let stack = setup.start().await;
    for template in [ORDER, SAME] {
        stack.apply_template(template).await;
    }
    stack
}

async fn stack() -> Stack {
    with(Setup::default()).await
}

/// A server whose worker comes later.
async fn without_worker() -> Stack {
    with(Setup {
        workers: 0,
        ..Setup::default()
    })
    .await
}

async fn post(stack: &Stack, body: &Value) -> reqwest::Response {
    let post = stack.client().post(stack.url("/v1/tasks"));
    post.json(body).send().await.unwrap()
}

async fn task_count(stack: &Stack) -> i64 {
    let all = "SELECT count(*) FROM tasker.tasks WHERE $1 <> ''";
    stack.count(all, "-").await
}

#[tokio::test]
async fn a_task_asked_for_in_a_transaction_exists_exactly_if_it_commits() {
    const SUBMIT: &str =
        "SELECT tasker.submit_task('submitted', 'order', json_build_object('id', $1))";
    let stack = stack().await;
    let mut kept = Vec::new();
    let mut dropped = Vec::new();
    for id in 0..10 {
        let mut transaction = stack.sql().begin().await.unwrap();
        let task: Uuid = sqlx::query_scalar(SUBMIT)
            .bind(id)
            .fetch_one(&mut *transaction)
            .await
            .unwrap();
        if id % 2 == 0 {
            transaction.commit().await.unwrap();
            kept.push((id, task));
        } else {
            let path = format!("/v1/tasks/{task}");
            let (status, answer) = stack.call(reqwest::Method::GET, &path, None).await;
            assert_eq!(status, 404, "not committed yet: {answer}");
            transaction.rollback().await.unwrap();
            dropped.push(task);
        }
    }
    for (id, task) in kept {
        stack.wait_complete(task, PATIENCE).await;
        assert_eq!(stack.steps(task).await["only"]["results"], id);
    }
    for task in dropped {
        let path = format!("/v1/tasks/{task}");
        let (status, answer) = stack.call(reqwest::Method::GET, &path, None).await;
        assert_eq!(status, 404, "{answer}");
    }
    stack.ledger("order").await.assert_each_once(5, 1);
}

#[tokio::test]
async fn what_is_wrong_with_a_task_asked_for_in_sql_is_raised_there() {
    let stack = stack().await;
    for (call, message) in [
        (
            "tasker.submit_task('submitted', 'nothing', '{}')",
            "no template submitted/nothing",
        ),
        (
            "tasker.submit_task('submitted', 'order', '{\"id\":1}', version => '7.0.0')",
            "no template submitted/order/7.0.0",
        ),
        (
            "tasker.submit_task('submitted', 'same', to_json(repeat('x', 2000000)))",
            "limits.max_context_bytes",
        ),
        (
            "tasker.submit_task('submitted', 'same', NULL)",
            "context is null",
        ),
        (
            "tasker.submit_task('submitted', 'same', '{}', priority => 101)",
            "priority 101",
        ),
    ] {
        let error = sqlx::query(sqlx::AssertSqlSafe(format!("SELECT {call}")))
            .execute(stack.sql())
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(message), "{call}: {error}");
    }
    assert_eq!(task_count(&stack).await, 0);
}

#[tokio::test]
async fn a_context_that_breaks_its_schema_in_sql_makes_a_task_in_error_that_says_so() {
    let stack = stack().await;
    let task: Uuid =
        sqlx::query_scalar("SELECT tasker.submit_task('submitted', 'order', '{\"id\":\"seven\"}')")
            .fetch_one(stack.sql())
            .await
            .unwrap();
    let shown = stack.wait_final(task, PATIENCE).await;
    assert_eq!(shown["status"], "error", "{shown}");
    let failure = &shown["failure"];
    assert_eq!(failure["code"], "INVALID_CONTEXT", "{failure}");
    assert_eq!(failure["errors"][0]["pointer"], "/context/id", "{failure}");
    let ran = "SELECT count(*) FROM tasker.attempts WHERE $1 <> ''";
    assert_eq!(stack.count(ran, "-").await, 0);
}

#[tokio::test]
async fn a_key_used_again_answers_the_first_task_by_rest_and_in_sql() {
    let stack = stack().await;
    let keyed = |id: u64| {
        let mut request = order(id);
        request["idempotency_key"] = json!("order-7");
        request
    };
    let first = post(&stack, &keyed(7)).await;
    assert_eq!(first.status(), 201);
    assert!(first.headers().get("idempotency-replayed").is_none());
    let first: Value = first.json().await.unwrap();
    let task: Uuid = first["task_uuid"].as_str().unwrap().parse().unwrap();
    for _ in 0..2 {
        let again = post(&stack, &keyed(7)).await;
        assert_eq!(again.status(), 200);
        assert_eq!(again.headers()["idempotency-replayed"], "true");
        let again: Value = again.json().await.unwrap();
        assert_eq!(again["task_uuid"], first["task_uuid"]);
        stack.wait_complete(task, PATIENCE).await;
    }
    let other = post(&stack, &keyed(8)).await;
    assert_eq!(other.status(), 409);
    let other: Value = other.json().await.unwrap();
    assert_eq!(other["error"]["code"], "IDEMPOTENCY_MISMATCH");
    // A key is of one template.
    let mut elsewhere = keyed(7);
    elsewhere["name"] = json!("same");
    assert_eq!(post(&stack, &elsewhere).await.status(), 201);

    let submit = |id: u64| {
        let sql = format!(
            "SELECT tasker.submit_task('submitted', 'order', '{{\"id\":{id}}}', idempotency_key => 'order-9')"
        );
        sqlx::query_scalar::<_, Uuid>(sqlx::AssertSqlSafe(sql)).fetch_one(stack.sql())
    };
    let one = submit(9).await.unwrap();
    assert_eq!(submit(9).await.unwrap(), one);
    let error = submit(10).await.unwrap_err().to_string();
    assert!(error.contains("order-9"), "{error}");
    stack.wait_complete(one, PATIENCE).await;
    assert_eq!(task_count(&stack).await, 3);
}

#[tokio::test]
async fn sixty_four_duplicates_at_once_make_one_task() {
    let stack = with(Setup {
        servers: 2,
        ..Setup::default()
    })
    .await;
    let mut servers = stack;
    let urls: Vec<String> = servers
        .servers()
        .iter()
        .map(|server| server.url("/v1/tasks"))
        .collect();
    let stack = &servers;
    let mut request = order(1);
    request["idempotency_key"] = json!("at once");
    let replies = join_all((0..64).map(|n| {
        let post = stack.client().post(&urls[n % urls.len()]).json(&request);
        async move {
            let reply = post.send().await.unwrap();
            let status = reply.status().as_u16();
            (
                status,
                reply.json::<Value>().await.unwrap()["task_uuid"].to_string(),
            )
        }
    }))
    .await;
    let made = replies.iter().filter(|(status, _)| *status == 201).count();
    let replayed = replies.iter().filter(|(status, _)| *status == 200).count();
    assert_eq!((made, replayed), (1, 63));
    assert!(replies.iter().all(|(_, task)| *task == replies[0].1));
    stack.wait_all_at_rest(PATIENCE).await;
    stack.ledger("order").await.assert_each_once(1, 1);
}

#[tokio::test]
async fn what_is_urgent_runs_first_and_the_rest_in_the_order_of_their_arrival() {
    let mut stack = without_worker().await;
    let priorities = [0, -100, 7, 100, 0, 7, -3, 100, 0, -100];
    for (id, priority) in (0..).zip(priorities) {
        let mut request = order(id);
        request["priority"] = json!(priority);
        stack.submit(request).await;
    }
    stack.add_worker(&["--concurrency", "1"]).await;
    stack.wait_all_at_rest(PATIENCE).await;
    let ran: Vec<(i16, i64)> = sqlx::query_as(
        "SELECT t.priority, (t.context->>'id')::bigint FROM tasker.attempts AS a JOIN tasker.tasks AS t USING (task_uuid)
          ORDER BY a.started_at, a.claimed_at",
    )
    .fetch_all(stack.sql())
    .await
    .unwrap();
    let mut expected: Vec<(i16, i64)> = priorities.into_iter().zip(0..).collect();
    expected.sort_by_key(|&(priority, id)| (-priority, id));
    assert_eq!(ran, expected);
}

#[tokio::test]
async fn a_task_for_later_starts_then_and_not_before() {
    let stack = stack().await;
    let run_at = Utc::now() + chrono::Duration::milliseconds(1_500);
    let mut request = order(1);
    request["run_at"] = json!(run_at.to_rfc3339());
    let by_rest = stack.submit(request).await;
    let by_sql: Uuid = sqlx::query_scalar(
        "SELECT tasker.submit_task('submitted', 'order', '{\"id\":2}', run_at => $1)",
    )
    .bind(run_at)
    .fetch_one(stack.sql())
    .await
    .unwrap();
    let at_once = stack.submit(order(3)).await;
    stack.wait_complete(at_once, PATIENCE).await;
    for task in [by_rest, by_sql] {
        stack.wait_complete(task, PATIENCE).await;
    }
    let started: Vec<(Uuid, DateTime<Utc>)> =
        sqlx::query_as("SELECT task_uuid, enqueued_at FROM tasker.attempts ORDER BY enqueued_at")
            .fetch_all(stack.sql())
            .await
            .unwrap();
    assert_eq!((started.len(), started[0].0), (3, at_once));
    for (task, at) in &started[1..] {
        assert!(*at >= run_at, "{task} started at {at}, before {run_at}");
    }
}

#[tokio::test]
async fn two_hundred_and_fifty_six_submissions_at_once_are_all_answered() {
    let stack = stack().await;
    for round in 0..4_u64 {
        let all = join_all((0..256).map(|n| {
            let request = order(round * 256 + n);
            let stack = &stack;
            async move { post(stack, &request).await.status().as_u16() }
        }));
        let statuses = tokio::time::timeout(PATIENCE, all)
            .await
            .expect("none is left waiting");
        assert_eq!(statuses, [201; 256]);
    }
    stack.wait_all_at_rest(PATIENCE).await;
    stack.ledger("order").await.assert_each_once(1_024, 1);
    let different = "SELECT count(DISTINCT result::text) FROM tasker.attempts WHERE $1 <> ''";
    assert_eq!(stack.count(different, "-").await, 1_024);
}

#[tokio::test]
async fn contexts_and_results_are_kept_to_the_byte() {
    let stack = stack().await;
    for context in [
        r#"{"z":1.10,"a":123456789012345678901234567890123456789,"m":-0.0,"e":1E+400,"small":1e-400}"#,
        r#"{"ü":"żółć 漢字 🦀","b":{"b":[],"a":[[{}]]},"":null,"A":true}"#,
        r#"{"escaped":"\u00e9\n\"\\\/","zeros":1.000000000000000000000}"#,
        r"[3,2,1,[ ]]",
        r#""only a text""#,
        "18446744073709551616",
    ] {
        let body = format!(r#"{{"name":"same","context":{context},"namespace":"submitted"}}"#);
        let post = stack.client().post(stack.url("/v1/tasks"));
        let post = post.header("content-type", "application/json").body(body);
        let made: Value = post.send().await.unwrap().json().await.unwrap();
        let by_rest: Uuid = made["task_uuid"].as_str().expect(context).parse().unwrap();
        let by_sql: Uuid =
            sqlx::query_scalar("SELECT tasker.submit_task('submitted', 'same', $1::text::json)")
                .bind(context)
                .fetch_one(stack.sql())
                .await
                .unwrap();
        for task in [by_rest, by_sql] {
            stack.wait_complete(task, PATIENCE).await;
            let text = |path: String| {
                let get = stack.client().get(stack.url(&path));
                async move { get.send().await.unwrap().text().await.unwrap() }
            };
            let shown = text(format!("/v1/tasks/{task}")).await;
            let kept = format!(r#""context":{context}"#);
            assert!(shown.contains(&kept), "{context}: {shown}");
            let steps = text(format!("/v1/tasks/{task}/workflow_steps")).await;
            let echoed = format!(r#""results":{{"context":{context},"attempt":1}}"#);
            assert!(steps.contains(&echoed), "{context}: {steps}");
        }
    }
}

#[tokio::test]
async fn a_submission_answers_what_is_read_back() {
    let stack = without_worker().await;
    let plain =
        json!({"name": "same", "namespace": "submitted", "context": {"n": 1.10, "a": [null]}});
    let full = json!({
        "name": "same", "namespace": "submitted", "version": "1.0.0", "context": {}, "initiator": "ada",
        "source_system": "tests", "reason": "to see", "tags": ["b", "a"], "priority": -7,
        "correlation_id": Uuid::now_v7(), "parent_correlation_id": Uuid::now_v7(),
        "idempotency_key": "once", "options": {"x": 1},
    });
    let mut later = plain.clone();
    later["run_at"] = json!("2100-01-01T00:00:00.123456Z");
    for request in [plain, full, later] {
        let answer = post(&stack, &request).await;
        assert_eq!(answer.status(), 201, "{request}");
        let answer: Value = answer.json().await.unwrap();
        let task = answer["task_uuid"].as_str().unwrap().parse().unwrap();
        assert_eq!(answer, stack.task(task).await, "{request}");
    }
}
