//! Every answer of server and worker is what the published client can read.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tasker_tests::Stack;
use uuid::Uuid;

use crate::wire_tables::assert_fits;

const PATIENCE: Duration = Duration::from_secs(30);

const MIXED: &str = "
name: mixed
namespace_name: wire
version: 1.0.0
description: Ends well, after a retry
metadata: { author: me, tags: [a] }
input_schema: { type: object, properties: { n: { type: integer } } }
steps:
  - { name: first, description: the first, handler: { callable: echo, initialization: { result: { z: 1.10, a: [] } } } }
  - name: again
    handler: { callable: fail, initialization: { times: 1, kind: retryable, result: 2 } }
    dependencies: [first]
    retry: { backoff: none }
  - { name: last, handler: { callable: echo }, dependencies: [first, again], timeout_seconds: 5 }
environments:
  production: { steps: [ { name: ALL, timeout_seconds: 10, retry: { max_attempts: 2 }, handler: { initialization: { x: 1 } } } ] }
";

const BROKEN: &str = "
name: broken
namespace_name: wire
version: 1.0.0
steps:
  - { name: well, handler: { callable: echo } }
  - { name: badly, handler: { callable: fail, initialization: { kind: permanent } } }
  - { name: never, handler: { callable: echo }, dependencies: [well, badly] }
";

const SLOW: &str = "
name: slow
namespace_name: wire
version: 1.0.0
steps:
  - { name: long, handler: { callable: sleep, initialization: { ms: 600000 } } }
  - { name: later, handler: { callable: echo }, dependencies: [long] }
  - { name: lonely, handler: { callable: nobody_has_this } }
  - { name: waits, handler: { callable: fail, initialization: { kind: retryable } }, retry: { backoff_base_ms: 60000, max_backoff_ms: 60000 } }
";

async fn stack() -> Stack {
    let stack = Stack::start().await;
    for template in [MIXED, BROKEN, SLOW] {
        stack.apply_template(template).await;
    }
    stack
}

fn request(name: &str) -> Value {
    json!({"name": name, "namespace": "wire", "context": {"n": 1}})
}

/// Reads everything there is of a task and holds it against the tables.
async fn check(stack: &Stack, task: Uuid) -> Value {
    let shown = stack.task(task).await;
    assert_fits("TaskResponse", &shown);
    let at = format!("/v1/tasks/{task}");
    assert_fits(
        "TaskSummaryResponse",
        &stack.get(&format!("{at}/summary")).await,
    );
    let steps = stack.get(&format!("{at}/workflow_steps")).await;
    assert_fits("[StepResponse]", &steps);
    for step in steps.as_array().unwrap() {
        let at = format!(
            "{at}/workflow_steps/{}",
            step["step_uuid"].as_str().unwrap()
        );
        assert_fits("StepResponse", &stack.get(&at).await);
        assert_fits(
            "[StepAuditResponse]",
            &stack.get(&format!("{at}/audit")).await,
        );
    }
    let listed = stack
        .get(&format!(
            "/v1/tasks?correlation_id={}",
            shown["correlation_id"].as_str().unwrap()
        ))
        .await;
    assert_fits("TaskListResponse", &listed);
    assert_eq!(listed["tasks"][0]["task_uuid"], shown["task_uuid"]);
    assert_eq!(listed["tasks"][0]["steps"], json!([]));
    for count in [
        "total_steps",
        "pending_steps",
        "completed_steps",
        "failed_steps",
        "status",
        "execution_status",
    ] {
        assert_eq!(listed["tasks"][0][count], shown[count], "{count}");
    }
    shown
}

fn by_name<'a>(steps: &'a Value, name: &str) -> &'a Value {
    let steps = steps.as_array().expect("steps");
    steps
        .iter()
        .find(|step| step["name"] == name)
        .unwrap_or_else(|| panic!("no step {name}"))
}

