use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::testing;

async fn jq(program: &str, input: &str) -> Result<String, StepError> {
    let context = testing::context()
        .input_json(input)
        .config(json!({"jq": program}))
        .build();
    testing::call(&Transform::default(), context).await
}

#[tokio::test]
async fn a_program_sees_context_dependencies_initialization_and_attempt() {
    let context = testing::context()
        .input(json!({"items": [{"price": 3}, {"price": 4}]}))
        .dependency("reserve", json!({"ok": true}))
        .ancestor("validate", json!({"by": "me"}))
        .config(json!({
            "jq": "{total: (.context.items | map(.price) | add), ok: .dependencies.reserve.ok, \
                    by: .dependencies.validate.by, seen: (.initialization | keys), attempt}",
            "include": ["validate"],
            "circuit": "none"
        }))
        .attempt(4)
        .build();
    assert_eq!(
        testing::call(&Transform::default(), context).await.unwrap(),
        r#"{"total":7,"ok":true,"by":"me","seen":["circuit","include","jq"],"attempt":4}"#
    );
}

#[tokio::test]
async fn numbers_and_keys_that_are_only_passed_on_keep_text_and_order() {
    let digits = "9".repeat(400);
    for input in [
        r#"{"b":1.10,"a":1e999999,"0":-0.0,"c":[1E5,100000000000000000000]}"#,
        digits.as_str(),
        r#"{"z":{"y":[],"x":{}},"a":null,"m":"é😀"}"#,
    ] {
        assert_eq!(jq(".context", input).await.unwrap(), input);
    }
    // What it does change: blanks, the spelling of strings, and the sign of an integer zero.
    assert_eq!(
        jq(".context", r#"{ "a" : "\u00e9\/", "n": -0 }"#)
            .await
            .unwrap(),
        r#"{"a":"é/","n":0}"#
    );
}

#[tokio::test]
async fn what_does_not_compile_is_a_permanent_failure_with_line_and_column() {
    let table = [
        (".context |", "expected term (line 1, column 11)"),
        (
            ".context\n  | foo(1)",
            "there is no filter foo/1 (line 2, column 5)",
        ),
        (
            ".a | $b, nope",
            "there is no variable $b (line 1, column 6); there is no filter nope/0 (line 1, column 10)",
        ),
        ("\"é\" | {", "expected closing brace (line 1, column 8)"),
        ("", "expected term (line 1, column 1)"),
        ("env", "there is no filter env/0"),
        ("$ENV.HOME", "there is no variable $ENV"),
        ("input", "there is no filter input/0"),
        ("halt", "there is no filter halt/0"),
        ("debug", "there is no filter debug/0"),
        ("import \"a\" as a; .", "expected "),
    ];
    for (program, message) in table {
        let error = jq(program, "1").await.unwrap_err();
        assert!(!error.is_retryable(), "{program}");
        assert!(error.message().contains(message), "{program}: {error}");
    }
    let long = format!("[{}1]", "1,".repeat(40_000));
    assert!(
        jq(&long, "1")
            .await
            .unwrap_err()
            .message()
            .contains("at most 65536 are taken")
    );
}

#[tokio::test]
async fn one_output_is_needed_and_only_one_allowed() {
    let none = jq("empty", "1").await.unwrap_err();
    let several = jq(".context[]", "[1,2]").await.unwrap_err();
    assert!(
        !none.is_retryable() && none.message().contains("gave no output"),
        "{none}"
    );
    assert!(
        !several.is_retryable() && several.message().contains("put it into [...]"),
        "{several}"
    );
    assert_eq!(jq("[.context[]]", "[1,2]").await.unwrap(), "[1,2]");
}

#[tokio::test]
async fn what_fails_or_is_no_json_is_a_permanent_failure_that_says_why() {
    let table = [
        ("error(\"no stock\")", "no stock"),
        (".context.a", "cannot index"),
        ("1, error(\"late\")", "late"),
        ("nan", "infinite or none"),
        ("[infinite]", "infinite or none"),
        ("{(\"a\"): (1 | tobytes)}", "a string of bytes"),
        (
            "{(1 | tojson | tobytes): 1}",
            "an object key that is no string",
        ),
        (
            "[limit(70; repeat(1))] | reduce .[] as $x (1; [.])",
            "more than 64 levels",
        ),
        ("\"a\" | . * 2000000", "limits.max_result_bytes"),
    ];
    for (program, part) in table {
        let error = jq(program, "7").await.unwrap_err();
        assert!(!error.is_retryable(), "{program}: {error}");
        assert!(error.message().contains(part), "{program}: {error}");
    }
    let huge = format!("\"{}\"", "x".repeat(100_000));
    assert!(jq(".context.a", &huge).await.unwrap_err().message().len() < 700);
}

#[tokio::test]
async fn a_program_that_never_ends_is_stopped_at_the_deadline() {
    for program in [
        "def f: f; f",
        "last(repeat(1))",
        "last(range(1; infinite))",
        "[range(1e18) | select(false)]",
        "reduce repeat(1) as $x (0; . + $x)",
        "until(false; . )",
        "last(recurse(.))",
        "{\"\\(def g: g; g)\": 1}",
        ". as {(\"a\" | until(false; .)): $x} | 1",
        ".[(def g: g; g)]",
    ] {
        let transform = Transform::default();
        let turns = u32::try_from(transform.turns.available_permits()).unwrap();
        let deadline = Instant::now() + Duration::from_millis(30);
        let context = testing::context()
            .config(json!({"jq": program}))
            .deadline(deadline)
            .build();
        let error = testing::call(&transform, context).await.unwrap_err();
        assert_eq!(error.error_type(), "timeout", "{program}: {error}");
        // Its thread has ended when its turn is free again.
        drop(transform.turns.acquire_many(turns).await.unwrap());
    }
}

#[tokio::test]
async fn a_program_that_never_ends_is_stopped_by_cancelling_and_by_dropping() {
    let transform = Transform::default();
    let token = CancellationToken::new();
    let context = || {
        testing::context()
            .config(json!({"jq": "def f: f; f"}))
            .cancellation(token.clone())
            .build()
    };
    // Every turn is taken; each one has to come back.
    let turns = transform.turns.available_permits();
    let attempts: Vec<_> = (0..turns)
        .map(|_| tokio::spawn(transform.call(context())))
        .collect();
    while transform.turns.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    attempts[0].abort();
    let turn = transform.turns.acquire().await.unwrap();
    drop(turn);
    token.cancel();
    for attempt in attempts.into_iter().skip(1) {
        assert!(
            attempt
                .await
                .unwrap()
                .unwrap_err()
                .message()
                .contains("the step is cancelled")
        );
    }
    drop(
        transform
            .turns
            .acquire_many(u32::try_from(turns).unwrap())
            .await
            .unwrap(),
    );
}

#[tokio::test]
async fn recursion_is_free_at_the_end_of_a_definition_and_refused_when_too_deep_elsewhere() {
    assert_eq!(
        jq("0 | until(. >= 300000; . + 1)", "1").await.unwrap(),
        "300000"
    );
    assert_eq!(
        jq(
            "def f: if . >= 300000 then . else . + 1 | f end; 0 | f",
            "1"
        )
        .await
        .unwrap(),
        "300000"
    );
    let sum = "def sum: if . == 0 then 0 else . + (. - 1 | sum) end; 1000 | sum";
    assert_eq!(jq(sum, "1").await.unwrap(), "500500");
    let error = jq("def f: 1 + f; f", "1").await.unwrap_err();
    assert!(!error.is_retryable());
    assert!(error.message().contains("recurses too deep"), "{error}");
}

#[tokio::test]
async fn values_nested_too_deep_to_be_dropped_are_refused_while_they_grow() {
    for program in [
        "reduce range(3000000) as $i (null; [.])",
        "reduce repeat(1) as $i (null; {i: $i, rest: .})",
        "last(foreach repeat(1) as $i (null; [., 1]; 1))",
        "def f: [.] | f; f",
    ] {
        let error = jq(program, "1").await.unwrap_err();
        assert!(!error.is_retryable());
        assert!(
            error
                .message()
                .contains("nests values more than 10000 levels"),
            "{program}: {error}"
        );
    }
}

#[tokio::test]
async fn paths_and_updates_pass_through_definitions() {
    for (program, expected) in [
        ("[.context | paths(isnumber)]", r#"[["a"],["b","c"]]"#),
        (
            ".context | (.. | numbers) |= . + 1",
            r#"{"a":2,"b":{"c":3}}"#,
        ),
        (
            ".context | map_values(tostring? // .)",
            r#"{"a":"1","b":"{\"c\":2}"}"#,
        ),
        (".context | del(.b.c)", r#"{"a":1,"b":{}}"#),
        (
            ".context | with_entries(.key |= ascii_upcase)",
            r#"{"A":1,"B":{"c":2}}"#,
        ),
        (".context | path(getpath([\"b\", \"c\"]))", r#"["b","c"]"#),
        (".context | (select(.a == 1) | .a) = 9 | .a", "9"),
        ("[range(3)]", "[0,1,2]"),
        ("[limit(3; range(0; 100; 10))]", "[0,10,20]"),
        ("[\"a1b22\" | scan(\"[0-9]+\")]", r#"["1","22"]"#),
        ("1700000000 | todate", "\"2023-11-14T22:13:20Z\""),
        ("now > 0", "true"),
    ] {
        assert_eq!(
            jq(program, r#"{"a":1,"b":{"c":2}}"#).await.unwrap(),
            expected,
            "{program}"
        );
    }
}

#[tokio::test]
async fn a_program_is_compiled_once() {
    let transform = Transform::default();
    for input in 0..3 {
        let context = testing::context()
            .input(input)
            .config(json!({"jq": ".context + 1"}))
            .build();
        assert_eq!(
            testing::call(&transform, context).await.unwrap(),
            (input + 1).to_string()
        );
    }
    assert_eq!(transform.programs.lock().unwrap().len(), 1);
}
