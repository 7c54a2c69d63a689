#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod faults;

use super::*;
use crate::graph::Graph;
use crate::template::{Backoff, EventCondition, FailureStrategy, Retry, StalenessAction, StepType};
use proptest::prelude::*;
use serde_json::json;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

fn faults_of(source: &str, limits: &Limits) -> Vec<String> {
    match parse(source, "t.yaml", limits) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.iter().map(ToString::to_string).collect(),
    }
}

/// The faults where nothing is refused for not being supported.
fn faults(source: &str) -> Vec<String> {
    faults_of(source, &lenient())
}

fn lenient() -> Limits {
    Limits {
        refuse_unhonoured: false,
        ..Limits::default()
    }
}

fn template(source: &str) -> Template {
    parse(source, "t.yaml", &lenient()).unwrap_or_else(|faults| panic!("{source}\n{faults:#?}"))
}

/// A template of one step, with more keys for the template and for the step, each on lines of their own.
/// The template's keys begin on line 4; the step's `name` is two lines below them, its own keys two further.
fn one_step(of_template: &str, of_step: &str) -> String {
    let mut source = "name: t\nnamespace_name: n\nversion: 1.0.0\n".to_owned();
    for line in of_template.lines() {
        writeln!(source, "{line}").unwrap();
    }
    source.push_str("steps:\n  - name: s\n    handler: {callable: echo}\n");
    for line in of_step.lines() {
        writeln!(source, "    {line}").unwrap();
    }
    source
}

