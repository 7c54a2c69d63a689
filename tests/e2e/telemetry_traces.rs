//! The trace of a task is its graph: its id is the correlation id, and its spans are each other's children along the
//! edges.

mod caller;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};
use tasker_tests::otlp::{Link, Receiver, Span};
use tasker_tests::{Setup, Stack};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(60);

fn template(name: &str, steps: &str) -> String {
    format!("name: {name}\nnamespace_name: traces\nversion: 1.0.0\nsteps:\n{steps}")
}

fn request(name: &str) -> Value {
    json!({"name": name, "namespace": "traces", "context": {}})
}

/// Steps that follow one another.
const LINE: &str = "  - { name: a, handler: { callable: echo } }
  - { name: b, dependencies: [a], handler: { callable: echo } }
  - { name: c, dependencies: [b], handler: { callable: echo } }
";

async fn with(receiver: &Receiver, setup: Setup) -> Stack {
    let stack = setup.export_to(&receiver.endpoint()).start().await;
    stack.apply_template(&template("line", LINE)).await;
    stack
}

/// Sends a request with headers, and answers the task with its correlation id.
async fn submit(stack: &Stack, request: &Value, headers: &[(&str, &str)]) -> (Uuid, String) {
    let mut post = stack.client().post(stack.url("/v1/tasks")).json(request);
    for (name, value) in headers {
        post = post.header(*name, *value);
    }
    let reply = post.send().await.unwrap();
    assert_eq!(reply.status(), 201);
    let task: Value = reply.json().await.unwrap();
    let uuid = |key: &str| task[key].as_str().unwrap().parse::<Uuid>().unwrap();
    (
        uuid("task_uuid"),
        uuid("correlation_id").simple().to_string(),
    )
}

/// The spans of a trace, once so many are there.
async fn trace(receiver: &Receiver, id: &str, spans: usize) -> Trace {
    let what = format!("{spans} spans of {id}");
    let found = receiver.wait(&what, PATIENCE, |receiver| {
        let found = receiver.trace(id);
        (found.len() >= spans).then_some(found)
    });
    let found = found.await;
    let names: Vec<_> = found
        .iter()
        .map(|span| (&span.name, span.text("tasker.step.name")))
        .collect();
    assert_eq!(found.len(), spans, "{names:?}");
    let ids: BTreeSet<_> = found.iter().map(|span| span.span_id.clone()).collect();
    assert_eq!(ids.len(), spans, "each has an id of its own");
    for span in &found {
        assert!(span.began > 0 && span.began <= span.ended, "{span:?}");
        assert_eq!(span.resource["service.name"], "tasker-core-dev");
    }
    Trace(found)
}

/// The spans of one task.
struct Trace(Vec<Span>);

impl Trace {
    fn one(&self, name: &str) -> &Span {
        let found: Vec<_> = self.0.iter().filter(|span| span.name == name).collect();
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        found[0]
    }

    /// The span of an attempt.
    fn of(&self, name: &str, step: &str, attempt: u64) -> &Span {
        let mut found = self.0.iter().filter(|span| {
            span.name == name
                && span.text("tasker.step.name") == step
                && span.attributes["tasker.step.attempt"] == json!(attempt)
        });
        let span = found
            .next()
            .unwrap_or_else(|| panic!("no {name} of {step} {attempt}"));
        assert!(found.next().is_none(), "two {name} of {step} {attempt}");
        span
    }

    /// Holds that an attempt's spans follow one another, and answers the first and the last.
    fn hops(&self, step: &str, attempt: u64) -> (&Span, &Span) {
        let enqueued = self.of("step.enqueue", step, attempt);
        let executed = self.of("step.execute", step, attempt);
        let processed = self.of("step_result.process", step, attempt);
        assert_eq!(executed.parent, enqueued.span_id, "{step}");
        assert_eq!(processed.parent, executed.span_id, "{step}");
        let kinds = [enqueued, executed, processed].map(|span| span.kind.as_str());
        assert_eq!(kinds, ["PRODUCER", "CONSUMER", "INTERNAL"], "{step}");
        (enqueued, processed)
    }
}

