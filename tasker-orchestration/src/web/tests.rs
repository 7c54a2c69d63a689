#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod breaker;
mod crowded;
mod telemetry;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use axum::middleware::Next;
use serde_json::Value;
use tasker_shared::access::Gate;
use tasker_shared::blueprints::Blueprints;
use tasker_shared::clock::Clock;
use tasker_shared::config::{Argument, Config, Inputs};
use tasker_shared::db::pool::Target;
use tasker_shared::db::wake::Wakes;
use tasker_shared::resilience::vitals::Vitals;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{Parts, State, description, router};
use crate::Breakers;
use crate::lifecycle::admission::Schemas;
use crate::lifecycle::control::Controls;
use crate::lifecycle::pressure::Pressure;
use crate::lifecycle::registry::Templates;
use crate::lifecycle::task_initializer::{Admission, TaskInitializer};

const TASK: &str = "/v1/tasks/0199c3e0-ccdb-7581-87ab-3f67dae00000";
const STEP: &str = "/v1/tasks/0199c3e0-ccdb-7581-87ab-3f67dae00000/workflow_steps/0199c3e0-ccdb-7581-87ab-3f67dae00001";

/// The API without a database: nothing listens at its URL.
pub(super) fn api(settings: &[(&str, &str)]) -> Router {
    let inputs = Inputs {
        arguments: settings
            .iter()
            .map(|(key, value)| Argument::new("test", key, value))
            .collect(),
        working_directory: "/nonexistent".into(),
        ..Inputs::default()
    };
    let loaded = Config::load_from(&inputs).unwrap();
    let target = Target::parse(
        "postgres://nobody@127.0.0.1:1/none",
        "test",
        Duration::from_millis(200),
    )
    .unwrap();
    let pool = target.pool(1);
    let blueprints = Blueprints::new(pool.clone(), "test");
    let limits = &loaded.config.limits;
    let templates = Templates::new(
        target.clone(),
        pool.clone(),
        limits.max_steps_per_task,
        blueprints.clone(),
    );
    let admission = Admission {
        templates: templates.clone(),
        schemas: Schemas::default(),
        clock: Clock::default(),
        max_context_bytes: limits.max_context_bytes,
        sample_rate: 1.0,
        roots_at_once: 1_000,
    };
    let pressure = Pressure::new(loaded.config.backpressure.clone(), pool.clone(), 1);
    let (initializer, _stores) =
        TaskInitializer::new(admission, &target, &blueprints, pressure, 16, 1);
    let (_owner, shards) = watch::channel(Vec::new());
    let controls = Controls::new(
        pool.clone(),
        Wakes::default(),
        Duration::from_millis(200),
        limits.max_result_bytes,
    );
    let breakers = Breakers::new(&loaded.config.circuit_breakers);
    let parts = Parts {
        gate: Gate::new(&loaded.config.auth, pool.clone(), Clock::default()).unwrap(),
        pool,
        loaded,
        initializer,
        controls,
        templates,
        blueprints,
        clock: Clock::default(),
        progress: Arc::default(),
        shards,
        breakers,
        vitals: Vitals::default(),
        answering: Arc::default(),
        depths: Arc::default(),
    };
    router(State::new(parts), CancellationToken::new())
}

pub(super) async fn call(api: &Router, request: Request<Body>) -> (StatusCode, HeaderMap, Vec<u8>) {
    let response = api.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    (parts.status, parts.headers, body.into())
}

fn request(method: &str, path: &str, kind: &str, body: impl Into<Body>) -> Request<Body> {
    let request = Request::builder().method(method).uri(path);
    let request = match kind {
        "" => request,
        kind => request.header("content-type", kind),
    };
    request.body(body.into()).unwrap()
}

fn get(path: &str) -> Request<Body> {
    request("GET", path, "", "")
}

/// The error of an answer, which must be in the one shape.
pub(super) fn error(headers: &HeaderMap, body: &[u8]) -> Value {
    assert_eq!(headers["content-type"], "application/json");
    assert!(headers.contains_key("x-request-id"));
    let body: Value = serde_json::from_slice(body).unwrap();
    assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
    let error = &body["error"];
    assert!(
        error["code"]
            .as_str()
            .unwrap()
            .chars()
            .all(|c| c.is_ascii_uppercase() || c == '_'),
        "{body}"
    );
    assert!(!error["message"].as_str().unwrap().is_empty());
    assert!(error["details"].is_object());
    error.clone()
}