const FULL: &str = "
name: process_order
namespace_name: shop
version: 1.0.0-rc.1+build.5
description: Takes an order
metadata: { author: ann, tags: [a, b], documentation_url: https://x.example, created_at: 2024-01-01, updated_at: 2024-01-02 }
system_dependencies: { primary: pg, secondary: [redis] }
domain_events: [ { name: shop.order_done, description: d, schema: { type: object } } ]
input_schema: { type: object, required: [order_id] }
lifecycle:
  max_duration_minutes: 60
  max_waiting_for_dependencies_minutes: 1
  max_waiting_for_retry_minutes: 2
  max_steps_in_process_minutes: 3
  staleness_action: dlq
on_failure: block
steps:
  - name: reserve
    handler: { callable: reserve_stock }
  - name: charge
    description: Takes the money
    type: batchable
    handler: { callable: charge_card, method: go, resolver: r, initialization: { currency: EUR, amount: 12.50 } }
    dependencies: [reserve]
    retry: { retryable: false, max_attempts: 5, backoff: fibonacci, backoff_base_ms: 10, max_backoff_ms: 20 }
    timeout_seconds: 30
    publishes_events: [ { name: shop.charged, condition: always, schema: {}, delivery_mode: fast } ]
    result_schema: { type: object }
    batch_config: { batch_size: 1000, parallelism: 8, cursor_field: id, worker_template: row_worker, failure_strategy: isolate }
    system_dependency: pg
  - name: row_worker
    type: batch_worker
    handler: { callable: rows }
    depends_on: [charge]
environments:
  test: { steps: [ { name: ALL, timeout_seconds: 10, retry: { max_attempts: 2 } } ] }
";

#[test]
fn the_full_format_is_read() {
    let template = template(FULL);
    assert_eq!(template.version.to_string(), "1.0.0-rc.1+build.5");
    assert_eq!(template.metadata.tags, ["a", "b"]);
    assert_eq!(template.metadata.created_at.as_deref(), Some("2024-01-01"));
    assert_eq!(
        template.domain_events[0].schema,
        Some(json!({"type": "object"}))
    );
    assert_eq!(
        template.input_schema,
        Some(json!({"type": "object", "required": ["order_id"]}))
    );
    assert_eq!(template.lifecycle.max_steps_in_process_minutes, Some(3));
    assert_eq!(
        template.lifecycle.staleness_action,
        Some(StalenessAction::Dlq)
    );
    assert_eq!(template.on_failure, crate::template::OnFailure::Block);
    let charge = template.step("charge").unwrap();
    assert_eq!(charge.step_type, StepType::Batchable);
    assert_eq!(charge.handler.method.as_deref(), Some("go"));
    assert_eq!(
        serde_json::to_string(&charge.handler.initialization).unwrap(),
        r#"{"currency":"EUR","amount":12.50}"#
    );
    assert_eq!(
        charge.retry,
        Retry {
            retryable: false,
            max_attempts: 5,
            backoff: Backoff::Fibonacci,
            backoff_base_ms: 10,
            max_backoff_ms: 20
        }
    );
    assert_eq!(charge.timeout_seconds, Some(30));
    assert_eq!(charge.publishes_events[0].condition, EventCondition::Always);
    let batch = charge.batch_config.as_ref().unwrap();
    assert_eq!(
        (batch.batch_size, batch.failure_strategy),
        (1_000, FailureStrategy::Isolate)
    );
    assert_eq!(
        template.step("row_worker").unwrap().dependencies,
        ["charge"]
    );
    assert_eq!(
        template.environments["test"].steps[0].retry.max_attempts,
        Some(2)
    );
}

#[test]
fn what_is_left_out_or_null_has_its_default() {
    let plain = template(&one_step("", ""));
    let nulls = template(&one_step(
        "description: ~\nmetadata:\nlifecycle: null\ninput_schema: ~\nenvironments: ~",
        "dependencies:\nretry: ~\ntimeout_seconds: ~\ntype: ~\nbatch_config: ~\nresult_schema: ~",
    ));
    assert_eq!(plain, nulls);
    assert_eq!(plain.steps[0].retry, Retry::default());
    assert_eq!(plain.steps[0].step_type, StepType::Standard);
    assert_eq!(plain.on_failure, crate::template::OnFailure::Fail);
    assert!(plain.not_honoured().is_empty());
}

#[test]
fn the_stored_definition_reads_back_the_same_also_as_a_template_file() {
    for source in [FULL, &one_step("", "")] {
        let template = template(source);
        let stored = serde_json::to_string(&template).unwrap();
        assert_eq!(serde_json::from_str::<Template>(&stored).unwrap(), template);
        assert_eq!(parse(&stored, "stored.json", &lenient()).unwrap(), template);
    }
    let stored = serde_json::to_value(template(&one_step("", ""))).unwrap();
    let expected = json!({
        "name": "t", "namespace_name": "n", "version": "1.0.0", "on_failure": "fail",
        "steps": [{
            "name": "s", "type": "standard", "handler": {"callable": "echo"}, "dependencies": [],
            "retry": {"retryable": true, "max_attempts": 3, "backoff": "exponential", "backoff_base_ms": 1000, "max_backoff_ms": 30000},
        }],
    });
    assert_eq!(stored, expected);
}

#[test]
fn what_this_server_cannot_act_on_is_refused_where_it_stands() {
    let limits = Limits::default();
    let lifecycle = "lifecycle: {max_duration_minutes: 5, max_waiting_for_dependencies_minutes: 1, max_waiting_for_retry_minutes: 2, max_steps_in_process_minutes: 3, staleness_action: error}";
    assert!(faults_of(&one_step(lifecycle, ""), &limits).is_empty());
    assert!(faults_of(&one_step("", "system_dependency: default"), &limits).is_empty());
    assert!(
        faults_of(
            &one_step("system_dependencies: {primary: default, secondary: []}", ""),
            &limits
        )
        .is_empty()
    );
    let cases = [
        (
            "domain_events: [{name: e}]",
            "",
            "4:16: `domain_events` is not supported by this server; remove it",
        ),
        (
            "system_dependencies: {secondary: [x]}",
            "",
            "4:34: `system_dependencies.secondary` is not supported by this server; remove it",
        ),
        (
            "",
            "type: wait",
            "7:11: step `s`: `type: wait` is not supported by this server; remove it",
        ),
        (
            "",
            "publishes_events: [{name: e}]",
            "7:23: step `s`: `publishes_events` is not supported by this server; remove it",
        ),
        (
            "",
            "system_dependency: pg",
            "7:24: step `s`: `system_dependency` is not supported by this server; remove it",
        ),
    ];
    for (of_template, of_step, expected) in cases {
        let source = one_step(of_template, of_step);
        assert_eq!(faults_of(&source, &limits), [format!("t.yaml:{expected}")]);
        assert_eq!(faults(&source), [""; 0]);
    }
    let refused = faults_of(FULL, &limits);
    assert_eq!(refused.len(), template(FULL).not_honoured().len());
    assert_eq!(refused.len(), 10, "{refused:#?}");
    assert!(refused.contains(&"t.yaml:23:47: step `charge`: `handler.method` is not supported by this server; remove it".to_owned()), "{refused:#?}");
}

#[test]
fn an_environment_changes_only_what_it_names_and_a_named_step_wins_over_all() {
    let source = one_step(
        "environments:
  test:
    steps:
      - {name: s, retry: {backoff: none}, handler: {initialization: {b: 9, c: 3}}}
      - {name: ALL, timeout_seconds: 10, retry: {max_attempts: 2, backoff: linear}}
  prod: {}",
        "timeout_seconds: 99\nretry: {max_attempts: 7, backoff_base_ms: 5}",
    )
    .replace(
        "callable: echo",
        "callable: echo, initialization: {a: 1, b: 2}",
    ) + "  - {name: other, handler: {callable: c}}\n";
    let template = template(&source);
    let test = template.clone().for_environment("test");
    let step = &test.steps[0];
    assert_eq!(step.timeout_seconds, Some(10));
    let expected = Retry {
        max_attempts: 2,
        backoff: Backoff::None,
        backoff_base_ms: 5,
        ..Retry::default()
    };
    assert_eq!(step.retry, expected);
    assert_eq!(
        json!(step.handler.initialization),
        json!({"a": 1, "b": 9, "c": 3})
    );
    assert_eq!(test.steps[1].timeout_seconds, Some(10));
    assert_eq!(test.steps[1].retry.backoff, Backoff::Linear);
    assert_eq!(test.clone().for_environment("test"), test);
    assert_eq!(template.clone().for_environment("prod"), template);
    assert_eq!(template.clone().for_environment("unknown"), template);
}

fn many_steps(count: usize, rest: &str) -> String {
    let mut source = "name: t\nnamespace_name: n\nversion: 1.0.0\nsteps:\n".to_owned();
    for number in 0..count {
        writeln!(
            source,
            "  - name: s{number}\n    handler: {{ callable: echo }}\n{rest}"
        )
        .unwrap();
    }
    source
}

#[test]
fn the_number_of_steps_has_its_limit_and_a_far_too_long_template_is_refused_quickly() {
    let limits = Limits {
        max_steps_per_task: 3,
        ..Limits::default()
    };
    assert!(faults_of(&many_steps(3, ""), &limits).is_empty());
    let expected = "t.yaml:5:3: 4 steps are more than the 3 that limits.max_steps_per_task allows";
    assert_eq!(faults_of(&many_steps(4, ""), &limits), [expected]);

    let source = many_steps(100_000, "    dependencies: [none]\n    timeout_seconds: x");
    let begun = Instant::now();
    let faults = faults_of(&source, &Limits::default());
    assert_eq!(
        faults,
        ["t.yaml:5:3: 100000 steps are more than the 10002 that limits.max_steps_per_task allows"]
    );
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "took {:?}",
        begun.elapsed()
    );
    assert!(parse(&many_steps(10_002, ""), "t.yaml", &Limits::default()).is_ok());
}

