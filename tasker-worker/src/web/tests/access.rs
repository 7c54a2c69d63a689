//! Who may ask a worker what, and how much it does for them.

use std::collections::BTreeSet;

use tasker_shared::access::{Need, REASON_HEADER};

use super::*;
use crate::web::access::ROUTES;

/// As the router is written, which cannot be asked for its routes.
const ROUTER: &str = include_str!("../../web.rs");

fn guarded() -> Arc<State> {
    at_work(state(NOWHERE, |config| config.auth.enabled = true))
}

/// The patterns in the text of the router.
fn patterns() -> BTreeSet<&'static str> {
    let quoted = ROUTER.split('"').skip(1).step_by(2);
    quoted.filter(|text| text.starts_with('/')).collect()
}

#[test]
fn the_table_has_every_path() {
    let listed: BTreeSet<&str> = ROUTES.iter().map(|(_, pattern, _)| *pattern).collect();
    assert_eq!(listed, patterns());
}

#[tokio::test]
async fn no_handler_is_without_a_line() {
    let state = guarded();
    for pattern in patterns() {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let listed = ROUTES.iter().any(|(m, p, _)| m == method && *p == pattern);
            let path = pattern.replace(['{', '}'], "");
            let request = Request::builder().method(method).uri(&path);
            let (status, ..) = ask(&state, request.body(Body::empty()).unwrap()).await;
            let is_served = status != StatusCode::METHOD_NOT_ALLOWED;
            assert_eq!(is_served, listed, "{method} {path}: {status}");
        }
    }
}

#[tokio::test]
async fn whoever_brings_nothing_gets_at_health_and_metrics_alone() {
    let state = guarded();
    for (method, pattern, need) in ROUTES {
        let path = pattern.replace(['{', '}'], "");
        let request = Request::builder().method(method).uri(&path);
        let (status, headers, body) = ask(&state, request.body(Body::empty()).unwrap()).await;
        assert_ne!(status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
        assert_ne!(status, StatusCode::NOT_FOUND, "{method} {path}");
        if *need == Need::Nothing {
            assert_ne!(status, StatusCode::UNAUTHORIZED, "{method} {path}");
            continue;
        }
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {path}");
        assert_eq!(body["error"], "UNAUTHORIZED");
        assert_eq!(headers[REASON_HEADER], "missing");
        assert!(headers.contains_key("www-authenticate") && headers.contains_key("x-request-id"));
    }
    let request = Request::get("/config").header("x-api-key", format!("tsk_{}", "0".repeat(64)));
    let (status, headers, body) = ask(&state, request.body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
    assert!(headers.contains_key("retry-after"));
}

#[tokio::test]
async fn requests_have_their_bounds_and_health_is_told_all_the_same() {
    let state = at_work(state(NOWHERE, |config| {
        config.worker.request_timeout_ms = 100;
        config.worker.max_concurrent_requests = 1;
    }));
    let router = router(Arc::clone(&state));
    // A body that never comes.
    let (_sender, body) = tokio::sync::mpsc::channel::<Result<Vec<u8>, std::io::Error>>(1);
    let body = futures::stream::unfold(body, |mut body| async {
        body.recv().await.map(|chunk| (chunk, body))
    });
    let slow = Request::put("/config/log-level")
        .header("content-type", "application/json")
        .body(Body::from_stream(body))
        .unwrap();
    let slow = tokio::spawn(router.clone().oneshot(slow));
    let busy = loop {
        let request = Request::get("/config").body(Body::empty()).unwrap();
        let answer = router.clone().oneshot(request).await.unwrap();
        if answer.status() != StatusCode::OK || slow.is_finished() {
            break answer;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(busy.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(busy.headers()["retry-after"], "1");
    let health = Request::get("/health").body(Body::empty()).unwrap();
    assert_eq!(
        router.clone().oneshot(health).await.unwrap().status(),
        StatusCode::OK
    );
    let slow = slow.await.unwrap().unwrap();
    assert_eq!(slow.status(), StatusCode::REQUEST_TIMEOUT);
    let request = Request::get("/config").body(Body::empty()).unwrap();
    assert_eq!(
        router.oneshot(request).await.unwrap().status(),
        StatusCode::OK
    );
}
