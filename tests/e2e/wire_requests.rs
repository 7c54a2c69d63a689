//! What can be asked for, and how what is wrong is refused.

use std::time::Duration;

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tasker_tests::{Setup, Stack};
use uuid::Uuid;

use crate::wire_tables::assert_fits;

const PATIENCE: Duration = Duration::from_secs(30);

const ORDER: &str = "
name: order
namespace_name: wire
version: 1.0.0
input_schema: { type: object, required: [id], properties: { id: { type: integer }, lines: { type: array, items: { type: string } } } }
steps: [ { name: only, handler: { callable: echo } } ]
";

fn request(id: u64) -> Value {
    json!({"name": "order", "namespace": "wire", "context": {"id": id}})
}

/// A server and no worker: what is submitted stays as it is.
async fn server() -> Stack {
    let stack = Setup {
        workers: 0,
        ..Setup::default()
    }
    .start()
    .await;
    stack.apply_template(ORDER).await;
    stack
}

async fn refused(
    stack: &Stack,
    method: Method,
    path: &str,
    body: &Value,
    status: u16,
    code: &str,
) -> Value {
    let (found, answer) = stack.call(method, path, Some(body)).await;
    assert_eq!(found.as_u16(), status, "{body}: {answer}");
    assert_fits("ErrorResponse", &answer);
    assert_eq!(answer["error"]["code"], code, "{body}: {answer}");
    answer["error"].clone()
}

