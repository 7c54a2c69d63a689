use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use tasker_shared::access::{Caller, Need, Permissions, REASON_HEADER, SEVERITY_HEADER};

use super::super::description;
use super::super::tests::{api, call, error};
use super::{By, ROUTES};

const TASK: &str = "0199c3e0-ccdb-7581-87ab-3f67dae00000";

/// A key that has the form of one.
fn key() -> String {
    format!("tsk_{}", "0123456789abcdef".repeat(4))
}

/// A path of this pattern.
fn path(pattern: &str) -> String {
    let parts = pattern.split('/').map(|part| match part {
        "{task_uuid}" => TASK,
        "{step_uuid}" => "0199c3e0-ccdb-7581-87ab-3f67dae00001",
        part if part.starts_with('{') => "1.0.0",
        part => part,
    });
    parts.collect::<Vec<_>>().join("/")
}

fn on() -> Vec<(&'static str, &'static str)> {
    vec![("auth.enabled", "true")]
}

#[test]
fn the_table_has_every_route_and_no_other() {
    let listed: BTreeSet<(String, String)> = ROUTES
        .iter()
        .map(|(method, pattern, _)| (method.to_string(), (*pattern).to_owned()))
        .collect();
    assert_eq!(listed.len(), ROUTES.len(), "a route has two lines");
    let described = serde_json::to_value(description()).unwrap();
    let mut served = BTreeSet::new();
    for (pattern, methods) in described["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            if ["get", "post", "put", "patch", "delete", "head", "options"]
                .contains(&method.as_str())
            {
                served.insert((method.to_uppercase(), pattern.clone()));
            }
        }
    }
    let without_rule: Vec<_> = served.difference(&listed).collect();
    assert!(
        without_rule.is_empty(),
        "add to web/access.rs: {without_rule:?}"
    );
    let without_route: Vec<_> = listed.difference(&served).collect();
    assert!(without_route.is_empty(), "nothing serves {without_route:?}");
}

#[tokio::test]
async fn whoever_brings_nothing_gets_at_nothing_but_health_metrics_and_the_description() {
    let api = api(&on());
    for (method, pattern, need) in ROUTES {
        // A body that is no JSON: it must not even be looked at.
        let request = Request::builder().method(method).uri(path(pattern));
        let (status, headers, body) = call(&api, request.body(Body::from("{")).unwrap()).await;
        if *need == Need::Nothing {
            assert_ne!(status, StatusCode::UNAUTHORIZED, "{method} {pattern}");
            assert!(!headers.contains_key(REASON_HEADER));
            continue;
        }
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {pattern}");
        assert_eq!(error(&headers, &body)["code"], "UNAUTHORIZED");
        assert_eq!(headers[REASON_HEADER], "missing");
        assert_eq!(headers[SEVERITY_HEADER], "low");
        assert!(headers.contains_key("www-authenticate"));
    }
    for (path, expected) in [("/api-docs/openapi.json", 200), ("/nowhere", 404)] {
        let request = Request::get(path).body(Body::empty()).unwrap();
        assert_eq!(call(&api, request).await.0, expected, "{path}");
    }
    // A method that a path does not have is told with those that it has.
    let request = Request::put("/v1/tasks").body(Body::empty()).unwrap();
    let (status, headers, _) = call(&api, request).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(headers["allow"], "POST,GET,HEAD");
    // HEAD is GET without the body, and as guarded.
    let request = Request::head("/v1/tasks").body(Body::empty()).unwrap();
    assert_eq!(call(&api, request).await.0, StatusCode::UNAUTHORIZED);
}

type Headers<'a> = &'a [(&'a str, &'a str)];

#[tokio::test]
async fn what_cannot_be_judged_is_refused_in_the_same_shape() {
    let api = api(&on());
    let table: [(Headers, u16, &str, &str); 6] = [
        (
            &[("authorization", "Basic dTpw")],
            401,
            "AUTHENTICATION_FAILED",
            "malformed",
        ),
        (
            &[("authorization", "Bearer a.b.c")],
            401,
            "AUTHENTICATION_FAILED",
            "invalid",
        ),
        (
            &[("x-api-key", "hunter2")],
            401,
            "AUTHENTICATION_FAILED",
            "malformed",
        ),
        (
            &[("x-api-key", "k"), ("x-api-key", "k")],
            401,
            "AUTHENTICATION_FAILED",
            "malformed",
        ),
        // The database that has the keys is away.
        (&[("x-api-key", "KEY")], 503, "SERVICE_UNAVAILABLE", ""),
        (
            &[("authorization", "Bearer KEY")],
            503,
            "SERVICE_UNAVAILABLE",
            "",
        ),
    ];
    for (sent, expected, code, reason) in table {
        let mut request = Request::get(format!("/v1/tasks/{TASK}"));
        for (name, value) in sent {
            request = request.header(*name, value.replace("KEY", &key()));
        }
        let (status, headers, body) = call(&api, request.body(Body::empty()).unwrap()).await;
        let error = error(&headers, &body);
        assert_eq!(
            (status.as_u16(), error["code"].as_str()),
            (expected, Some(code)),
            "{sent:?}"
        );
        let told = headers
            .get(REASON_HEADER)
            .map_or("", |r| r.to_str().unwrap());
        assert_eq!(told, reason, "{sent:?}");
        assert_eq!(headers.contains_key("retry-after"), expected == 503);
        let shown = format!("{headers:?}{error}");
        assert!(
            !shown.contains(&key()) && !shown.contains("hunter2"),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn pages_of_other_origins_are_let_in_only_where_configured() {
    let preflight = |origin: &str| {
        Request::builder()
            .method("OPTIONS")
            .uri("/v1/tasks")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "x-api-key,content-type")
            .body(Body::empty())
            .unwrap()
    };
    let allowed = |headers: &HeaderMap| {
        let origin = headers.get("access-control-allow-origin");
        origin.map(|origin| origin.to_str().unwrap().to_owned())
    };
    let closed = api(&on());
    let (status, headers, _) = call(&closed, preflight("https://ops.example")).await;
    assert_eq!((status.as_u16(), allowed(&headers)), (405, None));

    let mut settings = on();
    settings.push(("server.cors_origins", "https://ops.example"));
    let open = api(&settings);
    let (status, headers, _) = call(&open, preflight("https://ops.example")).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(allowed(&headers).as_deref(), Some("https://ops.example"));
    let sent = headers["access-control-allow-headers"].to_str().unwrap();
    assert!(sent.contains("x-api-key") && !sent.contains('*'), "{sent}");
    assert!(!headers.contains_key("access-control-allow-credentials"));
    let (_, headers, _) = call(&open, preflight("https://evil.example")).await;
    assert_eq!(allowed(&headers), None);
    // A refusal can be read by the page that caused it.
    let request = Request::get("/v1/tasks").header("origin", "https://ops.example");
    let (status, headers, _) = call(&open, request.body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(allowed(&headers).as_deref(), Some("https://ops.example"));
}

#[test]
fn who_acts_is_whom_the_request_names_and_always_whose_credentials_they_are() {
    let known = Caller::known("ci".to_owned(), Permissions::ALL, Vec::new());
    let (known, anybody) = (By(known), By(Caller::anonymous()));
    let table = [
        (&known, Some("ada"), Some("ada (by the credentials of ci)")),
        (&known, Some("ci"), Some("ci")),
        (&known, None, Some("ci")),
        (&anybody, Some("ada"), Some("ada")),
        (&anybody, None, None),
    ];
    for (by, named, expected) in table {
        assert_eq!(by.signed(named).as_deref(), expected, "{named:?}");
    }
}
