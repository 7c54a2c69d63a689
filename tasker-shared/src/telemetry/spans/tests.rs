#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use opentelemetry::Value;

use super::*;
use crate::metrics::export::Signal;
use crate::telemetry::tests::alone;

/// What may wait.
const QUEUE: usize = 64;

const CORRELATION: Uuid = Uuid::from_u128(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
const TASK_UUID: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0010_0000);

fn task() -> Task {
    Task {
        uuid: TASK_UUID,
        correlation_id: CORRELATION,
        namespace: Name::fixed("shop"),
        name: Name::fixed("process_order"),
    }
}

fn step(number: i32, attempt: i32) -> Step {
    Step {
        number,
        name: Name::fixed("charge"),
        attempt,
    }
}

fn time() -> Time {
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
    Time::new(start, start + Duration::from_millis(5))
}

fn id(kind: Kind, number: i32, attempt: i32) -> opentelemetry::SpanId {
    otel(span_id(kind, TASK_UUID, number, attempt))
}

/// The only span that `tell` makes.
fn made(tell: impl FnOnce()) -> SpanData {
    let mut waiting = DOOR.open(Signal::Traces, QUEUE);
    tell();
    let mut spans = waiting.take();
    DOOR.close();
    assert_eq!(spans.len(), 1);
    let span = spans.remove(0);
    assert_eq!(
        span.span_context.trace_id().to_bytes(),
        CORRELATION.into_bytes()
    );
    assert!(span.span_context.is_sampled());
    span
}

fn attribute<'a>(span: &'a SpanData, key: &str) -> Option<&'a Value> {
    let mut found = span.attributes.iter().filter(|a| a.key.as_str() == key);
    let value = found.next().map(|a| &a.value);
    assert!(found.next().is_none(), "{key} stands there twice");
    value
}

fn text(span: &SpanData, key: &str) -> String {
    let value = attribute(span, key).unwrap_or_else(|| panic!("no {key} in {span:?}"));
    value.to_string()
}

fn linked(span: &SpanData) -> Vec<opentelemetry::SpanId> {
    let links = span.links.iter();
    links.map(|link| link.span_context.span_id()).collect()
}

#[test]
fn spans_are_wanted_while_they_are_exported_and_of_tasks_that_are_traced() {
    let _alone = alone();
    assert!(!wanted(true) && !wanted(false));
    let waiting = DOOR.open(Signal::Traces, QUEUE);
    assert!(wanted(true) && !wanted(false));
    drop(waiting);
    DOOR.close();
    assert!(!wanted(true));
    // Without anybody to tell, telling is nothing.
    task_finalized(&task(), None, "complete", time(), None);
}

#[test]
fn the_first_span_is_a_child_of_its_caller_in_the_same_trace_and_linked_to_it_in_another() {
    let _alone = alone();
    let told =
        |caller: Option<&TraceContext>| made(|| task_initialized(&task(), caller, time(), None));
    let alone = told(None);
    assert_eq!(alone.name, "task.initialize");
    assert_eq!(alone.span_kind, SpanKind::Internal);
    assert_eq!(alone.parent_span_id, opentelemetry::SpanId::INVALID);
    assert_eq!(alone.span_context.span_id(), id(Kind::TaskInitialize, 0, 0));
    assert_eq!(linked(&alone), []);
    assert_eq!(
        alone.end_time.duration_since(alone.start_time).unwrap(),
        Duration::from_millis(5)
    );
    assert_eq!(alone.status, Status::Unset);

    let same = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let caller = TraceContext::parse(same, None).unwrap();
    let child = told(Some(&caller));
    assert_eq!(child.parent_span_id, otel(caller.span_id));
    assert!(child.parent_span_is_remote);
    assert_eq!(child.span_kind, SpanKind::Server);
    assert_eq!(linked(&child), []);

    let caller = TraceContext::parse(&same.replace("4bf9", "4bfa"), Some("a=1")).unwrap();
    let root = told(Some(&caller));
    assert_eq!(root.parent_span_id, opentelemetry::SpanId::INVALID);
    assert_eq!(linked(&root), [otel(caller.span_id)]);
    let link = &root.links[0].span_context;
    assert_eq!(link.trace_id().to_bytes(), caller.trace_id.into_bytes());
    assert_eq!(link.trace_state().header(), "a=1");
}