#[test]
fn thousands_of_faults_are_cut_to_a_readable_number() {
    let faults = faults(&many_steps(5_000, "    dependencies: [none]"));
    assert_eq!(faults.len(), 1_000);
    assert!(
        faults[999].ends_with("(and 4000 faults more)"),
        "{}",
        faults[999]
    );
}

#[test]
fn a_source_too_large_to_be_a_template_is_not_read() {
    let source = format!("# {}", "x".repeat(MAX_SOURCE_BYTES));
    assert_eq!(
        faults(&source),
        ["t.yaml:1:1: the file is larger than 16777216 bytes"]
    );
}

#[test]
fn odd_characters_and_schemas_in_repeated_steps_do_no_harm() {
    let source = one_step(
        "description: \"é 😀 \\U0001F600\"",
        "result_schema: &schema {type: object}\ndescription: |\n  two\n  lines",
    ) + "  - {name: s2, handler: {callable: ünïcode}, result_schema: *schema}\n";
    let template = template(&source);
    assert_eq!(template.description.as_deref(), Some("é 😀 😀"));
    assert_eq!(
        template.steps[1].result_schema,
        Some(json!({"type": "object"}))
    );
    assert_eq!(
        template.steps[0].description.as_deref(),
        Some("two\nlines\n")
    );
    let nul = one_step("", "").replace(
        "callable: echo",
        "callable: echo, initialization: {a: \"\\0\"}",
    );
    assert_eq!(
        faults(&nul),
        ["t.yaml:6:51: the character \\0 is not allowed"]
    );
}

/// The full format with a piece cut out and another put in its place.
fn damaged_template() -> impl Strategy<Value = String> {
    let inserted = prop_oneof![
        "[\\[\\]{}:,&*!|>'\"#@%~<\\- \\n\\t0-9a-z]{0,6}",
        ".{0,3}",
        Just("<<: *x".to_owned())
    ];
    (inserted, any::<prop::sample::Index>(), 0..30_usize).prop_map(|(inserted, place, cut)| {
        let mut characters: Vec<char> = FULL.chars().collect();
        let start = place.index(characters.len());
        let end = (start + cut).min(characters.len());
        characters.splice(start..end, inserted.chars());
        characters.into_iter().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_is_a_template_or_faults_inside_the_source(source in prop_oneof![damaged_template(), ".{0,64}"]) {
        match parse(&source, "t.yaml", &Limits::default()) {
            Ok(template) => prop_assert_eq!(Graph::of(&template).order().len(), template.steps.len()),
            Err(faults) => {
                prop_assert!(!faults.is_empty());
                // A carriage return alone ends a line too.
                let lines = source.matches(['\n', '\r']).count() + 1;
                prop_assert!(faults.iter().all(|fault| (1..=lines).contains(&fault.line) && fault.column > 0));
                prop_assert!(faults.is_sorted_by_key(|fault| (fault.line, fault.column)));
            }
        }
    }
}
