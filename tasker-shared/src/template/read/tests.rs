#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::template::{Backoff, EventCondition, FailureStrategy, Retry, StalenessAction, StepType};
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
fn every_fault_is_reported_at_once_in_reading_order() {
    let source = "\
name: Process-Order
namespace_name: a_namespace_that_is_far_too_long_for_us
version: 1.0
descripton: typo
on_failure: explode
steps:
  - name: a
    handler: { callable: 7 }
    dependencies: [b, zz]
  - name: b
    handler: {}
    dependencies: [a, b]
    timeout_seconds: 0
  - name: a
    retry: { max_attempts: 0, backoff: linaer, backoff_base_ms: -1 }
  - just text
environments:
  test: { steps: [ { name: bb }, { timeout_seconds: x } ] }
";
    let expected = [
        "t.yaml:1:7: the name `Process-Order` must match ^[a-z][a-z0-9_]*$",
        "t.yaml:2:17: a namespace has at most 29 characters, this one 39",
        "t.yaml:3:10: `1.0` is not a semantic version such as 1.0.0: unexpected end of input while parsing minor version number",
        "t.yaml:4:1: unknown key `descripton` of a template (did you mean `description`?)",
        "t.yaml:5:13: `on_failure` must be one of `fail`, `block`, not the text \"explode\"",
        "t.yaml:8:26: `callable` must be text, not the number 7; put it in quotes",
        "t.yaml:9:20: the steps depend on each other in a cycle: a -> b -> a",
        "t.yaml:9:23: unknown dependency `zz`",
        "t.yaml:11:14: handler needs the key `callable`",
        "t.yaml:12:23: step `b` depends on itself",
        "t.yaml:13:22: `timeout_seconds` must be a whole number from 1 to 2592000, not the number 0",
        "t.yaml:14:5: a step needs the key `handler`",
        "t.yaml:14:11: the step name `a` was used before, on line 7",
        "t.yaml:15:28: `max_attempts` must be a whole number from 1 to 1000, not the number 0",
        "t.yaml:15:40: `backoff` must be one of `none`, `linear`, `exponential`, `fibonacci`, not the text \"linaer\" (did you mean `linear`?)",
        "t.yaml:15:65: `backoff_base_ms` must be a whole number from 0 to 604800000, not the number -1",
        "t.yaml:16:5: a step is a mapping, not the text \"just text\"",
        "t.yaml:18:28: unknown step `bb` (did you mean `b`?)",
        "t.yaml:18:34: an override needs the key `name`",
        "t.yaml:18:53: `timeout_seconds` must be a whole number from 1 to 2592000, not the text \"x\"",
    ];
    assert_eq!(faults(source), expected);
}

#[test]
fn each_key_of_a_template_is_held_to_its_type_and_range() {
    let cases = [
        (
            "description: 7",
            "4:14: `description` must be text, not the number 7; put it in quotes",
        ),
        (
            "description: [a]",
            "4:14: `description` must be text, not a list",
        ),
        (
            "metadata: x",
            "4:11: metadata is a mapping, not the text \"x\"",
        ),
        (
            "metadata: {owner: x}",
            "4:12: unknown key `owner` of metadata",
        ),
        (
            "metadata: {tags: x}",
            "4:18: `tags` must be a list, not the text \"x\"",
        ),
        (
            "metadata: {tags: [a, 1]}",
            "4:22: `tags` must be text, not the number 1; put it in quotes",
        ),
        (
            "system_dependencies: {primary: [x]}",
            "4:32: `primary` must be text, not a list",
        ),
        (
            "domain_events: [{description: x}]",
            "4:17: a domain event needs the key `name`",
        ),
        (
            "domain_events: [{name: x, schema: {type: 5}}]",
            "4:42: `schema` is not a valid JSON Schema: 5 is not valid under any of the schemas listed in the 'anyOf' keyword",
        ),
        (
            "input_schema: {type: objekt}",
            "4:22: `input_schema` is not a valid JSON Schema: \"objekt\" is not valid under any of the schemas listed in the 'anyOf' keyword",
        ),
        (
            "input_schema: text",
            "4:15: `input_schema` is not a valid JSON Schema: a schema is a mapping, `true` or `false`",
        ),
        (
            "input_schema: {properties: {a: {$ref: 'https://x.example/a.json'}}}",
            "4:39: `input_schema` is not a valid JSON Schema: `https://x.example/a.json` lies outside the template, and nothing is fetched; put it under `$defs`",
        ),
        (
            "input_schema: {properties: {a: {$ref: '#/$defs/b'}}}",
            "4:39: `input_schema` is not a valid JSON Schema: Pointer '/$defs/b' does not exist",
        ),
        (
            "lifecycle: {max_duration_minutes: 0}",
            "4:35: `max_duration_minutes` must be a whole number from 1 to 527040, not the number 0",
        ),
        (
            "lifecycle: {max_waiting_for_retry_minutes: 1.5}",
            "4:44: `max_waiting_for_retry_minutes` must be a whole number from 1 to 527040, not the number 1.5",
        ),
        (
            "lifecycle: {staleness_action: drop}",
            "4:31: `staleness_action` must be one of `dlq`, `error`, `none`, not the text \"drop\"",
        ),
        (
            "on_failure: true",
            "4:13: `on_failure` must be one of `fail`, `block`, not `true`",
        ),
        (
            "environments: [test]",
            "4:15: `environments` must be a mapping of environments, not a list",
        ),
        (
            "environments: {test: {step: []}}",
            "4:23: unknown key `step` of an environment (did you mean `steps`?)",
        ),
        (
            "environments: {test: {steps: [{name: s}, {name: s}]}}",
            "4:49: the environment `test` changes `s` twice",
        ),
        (
            "environments: {test: {steps: [{name: s, handler: {callable: x}}]}}",
            "4:51: unknown key `callable` of handler",
        ),
        (
            "environments: {test: {steps: [{name: s, retry: {max_attempts: 1001}}]}}",
            "4:63: `max_attempts` must be a whole number from 1 to 1000, not the number 1001",
        ),
        ("name: again", "4:1: the key `name` occurs twice"),
    ];
    for (line, expected) in cases {
        assert_eq!(
            faults(&one_step(line, "")),
            [format!("t.yaml:{expected}")],
            "{line}"
        );
    }
}

