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
  - { name: top, handler: { callable: echo } }
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

/// An event of a task: its name and its data.
type Told = (String, Value);

/// The event that `text` is; `None` for a sign of life.
fn event(text: &str) -> Option<Told> {
    let field = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(|value| value.trim_start().to_owned())
    };
    let data = serde_json::from_str(&field("data")?).unwrap();
    Some((field("event").unwrap(), data))
}

/// The events of a task until the stream ends. `seen` is shown each as it comes.
async fn follow(stack: &Stack, task: Uuid, seen: impl Fn(&Told)) -> Vec<Told> {
    let reply = stack
        .client()
        .get(stack.url(&format!("/v1/tasks/{task}/events")))
        .send()
        .await
        .unwrap();
    assert_eq!(reply.headers()["content-type"], "text/event-stream");
    let mut chunks = reply.bytes_stream();
    let mut text = String::new();
    let mut events = Vec::new();
    while let Some(chunk) = chunks.next().await {
        // The data of these tasks is plain ASCII, so no chunk ends within a character.
        text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
        while let Some((first, rest)) = text.split_once("\n\n") {
            let told = event(first);
            text = rest.to_owned();
            told.iter().for_each(&seen);
            events.extend(told);
        }
    }
    events
}

/// Whether an event tells of the step that it is in this state.
fn tells((_, data): &Told, name: &str, state: &str) -> bool {
    let steps = data["steps"].as_array().unwrap();
    steps
        .iter()
        .any(|step| step["name"] == name && step["current_state"] == state)
}

#[tokio::test]
async fn events_tell_a_tasks_progress_and_end_with_it() {
    let stack = Stack::start().await;
    let directory = stack.directory("gates");
    let gate = |name: &str| directory.join(name);
    // `top` runs, and `left` is retried, until their gates are open, however seldom the task is looked at.
    let template = format!(
        "
name: gated
namespace_name: wire
version: 1.0.0
steps:
  - {{ name: top, handler: {{ callable: command, initialization: {{ argv: [sh, -c, 'until [ -e {} ]; do sleep 0.05; done'] }} }} }}
  - {{ name: left, handler: {{ callable: command, initialization: {{ argv: [test, -e, '{}'] }} }}, dependencies: [top], retry: {{ max_attempts: 100, backoff: linear, backoff_base_ms: 300, max_backoff_ms: 300 }} }}
  - {{ name: right, handler: {{ callable: echo }}, dependencies: [top] }}
  - {{ name: bottom, handler: {{ callable: echo }}, dependencies: [left, right] }}
",
        gate("top").display(),
        gate("left").display(),
    );
    stack.apply_template(&template).await;
    let task = stack
        .submit(serde_json::json!({"name": "gated", "namespace": "wire", "context": {}}))
        .await;
    let open = |told: &Told| {
        for (name, state) in [("top", "in_progress"), ("left", "waiting_for_retry")] {
            if tells(told, name, state) {
                std::fs::write(gate(name), "").unwrap();
            }
        }
    };
    let events = tokio::time::timeout(PATIENCE, follow(&stack, task, open))
        .await
        .unwrap();
    assert!(events.len() >= 3, "{events:#?}");
    assert_eq!(
        events.iter().position(|(name, _)| name == "end"),
        Some(events.len() - 1)
    );
    let (first, last) = (&events[0].1, &events[events.len() - 1].1);
    for whole in [first, last] {
        assert_eq!(whole["steps"].as_array().unwrap().len(), 4);
    }
    assert_eq!(
        (&last["status"], &last["final"]),
        (&"complete".into(), &true.into())
    );
    for (name, state) in [
        ("top", "in_progress"),
        ("left", "waiting_for_retry"),
        ("bottom", "pending"),
    ] {
        assert!(
            events.iter().any(|told| tells(told, name, state)),
            "{name} {state}: {events:#?}"
        );
    }

    let again = tokio::time::timeout(PATIENCE, follow(&stack, task, |_| ()))
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