#[tokio::test]
async fn what_is_asked_wrongly_is_refused_in_one_shape() {
    let json = "application/json";
    let table = [
        (get("/nowhere"), 404, "NOT_FOUND"),
        (get("/v1/nothing"), 404, "NOT_FOUND"),
        (get("/api-docs/ui/nowhere.js"), 404, "NOT_FOUND"),
        (
            request("PUT", "/v1/tasks", json, "{}"),
            405,
            "METHOD_NOT_ALLOWED",
        ),
        (
            request("POST", "/health", json, "{}"),
            405,
            "METHOD_NOT_ALLOWED",
        ),
        (
            request("POST", "/v1/tasks", "text/plain", "{}"),
            415,
            "UNSUPPORTED_MEDIA_TYPE",
        ),
        (
            request("POST", "/v1/templates", "image/png", "x"),
            415,
            "UNSUPPORTED_MEDIA_TYPE",
        ),
        (request("POST", "/v1/tasks", json, ""), 400, "JSON_ERROR"),
        (
            request("POST", "/v1/tasks", json, "{\"name\""),
            400,
            "JSON_ERROR",
        ),
        (request("POST", "/v1/tasks", json, "[]"), 400, "BAD_REQUEST"),
        (
            request("POST", "/v1/tasks", json, "null"),
            400,
            "BAD_REQUEST",
        ),
        (
            request("POST", "/v1/tasks", json, vec![0xff_u8, 0xfe]),
            400,
            "JSON_ERROR",
        ),
        (
            request(
                "POST",
                "/v1/tasks",
                json,
                r#"{"name":"n","namespace":"s","context":{},"x":1}"#,
            ),
            400,
            "BAD_REQUEST",
        ),
        (
            request(
                "POST",
                "/v1/tasks",
                json,
                r#"{"name":"","namespace":"s","context":{}}"#,
            ),
            400,
            "BAD_REQUEST",
        ),
        (
            request(
                "POST",
                "/v1/tasks",
                json,
                r#"{"name":"n","namespace":"s","context":"\ud800"}"#,
            ),
            400,
            "INVALID_CONTEXT",
        ),
        (
            request(
                "POST",
                "/v1/tasks",
                json,
                r#"{"name":"n","namespace":"s","context":{"a":"\u0000"}}"#,
            ),
            400,
            "INVALID_CONTEXT",
        ),
        (
            request(
                "POST",
                "/v1/tasks",
                json,
                r#"{"name":"n","namespace":"s","context":{"a":1,"a":2}}"#,
            ),
            400,
            "INVALID_CONTEXT",
        ),
        (
            request("POST", "/v1/tasks/batch", json, r#"{"tasks":{}}"#),
            400,
            "BAD_REQUEST",
        ),
        (
            request("POST", "/v1/templates", "application/yaml", vec![0xff_u8]),
            400,
            "BAD_REQUEST",
        ),
        (
            request(
                "POST",
                "/v1/templates",
                "application/yaml",
                "name: [unclosed",
            ),
            400,
            "INVALID_TEMPLATE",
        ),
        (get("/v1/tasks/17"), 400, "INVALID_UUID"),
        (get("/v1/tasks/%ff"), 400, "BAD_REQUEST"),
        (
            get(&format!("{TASK}/workflow_steps/x")),
            400,
            "INVALID_UUID",
        ),
        (
            get(&format!(
                "{TASK}/workflow_steps/0199c3e0-ccdb-7581-87ab-000000000001"
            )),
            404,
            "NOT_FOUND",
        ),
        (
            request("PATCH", STEP, json, r#"{"action_type":"explode"}"#),
            400,
            "BAD_REQUEST",
        ),
        (
            request(
                "PATCH",
                STEP,
                json,
                r#"{"action_type":"reset_for_retry","reason":"","reset_by":"me"}"#,
            ),
            400,
            "BAD_REQUEST",
        ),
        (get("/v1/tasks?page=0"), 400, "BAD_REQUEST"),
        (get("/v1/tasks?per_page=101"), 400, "BAD_REQUEST"),
        (get("/v1/tasks?tag=%00"), 400, "BAD_REQUEST"),
        (get("/v1/templates/a%00/b/1.0.0"), 400, "BAD_REQUEST"),
    ];
    let api = api(&[]);
    for (request, status, code) in table {
        let asked = format!("{} {}", request.method(), request.uri());
        let (found, headers, body) = call(&api, request).await;
        assert_eq!(found, status, "{asked}: {}", String::from_utf8_lossy(&body));
        assert_eq!(
            error(&headers, &body)["code"],
            code,
            "{asked}: {}",
            String::from_utf8_lossy(&body)
        );
    }
}

#[tokio::test]
async fn a_database_that_is_away_is_a_503_that_says_when_to_come_back() {
    let api = api(&[("circuit_breakers.enabled", "false")]);
    let body = r#"{"name":"n","namespace":"s","context":{}}"#;
    for request in [
        get(TASK),
        get(STEP),
        get("/v1/tasks"),
        get("/v1/templates"),
        get(&format!("{TASK}/events")),
        request("POST", "/v1/tasks", "", body),
        request("DELETE", TASK, "", ""),
        request("POST", &format!("{TASK}/retry"), "", ""),
    ] {
        let asked = format!("{} {}", request.method(), request.uri());
        let (status, headers, body) = call(&api, request).await;
        assert_eq!(status, 503, "{asked}");
        assert_eq!(headers["retry-after"], "1", "{asked}");
        assert_eq!(error(&headers, &body)["retry_after_seconds"], 1, "{asked}");
    }
    let (status, _, body) = call(
        &api,
        request(
            "POST",
            "/v1/tasks/batch",
            "",
            format!(r#"{{"tasks":[{body},7]}}"#),
        ),
    )
    .await;
    assert_eq!(status, 200);
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (&body["results"][0]["status"], &body["results"][1]["status"]),
        (&503.into(), &400.into())
    );
}

#[tokio::test]
async fn health_tells_what_is_wrong_and_life_goes_on() {
    let api = api(&[]);
    for (path, status, says) in [
        ("/health", 200, "healthy"),
        ("/health/live", 200, "alive"),
        ("/health/ready", 503, "not_ready"),
        ("/health/detailed", 200, "degraded"),
        ("/config", 200, ""),
    ] {
        let (found, _, body) = call(&api, get(path)).await;
        assert_eq!(found, status, "{path}");
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["status"].as_str().unwrap_or_default(), says, "{path}");
    }
}

#[tokio::test]
async fn a_request_id_is_kept_where_it_is_usable() {
    let api = api(&[]);
    let with = |id: &str| {
        Request::builder()
            .uri("/health")
            .header("x-request-id", id)
            .body(Body::empty())
            .unwrap()
    };
    let (_, headers, _) = call(&api, with("order-7")).await;
    assert_eq!(headers["x-request-id"], "order-7");
    let long = "x".repeat(129);
    let (_, headers, _) = call(&api, with(&long)).await;
    assert!(headers["x-request-id"].len() == 36);
    let (_, first, _) = call(&api, get("/health")).await;
    let (_, second, _) = call(&api, get("/health")).await;
    assert_ne!(first["x-request-id"], second["x-request-id"]);
}

#[tokio::test]
async fn what_is_too_large_names_its_limit() {
    let api = api(&[
        ("limits.max_body_bytes", "4096"),
        ("limits.max_context_bytes", "1024"),
        ("limits.max_batch_tasks", "2"),
    ]);
    let body = |bytes: usize| {
        format!(
            r#"{{"name":"n","namespace":"s","context":"{}"}}"#,
            "x".repeat(bytes)
        )
    };
    for (bytes, limit) in [
        (2_000, "limits.max_context_bytes"),
        (5_000, "limits.max_body_bytes"),
        (100_000, "limits.max_body_bytes"),
    ] {
        let (status, headers, answer) =
            call(&api, request("POST", "/v1/tasks", "", body(bytes))).await;
        assert_eq!(status, 413, "{bytes}");
        let error = error(&headers, &answer);
        assert_eq!(error["details"]["limit"], limit);
        assert!(error["message"].as_str().unwrap().contains(limit));
    }
    let (status, headers, answer) = call(
        &api,
        request("POST", "/v1/tasks/batch", "", r#"{"tasks":[1,2,3]}"#),
    )
    .await;
    assert_eq!(status, 400);
    assert_eq!(
        error(&headers, &answer)["details"]["limit"],
        "limits.max_batch_tasks"
    );
}

#[tokio::test]
async fn requests_beyond_the_bound_are_sent_away_but_health_and_metrics_are_told() {
    let api = api(&[
        ("server.max_concurrent_requests", "1"),
        ("database.connect_timeout_ms", "1000"),
    ]);
    // A request whose body does not end holds the only place.
    let (keep, chunks) =
        futures::channel::mpsc::unbounded::<Result<&'static str, std::io::Error>>();
    keep.unbounded_send(Ok("{")).unwrap();
    let held = tokio::spawn(call_owned(
        api.clone(),
        request("POST", "/v1/tasks", "", Body::from_stream(chunks)),
    ));
    let (status, headers, body) = loop {
        let answer = call(&api, get("/nowhere")).await;
        if answer.0 == 503 {
            break answer;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(status, 503);
    assert_eq!(error(&headers, &body)["code"], "BACKPRESSURE");
    assert_eq!(headers["retry-after"], "1");
    assert_eq!(call(&api, get("/health")).await.0, 200);
    assert_eq!(call(&api, get("/metrics")).await.0, 200);
    drop(keep);
    assert_eq!(held.await.unwrap().0, 400);
    assert_eq!(call(&api, get("/nowhere")).await.0, 404);
}

async fn call_owned(api: Router, request: Request<Body>) -> (StatusCode, HeaderMap, Vec<u8>) {
    call(&api, request).await
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_given_up() {
    let api = api(&[
        ("server.request_timeout_ms", "1000"),
        ("server.control_timeout_ms", "500"),
    ]);
    let never = Body::from_stream(futures::stream::pending::<
        Result<&'static str, std::io::Error>,
    >());
    let (status, headers, body) = call(&api, request("POST", "/v1/tasks", "", never)).await;
    assert_eq!(status, 408);
    assert_eq!(error(&headers, &body)["code"], "TIMEOUT");
}

#[tokio::test]
async fn a_panic_is_an_answer_too() {
    let broken = Router::new().route("/", axum::routing::get(|| async { explode() }));
    let caught = |request, next: Next| super::layers::caught(next.run(request));
    let broken = broken.layer(axum::middleware::from_fn(caught));
    let (status, _, body) = call(&broken, get("/")).await;
    assert_eq!(status, 500);
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["error"]["code"], "INTERNAL_ERROR");
    assert!(!body.to_string().contains("secret"));
}

fn explode() -> &'static str {
    panic!("a secret")
}

#[tokio::test]
async fn the_description_has_every_route_and_the_page_to_read_it_is_served() {
    let api = api(&[]);
    let (status, _, body) = call(&api, get("/api-docs/openapi.json")).await;
    assert_eq!(status, 200);
    let served: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(served, serde_json::to_value(description()).unwrap());
    let routes: Vec<String> = served["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            item.as_object()
                .unwrap()
                .keys()
                .map(move |method| format!("{method} {path}"))
        })
        .collect();
    for route in [
        "post /v1/tasks",
        "get /v1/tasks",
        "post /v1/tasks/batch",
        "get /v1/tasks/{task_uuid}",
        "delete /v1/tasks/{task_uuid}",
        "get /v1/tasks/{task_uuid}/summary",
        "get /v1/tasks/{task_uuid}/graph",
        "get /v1/tasks/{task_uuid}/events",
        "post /v1/tasks/{task_uuid}/retry",
        "get /v1/tasks/{task_uuid}/workflow_steps",
        "get /v1/tasks/{task_uuid}/workflow_steps/{step_uuid}",
        "patch /v1/tasks/{task_uuid}/workflow_steps/{step_uuid}",
        "get /v1/tasks/{task_uuid}/workflow_steps/{step_uuid}/audit",
        "get /v1/templates",
        "post /v1/templates",
        "get /v1/templates/{namespace}/{name}/{version}",
        "get /metrics",
        "get /config/log-level",
        "put /config/log-level",
    ] {
        assert!(
            routes.iter().any(|known| known == route),
            "{route} is not described"
        );
    }
    let schemas = served["components"]["schemas"].as_object().unwrap();
    for name in [
        "TaskRequest",
        "TaskResponse",
        "StepResponse",
        "StepManualAction",
        "ErrorResponse",
        "TaskBatchRequest",
    ] {
        assert!(schemas.contains_key(name), "{name} is not described");
    }
    let (status, headers, _) = call(&api, get("/api-docs/ui")).await;
    assert!(
        status.is_redirection() || status.is_success(),
        "{status} {headers:?}"
    );
    let (status, headers, _) = call(&api, get("/api-docs/ui/")).await;
    assert_eq!(status, 200);
    assert!(
        headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/html")
    );
}

#[test]
fn every_operation_has_a_name_of_its_own() {
    let described = serde_json::to_value(description()).unwrap();
    let paths = described["paths"].as_object().unwrap();
    let operations = paths
        .values()
        .flat_map(|item| item.as_object().unwrap().values());
    let mut names: Vec<&str> = operations
        .map(|operation| operation["operationId"].as_str().unwrap())
        .collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!((names.len(), count >= 21), (count, true));
}

#[test]
fn every_reference_in_the_description_leads_somewhere() {
    let described = serde_json::to_value(description()).unwrap();
    let mut open = vec![&described];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(target)) = map.get("$ref") {
                    assert!(
                        described.pointer(target.trim_start_matches('#')).is_some(),
                        "{target}"
                    );
                }
                open.extend(map.values());
            }
            Value::Array(list) => open.extend(list),
            _ => {}
        }
    }
}
