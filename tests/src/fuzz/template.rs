//! Any text is a template or faults that lie inside it; a template that was read can be stored, read back and drawn.

use tasker_shared::graph::Graph;
use tasker_shared::template::{Limits, Template, parse};

pub(super) const WORDS: &[&str] = &[
    "- ",
    ": ",
    "\n  ",
    "{}",
    "[]",
    "&a ",
    "*a",
    "<<: ",
    "!!str ",
    "|\n",
    ">-\n",
    "---\n",
    "...",
    "# ",
    "'",
    "\"",
    "\t",
    "\r",
    "~",
    "steps:\n",
    "name: ",
    "version: 1.0.0-rc.1",
    "dependencies: [a]",
    "depends_on: [a]",
    "retry: {max_attempts: 99999999999}",
    "backoff: fibonacci",
    "timeout_seconds: -1",
    "type: decision",
    "on_failure: block",
    "lifecycle: {max_duration_minutes: 1}",
    "environments: {test: {steps: [{name: ALL}]}}",
    "input_schema: {type: object}",
    "$ref: '#'",
    "pattern: '('",
];

/// Panics where `data` breaks the parser or what it promises.
pub fn template(data: &[u8]) {
    let Ok(source) = std::str::from_utf8(data) else {
        return;
    };
    match parse(source, "fuzz.yaml", &Limits::default()) {
        Ok(template) => keeps(&template),
        Err(faults) => {
            assert!(!faults.is_empty(), "refused without a reason");
            // A carriage return alone ends a line too.
            let lines = source.matches(['\n', '\r']).count() + 1;
            for fault in &faults {
                assert!((1..=lines).contains(&fault.line), "{fault}");
                assert!(fault.column > 0 && !fault.message.is_empty(), "{fault}");
            }
        }
    }
}

/// As it is stored, and as its stored form is sent again, it is the same template.
fn keeps(template: &Template) {
    let stored = serde_json::to_string(template).unwrap();
    let back: Template = serde_json::from_str(&stored).unwrap();
    assert_eq!(&back, template, "read back from {stored}");
    let again = parse(&stored, "stored.json", &Limits::default());
    let again = again.unwrap_or_else(|faults| panic!("{} of {stored}", faults[0]));
    assert_eq!(&again, template, "sent again as {stored}");
    let graph = Graph::of(template);
    assert_eq!(graph.order().len(), template.steps.len());
    for environment in template.environments.keys() {
        let steps = template.clone().for_environment(environment).steps.len();
        assert_eq!(steps, template.steps.len(), "in {environment}");
    }
}
