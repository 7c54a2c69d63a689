#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use proptest::prelude::*;
use serde_json::Value;

const LIMIT: &str = "limits.max_context_bytes";

fn parse(text: &str) -> Result<Document, Error> {
    Document::parse(text, 1 << 20, LIMIT)
}

fn refused(text: &str) -> Error {
    match parse(text) {
        Ok(_) => panic!("{text:?} was taken"),
        Err(error) => error,
    }
}

#[test]
fn what_is_valid_is_kept_to_the_byte() {
    let long_integer = "9".repeat(400);
    let cases = [
        "null",
        " true\n",
        "\t[ ]\r\n",
        "{}",
        "0",
        "-0",
        "-0.0e-0",
        "1e999999",
        "12.50",
        "1E+2",
        &long_integer,
        r#""""#,
        r#""\u00e9 \ud83d\ude00 \" \\ \/ \b\f\n\r\t""#,
        "\"é 😀 \u{7f}\"",
        r#"{"b":1,"a":{"b":2},"c":[{"a":1},{"a":1}],"":0}"#,
        r#"{"a":1,"A":1,"\u0061\u0061":1}"#,
    ];
    for text in cases {
        let document = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(document.as_str(), text);
        assert_eq!(String::from(document), text);
    }
}

#[test]
fn what_is_not_json_is_refused_with_its_place() {
    let cases = [
        ("", 1, 1, ""),
        ("  ", 1, 3, ""),
        ("{", 1, 2, ""),
        ("nul", 1, 1, ""),
        ("truefalse", 1, 5, ""),
        ("1 2", 1, 3, ""),
        ("01", 1, 2, ""),
        ("-", 1, 2, ""),
        ("1.", 1, 3, ""),
        (".5", 1, 1, ""),
        ("1e", 1, 3, ""),
        ("+1", 1, 1, ""),
        ("NaN", 1, 1, ""),
        ("[1,]", 1, 4, "/1"),
        ("[1 2]", 1, 4, "/0"),
        ("{\"a\":1,}", 1, 8, ""),
        ("{a:1}", 1, 2, ""),
        ("{\"a\" 1}", 1, 6, "/a"),
        ("[\n  1,\n  {\"é\": x}\n]", 3, 9, "/1/é"),
        ("\"a\nb\"", 1, 3, ""),
        ("\"a\u{0}b\"", 1, 3, ""),
        ("\"abc", 1, 5, ""),
        ("\"\\x\"", 1, 2, ""),
        ("\"\\u12g4\"", 1, 2, ""),
        ("\"\\u12", 1, 2, ""),
        ("\"\\", 1, 2, ""),
        ("[1}", 1, 3, "/0"),
        ("\u{feff}{}", 1, 1, ""),
        ("'a'", 1, 1, ""),
        ("// a\n1", 1, 1, ""),
    ];
    for (text, expected_line, expected_column, expected_pointer) in cases {
        match refused(text) {
            Error::Malformed {
                line,
                column,
                pointer,
                ..
            } => {
                assert_eq!((line, column), (expected_line, expected_column), "{text:?}");
                assert_eq!(pointer, expected_pointer, "{text:?}");
            }
            other => panic!("{text:?}: {other}"),
        }
    }
}