#[test]
fn a_step_is_enqueued_below_what_let_it_go() {
    let _alone = alone();
    let ended = |number| id(Kind::StepResultProcess, number, ENDED);
    let many: Vec<i32> = (1..=200).collect();
    let all_of_many: Vec<_> = many.iter().take(128).map(|n| ended(*n)).collect();
    let first = id(Kind::TaskInitialize, 0, 0);
    let cases = [
        (Cause::Start, 1, first, None, vec![]),
        (Cause::Request, 3, first, None, vec![]),
        (
            Cause::Parents { last: 1, all: &[1] },
            1,
            ended(1),
            Some(1),
            vec![],
        ),
        (
            Cause::Parents {
                last: 2,
                all: &[1, 2],
            },
            1,
            ended(2),
            Some(2),
            vec![ended(1), ended(2)],
        ),
        (
            Cause::Parents {
                last: 200,
                all: &many,
            },
            1,
            ended(200),
            Some(200),
            all_of_many,
        ),
        (
            Cause::Retry,
            3,
            id(Kind::StepResultProcess, 9, 2),
            None,
            vec![],
        ),
    ];
    for (cause, attempt, parent, parents, links) in cases {
        let span = made(|| step_enqueued(&task(), &step(9, attempt), cause, time()));
        assert_eq!(span.name, "step.enqueue");
        assert_eq!(span.span_kind, SpanKind::Producer);
        assert_eq!(
            span.span_context.span_id(),
            id(Kind::StepEnqueue, 9, attempt)
        );
        assert_eq!(span.parent_span_id, parent, "{cause:?}");
        assert_eq!(linked(&span), links, "{cause:?}");
        assert_eq!(
            attribute(&span, "tasker.parents.count"),
            parents.map(Value::I64).as_ref()
        );
        if parents == Some(200) {
            assert_eq!(span.links.dropped_count, 72);
        }
        assert_eq!(text(&span, "messaging.operation.type"), "send");
    }
}

#[test]
fn an_attempt_is_below_its_enqueueing_and_linked_to_the_attempt_before() {
    let _alone = alone();
    let first = made(|| step_executed(&task(), &step(2, 1), time(), None));
    assert_eq!(first.name, "step.execute");
    assert_eq!(first.span_kind, SpanKind::Consumer);
    assert_eq!(first.parent_span_id, id(Kind::StepEnqueue, 2, 1));
    assert!(first.parent_span_is_remote);
    assert_eq!(linked(&first), []);
    assert_eq!(first.status, Status::Unset);
    for (key, value) in [
        ("tasker.namespace", "shop"),
        ("tasker.task.name", "process_order"),
        ("tasker.task.uuid", "01900000-0000-7000-8000-000000100000"),
        ("tasker.step.name", "charge"),
        ("tasker.step.uuid", "01900000-0000-7000-8000-000000100002"),
        ("tasker.step.attempt", "1"),
        ("messaging.system", "postgresql"),
        ("messaging.operation.type", "process"),
        ("messaging.operation.name", "process"),
        ("messaging.destination.name", "steps"),
        (
            "messaging.message.conversation_id",
            "4bf92f35-77b3-4da6-a3ce-929d0e0e4736",
        ),
    ] {
        assert_eq!(text(&first, key), value);
    }
    let second = made(|| step_executed(&task(), &step(2, 2), time(), None));
    assert_eq!(linked(&second), [first.span_context.span_id()]);
    assert_eq!(second.parent_span_id, id(Kind::StepEnqueue, 2, 2));
}

#[test]
fn a_failure_is_in_status_attribute_and_event() {
    let _alone = alone();
    let long = "é".repeat(2_000);
    let failure = Failure {
        kind: "timeout",
        message: &long,
    };
    let span = made(|| step_executed(&task(), &step(2, 1), time(), Some(failure)));
    let kept = "é".repeat(512);
    assert_eq!(span.status, Status::error(kept.clone()));
    assert_eq!(text(&span, "error.type"), "timeout");
    let event = &span.events[0];
    assert_eq!(event.name, "exception");
    assert_eq!(event.timestamp, span.end_time);
    assert_eq!(
        event.attributes,
        [
            KeyValue::new("exception.type", "timeout"),
            KeyValue::new("exception.message", kept),
        ]
    );
}

#[test]
fn the_result_that_ends_a_step_is_found_without_its_attempt() {
    let _alone = alone();
    let again = made(|| result_processed(&task(), &step(2, 1), "error", false, time()));
    assert_eq!(again.name, "step_result.process");
    assert_eq!(again.span_kind, SpanKind::Internal);
    assert_eq!(
        again.span_context.span_id(),
        id(Kind::StepResultProcess, 2, 1)
    );
    assert_eq!(again.parent_span_id, id(Kind::StepExecute, 2, 1));
    assert_eq!(text(&again, "tasker.result_type"), "error");
    let last = made(|| result_processed(&task(), &step(2, 3), "success", true, time()));
    assert_eq!(
        last.span_context.span_id(),
        id(Kind::StepResultProcess, 2, ENDED)
    );
    assert_eq!(last.parent_span_id, id(Kind::StepExecute, 2, 3));
    assert_eq!(text(&last, "tasker.step.attempt"), "3");
}

#[test]
fn a_task_ends_below_the_result_that_ended_it() {
    let _alone = alone();
    let span = made(|| task_finalized(&task(), Some(4), "complete", time(), None));
    assert_eq!(span.name, "task.finalize");
    assert_eq!(span.parent_span_id, id(Kind::StepResultProcess, 4, ENDED));
    assert_eq!(text(&span, "tasker.final_state"), "complete");
    let cancelled = made(|| task_finalized(&task(), None, "cancelled", time(), None));
    assert_eq!(cancelled.parent_span_id, id(Kind::TaskInitialize, 0, 0));
}

#[test]
fn an_end_before_the_start_is_an_end_at_the_start() {
    let _alone = alone();
    let time = Time::new(time().end, time().start);
    let span = made(|| step_executed(&task(), &step(1, 1), time, None));
    assert_eq!(span.start_time, span.end_time);
}