#[test]
fn each_key_of_a_step_is_held_to_its_type_and_range() {
    let cases = [
        (
            "type: standart",
            "7:11: `type` must be one of `standard`, `decision`, `deferred_convergence`, `batchable`, `batch_worker`, `wait`, not the text \"standart\" (did you mean `standard`?)",
        ),
        ("timeout: 5", "7:5: unknown key `timeout` of a step"),
        (
            "timeout_second: 5",
            "7:5: unknown key `timeout_second` of a step (did you mean `timeout_seconds`?)",
        ),
        (
            "timeout_seconds: '5'",
            "7:22: `timeout_seconds` must be a whole number from 1 to 2592000, not the text \"5\"",
        ),
        (
            "timeout_seconds: 99999999999",
            "7:22: `timeout_seconds` must be a whole number from 1 to 2592000, not the number 99999999999",
        ),
        ("retry: 3", "7:12: retry is a mapping, not the number 3"),
        (
            "retry: {retryable: yes}",
            "7:24: `retryable` must be `true` or `false`, not the text \"yes\"",
        ),
        (
            "retry: {attempts: 3}",
            "7:13: unknown key `attempts` of retry",
        ),
        (
            "retry: {backoff: none, max_backoff_ms: 1s}",
            "7:44: `max_backoff_ms` must be a whole number from 0 to 604800000, not the text \"1s\"",
        ),
        (
            "dependencies: s2",
            "7:19: `dependencies` must be a list, not the text \"s2\"",
        ),
        (
            "dependencies: [1]",
            "7:20: `dependencies` must be text, not the number 1; put it in quotes",
        ),
        ("dependencies: [s]", "7:20: step `s` depends on itself"),
        ("depends_on: [s]", "7:18: step `s` depends on itself"),
        (
            "dependencies: []\ndepends_on: []",
            "8:5: `depends_on` is another word for `dependencies`; give one of them",
        ),
        (
            "publishes_events: [{name: e, condition: sometimes}]",
            "7:45: `condition` must be one of `success`, `failure`, `retryable_failure`, `permanent_failure`, `always`, not the text \"sometimes\"",
        ),
        (
            "publishes_events: [{name: ' '}]",
            "7:31: `name` must not be empty",
        ),
        (
            "result_schema: {minimum: x}",
            "7:30: `result_schema` is not a valid JSON Schema: \"x\" is not of type \"number\"",
        ),
        (
            "batch_config: {batch_size: 1, parallelism: 1, worker_template: s}\ntype: batchable",
            "7:68: `s` is not a step of type batch_worker",
        ),
        (
            "type: batchable",
            "7:11: step `s` is batchable and needs a `batch_config`",
        ),
        (
            "system_dependency: 5",
            "7:24: `system_dependency` must be text, not the number 5; put it in quotes",
        ),
    ];
    for (lines, expected) in cases {
        assert_eq!(
            faults(&one_step("", lines)),
            [format!("t.yaml:{expected}")],
            "{lines}"
        );
    }
}

#[test]
fn a_batch_config_goes_with_a_batchable_step_only() {
    let source = one_step("", "batch_config: {batch_size: 0, worker_template: w}\n")
        + "  - {name: w, type: batch_worker, handler: {callable: c}}\n";
    assert_eq!(
        faults(&source),
        [
            "t.yaml:7:5: `batch_config` goes with `type: batchable` only",
            "t.yaml:7:19: batch_config needs the key `parallelism`",
            "t.yaml:7:32: `batch_size` must be a whole number from 1 to 1000000, not the number 0",
        ]
    );
}

