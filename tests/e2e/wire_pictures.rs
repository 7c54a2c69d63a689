//! Following a task by its events, and its graph in every format.

use std::time::Duration;

use futures::StreamExt;
use serde_json::Value;
use tasker_tests::Stack;
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(30);

const DIAMOND: &str = "
name: diamond
namespace_name: wire
version: 1.0.0
steps:
  - { name: top, handler: { callable: sleep, initialization: { ms: 300 } } }
  - { name: left, handler: { callable: fail, initialization: { times: 1 } }, dependencies: [top], retry: { backoff_base_ms: 300 } }
  - { name: right, handler: { callable: echo }, dependencies: [top] }
  - { name: bottom, handler: { callable: echo }, dependencies: [left, right] }
";

async fn submit(stack: &Stack) -> Uuid {
    stack.apply_template(DIAMOND).await;
    stack
        .submit(serde_json::json!({"name": "diamond", "namespace": "wire", "context": {}}))
        .await
}

/// The events of a task until the stream ends: (name, data).
async fn follow(stack: &Stack, task: Uuid) -> Vec<(String, Value)> {
    let reply = stack
        .client()
        .get(stack.url(&format!("/v1/tasks/{task}/events")))
        .send()
        .await
        .unwrap();
    assert_eq!(reply.headers()["content-type"], "text/event-stream");
    let mut chunks = reply.bytes_stream();
    let mut text = Vec::new();
    while let Some(chunk) = chunks.next().await {
        text.extend_from_slice(&chunk.unwrap());
    }
    let text = String::from_utf8(text).unwrap();
    let field = |event: &str, name: &str| {
        let line = event
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(|value| value.trim_start().to_owned())
    };
    text.split("\n\n")
        .filter_map(|event| {
            let data = serde_json::from_str(&field(event, "data")?).unwrap();
            Some((field(event, "event").unwrap(), data))
        })
        .collect()
}

#[tokio::test]
async fn events_tell_a_tasks_progress_and_end_with_it() {
    let stack = Stack::start().await;
    let task = submit(&stack).await;
    let events = tokio::time::timeout(PATIENCE, follow(&stack, task))
        .await
        .unwrap();
    let (names, data): (Vec<String>, Vec<Value>) = events.into_iter().unzip();
    assert!(names.len() >= 3, "{data:#?}");
    assert_eq!(
        names.iter().position(|name| name == "end"),
        Some(names.len() - 1)
    );
    assert_eq!(data[0]["steps"].as_array().unwrap().len(), 4);
    let last = data.last().unwrap();
    assert_eq!(
        (&last["status"], &last["final"]),
        (&"complete".into(), &true.into())
    );
    assert_eq!(last["steps"].as_array().unwrap().len(), 4);
    let told = |name: &str, state: &str| {
        let steps = data
            .iter()
            .flat_map(|event| event["steps"].as_array().unwrap());
        steps
            .into_iter()
            .any(|step| step["name"] == name && step["current_state"] == state)
    };
    assert!(
        told("top", "in_progress")
            && told("left", "waiting_for_retry")
            && told("bottom", "pending")
    );

    let again = tokio::time::timeout(PATIENCE, follow(&stack, task))
        .await
        .unwrap();
    assert_eq!(again.len(), 1, "a task that is final has one event");
    assert_eq!(again[0].0, "end");
}

#[tokio::test]
async fn a_server_that_stops_ends_its_event_streams() {
    let mut stack = Stack::start().await;
    stack.worker().kill_9().await;
    let task = submit(&stack).await;
    let url = stack.url(&format!("/v1/tasks/{task}/events"));
    let mut chunks = stack.client().get(url).send().await.unwrap().bytes_stream();
    assert!(chunks.next().await.unwrap().is_ok());
    let (status, rest) = tokio::join!(stack.server().term(), chunks.collect::<Vec<_>>());
    assert!(status.success());
    drop(rest);
}

#[tokio::test]
async fn a_graph_is_had_as_json_svg_and_mermaid() {
    let stack = Stack::start().await;
    let task = submit(&stack).await;
    stack.wait_complete(task, PATIENCE).await;
    let get = |accept: &'static str| {
        let request = stack
            .client()
            .get(stack.url(&format!("/v1/tasks/{task}/graph")))
            .header("accept", accept);
        async move {
            let reply = request.send().await.unwrap();
            let kind = reply.headers()["content-type"].to_str().unwrap().to_owned();
            (kind, reply.text().await.unwrap())
        }
    };
    let (kind, text) = get("*/*").await;
    assert_eq!(kind, "application/json");
    let graph: Value = serde_json::from_str(&text).unwrap();
    let layers: Vec<(&str, u64)> = graph["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| {
            (
                node["name"].as_str().unwrap(),
                node["layer"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        layers,
        [("top", 0), ("left", 1), ("right", 1), ("bottom", 2)]
    );
    assert_eq!(graph["edges"].as_array().unwrap().len(), 4);
    assert!(
        graph["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .all(|node| node["current_state"] == "complete")
    );

    let (kind, svg) = get("image/svg+xml").await;
    assert_eq!(kind, "image/svg+xml");
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    for name in ["top", "left", "right", "bottom", "attempt 2"] {
        assert!(svg.contains(name), "{name}");
    }
    let (kind, mermaid) = get("text/vnd.mermaid").await;
    assert!(kind.starts_with("text/vnd.mermaid"));
    assert!(mermaid.starts_with("flowchart LR\n"));
    assert_eq!(mermaid.matches(" --> ").count(), 4);
    assert!(mermaid.contains("s1[\"top<br/>complete\"]"), "{mermaid}");
}