#[tokio::test]
async fn a_task_that_ends_well_is_read_by_the_published_client() {
    let stack = stack().await;
    let (status, made) = stack
        .call(Method::POST, "/v1/tasks", Some(&request("mixed")))
        .await;
    assert_eq!(status, 201, "{made}");
    assert_fits("TaskResponse", &made);
    let task: Uuid = made["task_uuid"].as_str().unwrap().parse().unwrap();
    stack.wait_complete(task, PATIENCE).await;
    let shown = check(&stack, task).await;
    assert_eq!(shown["execution_status"], "all_complete");
    assert_eq!(
        (&shown["completed_steps"], &shown["completion_percentage"]),
        (&json!(3), &json!(100.0))
    );
    assert!(shown["completed_at"].is_string());

    let steps = stack.get(&format!("/v1/tasks/{task}/workflow_steps")).await;
    assert_eq!(steps.as_array().unwrap().len(), 3);
    let again = by_name(&steps, "again");
    assert_eq!(
        (&again["attempts"], &again["results"]),
        (&json!(2), &json!(2))
    );
    assert!(again["last_error"].is_null() && again["last_failure_at"].is_string());
    let audit = format!(
        "/v1/tasks/{task}/workflow_steps/{}/audit",
        again["step_uuid"].as_str().unwrap()
    );
    let audit = stack.get(&audit).await;
    let ended: Vec<(&str, bool)> = audit
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| {
            (
                attempt["to_state"].as_str().unwrap(),
                attempt["success"].as_bool().unwrap(),
            )
        })
        .collect();
    assert_eq!(ended, [("complete", true), ("waiting_for_retry", false)]);

    // A result is the text that its handler made, with every digit and key where it was.
    let context = r#"{"n":1,"z":1.10,"a":[1e400,-0.0],"b":12345678901234567890123}"#;
    let body = format!(r#"{{"name":"mixed","namespace":"wire","context":{context}}}"#);
    let post = stack.client().post(stack.url("/v1/tasks"));
    let post = post.header("content-type", "application/json").body(body);
    let made: Value = post.send().await.unwrap().json().await.unwrap();
    let task: Uuid = made["task_uuid"].as_str().unwrap().parse().unwrap();
    stack.wait_complete(task, PATIENCE).await;
    let steps = stack.url(&format!("/v1/tasks/{task}/workflow_steps"));
    let text = stack.client().get(steps).send().await.unwrap();
    let text = text.text().await.unwrap();
    let result = format!(r#""results":{{"context":{context},"attempt":1}}"#);
    assert!(text.contains(&result), "{text}");
}

#[tokio::test]
async fn a_task_that_fails_is_read_by_the_published_client() {
    let stack = stack().await;
    let task = stack.submit(request("broken")).await;
    assert_eq!(stack.wait_final(task, PATIENCE).await["status"], "error");
    let shown = check(&stack, task).await;
    assert_eq!(shown["execution_status"], "blocked_by_failures");
    assert_eq!(shown["failed_steps"], 1);
    let steps = stack.get(&format!("/v1/tasks/{task}/workflow_steps")).await;
    let never = by_name(&steps, "never");
    assert_eq!(never["current_state"], "skipped");
    assert_eq!(never["blocked_by"]["kind"], "failed_dependency");
    assert_eq!(never["blocked_by"]["detail"]["steps"], json!(["badly"]));
    let badly = by_name(&steps, "badly");
    assert_eq!(badly["current_state"], "error");
    assert_eq!(badly["last_error"]["retryable"], false);
    let summary = stack.get(&format!("/v1/tasks/{task}/summary")).await;
    assert_eq!(
        by_name(&summary["steps"], "badly")["error"]["retryable"],
        false
    );

    // What a person does to it.
    let at = format!(
        "/v1/tasks/{task}/workflow_steps/{}",
        badly["step_uuid"].as_str().unwrap()
    );
    let reset = json!({"action_type": "reset_for_retry", "reason": "try", "reset_by": "me"});
    let (status, step) = stack.call(Method::PATCH, &at, Some(&reset)).await;
    assert_eq!(status, 200, "{step}");
    assert_fits("StepResponse", &step);
    assert_eq!(stack.wait_final(task, PATIENCE).await["status"], "error");
    let (status, retried) = stack
        .call(Method::POST, &format!("/v1/tasks/{task}/retry"), None)
        .await;
    assert_eq!(status, 200, "{retried}");
    assert_fits("TaskResponse", &retried);
    assert_eq!(stack.wait_final(task, PATIENCE).await["status"], "error");
    let complete = json!({"action_type": "complete_manually", "completion_data": {"result": {"by": "hand"}}, "reason": "r", "completed_by": "me"});
    let (status, step) = stack.call(Method::PATCH, &at, Some(&complete)).await;
    assert_eq!(status, 200, "{step}");
    assert_eq!(
        (&step["current_state"], &step["results"]),
        (&json!("complete"), &json!({"by": "hand"}))
    );
    stack
        .wait_for(task, &["complete", "resolved_manually"], PATIENCE)
        .await;
    let shown = check(&stack, task).await;
    assert_eq!(shown["execution_status"], "all_complete");
    let (status, refused) = stack.call(Method::PATCH, &at, Some(&reset)).await;
    assert_eq!(status, 400, "{refused}");
    assert_fits("ErrorResponse", &refused);
}

#[tokio::test]
async fn a_running_task_says_why_each_step_is_not_running_and_can_be_cancelled() {
    let stack = stack().await;
    let task = stack.submit(request("slow")).await;
    let at = format!("/v1/tasks/{task}/workflow_steps");
    let expected = [
        ("long", "in_progress", "running"),
        ("later", "pending", "dependencies"),
        ("lonely", "enqueued", "no_worker"),
        ("waits", "waiting_for_retry", "retry_at"),
    ];
    let reached = async {
        loop {
            let steps = stack.get(&at).await;
            let all = expected
                .iter()
                .all(|(name, state, _)| by_name(&steps, name)["current_state"] == *state);
            if all {
                return steps;
            }
        }
    };
    let steps = tokio::time::timeout(PATIENCE, reached)
        .await
        .expect("every step reaches its state");
    for (name, _, kind) in expected {
        assert_eq!(by_name(&steps, name)["blocked_by"]["kind"], kind, "{name}");
    }
    let shown = check(&stack, task).await;
    assert_eq!(shown["status"], "steps_in_process");
    assert_eq!(shown["in_progress_steps"], 1);
    let waits = by_name(&steps, "waits");
    assert!(waits["next_retry_at"].is_string() && waits["last_error"]["retryable"] == true);

    let (status, cancelled) = stack
        .call(Method::DELETE, &format!("/v1/tasks/{task}"), None)
        .await;
    assert_eq!(status, 200, "{cancelled}");
    assert_fits("TaskResponse", &cancelled);
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!(cancelled["execution_status"], "all_complete");
    check(&stack, task).await;
    let (status, _) = stack
        .call(Method::DELETE, &format!("/v1/tasks/{task}"), None)
        .await;
    assert_eq!(status, 200, "cancelling again changes nothing");
    let done = stack.submit(request("mixed")).await;
    stack.wait_complete(done, PATIENCE).await;
    let (status, refused) = stack
        .call(Method::DELETE, &format!("/v1/tasks/{done}"), None)
        .await;
    assert_eq!(
        (status.as_u16(), &refused["error"]["code"]),
        (409, &json!("CONFLICT"))
    );
}

#[tokio::test]
async fn a_long_list_of_steps_has_every_result() {
    let stack = Stack::start().await;
    let steps: String = (0..150)
        .map(|n| {
            format!(
                "  - {{ name: step_{n}, handler: {{ callable: echo, initialization: {{ result: {n} }} }} }}\n"
            )
        })
        .collect();
    stack
        .apply_template(&format!(
            "name: wide\nnamespace_name: wire\nversion: 1.0.0\nsteps:\n{steps}"
        ))
        .await;
    let task = stack.submit(request("wide")).await;
    stack.wait_complete(task, PATIENCE).await;
    let steps = stack.get(&format!("/v1/tasks/{task}/workflow_steps")).await;
    assert_fits("[StepResponse]", &steps);
    let results: Vec<u64> = steps
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["results"].as_u64().unwrap())
        .collect();
    assert_eq!(results, (0..150).collect::<Vec<_>>());
}

