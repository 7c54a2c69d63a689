use std::io;

use axum::body::Body;

use super::{TASK, api, call, error, get, request};
use crate::lifecycle::admission::Refusal;
use crate::web::error::ApiError;

/// Asks for what needs the database; the code of the answer's error.
async fn ask(api: &axum::Router) -> (u16, String, Option<String>) {
    let (status, headers, body) = call(api, get(TASK)).await;
    let code = error(&headers, &body)["code"].as_str().unwrap().to_owned();
    let retry_after = headers.get("retry-after");
    let retry_after = retry_after.map(|value| value.to_str().unwrap().to_owned());
    (status.as_u16(), code, retry_after)
}

#[tokio::test]
async fn a_database_that_does_not_answer_is_soon_not_asked_any_more_and_health_still_answers() {
    let api = api(&[
        ("circuit_breakers.failure_threshold", "3"),
        ("circuit_breakers.web.timeout_seconds", "60"),
    ]);
    for _ in 0..3 {
        // What never came to the database says nothing of it.
        let refused = request("POST", "/v1/tasks", "application/json", "{");
        assert_eq!(call(&api, refused).await.0, 400);
        assert_eq!(ask(&api).await.1, "SERVICE_UNAVAILABLE");
    }
    let (status, code, retry_after) = ask(&api).await;
    assert_eq!((status, code.as_str()), (503, "CIRCUIT_BREAKER_OPEN"));
    assert_eq!(retry_after.as_deref(), Some("60"));
    for path in ["/v1/tasks", "/v1/templates", "/v1/tasks/batch"] {
        let method = if path.ends_with("batch") {
            "POST"
        } else {
            "GET"
        };
        let (_, headers, body) = call(&api, request(method, path, "application/json", "{}")).await;
        assert_eq!(
            error(&headers, &body)["code"],
            "CIRCUIT_BREAKER_OPEN",
            "{path}"
        );
    }
    let open = [
        "/health",
        "/health/live",
        "/health/detailed",
        "/metrics",
        "/config",
        "/config/log-level",
        "/api-docs/openapi.json",
    ];
    for path in open {
        assert_eq!(call(&api, get(path)).await.0, 200, "{path}");
    }
    let (_, _, body) = call(&api, get("/health/detailed")).await;
    let health: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(health["info"]["circuit_breaker_state"], "Open");
    assert_eq!(health["checks"]["circuit_breaker"]["message"], "open: web");
    let shown = health["circuit_breakers"].as_array().unwrap();
    let states: Vec<_> = shown
        .iter()
        .map(|b| (b["name"].as_str(), b["state"].as_str()))
        .collect();
    let expected = [
        ("web", "open"),
        ("task_readiness", "closed"),
        ("pgmq", "closed"),
    ];
    assert_eq!(
        states,
        expected.map(|(name, state)| (Some(name), Some(state)))
    );
    assert!(
        shown[0]["opened_at"].is_string() && shown[0]["failures"] == 3,
        "{shown:?}"
    );
    assert_eq!(call(&api, get("/health/ready")).await.0, 503);
}

#[tokio::test]
async fn bodies_that_never_end_say_nothing_of_the_database() {
    let api = api(&[
        ("server.request_timeout_ms", "2000"),
        ("server.control_timeout_ms", "1000"),
    ]);
    let slow = (0..5).map(async |_| {
        let never = futures::stream::pending::<Result<&'static str, io::Error>>();
        let slow = request("POST", "/v1/tasks", "", Body::from_stream(never));
        call(&api, slow).await.0.as_u16()
    });
    assert_eq!(futures::future::join_all(slow).await, [408; 5]);
    assert_eq!(ask(&api).await.1, "SERVICE_UNAVAILABLE", "it is asked");
}

#[tokio::test]
async fn answers_made_without_the_database_do_not_count_as_its_own() {
    let api = api(&[
        ("circuit_breakers.failure_threshold", "3"),
        ("circuit_breakers.web.timeout_seconds", "60"),
    ]);
    let elsewhere = format!("{TASK}/workflow_steps/0199c3e0-ccdb-7581-87ab-3f67dbb00001");
    let batch = r#"{"tasks": [{"name": "n", "namespace": "", "context": {}}]}"#;
    for _ in 0..2 {
        assert_eq!(ask(&api).await.1, "SERVICE_UNAVAILABLE");
        assert_eq!(call(&api, get(&elsewhere)).await.0, 404);
        let refused = request("POST", "/v1/tasks/batch", "application/json", batch);
        assert_eq!(call(&api, refused).await.0, 200);
    }
    assert_eq!(ask(&api).await.1, "SERVICE_UNAVAILABLE");
    assert_eq!(ask(&api).await.1, "CIRCUIT_BREAKER_OPEN");
}

#[test]
fn a_task_that_the_database_does_not_take_is_no_word_against_it() {
    for (refusal, away) in [
        (Refusal::Unavailable, true),
        (Refusal::OutcomeUnknown, true),
        (Refusal::NotTaken, false),
    ] {
        let error = ApiError::from(refusal.clone());
        assert_eq!(error.is_for_want_of_database(), away, "{refusal:?}");
    }
}

#[tokio::test]
async fn a_breaker_that_is_switched_off_never_opens() {
    let api = api(&[
        ("circuit_breakers.failure_threshold", "1"),
        ("circuit_breakers.web.enabled", "false"),
    ]);
    for _ in 0..3 {
        assert_eq!(ask(&api).await.1, "SERVICE_UNAVAILABLE");
    }
}
