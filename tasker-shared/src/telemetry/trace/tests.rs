#![allow(clippy::unwrap_used)]

use std::collections::HashSet;

use super::*;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test]
fn what_the_standard_allows_is_read() {
    let later = PARENT.replacen("00", "cc", 1);
    for (text, sampled) in [
        (PARENT.to_owned(), true),
        (PARENT.replace("-01", "-00"), false),
        // Flags that are not known say nothing.
        (PARENT.replace("-01", "-ff"), true),
        (PARENT.replace("-01", "-02"), false),
        (format!(" {PARENT}\t"), true),
        (later.clone(), true),
        (format!("{later}-what-will-be"), true),
        (format!("{later}-"), true),
    ] {
        let context = TraceContext::parse(&text, None).unwrap();
        assert_eq!(context.trace_id.simple().to_string(), TRACE);
        assert_eq!(
            context.span_id.to_bytes(),
            [0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]
        );
        assert_eq!(context.sampled, sampled, "{text}");
        assert_eq!(context.tracestate(), None);
    }
}

#[test]
fn what_the_standard_forbids_is_refused() {
    for text in [
        "",
        "00",
        "garbage",
        &PARENT[..54],
        &format!("{PARENT}-"),
        &format!("{PARENT}0"),
        &format!("{PARENT}-00"),
        &PARENT.replacen("00", "ff", 1),
        &PARENT.replacen("00", "0g", 1),
        &format!("{}.", PARENT.replacen("00", "cc", 1)),
        &PARENT.to_uppercase(),
        &PARENT.replace("4bf9", "4bG9"),
        &PARENT.replace(TRACE, &"0".repeat(32)),
        &PARENT.replace("00f067aa0ba902b7", &"0".repeat(16)),
        &PARENT.replace("-01", "-0x"),
        &PARENT.replace('-', "_"),
        &PARENT.replacen("-00f0", "00f00", 1),
        &format!("0é{}", &PARENT[3..]),
    ] {
        assert_eq!(
            TraceContext::parse(text, Some("a=1")),
            Err(Malformed),
            "{text}"
        );
    }
}

#[test]
fn what_was_read_is_passed_on_as_version_0() {
    let later = format!("{}-more", PARENT.replacen("00", "01", 1));
    for text in [PARENT, &later] {
        let context = TraceContext::parse(text, Some("congo=t61rcWkgMzE")).unwrap();
        assert_eq!(context.traceparent(), PARENT);
        assert_eq!(context.tracestate(), Some("congo=t61rcWkgMzE"));
    }
}

#[test]
fn a_step_passes_on_the_span_of_its_attempt() {
    let (correlation, task) = (Uuid::from_u128(7), Uuid::from_u128(8));
    let context = TraceContext::of_step(correlation, task, 3, 2, true).with_state(Some("a=b"));
    let read = TraceContext::parse(&context.traceparent(), context.tracestate()).unwrap();
    assert_eq!(read, context);
    assert_eq!(read.span_id, span_id(Kind::StepExecute, task, 3, 2));
    let other = TraceContext::of_step(correlation, task, 3, 2, false);
    assert!(other.traceparent().ends_with("-00"));
}

#[test]
fn the_id_of_a_span_is_the_same_for_ever_and_no_other_span_has_it() {
    let task = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0010_0000);
    let id = span_id(Kind::StepExecute, task, 1, 1);
    assert_eq!(
        u64::from_be_bytes(id.to_bytes()),
        17_463_756_562_518_251_999
    );
    let mut seen = HashSet::new();
    for kind in [
        Kind::TaskInitialize,
        Kind::StepEnqueue,
        Kind::StepExecute,
        Kind::StepResultProcess,
        Kind::TaskFinalize,
    ] {
        for step_no in 0..50 {
            for attempt in 0..10 {
                assert!(seen.insert(span_id(kind, task, step_no, attempt)));
            }
        }
    }
    assert_eq!(SpanId::of(0).to_bytes(), [0, 0, 0, 0, 0, 0, 0, 1]);
}

#[test]
fn a_step_that_is_not_traced_has_an_id_of_its_own_as_stable() {
    let (task, other) = (Uuid::from_u128(7), Uuid::from_u128(8));
    let id = |task, step_no, attempt| {
        TraceContext::of_step(Uuid::from_u128(1), task, step_no, attempt, false).span_id
    };
    let ids = [(task, 0, 1), (task, 0, 2), (task, 1, 1), (other, 0, 1)];
    let once: HashSet<SpanId> = ids.map(|(t, s, a)| id(t, s, a)).into();
    let again: HashSet<SpanId> = ids.map(|(t, s, a)| id(t, s, a)).into();
    assert_eq!((once.len(), &once), (4, &again));
}

#[test]
fn the_rate_decides_by_the_id_alone() {
    let ids = (0..10_000).map(Uuid::from_u128);
    for rate in [0.0, 0.01, 0.5, 1.0] {
        let traced = ids.clone().filter(|id| should_trace(*id, rate)).count();
        let expected = rate * 10_000.0;
        let off = (traced as f64 - expected).abs();
        assert!(
            off <= 200.0 && (off == 0.0 || rate.fract() != 0.0),
            "{rate}: {traced}"
        );
    }
    // Who is traced at a rate is traced at every higher one.
    for id in ids.filter(|id| should_trace(*id, 0.01)) {
        assert!(should_trace(id, 0.02) && should_trace(id, 0.01));
    }
}
