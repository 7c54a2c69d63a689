use std::net::SocketAddr;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap as Headers, StatusCode, Uri};
use axum::response::{IntoResponse, Response as Answer};
use axum::routing::any;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::answer::ERROR_BODY_BYTES;
use super::*;
use crate::context::Limits;
use crate::testing;

/// A server on a port of its own; it ends with the test's runtime.
async fn serve(routes: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    format!("http://{address}")
}

/// A server that answers every connection with these bytes and closes it.
async fn serve_bytes(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    format!("http://{address}")
}

async fn call(config: Value) -> Result<String, StepError> {
    testing::call(
        &Http::default(),
        testing::context()
            .input(json!({"order": 7}))
            .config(config)
            .build(),
    )
    .await
}

/// Answers as the path says: `/503/2` is status 503 with `Retry-After: 2`.
async fn as_the_path_says(uri: Uri) -> Answer {
    let mut parts = uri.path().trim_start_matches('/').split('/');
    let status: u16 = parts.next().unwrap().parse().unwrap();
    let mut answer = (
        StatusCode::from_u16(status).unwrap(),
        r#"{"why":"said so"}"#,
    )
        .into_response();
    if let Some(after) = parts.next() {
        answer
            .headers_mut()
            .insert("retry-after", after.replace('_', " ").parse().unwrap());
    }
    answer
}

#[tokio::test]
async fn inputs_are_posted_as_json_and_a_json_answer_is_the_result() {
    let mirror = |method: axum::http::Method, headers: Headers, body: String| async move {
        let header = |name: &str| {
            headers
                .get(name)
                .map_or("", |value| value.to_str().unwrap())
                .to_owned()
        };
        let names = [
            "content-type",
            "accept",
            "idempotency-key",
            "x-correlation-id",
            "x-tenant",
        ];
        let body: Value = serde_json::from_str(&body).unwrap();
        json!({"method": method.as_str(), "headers": names.map(header), "body": body}).to_string()
    };
    let url = serve(Router::new().route("/charge", any(mirror))).await + "/charge";
    let config = json!({"url": url, "headers": {"X-Tenant": "shop", "Accept": "text/json"}});
    let context = testing::context()
        .input(json!({"order": 7}))
        .dependency("reserve", 1)
        .ancestor("validate", 2)
        .config(&config)
        .build();
    let expected = json!({
        "method": "POST",
        "headers": ["application/json", "text/json", context.step_uuid(), context.correlation_id(), "shop"],
        "body": {"context": {"order": 7}, "dependencies": {"reserve": 1}, "initialization": config, "attempt": 1},
    });
    let result = testing::call(&Http::default(), context).await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&result).unwrap(), expected);
}

#[tokio::test]
async fn the_method_is_the_templates_and_get_sends_no_body() {
    let tell = |method: axum::http::Method, headers: Headers, body: Bytes| async move {
        json!([
            method.as_str(),
            body.is_empty(),
            headers.contains_key("content-type")
        ])
        .to_string()
    };
    let url = serve(Router::new().route("/", any(tell))).await;
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
        let result = call(json!({"url": url, "method": method})).await.unwrap();
        let expected = json!([method, method == "GET", method != "GET"]).to_string();
        assert_eq!(result, expected);
    }
    assert_eq!(
        call(json!({"url": url, "method": "HEAD"})).await.unwrap(),
        "null"
    );
}

#[tokio::test]
async fn an_answer_keeps_its_text_and_an_empty_one_is_null() {
    let routes = Router::new()
        .route(
            "/kept",
            any(|| async { "\n {\"b\": 1.10, \"a\": 1e999999} \n" }),
        )
        .route("/empty", any(|| async { StatusCode::OK }))
        .route("/none", any(|| async { StatusCode::NO_CONTENT }))
        .route("/accepted", any(|| async { (StatusCode::ACCEPTED, "1") }));
    let server = serve(routes).await;
    for (path, expected) in [
        ("/kept", "{\"b\": 1.10, \"a\": 1e999999}"),
        ("/empty", "null"),
        ("/none", "null"),
        ("/accepted", "1"),
    ] {
        assert_eq!(
            call(json!({"url": format!("{server}{path}")}))
                .await
                .unwrap(),
            expected
        );
    }
}

