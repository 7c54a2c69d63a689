//! Each fault with its place and its words.

use super::{faults, one_step};

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