fn link(to: &Span) -> Link {
    Link {
        trace_id: to.trace_id.clone(),
        span_id: to.span_id.clone(),
    }
}

#[tokio::test]
async fn the_spans_of_a_line_are_each_other_s_children_and_say_what_they_are_of() {
    let receiver = Receiver::start().await;
    let stack = with(&receiver, Setup::default()).await;
    let mut asked = request("line");
    let correlation = Uuid::now_v7();
    asked["correlation_id"] = json!(correlation);
    let (task, id) = submit(&stack, &asked, &[]).await;
    assert_eq!(id, correlation.simple().to_string());
    let trace = trace(&receiver, &id, 11).await;
    let first = trace.one("task.initialize");
    assert_eq!((first.parent.as_str(), first.links.len()), ("", 0));
    let mut before = first;
    for step in ["a", "b", "c"] {
        let (enqueued, processed) = trace.hops(step, 1);
        assert_eq!(enqueued.parent, before.span_id, "{step}");
        assert_eq!(enqueued.links, [], "{step}");
        before = processed;
    }
    assert_eq!(trace.one("task.finalize").parent, before.span_id);

    let steps = stack.steps(task).await;
    for span in &trace.0 {
        let process = if span.name == "step.execute" {
            "worker"
        } else {
            "server"
        };
        assert_eq!(span.resource["tasker.process"], process, "{}", span.name);
        assert!(!span.failed, "{}", span.name);
        let texts =
            ["tasker.namespace", "tasker.task.name", "tasker.task.uuid"].map(|key| span.text(key));
        assert_eq!(
            texts,
            ["traces".to_owned(), "line".to_owned(), task.to_string()]
        );
        if span.name.starts_with("step") {
            let uuid = &steps[&span.text("tasker.step.name")]["step_uuid"];
            assert_eq!(&span.attributes["tasker.step.uuid"], uuid);
        }
    }
    for (span, operation) in [("step.enqueue", "send"), ("step.execute", "process")] {
        let span = trace.of(span, "a", 1);
        assert_eq!(span.text("messaging.system"), "postgresql");
        assert_eq!(span.text("messaging.operation.type"), operation);
        assert_eq!(span.text("messaging.destination.name"), "steps");
        let conversation = span.text("messaging.message.conversation_id");
        assert_eq!(conversation, correlation.to_string());
    }
}

#[tokio::test]
async fn a_join_is_the_child_of_the_parent_that_ended_last_and_is_linked_to_all() {
    let receiver = Receiver::start().await;
    let stack = with(&receiver, Setup::default()).await;
    let diamond = "  - { name: top, handler: { callable: echo } }
  - { name: left, dependencies: [top], handler: { callable: sleep, initialization: { ms: 300 } } }
  - { name: right, dependencies: [top], handler: { callable: echo } }
  - { name: bottom, dependencies: [left, right], handler: { callable: echo } }
";
    stack.apply_template(&template("diamond", diamond)).await;
    let (_, id) = submit(&stack, &request("diamond"), &[]).await;
    let found = trace(&receiver, &id, 14).await;
    let ended = |step| found.hops(step, 1).1;
    for step in ["left", "right"] {
        let (enqueued, _) = found.hops(step, 1);
        assert_eq!(enqueued.parent, ended("top").span_id);
        assert_eq!(enqueued.links, []);
    }
    let (join, _) = found.hops("bottom", 1);
    assert_eq!(join.parent, ended("left").span_id, "the slower one");
    let links: BTreeSet<_> = join.links.iter().cloned().collect();
    assert_eq!(
        links,
        BTreeSet::from([link(ended("left")), link(ended("right"))])
    );
    assert_eq!(join.attributes["tasker.parents.count"], json!(2));

    // So many that not all are linked to.
    let mut wide = String::new();
    let names: Vec<String> = (0..130).map(|n| format!("s{n}")).collect();
    for name in &names {
        writeln!(
            wide,
            "  - {{ name: {name}, handler: {{ callable: echo }} }}"
        )
        .unwrap();
    }
    writeln!(
        wide,
        "  - {{ name: end, dependencies: {}, handler: {{ callable: echo }} }}",
        json!(names)
    )
    .unwrap();
    stack.apply_template(&template("wide", &wide)).await;
    let (_, id) = submit(&stack, &request("wide"), &[]).await;
    let found = trace(&receiver, &id, 2 + 3 * 131).await;
    let (join, _) = found.hops("end", 1);
    assert_eq!(join.attributes["tasker.parents.count"], json!(130));
    assert_eq!(join.links.iter().collect::<BTreeSet<_>>().len(), 128);
}