#[tokio::test]
async fn the_status_decides_whether_and_when_another_attempt_is_made() {
    let server = serve(Router::new().fallback(as_the_path_says)).await;
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    // (path, retryable, after)
    let table = [
        ("/400", false, None),
        ("/404", false, None),
        ("/409/5", false, None),
        ("/422", false, None),
        ("/408", true, None),
        ("/425", true, None),
        ("/429", true, None),
        ("/429/7", true, seconds(7)),
        ("/500", true, None),
        ("/503/2", true, seconds(2)),
        ("/503/Fri,_31_Dec_1999_23:59:59_GMT", true, seconds(0)),
        ("/503/soon", true, None),
        ("/504", true, None),
    ];
    for (path, retryable, after) in table {
        let error = call(json!({"url": format!("{server}{path}")}))
            .await
            .unwrap_err();
        assert_eq!(
            (error.is_retryable(), error.after()),
            (retryable, after),
            "{path}"
        );
        let status: u16 = path[1..4].parse().unwrap();
        assert_eq!(error.status_code(), Some(status));
        assert!(
            error
                .message()
                .contains(&format!("POST {server}{path} answered {status}")),
            "{error}"
        );
        let details: Value = serde_json::from_str(error.details().unwrap().get()).unwrap();
        assert_eq!(
            details,
            json!({"status": status, "body": {"why": "said so"}})
        );
    }
}

#[tokio::test]
async fn the_body_of_a_failure_is_kept_only_at_its_beginning() {
    let routes = Router::new().route(
        "/",
        any(|| async { (StatusCode::BAD_GATEWAY, "<".repeat(100_000)) }),
    );
    let error = call(json!({"url": serve(routes).await})).await.unwrap_err();
    let details: Value = serde_json::from_str(error.details().unwrap().get()).unwrap();
    assert_eq!(details["body"].as_str().unwrap().len(), ERROR_BODY_BYTES);
}

