use axum::http::Method;
use serde_json::json;
use tasker_shared::config::LogFormat;
use tasker_shared::logging;

use super::*;

const JSON: &str = "application/json";

fn accepting(accept: &str) -> Request<Body> {
    let request = Request::get("/metrics").header("accept", accept);
    request.body(Body::empty()).unwrap()
}

#[tokio::test]
async fn metrics_are_told_in_the_format_that_is_asked_for() {
    let api = api(&[]);
    for (accept, kind, end) in [
        ("*/*", "text/plain; version=0.0.4; charset=utf-8", ""),
        (
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            "# EOF\n",
        ),
    ] {
        let (status, headers, body) = call(&api, accepting(accept)).await;
        assert_eq!(status, 200);
        assert_eq!(headers["content-type"], kind);
        assert!(headers.contains_key("x-request-id"));
        assert!(String::from_utf8(body).unwrap().ends_with(end));
    }
}

#[tokio::test]
async fn the_log_level_is_told_and_changed_and_a_wrong_one_is_refused() {
    let api = api(&[]);
    let path = "/config/log-level";
    let put = |body: Value| request("PUT", path, JSON, body.to_string());

    let (status, headers, body) = call(&api, put(json!({"level": "debug"}))).await;
    assert_eq!(status, 409, "nobody has set logging up");
    assert_eq!(error(&headers, &body)["code"], "CONFLICT");

    logging::init(LogFormat::Text, "error").unwrap();
    let (status, headers, body) = call(&api, put(json!({"level": "loud"}))).await;
    assert_eq!(status, 400);
    let refused = error(&headers, &body);
    assert_eq!(refused["details"]["pointer"], "/level");
    assert!(refused["message"].as_str().unwrap().contains("debug"));
    let (status, ..) = call(&api, put(json!({"level": "warn", "for": "ever"}))).await;
    assert_eq!(status, 400);

    let wanted = json!({"level": "warn,tasker_shared::db=error"});
    for request in [put(wanted.clone()), get(path)] {
        let method: Method = request.method().clone();
        let (status, _, body) = call(&api, request).await;
        assert_eq!(status, 200);
        let told: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(told, wanted, "{method}");
    }
}