#[tokio::test]
async fn a_retry_is_linked_to_the_attempt_before_and_failures_say_what_they_were() {
    let receiver = Receiver::start().await;
    let mut stack = with(&receiver, Setup::default()).await;
    stack.add_faulty_worker().await;
    let steps = "  - { name: stubborn, handler: { callable: fail, initialization: { times: 2 } }, retry: { max_attempts: 3, backoff: none } }
  - { name: late, dependencies: [stubborn], timeout_seconds: 1, handler: { callable: sleep, initialization: { ms: 600000 } }, retry: { max_attempts: 1 } }
  - { name: wild, dependencies: [stubborn], handler: { callable: panics }, retry: { max_attempts: 1 } }
  - { name: never, dependencies: [late, wild], handler: { callable: echo } }
";
    stack.apply_template(&template("broken", steps)).await;
    let (task, id) = submit(&stack, &request("broken"), &[]).await;
    stack.wait_for(task, &["error"], PATIENCE).await;
    let found = trace(&receiver, &id, 2 + 3 * 3 + 3 + 3).await;
    for attempt in 1..=3 {
        let (enqueued, _) = found.hops("stubborn", attempt);
        let executed = found.of("step.execute", "stubborn", attempt);
        assert_eq!(executed.failed, attempt < 3, "{attempt}");
        if attempt == 1 {
            assert_eq!(executed.links, []);
            assert_eq!(enqueued.parent, found.one("task.initialize").span_id);
        } else {
            let before = found.of("step.execute", "stubborn", attempt - 1);
            assert_eq!(executed.links, [link(before)]);
            let (_, processed) = found.hops("stubborn", attempt - 1);
            assert_eq!(enqueued.parent, processed.span_id);
        }
    }
    for (step, error) in [
        ("stubborn", "handler_error"),
        ("late", "timeout"),
        ("wild", "handler_panic"),
    ] {
        let executed = found.of("step.execute", step, 1);
        assert!(executed.failed, "{step}");
        assert_eq!(executed.text("error.type"), error);
        let (event, about) = &executed.events[0];
        assert_eq!(
            (event.as_str(), &about["exception.type"]),
            ("exception", &json!(error))
        );
        assert!(!about["exception.message"].as_str().unwrap().is_empty());
    }
    let last = found.one("task.finalize");
    assert!(last.failed);
    assert_eq!(last.text("tasker.final_state"), "error");
}

#[tokio::test]
async fn a_cancelled_task_s_trace_ends_with_that() {
    let receiver = Receiver::start().await;
    let stack = with(&receiver, Setup::default()).await;
    let steps =
        "  - { name: long, handler: { callable: sleep, initialization: { ms: 600000 } } }\n";
    stack.apply_template(&template("long", steps)).await;
    let (task, id) = submit(&stack, &request("long"), &[]).await;
    let path = format!("/v1/tasks/{task}");
    let (status, answer) = stack.call(reqwest::Method::DELETE, &path, None).await;
    assert_eq!(status, 200, "{answer}");
    let last = receiver.wait("the end", PATIENCE, |receiver| {
        let trace = receiver.trace(&id);
        trace.into_iter().find(|span| span.name == "task.finalize")
    });
    let last = last.await;
    assert_eq!(last.text("tasker.final_state"), "cancelled");
    assert!(!last.parent.is_empty());
}
