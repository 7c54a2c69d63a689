#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use serde_json::json;

fn tree(source: &str) -> Node {
    let (root, complaints) = build(source);
    assert!(complaints.is_empty(), "{source:?}: {complaints:?}");
    root.unwrap_or_else(|| panic!("{source:?} has no tree"))
}

fn complaints(source: &str) -> Vec<(usize, usize, String)> {
    let (_, complaints) = build(source);
    complaints
        .into_iter()
        .map(|(place, message)| (place.line, place.column, message))
        .collect()
}

#[test]
fn plain_scalars_mean_what_yaml_1_2_says() {
    let cases = [
        ("~", json!(null)),
        ("null", json!(null)),
        ("true", json!(true)),
        ("False", json!(false)),
        ("yes", json!("yes")),
        ("off", json!("off")),
        ("7", json!(7)),
        ("+7", json!(7)),
        ("-7", json!(-7)),
        ("007", json!(7)),
        ("0o17", json!(15)),
        ("0x1F", json!(31)),
        ("0x", json!("0x")),
        ("1.", serde_json::from_str("1.0").unwrap()),
        (".5", serde_json::from_str("0.5").unwrap()),
        ("12.50", serde_json::from_str("12.50").unwrap()),
        ("1e3", serde_json::from_str("1e3").unwrap()),
        ("1_000", json!("1_000")),
        ("1.2.3", json!("1.2.3")),
        ("1e", json!("1e")),
        (".", json!(".")),
        ("-", json!([null])),
        ("12e03", serde_json::from_str("12e03").unwrap()),
        (
            "99999999999999999999999999",
            serde_json::from_str("99999999999999999999999999").unwrap(),
        ),
        ("2024-01-01", json!("2024-01-01")),
        ("'7'", json!("7")),
        ("\"true\"", json!("true")),
        ("!!str 7", json!("7")),
        ("|\n  a\n  b\n", json!("a\nb\n")),
        (">-\n  a\n  b\n", json!("a b")),
        ("\"\\u00e9 \\t \\/\"", json!("é \t /")),
    ];
    for (source, expected) in cases {
        assert_eq!(tree(source).to_json(), expected, "{source:?}");
    }
}

#[test]
fn json_is_yaml() {
    let source = "{\"a\": [1, 2.50, true, null, \"x\\ny \\ud83d\\ude00 \\u00e9 \\b\\f\"],\n\t\"b\": {\"c\": {}}, \"d\": []}";
    let expected: Value = serde_json::from_str(source).unwrap();
    assert_eq!(tree(source).to_json(), expected);
}

