//! What a connection beyond the bound may have.

use axum::http::StatusCode;
use tasker_shared::resilience::serving::Crowded;

use super::{api, call, error, get};

#[tokio::test]
async fn a_connection_beyond_the_bound_has_health_and_metrics_and_is_told_to_come_again() {
    let api = api(&[]);
    let crowded = |path: &str| {
        let mut request = get(path);
        request.extensions_mut().insert(Crowded { connections: 7 });
        request
    };
    for path in ["/health", "/health/live", "/metrics"] {
        let (status, ..) = call(&api, crowded(path)).await;
        assert_eq!(status, StatusCode::OK, "{path}");
    }
    let (status, headers, body) = call(&api, crowded("/v1/tasks")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(headers.contains_key("retry-after"));
    let error = error(&headers, &body);
    assert_eq!(error["code"], "BACKPRESSURE");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("7 connections") && message.contains("server.max_connections"));
}