#[tokio::test]
async fn templates_health_and_configuration_are_read_by_the_published_client() {
    let mut stack = stack().await;
    let listed = stack.get("/v1/templates").await;
    assert_fits("TemplateListResponse", &listed);
    assert_eq!(listed["total_count"], 3);
    let filtered = stack.get("/v1/templates?namespace=none").await;
    assert_eq!(
        (&filtered["templates"], &filtered["total_count"]),
        (&json!([]), &json!(3))
    );
    let detail = stack.get("/v1/templates/wire/mixed/1.0.0").await;
    assert_fits("TemplateDetail", &detail);
    assert_eq!(detail["steps"][1]["default_max_attempts"], 3);
    for path in ["/health", "/health/live", "/health/ready"] {
        assert_fits("HealthResponse", &stack.get(path).await);
    }
    let detailed = stack.get("/health/detailed").await;
    assert_fits("DetailedHealthResponse", &detailed);
    assert_eq!(detailed["status"], "healthy", "{detailed:#}");
    assert_eq!(detailed["info"]["operational_state"], "Normal");
    let config = stack.get("/config").await;
    assert_fits("OrchestrationConfigResponse", &config);
    assert!(
        config["configuration"]
            .as_array()
            .is_some_and(|entries| entries.len() > 20)
    );

    let client = stack.client().clone();
    let worker = |stack: &mut Stack, path: &str| stack.worker().url(path);
    for (path, table) in [
        ("/health", "WorkerBasicHealth"),
        ("/health/live", "WorkerBasicHealth"),
        ("/health/ready", "WorkerReadiness"),
        ("/health/detailed", "WorkerDetailedHealth"),
        ("/config", "WorkerConfigResponse"),
        ("/v1/templates", "WorkerTemplateList"),
        (
            "/v1/templates?namespace=wire&include_cache_stats=true",
            "WorkerTemplateList",
        ),
        ("/v1/templates/wire/mixed/1.0.0", "WorkerTemplate"),
    ] {
        let reply = client.get(worker(&mut stack, path)).send().await.unwrap();
        assert_eq!(reply.status(), 200, "{path}");
        assert_fits(table, &reply.json().await.unwrap());
    }
    let reply = client
        .post(worker(
            &mut stack,
            "/v1/templates/wire/mixed/1.0.0/validate",
        ))
        .send()
        .await
        .unwrap();
    let validation: Value = reply.json().await.unwrap();
    assert_fits("TemplateValidation", &validation);
    assert_eq!(validation["valid"], true);
    let reply = client
        .get(worker(&mut stack, "/v1/templates/wire/none/1.0.0"))
        .send()
        .await
        .unwrap();
    assert_eq!(reply.status(), 404);
    assert_fits("WorkerErrorResponse", &reply.json().await.unwrap());
}