#[test]
fn every_value_knows_its_place() {
    let root = tree("a: 1\nlist:\n  - x\n  - {k: v, é: [w]}\n");
    let places = [
        ("", (1, 1)),
        ("/a", (1, 4)),
        ("/list", (3, 3)),
        ("/list/0", (3, 5)),
        ("/list/1", (4, 5)),
        ("/list/1/k", (4, 9)),
        ("/list/1/é/0", (4, 16)),
        ("/list/1/none/deeper", (4, 5)),
        ("/list/7", (3, 3)),
    ];
    for (pointer, (line, column)) in places {
        assert_eq!(root.locate(pointer), Place { line, column }, "{pointer}");
    }
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_no_content() {
    let root = tree("\u{feff}a: 1\r\nb: 2\r\n");
    assert_eq!(root.to_json(), json!({"a": 1, "b": 2}));
    assert_eq!(root.locate("/b"), Place { line: 2, column: 4 });
}

#[test]
fn aliases_and_merge_keys_are_resolved_and_own_keys_win() {
    let source = "
base: &base {retryable: true, max_attempts: 2}
more: &more {max_attempts: 9, backoff: none}
one: *base
two:
  <<: *base
  max_attempts: 5
three:
  <<: [*base, *more]
";
    let value = tree(source).to_json();
    assert_eq!(value["one"], json!({"retryable": true, "max_attempts": 2}));
    assert_eq!(value["two"], json!({"max_attempts": 5, "retryable": true}));
    assert_eq!(
        value["three"],
        json!({"retryable": true, "max_attempts": 2, "backoff": "none"})
    );
    assert_eq!(
        tree("a: &x 1\nb: *x\n").locate("/b"),
        Place { line: 2, column: 4 }
    );
    assert_eq!(
        tree("&k key: 1\nb: *k\n").to_json(),
        json!({"key": 1, "b": "key"})
    );
    assert_eq!(tree("'<<': 1\n").to_json(), json!({"<<": 1}));
}

#[test]
fn what_json_cannot_hold_or_yaml_forbids_is_complained_of_where_it_stands() {
    let cases = [
        ("a: 1\nb: 2\na: 3\n", 3, 1, "the key `a` occurs twice"),
        ("a: .nan\n", 1, 4, "JSON has no number for `.nan`"),
        ("a: -.inf\n", 1, 4, "JSON has no number for infinity"),
        ("a: \"x\\0y\"\n", 1, 4, "the character \\0 is not allowed"),
        ("\"x\\0\": 1\n", 1, 1, "the character \\0 is not allowed"),
        (
            "a: !secret x\n",
            1,
            12,
            "the tag `!secret` is not supported",
        ),
        ("a: !!set {x}\n", 1, 10, "the tag `!!set` is not supported"),
        (
            "<<: 7\n",
            1,
            5,
            "`<<` takes a mapping or a list of mappings, not the number 7",
        ),
        ("[a, b]: 1\n", 1, 1, "a key must be text"),
        (
            "a: &x [*x]\n",
            1,
            8,
            "the alias stands inside what it stands for",
        ),
        (
            "a: 1\n---\nb: 2\n",
            2,
            1,
            "a file holds one template; put the next one into a file of its own",
        ),
        ("", 1, 1, "the file holds no template"),
        ("# only words\n", 1, 1, "the file holds no template"),
    ];
    for (source, line, column, message) in cases {
        assert_eq!(
            complaints(source),
            [(line, column, message.to_owned())],
            "{source:?}"
        );
    }
}

#[test]
fn broken_yaml_is_one_complaint_at_its_place() {
    let cases = [
        ("a: [1, 2\n", 1),
        ("a: b: c\n", 1),
        ("a:\n\t- b\n", 2),
        ("a: 'x\n", 2),
        ("a: *none\n", 1),
        ("a: \"\\q\"\n", 1),
    ];
    for (source, line) in cases {
        let complaints = complaints(source);
        assert_eq!(complaints.len(), 1, "{source:?}: {complaints:?}");
        assert_eq!(complaints[0].0, line, "{source:?}: {complaints:?}");
        assert!(
            complaints[0].2.starts_with("not valid YAML: "),
            "{source:?}: {complaints:?}"
        );
    }
}

#[test]
fn an_alias_bomb_is_refused_before_it_unfolds() {
    let mut source = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let inner = vec![format!("*a{}", level - 1); 10].join(", ");
        source.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
    }
    let complaints = complaints(&source);
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert_eq!(
        complaints[0].2,
        "the aliases stand for more than 1000000 values"
    );
}

#[test]
fn nesting_has_its_bound_also_through_aliases() {
    let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    assert!(build(&nested(MAX_DEPTH)).1.is_empty());
    assert_eq!(
        complaints(&nested(MAX_DEPTH + 1))[0].2,
        "nested deeper than 64 levels"
    );
    let half = nested(MAX_DEPTH / 2);
    let deep = format!("a: &a {half}\nb: {}*a{}\n", "[".repeat(40), "]".repeat(40));
    assert_eq!(complaints(&deep)[0].2, "nested deeper than 64 levels");
    assert!(!complaints(&"[".repeat(200_000)).is_empty());
    assert!(!complaints(&"- ".repeat(200_000)).is_empty());
    assert!(!complaints(&"{a: ".repeat(200_000)).is_empty());
}

#[test]
fn long_values_are_shortened_in_messages() {
    assert_eq!(
        tree(&format!("'{}'", "é".repeat(100))).describe(),
        format!("the text \"{}…\"", "é".repeat(40))
    );
    assert_eq!(tree("{a: 1}").describe(), "a mapping");
}
