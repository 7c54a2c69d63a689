use tasker_shared::config::LogFormat;
use tasker_shared::logging;

use super::*;

fn put(path: &str, body: Value) -> Request<Body> {
    let request = Request::put(path).header("content-type", "application/json");
    request.body(Body::from(body.to_string())).unwrap()
}

#[tokio::test]
async fn metrics_are_told_as_text_and_as_json() {
    let state = at_work(state(NOWHERE, |_| {}));
    let request = Request::get("/metrics").body(Body::empty()).unwrap();
    let (status, headers, _) = ask(&state, request).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        headers["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );

    let (status, body) = get(&state, "/metrics/worker").await;
    assert_eq!(status, StatusCode::OK);
    let told: wire::WorkerMetrics = serde_json::from_value(body).unwrap();
    assert_eq!(told.worker_id, state.progress.worker_id().to_string());
}

#[tokio::test]
async fn the_log_level_is_told_and_changed_and_a_wrong_one_is_refused() {
    let state = at_work(state(NOWHERE, |_| {}));
    let path = "/config/log-level";
    let (status, _, body) = ask(&state, put(path, json!({"level": "debug"}))).await;
    assert_eq!(status, StatusCode::CONFLICT, "nobody has set logging up");
    assert_eq!(body["error"], "CONFLICT");

    logging::init(LogFormat::Text, "error").unwrap();
    for wrong in [
        json!({"level": "loud"}),
        json!({}),
        json!({"level": "warn", "for": "ever"}),
    ] {
        let (status, _, body) = ask(&state, put(path, wrong)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(body["error"], "BAD_REQUEST");
        assert!(body["message"].as_str().unwrap().contains("debug"));
    }

    let wanted = json!({"level": "warn,tasker_worker=error"});
    let (status, _, body) = ask(&state, put(path, wanted.clone())).await;
    assert_eq!((status, &body), (StatusCode::OK, &wanted));
    assert_eq!(get(&state, path).await, (StatusCode::OK, wanted));
}
