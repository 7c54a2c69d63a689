//! A trace goes on from its caller's and into what handlers call, and is exported or not as a whole.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::http::HeaderMap;
use serde_json::json;
use tasker_tests::Setup;
use tasker_tests::otlp::{Link, Receiver};
use uuid::Uuid;

use super::{PATIENCE, request, submit, template, trace, with};

/// A caller's trace and span.
const CALLER_TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER_SPAN: &str = "b7ad6b7169203331";

#[tokio::test]
async fn a_caller_s_trace_goes_on_where_the_ids_are_one_and_is_linked_to_where_not() {
    let receiver = Receiver::start().await;
    let stack = with(&receiver, Setup::default()).await;
    let traceparent = format!("00-{CALLER_TRACE}-{CALLER_SPAN}-01");
    let headers = [
        ("traceparent", traceparent.as_str()),
        ("tracestate", "vendor=a:1,other=2"),
    ];

    let (_, id) = submit(&stack, &request("line"), &headers).await;
    assert_eq!(id, CALLER_TRACE, "the trace id becomes the correlation id");
    let found = trace(&receiver, &id, 11).await;
    let first = found.one("task.initialize");
    assert_eq!(
        (first.parent.as_str(), first.kind.as_str()),
        (CALLER_SPAN, "SERVER")
    );
    assert_eq!(first.links, []);

    let mut own = request("line");
    own["correlation_id"] = json!(Uuid::now_v7());
    let (_, id) = submit(&stack, &own, &headers).await;
    assert_ne!(id, CALLER_TRACE);
    let found = trace(&receiver, &id, 11).await;
    let first = found.one("task.initialize");
    assert_eq!(first.parent, "");
    let caller = Link {
        trace_id: CALLER_TRACE.to_owned(),
        span_id: CALLER_SPAN.to_owned(),
    };
    assert_eq!(first.links, [caller]);

    // What is no traceparent is as good as none.
    for wrong in [
        "00-0-0-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "nonsense",
    ] {
        let (_, id) = submit(&stack, &request("line"), &[("traceparent", wrong)]).await;
        let found = trace(&receiver, &id, 11).await;
        let first = found.one("task.initialize");
        assert_eq!(
            (first.parent.as_str(), first.links.len()),
            ("", 0),
            "{wrong}"
        );
    }
    // A nil id is nobody's.
    let mut nil = request("line");
    nil["correlation_id"] = json!(Uuid::nil());
    let post = stack.client().post(stack.url("/v1/tasks")).json(&nil);
    assert_eq!(post.send().await.unwrap().status(), 400);
}

#[tokio::test]
async fn batches_and_submissions_in_sql_are_traced_too() {
    let receiver = Receiver::start().await;
    let stack = with(&receiver, Setup::default()).await;
    let post = stack.client().post(stack.url("/v1/tasks/batch"));
    let post = post.header("traceparent", format!("00-{CALLER_TRACE}-{CALLER_SPAN}-01"));
    let batch = json!({"tasks": [request("line"), request("line")]});
    assert_eq!(post.json(&batch).send().await.unwrap().status(), 200);
    let found = trace(&receiver, CALLER_TRACE, 22).await;
    let firsts: Vec<_> = found
        .0
        .iter()
        .filter(|span| span.name == "task.initialize")
        .collect();
    assert_eq!(firsts.len(), 2);
    assert!(firsts.iter().all(|span| span.parent == CALLER_SPAN));

    let correlation = Uuid::now_v7();
    sqlx::query("SELECT tasker.submit_task('traces', 'line', '{}', correlation_id => $1)")
        .bind(correlation)
        .execute(stack.sql())
        .await
        .unwrap();
    trace(&receiver, &correlation.simple().to_string(), 11).await;
}

