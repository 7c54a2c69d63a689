//! History: how it is counted, and what happens where its partitions are missing.

use std::time::Duration;

use serde_json::{Value, json};
use tasker_tests::{Setup, Stack, until};
use uuid::Uuid;

use crate::wire_tables::assert_fits;

const PATIENCE: Duration = Duration::from_secs(60);

const FINE: &str = "
name: fine
namespace_name: history
version: 1.0.0
steps:
  - { name: first, handler: { callable: echo } }
  - { name: nap, handler: { callable: sleep, initialization: { ms: 50 } }, dependencies: [first] }
";

const BROKEN: &str = "
name: broken
namespace_name: history
version: 2.0.0
steps:
  - { name: badly, handler: { callable: fail, initialization: { kind: permanent } } }
  - { name: never, handler: { callable: echo }, dependencies: [badly] }
";

fn request(name: &str) -> Value {
    json!({"name": name, "namespace": "history", "context": {}})
}

async fn performance(stack: &Stack) -> Value {
    let found = stack.get("/v1/analytics/performance").await;
    assert_fits("PerformanceMetrics", &found);
    found
}

async fn bottlenecks(stack: &Stack, query: &str) -> Value {
    let found = stack
        .get(&format!("/v1/analytics/bottlenecks{query}"))
        .await;
    assert_fits("BottleneckAnalysis", &found);
    found
}

#[tokio::test]
async fn how_tasks_and_steps_have_gone_is_counted_and_what_stands_out_is_named() {
    let stack = Stack::with(Setup {
        templates: vec![FINE.to_owned(), BROKEN.to_owned()],
        ..Setup::default()
    })
    .await;
    let nothing = performance(&stack).await;
    assert_eq!(
        (
            &nothing["total_tasks"],
            &nothing["average_task_duration_seconds"]
        ),
        (&json!(0), &json!(0.0))
    );
    assert_eq!(bottlenecks(&stack, "").await["slow_steps"], json!([]));

    let mut tasks = stack.submit_all(&vec![request("fine"); 6]).await;
    tasks.extend(stack.submit_all(&vec![request("broken"); 2]).await);
    for task in tasks {
        stack.wait_final(task, PATIENCE).await;
    }
    let counted = until(PATIENCE, async || {
        let found = performance(&stack).await;
        match found["step_executions"] == 14 {
            true => Ok(found),
            false => Err(found.to_string()),
        }
    })
    .await;
    for (key, expected) in [
        ("total_tasks", json!(8)),
        ("active_tasks", json!(0)),
        ("completed_tasks", json!(6)),
        ("failed_tasks", json!(2)),
        ("step_errors", json!(2)),
        ("completion_rate", json!(75.0)),
        ("error_rate", json!(25.0)),
        ("system_health_score", json!(0.75)),
        ("tasks_per_hour", json!(8)),
        ("steps_per_hour", json!(14)),
    ] {
        assert_eq!(counted[key], expected, "{key}: {counted}");
    }
    assert!(counted["average_task_duration_seconds"].as_f64().unwrap() > 0.0);

    let found = bottlenecks(&stack, "?limit=2&min_executions=1").await;
    let steps = found["slow_steps"].as_array().unwrap();
    assert_eq!(steps.len(), 2, "{found}");
    assert_eq!(
        (&steps[0]["step_name"], &steps[0]["execution_count"]),
        (&json!("nap"), &json!(6))
    );
    assert!(
        steps[0]["average_duration_seconds"].as_f64().unwrap() >= 0.05,
        "{found}"
    );
    let all = bottlenecks(&stack, "?min_executions=1").await;
    let broken = all["slow_tasks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|t| t["task_name"] == "broken");
    let broken = broken.unwrap();
    assert_eq!(
        (
            &broken["version"],
            &broken["error_rate"],
            &broken["average_step_count"]
        ),
        (&json!("2.0.0"), &json!(1.0), &json!(2.0))
    );
    let advice = all["recommendations"].to_string();
    assert!(
        advice.contains("step badly of history/broken 2.0.0 failed in 2 of 2 attempts"),
        "{advice}"
    );
    let few = bottlenecks(&stack, "").await;
    assert_eq!(few["slow_steps"].as_array().unwrap().len(), 2, "{few}");
    let health = &found["resource_utilization"]["system_health"];
    for (key, expected) in [
        ("complete_tasks", 6),
        ("error_tasks", 2),
        ("total_tasks", 8),
        ("complete_steps", 12),
        ("error_steps", 2),
        ("skipped_steps", 2),
        ("total_steps", 16),
    ] {
        assert_eq!(health[key], expected, "{key}: {health}");
    }
    for path in [
        "performance?hours=0",
        "performance?hours=9601",
        "performance?days=1",
        "bottlenecks?limit=0",
        "bottlenecks?min_executions=-1",
        "bottlenecks?limit=ten",
    ] {
        let answer = stack
            .call(reqwest::Method::GET, &format!("/v1/analytics/{path}"), None)
            .await;
        assert_eq!(answer.0, 400, "{path}: {}", answer.1);
    }
}

#[tokio::test]
async fn where_nobody_made_partitions_ahead_they_are_made_when_a_task_comes() {
    let stack = Stack::with(Setup {
        templates: vec![FINE.to_owned()],
        ..Setup::default()
    })
    .await;
    let drop_all = "DO $$ DECLARE part regclass; BEGIN
        FOR part IN SELECT inhrelid::regclass FROM pg_inherits
                     WHERE inhparent IN ('tasker.tasks'::regclass, 'tasker.steps'::regclass, 'tasker.attempts'::regclass) LOOP
            EXECUTE 'DROP TABLE ' || part;
        END LOOP; END $$";
    sqlx::raw_sql(drop_all).execute(stack.sql()).await.unwrap();
    let task = stack.submit(request("fine")).await;
    stack.wait_complete(task, PATIENCE).await;
    sqlx::raw_sql(drop_all).execute(stack.sql()).await.unwrap();
    let task: Uuid = sqlx::query_scalar("SELECT tasker.submit_task('history', 'fine', '{}')")
        .fetch_one(stack.sql())
        .await
        .unwrap();
    until(PATIENCE, async || {
        let (status, shown) = stack
            .call(reqwest::Method::GET, &format!("/v1/tasks/{task}"), None)
            .await;
        match status == 200 && shown["status"] == "complete" {
            true => Ok(()),
            false => Err(shown.to_string()),
        }
    })
    .await;
}