#[test]
fn names_and_handlers_are_held_to_their_patterns() {
    let long = "x".repeat(129);
    let step = |name: &str| {
        format!(
            "name: t\nnamespace_name: n\nversion: 1.0.0\nsteps:\n  - name: {name}\n    handler: {{callable: c}}\n"
        )
    };
    let cases = [
        (step("ALL"), "5:11: `ALL` stands for every step; no step can be called so".to_owned()),
        (step("a b"), "5:11: the step name `a b` must match ^[A-Za-z0-9_][A-Za-z0-9_.-]*$".to_owned()),
        (step("''"), "5:11: `name` must not be empty".to_owned()),
        (step("7"), "5:11: `name` must be text, not the number 7; put it in quotes".to_owned()),
        (step(&long), "5:11: a step name has at most 128 characters".to_owned()),
        (step("~"), "5:5: a step needs the key `name`".to_owned()),
        (step("a").replace("n\nv", "'7n'\nv"), "2:17: the namespace `7n` must match ^[A-Za-z][A-Za-z0-9_-]*$".to_owned()),
        (step("a").replace("1.0.0", "v1.0.0"), "3:10: `v1.0.0` is not a semantic version such as 1.0.0: unexpected character 'v' while parsing major version number".to_owned()),
        (step("a").replace("1.0.0", "1"), "3:10: `1` is not a semantic version such as 1.0.0: unexpected end of input while parsing major version number".to_owned()),
        (step("a").replace("1.0.0", "[1]"), "3:10: `version` must be a version such as 1.0.0, not a list".to_owned()),
        (step("a").replace("callable: c", "callable: c, initialization: [1]"), "6:44: `initialization` must be a mapping, not a list".to_owned()),
        (step("a").replace("callable: c", "callable: c, initialization: {circuit: 1}"), "6:54: `circuit` must be text, not the number 1; put it in quotes".to_owned()),
        (step("a").replace("callable: c", "callable: c, initialization: {circuit: ''}"), "6:54: `circuit` is a name of 1 to 128 characters".to_owned()),
    ];
    for (source, expected) in cases {
        assert_eq!(faults(&source), [format!("t.yaml:{expected}")], "{source}");
    }
    for name in ["a", "step-1", "a.b", "_x", "9lives", "Charge"] {
        assert_eq!(faults(&step(name)), [""; 0], "{name}");
    }
}

#[test]
fn a_template_without_content_says_what_it_needs() {
    assert_eq!(
        faults("{}"),
        [
            "t.yaml:1:1: a template needs the key `name`",
            "t.yaml:1:1: a template needs the key `namespace_name`",
            "t.yaml:1:1: a template needs the key `steps`",
            "t.yaml:1:1: a template needs the key `version`",
        ]
    );
    assert_eq!(
        faults("[1]"),
        ["t.yaml:1:1: a template is a mapping, not a list"]
    );
    assert_eq!(faults(""), ["t.yaml:1:1: the file holds no template"]);
    let empty = "name: t\nnamespace_name: n\nversion: 1.0.0\nsteps: []\n";
    assert_eq!(
        faults(empty),
        ["t.yaml:4:8: a template needs at least one step"]
    );
    assert_eq!(
        faults(&empty.replace("[]", "x")),
        ["t.yaml:4:8: `steps` must be a list, not the text \"x\""]
    );
}

#[test]
fn cycles_are_named_wherever_they_are() {
    let step = |name: &str, parents: &str| {
        format!("  - {{name: {name}, handler: {{callable: c}}, dependencies: [{parents}]}}\n")
    };
    let head = "name: t\nnamespace_name: n\nversion: 1.0.0\nsteps:\n";
    let source = [
        head,
        &step("root", ""),
        &step("x", "root, z"),
        &step("y", "x"),
        &step("z", "y"),
        &step("p", "q"),
        &step("q", "p"),
        &step("leaf", "q"),
    ]
    .concat();
    assert_eq!(
        faults(&source),
        [
            "t.yaml:6:60: the steps depend on each other in a cycle: x -> z -> y -> x",
            "t.yaml:9:54: the steps depend on each other in a cycle: p -> q -> p",
        ]
    );
    let long: String = (0..50)
        .map(|n| step(&format!("s{n}"), &format!("s{}", (n + 1) % 50)))
        .collect();
    let faults = faults(&format!("{head}{long}"));
    assert_eq!(faults.len(), 1);
    assert!(
        faults[0].ends_with("s10 -> s11 -> (38 more) -> s0"),
        "{faults:?}"
    );
}

#[test]
fn what_this_server_cannot_act_on_is_refused_where_it_stands() {
    let limits = Limits::default();
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
            "lifecycle: {max_duration_minutes: 5}",
            "",
            "4:35: `lifecycle.max_duration_minutes` is not supported by this server; remove it",
        ),
        (
            "lifecycle: {staleness_action: none}",
            "",
            "4:31: `lifecycle.staleness_action` is not supported by this server; remove it",
        ),
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
    assert_eq!(refused.len(), 15, "{refused:#?}");
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
    let test = template.for_environment("test");
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
    assert_eq!(test.for_environment("test"), test);
    assert_eq!(template.for_environment("prod"), template);
    assert_eq!(template.for_environment("unknown"), template);
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