#[tokio::test]
async fn a_share_of_tasks_is_traced_and_who_asks_for_it_is_always_heard() {
    let receiver = Receiver::start().await;
    let none = Setup::default().configure("telemetry.sample_rate", 0);
    let stack = with(&receiver, none).await;
    let batch = vec![request("line"); 50];
    stack.submit_all(&batch).await;
    stack.wait_all_at_rest(PATIENCE).await;
    let traceparent = format!("00-{CALLER_TRACE}-{CALLER_SPAN}-01");
    let (_, id) = submit(&stack, &request("line"), &[("traceparent", &traceparent)]).await;
    trace(&receiver, &id, 11).await;
    assert!(receiver.spans().iter().all(|span| span.trace_id == id));
    drop(stack);

    let receiver = Receiver::start().await;
    let some = Setup::default().configure("telemetry.sample_rate", "0.3");
    let mut stack = with(&receiver, some).await;
    let unwanted = format!("00-{CALLER_TRACE}-{CALLER_SPAN}-00");
    submit(&stack, &request("line"), &[("traceparent", &unwanted)]).await;
    let batch = vec![request("line"); 200];
    stack.submit_all(&batch).await;
    stack.wait_all_at_rest(PATIENCE).await;
    assert!(stack.worker().term().await.success());
    assert!(stack.server().term().await.success());
    let mut spans: BTreeMap<String, usize> = BTreeMap::new();
    for span in receiver.spans() {
        *spans.entry(span.trace_id).or_default() += 1;
    }
    // Fifteen standard deviations are further away than chance reaches.
    assert!(
        (10..150).contains(&spans.len()),
        "{} of 200 traced",
        spans.len()
    );
    assert!(
        spans.values().all(|count| *count == 11),
        "a task whole or not at all: {spans:?}"
    );
    assert!(!spans.contains_key(CALLER_TRACE), "the caller said no");
}

/// An address that keeps the headers of what is sent to it.
async fn listen() -> (SocketAddr, Arc<Mutex<Vec<HeaderMap>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&seen);
    let answer = move |headers: HeaderMap| async move {
        kept.lock().unwrap().push(headers);
        axum::Json(json!({"ok": true}))
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = axum::Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, seen)
}

#[tokio::test]
async fn handlers_are_told_their_place_in_the_trace_and_http_passes_it_on() {
    let receiver = Receiver::start().await;
    let mut stack = with(&receiver, Setup::default()).await;
    stack.add_faulty_worker().await;
    let (address, seen) = listen().await;
    let steps = format!(
        "  - {{ name: tell, handler: {{ callable: tells }} }}
  - {{ name: call, dependencies: [tell], handler: {{ callable: http, initialization: {{ url: 'http://{address}/' }} }} }}
"
    );
    stack.apply_template(&template("passing", &steps)).await;
    let traceparent = format!("00-{CALLER_TRACE}-{CALLER_SPAN}-01");
    let headers = [
        ("traceparent", traceparent.as_str()),
        ("tracestate", "vendor=a:1"),
    ];
    let (task, id) = submit(&stack, &request("passing"), &headers).await;
    stack.wait_complete(task, PATIENCE).await;
    let found = trace(&receiver, &id, 8).await;

    let told = stack.steps(task).await["tell"]["results"].clone();
    let place = |step| format!("00-{id}-{}-01", found.of("step.execute", step, 1).span_id);
    assert_eq!(told["traceparent"], json!(place("tell")), "{told}");
    assert_eq!(
        (&told["tracestate"], &told["is_traced"]),
        (&json!("vendor=a:1"), &json!(true))
    );

    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen[0]["traceparent"].to_str().unwrap(), place("call"));
    assert_eq!(seen[0]["tracestate"].to_str().unwrap(), "vendor=a:1");

    // Where the caller said no, they are told that too.
    let unwanted = format!("00-{CALLER_TRACE}-{CALLER_SPAN}-00");
    let mut own = request("passing");
    own["correlation_id"] = json!(Uuid::now_v7());
    let (task, id) = submit(&stack, &own, &[("traceparent", &unwanted)]).await;
    stack.wait_complete(task, PATIENCE).await;
    let told = stack.steps(task).await["tell"]["results"].clone();
    let place = told["traceparent"].as_str().unwrap();
    assert!(
        place.starts_with(&format!("00-{id}-")) && place.ends_with("-00"),
        "{told}"
    );
    assert_eq!(told["is_traced"], json!(false));
}