#[tokio::test]
async fn a_request_of_the_published_client_makes_a_task() {
    let stack = server().await;
    let body = json!({
        "name": "order", "namespace": "wire", "version": "1.0.0", "context": {"id": 1}, "initiator": "system",
        "source_system": "tasker-core", "reason": "Task requested", "tags": [], "requested_at": "2025-01-02T03:04:05.678",
        "options": null, "priority": null, "correlation_id": Uuid::new_v4(), "parent_correlation_id": null,
    });
    let (status, task) = stack.call(Method::POST, "/v1/tasks", Some(&body)).await;
    assert_eq!(status, 201, "{task}");
    assert_fits("TaskResponse", &task);
    assert_eq!(task["correlation_id"], body["correlation_id"]);
    assert_ne!(task["created_at"], body["requested_at"]);
    assert_eq!(
        (&task["status"], &task["priority"]),
        (&json!("steps_in_process"), &json!(0))
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_and_nothing_is_stored() {
    let stack = server().await;
    let with = |key: &str, value: Value| {
        let mut body = request(1);
        body[key] = value;
        body
    };
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    let table = [
        (with("name", json!("nothing")), 404, "NOT_FOUND"),
        (with("version", json!("9.9.9")), 404, "NOT_FOUND"),
        (with("version", json!("not a version")), 404, "NOT_FOUND"),
        (with("name", json!("x".repeat(256))), 400, "BAD_REQUEST"),
        (with("name", json!("a\u{0}b")), 400, "BAD_REQUEST"),
        (with("priority", json!(101)), 400, "BAD_REQUEST"),
        (with("priority", json!("high")), 400, "BAD_REQUEST"),
        (
            with("correlation_id", json!(Uuid::nil())),
            400,
            "BAD_REQUEST",
        ),
        (with("correlation_id", json!("x")), 400, "BAD_REQUEST"),
        (with("run_at", json!("tomorrow")), 400, "BAD_REQUEST"),
        (with("tags", json!([""])), 400, "BAD_REQUEST"),
        (with("unknown_key", json!(1)), 400, "BAD_REQUEST"),
        (
            with("context", json!({"id": "one"})),
            400,
            "INVALID_CONTEXT",
        ),
        (with("context", json!({})), 400, "INVALID_CONTEXT"),
        (
            with("context", json!({"id": 1, "note": "a\u{0}b"})),
            400,
            "INVALID_CONTEXT",
        ),
        (
            with("context", serde_json::from_str(&deep).unwrap()),
            400,
            "INVALID_CONTEXT",
        ),
        (
            with("context", json!({"id": 1, "text": "x".repeat(10 << 20)})),
            413,
            "PAYLOAD_TOO_LARGE",
        ),
    ];
    for (body, status, code) in table {
        refused(&stack, Method::POST, "/v1/tasks", &body, status, code).await;
    }
    let error = refused(
        &stack,
        Method::POST,
        "/v1/tasks",
        &with("context", json!({"id": 1.5, "lines": ["a", 2]})),
        400,
        "INVALID_CONTEXT",
    )
    .await;
    let mut pointers: Vec<&str> = error["details"]["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["pointer"].as_str().unwrap())
        .collect();
    pointers.sort_unstable();
    assert_eq!(pointers, ["/context/id", "/context/lines/1"]);
    for far in ["+200000-01-01T00:00:00Z", "-200000-01-01T00:00:00Z"] {
        let far = with("run_at", json!(far));
        refused(&stack, Method::POST, "/v1/tasks", &far, 400, "BAD_REQUEST").await;
    }
    assert_eq!(stack.get("/v1/tasks").await["pagination"]["total_count"], 0);
}

#[tokio::test]
async fn numbers_and_keys_of_a_context_come_out_as_they_went_in() {
    let stack = server().await;
    let context = r#"{"id":7,"z":1.00,"a":123456789012345678901234567890,"e":-1E+400,"n":null,"u":"\u00e9é","nested":{"b":1,"a":[[]]}}"#;
    let body = format!(r#"{{"context":{context},"name":"order","namespace":"wire"}}"#);
    let send = stack
        .client()
        .post(stack.url("/v1/tasks"))
        .header("content-type", "application/json")
        .body(body);
    let made = send.send().await.unwrap().text().await.unwrap();
    assert!(made.contains(&format!(r#""context":{context}"#)), "{made}");
    let uuid = serde_json::from_str::<Value>(&made).unwrap()["task_uuid"]
        .as_str()
        .unwrap()
        .to_owned();
    for path in [format!("/v1/tasks/{uuid}"), "/v1/tasks".to_owned()] {
        let read = stack
            .client()
            .get(stack.url(&path))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        assert!(
            read.contains(&format!(r#""context":{context}"#)),
            "{path}: {read}"
        );
    }
}

#[tokio::test]
async fn an_idempotency_key_makes_one_task() {
    let stack = server().await;
    let mut body = request(7);
    body["idempotency_key"] = json!("order-7");
    let send = |body: Value| {
        let request = stack.client().post(stack.url("/v1/tasks")).json(&body);
        async move { request.send().await.unwrap() }
    };
    let replies = join_all((0..20).map(|_| send(body.clone()))).await;
    let made = replies.iter().filter(|reply| reply.status() == 201).count();
    assert_eq!(made, 1, "one request makes the task");
    let mut uuids = Vec::new();
    for reply in replies {
        let replayed = reply
            .headers()
            .get("idempotency-replayed")
            .is_some_and(|value| value == "true");
        assert_eq!(reply.status() == 200, replayed);
        uuids.push(reply.json::<Value>().await.unwrap()["task_uuid"].clone());
    }
    uuids.dedup();
    assert_eq!(uuids.len(), 1);
    body["context"]["id"] = json!(8);
    refused(
        &stack,
        Method::POST,
        "/v1/tasks",
        &body,
        409,
        "IDEMPOTENCY_MISMATCH",
    )
    .await;
}

#[tokio::test]
async fn each_request_of_a_batch_is_judged_on_its_own() {
    let stack = server().await;
    let mut keyed = request(3);
    keyed["idempotency_key"] = json!("k");
    let body = json!({"tasks": [request(1), {"name": "order"}, {"name": "none", "namespace": "wire", "context": {}}, request(2), 7, keyed, keyed]});
    let (status, answer) = stack
        .call(Method::POST, "/v1/tasks/batch", Some(&body))
        .await;
    assert_eq!(status, 200, "{answer}");
    let results = answer["results"].as_array().unwrap();
    let statuses: Vec<u64> = results
        .iter()
        .map(|result| result["status"].as_u64().unwrap())
        .collect();
    assert_eq!(statuses[..5], [201, 400, 404, 201, 400], "{answer}");
    let mut last = statuses[5..].to_vec();
    last.sort_unstable();
    assert_eq!(last, [200, 201], "{answer}");
    for result in results {
        match result["status"].as_u64().unwrap() {
            200 | 201 => assert_fits("ustr", &result["task_uuid"]),
            _ => assert_fits("ErrorBody", &result["error"]),
        }
    }
    assert_eq!(stack.get("/v1/tasks").await["pagination"]["total_count"], 3);
    let (status, answer) = stack
        .call(Method::POST, "/v1/tasks/batch", Some(&json!({"tasks": []})))
        .await;
    assert_eq!((status.as_u16(), &answer["results"]), (200, &json!([])));
}

#[tokio::test]
async fn pages_and_cursors_walk_every_task_once() {
    let stack = server().await;
    let requests: Vec<Value> = (0..30).map(request).collect();
    let mut made = stack.submit_all(&requests).await;
    let first = stack
        .get("/v1/tasks?page=1&per_page=25&namespace=wire&name=order&status=steps_in_process")
        .await;
    assert_fits("TaskListResponse", &first);
    assert_eq!(first["pagination"]["total_count"], 30);
    assert_eq!(first["pagination"]["total_pages"], 2);
    assert_eq!(
        (
            &first["pagination"]["has_next"],
            &first["pagination"]["has_previous"]
        ),
        (&json!(true), &json!(false))
    );
    let mut paged = uuids(&first);
    paged.extend(uuids(&stack.get("/v1/tasks?page=2&per_page=25").await));
    let mut walked = Vec::new();
    let mut path = "/v1/tasks?per_page=7".to_owned();
    loop {
        let page = stack.get(&path).await;
        assert_fits("TaskListResponse", &page);
        walked.extend(uuids(&page));
        match page["pagination"]["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/tasks?per_page=7&cursor={cursor}"),
            None => break,
        }
    }
    made.sort_unstable();
    made.reverse();
    assert_eq!(paged, made);
    assert_eq!(walked, made);
    let none = stack.get("/v1/tasks?status=completed").await;
    assert_eq!(
        (&none["tasks"], &none["pagination"]["total_count"]),
        (&json!([]), &json!(0))
    );
}

fn uuids(list: &Value) -> Vec<Uuid> {
    let tasks = list["tasks"].as_array().unwrap();
    tasks
        .iter()
        .map(|task| task["task_uuid"].as_str().unwrap().parse().unwrap())
        .collect()
}

#[tokio::test]
async fn a_task_submitted_in_a_users_transaction_is_read_from_the_moment_it_is_committed() {
    let stack = server().await;
    for n in 0..20 {
        let task: Uuid = submit_by_sql(&stack, n).await;
        let shown = stack.task(task).await;
        assert_fits("TaskResponse", &shown);
        assert_eq!(
            (&shown["total_steps"], &shown["name"]),
            (&json!(1), &json!("order"))
        );
    }
    let bad: Uuid =
        sqlx::query_scalar("SELECT tasker.submit_task('wire', 'order', '{\"id\":\"x\"}'::json)")
            .fetch_one(stack.sql())
            .await
            .unwrap();
    let shown = stack.wait_final(bad, PATIENCE).await;
    assert_fits("TaskResponse", &shown);
    assert_eq!(
        (&shown["status"], &shown["execution_status"]),
        (&json!("error"), &json!("blocked_by_failures"))
    );
    assert!(shown["failure"]["errors"].is_array(), "{shown}");
}

async fn submit_by_sql(stack: &Stack, n: i32) -> Uuid {
    sqlx::query_scalar("SELECT tasker.submit_task('wire', 'order', json_build_object('id', $1))")
        .bind(n)
        .fetch_one(stack.sql())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_task_for_later_is_scheduled() {
    let stack = server().await;
    let mut body = request(1);
    body["run_at"] = json!("2999-01-01T00:00:00Z");
    let task = stack.submit(body).await;
    let shown = stack.task(task).await;
    assert_fits("TaskResponse", &shown);
    assert_eq!(
        (&shown["status"], &shown["run_at"]),
        (&json!("pending"), &json!("2999-01-01T00:00:00.000000Z"))
    );
    assert_eq!(
        (
            &shown["ready_steps"],
            &shown["steps"][0]["blocked_by"]["kind"]
        ),
        (&json!(0), &json!("scheduled"))
    );
}

#[tokio::test]
async fn templates_are_stored_once_and_never_change() {
    let stack = server().await;
    let send = |body: String| {
        let request = stack
            .client()
            .post(stack.url("/v1/templates"))
            .header("content-type", "application/yaml")
            .body(body);
        async move {
            let reply = request.send().await.unwrap();
            (
                reply.status().as_u16(),
                reply.json::<Value>().await.unwrap(),
            )
        }
    };
    let (status, answer) = send(ORDER.to_owned()).await;
    assert_eq!((status, &answer["created"]), (200, &json!(false)));
    let (status, answer) = send(ORDER.replace("echo", "sleep")).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (409, &json!("TEMPLATE_CONFLICT"))
    );
    let (status, answer) = send(ORDER.replace("1.0.0", "1.1.0")).await;
    assert_eq!((status, &answer["created"]), (201, &json!(true)));
    let task = stack.submit(request(1)).await;
    assert_eq!(
        stack.task(task).await["version"],
        "1.1.0",
        "the highest version is taken"
    );
    let (status, answer) = send("name: x\nnamespace_name: wire\nversion: 1\nsteps: [ { name: a, handler: { callable: echo }, dependencies: [b] } ]\nzzz: 1\n".to_owned()).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (400, &json!("INVALID_TEMPLATE"))
    );
    assert_fits("ErrorResponse", &answer);
    let faults = answer["error"]["details"]["faults"].as_array().unwrap();
    assert!(
        faults.len() >= 3 && faults.iter().all(|fault| fault["line"].is_u64()),
        "{answer}"
    );
    let json = json!({"name": "from_json", "namespace_name": "wire", "version": "1.0.0", "steps": [{"name": "a", "handler": {"callable": "echo"}}]});
    let (status, answer) = stack.call(Method::POST, "/v1/templates", Some(&json)).await;
    assert_eq!(status, 201, "{answer}");
    for path in [
        "/v1/templates/wire/none/1.0.0",
        "/v1/templates/wire/order/9.9.9",
    ] {
        let (status, answer) = stack.call(Method::GET, path, None).await;
        assert_eq!(status, 404);
        assert_fits("ErrorResponse", &answer);
    }
}

#[tokio::test]
async fn what_is_not_there_is_404() {
    let stack = server().await;
    let task = stack.submit(request(1)).await;
    let nobody = Uuid::now_v7();
    let step = |number: u128| Uuid::from_u128(task.as_u128() | number);
    let other = stack.submit(request(2)).await;
    for path in [
        format!("/v1/tasks/{nobody}"),
        format!("/v1/tasks/{nobody}/summary"),
        format!("/v1/tasks/{nobody}/graph"),
        format!("/v1/tasks/{nobody}/events"),
        format!("/v1/tasks/{nobody}/workflow_steps"),
        format!("/v1/tasks/{}", step(1)),
        format!("/v1/tasks/{task}/workflow_steps/{}", step(0)),
        format!("/v1/tasks/{task}/workflow_steps/{}", step(2)),
        format!("/v1/tasks/{other}/workflow_steps/{}", step(1)),
        format!("/v1/tasks/{task}/workflow_steps/{}/audit", step(2)),
        format!("/v1/tasks/{}", Uuid::max()),
        format!("/v1/tasks/{}", Uuid::nil()),
    ] {
        let (status, answer) = stack.call(Method::GET, &path, None).await;
        assert_eq!(status, 404, "{path}: {answer}");
        assert_fits("ErrorResponse", &answer);
    }
    let (status, _) = stack
        .call(Method::DELETE, &format!("/v1/tasks/{nobody}"), None)
        .await;
    assert_eq!(status, 404);
    let (status, _) = stack
        .call(Method::POST, &format!("/v1/tasks/{nobody}/retry"), None)
        .await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn a_long_list_of_steps_is_whole_and_in_order() {
    let stack = server().await;
    let steps: String = (0..250)
        .map(|n| format!("  - {{ name: step_{n}, handler: {{ callable: echo }} }}\n"))
        .collect();
    stack
        .apply_template(&format!(
            "name: wide\nnamespace_name: wire\nversion: 1.0.0\nsteps:\n{steps}"
        ))
        .await;
    let task = stack
        .submit(json!({"name": "wide", "namespace": "wire", "context": {}}))
        .await;
    let at = format!("/v1/tasks/{task}/workflow_steps");
    let complete = json!({"action_type": "complete_manually", "completion_data": {"result": {"by": "hand"}}, "reason": "r", "completed_by": "me"});
    let steps = stack.get(&at).await;
    assert_fits("[StepResponse]", &steps);
    let names: Vec<&str> = steps
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        (0..250).map(|n| format!("step_{n}")).collect::<Vec<_>>()
    );
    // Enqueued steps cannot be ended by hand, which shows as a refusal and changes nothing.
    let path = format!("{at}/{}", steps[7]["step_uuid"].as_str().unwrap());
    refused(&stack, Method::PATCH, &path, &complete, 400, "BAD_REQUEST").await;
}
