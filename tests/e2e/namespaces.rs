//! What a key that is limited to a namespace reaches beyond tasks: dead letters, analytics, circuits, templates at a
//! worker.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tasker_tests::{Stack, until};

use crate::access::{User, guarded};

const PATIENCE: Duration = Duration::from_secs(30);
const EVERYTHING: &str = "tasks:* steps:* templates:* dlq:* system:* worker:*";

/// The one who may do everything, and the one who may do so in `shop`.
async fn users(stack: &Stack) -> (User<'_>, User<'_>) {
    let admin = format!("--name admin --permission {EVERYTHING}");
    let shop = format!("--name shop --namespace shop --permission {EVERYTHING}");
    (
        User::make(stack, &admin).await,
        User::make(stack, &shop).await,
    )
}

/// A dead letter of each namespace: the entry, and its task.
async fn dead_letters(admin: &User<'_>) -> [(String, String); 2] {
    let tasks = [admin.submit("shop").await, admin.submit("bank").await];
    let mut made = Vec::new();
    for task in tasks {
        let entry = until(PATIENCE, async || {
            let (status, entry) = admin.get(&format!("/v1/dlq/task/{task}")).await;
            let entry = entry["dlq_entry_uuid"].as_str().map(str::to_owned);
            entry.ok_or(format!("no dead letter of {task}: {status}"))
        })
        .await;
        made.push((entry, task));
    }
    made.try_into().unwrap()
}