#[test]
fn a_repeated_key_is_refused_also_when_spelt_differently() {
    let many = |repeated: &str| {
        let keys: Vec<String> = (0..40).map(|n| format!("\"k{n}\":{n}")).collect();
        format!("{{\"outer\":[0,{{{},{repeated}:0}}]}}", keys.join(","))
    };
    let cases = [
        (r#"{"a":1,"a":2}"#.to_owned(), "a", "/a"),
        (r#"{"a":1,"\u0061":2}"#.to_owned(), "a", "/a"),
        (
            r#"[{"x":{"m/n~":1,"m/n~":2}}]"#.to_owned(),
            "m/n~",
            "/0/x/m~1n~0",
        ),
        (many("\"k3\""), "k3", "/outer/1/k3"),
        (many("\"k39\""), "k39", "/outer/1/k39"),
        (r#"{"a":{"b":1},"c":0,"a":2}"#.to_owned(), "a", "/a"),
    ];
    for (text, key, pointer) in cases {
        let expected = Error::DuplicateKey {
            key: key.to_owned(),
            pointer: pointer.to_owned(),
        };
        assert_eq!(refused(&text), expected, "{text}");
    }
    assert!(parse(&many("\"k40\"")).is_ok());
}

#[test]
fn nul_characters_and_lone_surrogates_are_refused_where_they_stand() {
    let nul = |pointer: &str| Error::NulCharacter {
        pointer: pointer.to_owned(),
    };
    let lone = |pointer: &str| Error::LoneSurrogate {
        pointer: pointer.to_owned(),
    };
    let cases = [
        (r#"{"a":["x","\u0000"]}"#, nul("/a/1")),
        (r#"{"a\u0000":1}"#, nul("")),
        (r#""\ud800""#, lone("")),
        (r#"["\ud800\ud800"]"#, lone("/0")),
        (r#"["\ud83dx"]"#, lone("/0")),
        (r#"["\ud83d\n"]"#, lone("/0")),
        (r#"["\udc00"]"#, lone("/0")),
        (r#"{"\ude00":1}"#, lone("")),
    ];
    for (text, expected) in cases {
        assert_eq!(refused(text), expected, "{text}");
    }
    assert!(parse(r#""\\u0000 \\ud800""#).is_ok());
}

#[test]
fn sixty_four_levels_are_taken_and_one_more_is_not() {
    let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    assert!(parse(&nested(MAX_DEPTH)).is_ok());
    let expected = Error::TooDeep {
        pointer: "/0".repeat(MAX_DEPTH),
    };
    assert_eq!(refused(&nested(MAX_DEPTH + 1)), expected);
    let objects = "{\"a\":".repeat(MAX_DEPTH + 1) + "1" + &"}".repeat(MAX_DEPTH + 1);
    assert!(matches!(refused(&objects), Error::TooDeep { .. }));
    assert!(matches!(
        refused(&"[".repeat(500_000)),
        Error::TooDeep { .. }
    ));
}

#[test]
fn text_over_its_limit_is_refused_by_the_name_of_the_limit() {
    assert!(Document::parse("[123]", 5, LIMIT).is_ok());
    let error = Document::parse("[123] ", 5, LIMIT).unwrap_err();
    assert_eq!(
        error.to_string(),
        "6 bytes are more than the 5 that limits.max_context_bytes allows"
    );
    assert_eq!(error.pointer(), "");
}

#[test]
fn an_error_says_what_and_where() {
    let cases = [
        (
            "[1,\n tru]",
            "not valid JSON at line 2, column 2 at /1: expected a value",
        ),
        (r#"{"a":1,"a":2}"#, "the key \"a\" occurs twice at /a"),
        (
            r#"["\u0000"]"#,
            "the character \\u0000 is not allowed at /0",
        ),
        (r#""\ud800""#, "half of a surrogate pair stands alone"),
    ];
    for (text, message) in cases {
        assert_eq!(refused(text).to_string(), message);
    }
}

#[test]
fn serializing_writes_the_text_unchanged_into_its_surroundings() {
    let text = "{ \"n\" : 1e400, \"b\":1.50,\n\"a\":[ ] }";
    let body = serde_json::to_string(&vec![parse(text).unwrap(), Document::null()]).unwrap();
    assert_eq!(body, format!("[{text},null]"));
    assert!(serde_json::to_string(&Document::stored("{")).is_err());
}

#[test]
fn debug_output_does_not_show_the_content() {
    assert_eq!(
        format!("{:?}", parse("\"secret\"").unwrap()),
        "Document(8 bytes)"
    );
}

/// JSON values as text, with odd blanks, escapes and numbers.
fn json_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,6})?",
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        "\"(\\\\[\"\\\\/bfnrt]|\\\\u[0-9a-fA-F]{4}|[a-z])*\"",
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        let pair = ("[a-c]{0,2}", inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..6)
                .prop_map(|items| format!("[ {} ]", items.join(" ,\n"))),
            prop::collection::vec(pair, 0..4).prop_map(|pairs| {
                let pairs: Vec<String> = pairs
                    .iter()
                    .map(|(k, v)| format!("\"{k}\":\t{v}"))
                    .collect();
                format!("{{{}\r}}", pairs.join(","))
            }),
        ]
    })
}

/// Text that is JSON, or was before some characters of it were cut out or put in.
fn damaged_text() -> impl Strategy<Value = String> {
    let damage = (
        "[\\[\\]{},:\"\\\\0-9eE.+ tfn-]{0,3}",
        any::<prop::sample::Index>(),
        0..3_usize,
    );
    (json_text(), prop::option::of(damage)).prop_map(|(text, damage)| {
        let Some((inserted, place, cut)) = damage else {
            return text;
        };
        let mut characters: Vec<char> = text.chars().collect();
        let start = place.index(characters.len() + 1);
        let end = (start + cut).min(characters.len());
        characters.splice(start..end, inserted.chars());
        characters.into_iter().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_agrees_with_serde_json_on_what_is_valid(text in damaged_text()) {
        let theirs = serde_json::from_str::<Value>(&text);
        match parse(&text) {
            Ok(document) => {
                prop_assert!(theirs.is_ok(), "taken here, refused there: {:?}", theirs);
                prop_assert_eq!(document.as_str(), text);
            }
            Err(Error::Malformed { .. } | Error::LoneSurrogate { .. }) => {
                prop_assert!(theirs.is_err(), "refused here, taken there");
            }
            Err(Error::TooLarge { .. } | Error::TooDeep { .. }) => prop_assert!(false, "small text"),
            Err(Error::DuplicateKey { .. } | Error::NulCharacter { .. }) => {}
        }
    }

    #[test]
    fn it_never_panics(text in ".{0,64}") {
        let _ = parse(&text);
    }
}