#[tokio::test]
async fn an_answer_that_is_no_result_is_a_permanent_failure() {
    let routes = Router::new()
        .route("/html", any(|| async { "<html>" }))
        .route("/twice", any(|| async { r#"{"a":1,"a":2}"# }))
        .route("/binary", any(|| async { vec![b'"', 0xff, b'"'] }));
    let server = serve(routes).await;
    for (path, part) in [
        ("/html", "not valid JSON"),
        ("/twice", "occurs twice"),
        ("/binary", "not UTF-8"),
    ] {
        let error = call(json!({"url": format!("{server}{path}")}))
            .await
            .unwrap_err();
        assert!(!error.is_retryable());
        assert!(error.message().contains(part), "{error}");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_refused_at_the_limit_announced_or_not() {
    let endless = || async {
        Body::from_stream(futures::stream::repeat(Ok::<_, std::convert::Infallible>(
            Bytes::from_static(&[b'1'; 1024]),
        )))
    };
    let routes = Router::new()
        .route("/endless", any(endless))
        .route("/announced", any(|| async { "1".repeat(5_000) }));
    let server = serve(routes).await;
    let limits = Limits {
        max_result_bytes: 4_000,
        ..testing::LIMITS
    };
    for path in ["/endless", "/announced"] {
        let context = testing::context()
            .config(json!({"url": format!("{server}{path}")}))
            .limits(limits)
            .build();
        let error = testing::call(&Http::default(), context).await.unwrap_err();
        assert!(!error.is_retryable());
        assert!(
            error
                .message()
                .contains("4000 bytes that limits.max_result_bytes allows"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_service_that_is_away_or_breaks_off_is_tried_again() {
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let refused = call(json!({"url": format!("http://{free}/pay?token=secret")}))
        .await
        .unwrap_err();
    assert!(refused.is_retryable());
    assert!(refused.message().contains("no connection"), "{refused}");
    assert!(!refused.to_json().contains("secret"), "{refused:?}");

    for answer in [
        "",
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{\"a\"",
        "nonsense\r\n\r\n",
    ] {
        let error = call(json!({"url": serve_bytes(answer).await}))
            .await
            .unwrap_err();
        assert!(error.is_retryable(), "{answer:?}: {error}");
        assert!(error.message().contains("was broken off"), "{error}");
        assert!(!error.sources().is_empty());
    }
}

#[tokio::test]
async fn a_silent_service_is_given_up_after_the_timeout_and_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let soon = || Instant::now() + Duration::from_millis(40);
    let far = || Instant::now() + Duration::from_secs(60);
    for (config, deadline, error_type) in [
        (json!({"url": url, "timeout_ms": 40}), far(), "http_error"),
        (json!({"url": url, "timeout_ms": 60_000}), soon(), "timeout"),
        (json!({"url": url}), soon(), "timeout"),
    ] {
        let context = testing::context()
            .config(&config)
            .deadline(deadline)
            .build();
        let error = testing::call(&Http::default(), context).await.unwrap_err();
        assert!(error.is_retryable());
        assert_eq!(error.error_type(), error_type, "{config}: {error}");
    }
}

#[tokio::test]
async fn cancelling_gives_a_request_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let token = CancellationToken::new();
    let context = testing::context()
        .config(json!({"url": url}))
        .cancellation(token.clone())
        .build();
    let attempt = tokio::spawn(async move { testing::call(&Http::default(), context).await });
    let _connection = listener.accept().await.unwrap();
    token.cancel();
    assert!(
        attempt
            .await
            .unwrap()
            .unwrap_err()
            .message()
            .contains("the step is cancelled")
    );
}

#[tokio::test]
async fn a_redirect_is_followed_only_with_the_same_request_and_scheme() {
    let to = |status: u16, place: &'static str| {
        any(move || async move { (StatusCode::from_u16(status).unwrap(), [("location", place)]) })
    };
    let routes = Router::new()
        .route(
            "/end",
            any(|method: axum::http::Method| async move { format!("\"{method}\"") }),
        )
        .route("/307", to(307, "/end"))
        .route("/308", to(308, "/307"))
        .route("/302", to(302, "/end"))
        .route("/303", to(303, "/end"))
        .route("/loop", to(307, "/loop"))
        .route("/scheme", to(307, "https://127.0.0.1:1/end"));
    let server = serve(routes).await;
    // (method, path, result or what the failure says)
    let table = [
        ("POST", "/307", Ok("\"POST\"")),
        ("POST", "/308", Ok("\"POST\"")),
        ("GET", "/302", Ok("\"GET\"")),
        (
            "POST",
            "/302",
            Err("302 Found and points to /end; give the final address"),
        ),
        (
            "PUT",
            "/303",
            Err("303 See Other and points to /end; give the final address"),
        ),
        ("POST", "/loop", Err("was redirected where it may not go")),
        ("POST", "/scheme", Err("was redirected where it may not go")),
        ("GET", "/scheme", Err("was redirected where it may not go")),
    ];
    for (method, path, expected) in table {
        match (
            call(json!({"url": format!("{server}{path}"), "method": method})).await,
            expected,
        ) {
            (Ok(result), Ok(expected)) => assert_eq!(result, expected),
            (Err(error), Err(part)) => {
                assert!(!error.is_retryable(), "{method} {path}");
                assert!(error.message().contains(part), "{method} {path}: {error}");
            }
            (result, _) => panic!("{method} {path}: {result:?}"),
        }
    }
}

#[tokio::test]
async fn settings_that_make_no_request_are_a_permanent_failure_that_names_them() {
    for (config, part) in [
        (json!({}), "missing field `url`"),
        (
            json!({"url": "shop"}),
            "initialization.url: relative URL without a base",
        ),
        (
            json!({"url": "file:///etc/passwd"}),
            "the scheme `file` is neither http nor https",
        ),
        (
            json!({"url": "http://h/", "method": "TRACE"}),
            "initialization.method: unknown variant `TRACE`",
        ),
        (
            json!({"url": "http://h/", "headers": {"a b": "c"}}),
            "`a b` is not a header name",
        ),
        (
            json!({"url": "http://h/", "headers": {"a": "b\nc"}}),
            "initialization.headers.a: not a header value",
        ),
        (
            json!({"url": "http://h/", "headers": {"a": 1}}),
            "initialization.headers.a: invalid type",
        ),
        (
            json!({"url": "http://h/", "timeout": 5}),
            "unknown field `timeout`",
        ),
    ] {
        let error = call(config.clone()).await.unwrap_err();
        assert!(!error.is_retryable(), "{config}");
        assert!(error.message().contains(part), "{config}: {error}");
    }
}