fn tasks(list: &Value) -> Vec<&str> {
    let entries = list.as_array().unwrap().iter();
    entries.map(|e| e["task_uuid"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn dead_letters_of_others_are_neither_seen_nor_counted_nor_touched() {
    let stack = guarded().await;
    let (admin, shop) = users(&stack).await;
    let [(ours, our_task), (theirs, their_task)] = dead_letters(&admin).await;

    for path in ["/v1/dlq", "/v1/dlq/investigation-queue"] {
        let (_, all) = admin.get(path).await;
        assert_eq!(tasks(&all).len(), 2, "{path}: {all}");
        let (_, some) = shop.get(path).await;
        assert_eq!(tasks(&some), [our_task.as_str()], "{path}");
        let (_, none) = shop.get("/v1/dlq?namespace=bank").await;
        assert_eq!(none, json!([]));
    }
    let total = |stats: &Value| -> i64 {
        let reasons = stats.as_array().unwrap().iter();
        reasons.map(|r| r["total_entries"].as_i64().unwrap()).sum()
    };
    assert_eq!(total(&admin.get("/v1/dlq/stats").await.1), 2);
    assert_eq!(total(&shop.get("/v1/dlq/stats").await.1), 1);
    assert_eq!(shop.get("/v1/dlq/staleness").await.0, 200);

    let entry = |entry: &str, more: &str| format!("/v1/dlq/entry/{entry}{more}");
    let of_task = |task: &str| format!("/v1/dlq/task/{task}");
    let update = json!({ "resolution_notes": "mine" });
    for (method, path, body) in [
        (Method::GET, entry(&theirs, ""), None),
        (Method::PATCH, entry(&theirs, ""), Some(&update)),
        (Method::POST, entry(&theirs, "/requeue"), None),
        (Method::GET, of_task(&their_task), None),
        (Method::POST, of_task(&their_task), None),
    ] {
        let (status, answer) = shop.call(method.clone(), &path, body).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{method} {path}: {answer}");
    }
    assert_eq!(shop.get(&entry(&ours, "")).await.0, 200);
    assert_eq!(shop.get(&of_task(&our_task)).await.0, 200);

    // By filter, whatever is asked for, and neither may another's entry say where to go on.
    for (filter, requeued) in [
        (json!({ "namespace": "bank" }), 0),
        (json!({ "all": true, "requeued_by": "ada" }), 1),
    ] {
        let (status, done) = shop
            .call(Method::POST, "/v1/dlq/requeue", Some(&filter))
            .await;
        assert_eq!(status, StatusCode::OK, "{done}");
        assert_eq!(done["requeued"], requeued, "{filter}: {done}");
    }
    let after = json!({ "all": true, "after": theirs });
    let (status, _) = shop
        .call(Method::POST, "/v1/dlq/requeue", Some(&after))
        .await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let (_, untouched) = admin.get(&entry(&theirs, "")).await;
    assert_eq!(untouched["resolution_status"], "Pending", "{untouched}");
    assert_eq!(untouched["resolution_notes"], Value::Null);
    let (_, resolved) = admin.get(&entry(&ours, "")).await;
    assert_eq!(resolved["resolution_status"], "ManuallyResolved");
    assert_eq!(resolved["resolved_by"], "ada (by the credentials of shop)");
}

#[tokio::test]
async fn analytics_are_of_what_one_reaches_and_circuits_are_closed_by_nobody_who_is_limited() {
    let stack = guarded().await;
    let (admin, shop) = users(&stack).await;
    dead_letters(&admin).await;
    until(PATIENCE, async || {
        let (_, all) = admin.get("/v1/analytics/performance").await;
        let (status, some) = shop.get("/v1/analytics/performance").await;
        let failed = [&all, &some].map(|found| found["failed_tasks"].as_i64());
        match (status, failed) {
            (200, [Some(2), Some(1)]) => Ok(()),
            _ => Err(format!("{status}: {all} {some}")),
        }
    })
    .await;
    let path = "/v1/analytics/bottlenecks?min_executions=1";
    // Workers add what they have seen a little later.
    let found = until(PATIENCE, async || {
        let (status, found) = shop.get(path).await;
        let steps = found["slow_steps"].as_array().map_or(0, Vec::len);
        match (status, steps) {
            (200, 2) => Ok(found),
            _ => Err(format!("{status}: {found}")),
        }
    })
    .await;
    let named = |list: &Value| -> Vec<String> {
        let list = list.as_array().unwrap().iter();
        list.map(|slow| slow["namespace_name"].as_str().unwrap().to_owned())
            .collect()
    };
    for list in ["slow_steps", "slow_tasks"] {
        let names = named(&found[list]);
        assert!(
            !names.is_empty() && names.iter().all(|n| n == "shop"),
            "{found}"
        );
    }
    let health = &found["resource_utilization"]["system_health"];
    assert_eq!(
        (&health["total_tasks"], &health["error_tasks"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(health["total_steps"], 2, "{health}");

    let opened = "INSERT INTO tasker.circuits (target, reason, opened_at, retry_at) VALUES ('bank.example:443', 'away', now(), now() + interval '1 hour')";
    sqlx::query(opened).execute(stack.sql()).await.unwrap();
    assert_eq!(shop.get("/v1/circuits").await, (200, json!([])));
    let (_, all) = admin.get("/v1/circuits").await;
    assert_eq!(all[0]["target"], "bank.example:443");
    let path = "/v1/circuits/bank.example:443";
    let (status, _) = shop.call(Method::DELETE, path, None).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (status, _) = admin.call(Method::DELETE, path, None).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn a_worker_has_for_a_limited_key_the_templates_of_its_namespaces_only() {
    let mut stack = guarded().await;
    let worker = stack.worker().url("");
    let (admin, shop) = users(&stack).await;
    let ask = async |user: &User<'_>, method: Method, path: &str| {
        let request = stack.client().request(method, format!("{worker}{path}"));
        let reply = request.header("x-api-key", &user.key).send().await.unwrap();
        let status = reply.status().as_u16();
        (status, reply.json::<Value>().await.unwrap_or_default())
    };
    let (_, all) = ask(&admin, Method::GET, "/v1/templates").await;
    assert_eq!(all["template_count"], 2, "{all}");
    let (_, some) = ask(&shop, Method::GET, "/v1/templates").await;
    assert_eq!(some["template_count"], 1, "{some}");
    let (_, none) = ask(&shop, Method::GET, "/v1/templates?namespace=bank").await;
    assert_eq!(none["template_count"], 0, "{none}");
    for (namespace, expected) in [("shop", 200), ("bank", 404)] {
        let template = format!("/v1/templates/{namespace}/line/1.0.0");
        let (status, _) = ask(&shop, Method::GET, &template).await;
        assert_eq!(status, expected, "{template}");
        let validate = format!("{template}/validate");
        let (status, _) = ask(&shop, Method::POST, &validate).await;
        assert_eq!(status, expected, "{validate}");
    }
}
