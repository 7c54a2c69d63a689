use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::*;
use crate::testing;

#[derive(Debug, Deserialize, PartialEq)]
struct Order {
    id: u64,
    lines: Vec<Line>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Line {
    sku: String,
    price: f64,
}

fn order() -> Value {
    json!({"id": 7, "lines": [{"sku": "tea", "price": 1.5}]})
}

#[tokio::test]
async fn inputs_come_by_type() {
    let context = testing::context()
        .input(order())
        .config(json!({"currency": "EUR"}))
        .dependency("reserve", order())
        .ancestor("validate", order())
        .build();
    let expected = Order {
        id: 7,
        lines: vec![Line {
            sku: "tea".into(),
            price: 1.5,
        }],
    };
    assert_eq!(context.input::<Order>().unwrap(), expected);
    assert_eq!(context.dependency::<Order>("reserve").unwrap(), expected);
    assert_eq!(context.result::<Order>("reserve").await.unwrap(), expected);
    assert_eq!(context.result::<Order>("validate").await.unwrap(), expected);
    assert_eq!(
        context.config::<Value>().unwrap(),
        json!({"currency": "EUR"})
    );
    assert_eq!(
        context.input::<Box<RawValue>>().unwrap().get(),
        order().to_string()
    );
}

#[tokio::test]
async fn another_shape_is_a_permanent_failure_that_names_the_field() {
    let table = [
        (
            json!({"id": 7, "lines": [{"sku": "tea"}]}),
            "lines[0]: missing field `price`",
        ),
        (
            json!({"id": "7", "lines": []}),
            "id: invalid type: string \"7\", expected u64",
        ),
        (json!({"lines": []}), ": missing field `id`"),
        (
            json!({"id": 7, "lines": [{"sku": 1, "price": 2}]}),
            "lines[0].sku: invalid type: integer `1`",
        ),
        (json!(null), ": invalid type: null"),
    ];
    for (value, part) in table {
        let context = testing::context()
            .input(&value)
            .dependency("reserve", &value)
            .ancestor("a", &value)
            .build();
        for error in [
            context.input::<Order>().unwrap_err(),
            context.dependency::<Order>("reserve").unwrap_err(),
            context.result::<Order>("a").await.unwrap_err(),
        ] {
            assert!(!error.is_retryable());
            assert!(error.message().contains(part), "{error}");
        }
        let error = context.input::<Order>().unwrap_err();
        let dot = if part.starts_with(':') { "" } else { "." };
        assert!(
            error.message().starts_with(&format!("context{dot}{part}")),
            "{error}"
        );
    }
    let context = testing::context().input(json!([[1], ["x"]])).build();
    let error = context.input::<Vec<Vec<u8>>>().unwrap_err();
    assert!(
        error.message().starts_with("context[1][0]: invalid type"),
        "{error}"
    );
}

#[tokio::test]
async fn a_step_that_is_not_there_is_a_permanent_failure_that_names_it() {
    let context = testing::context().build();
    let parent = context.dependency::<Value>("reserve").unwrap_err();
    let ancestor = context.result::<Value>("reserve").await.unwrap_err();
    let included = context
        .inputs_json_including(&["reserve".to_owned()])
        .await
        .unwrap_err();
    for error in [parent, ancestor, included] {
        assert!(!error.is_retryable());
        assert!(error.message().contains("`reserve`"), "{error}");
    }
}

#[tokio::test]
async fn results_that_cannot_be_read_are_tried_again_and_those_too_large_are_not() {
    struct Failing(fn() -> AncestorError);
    impl Ancestors for Failing {
        fn results<'a>(
            &'a self,
            _: Uuid,
            _: &'a [&'a str],
        ) -> BoxFuture<'a, Result<Vec<Arc<str>>, AncestorError>> {
            Box::pin(async { Err((self.0)()) })
        }
    }
    type Row = (fn() -> AncestorError, bool, &'static str);
    let table: [Row; 3] = [
        (
            || AncestorError::Unavailable("connection refused".into()),
            true,
            "could not be read: connection refused",
        ),
        (
            || AncestorError::TooLarge {
                bytes: 20,
                limit_bytes: 10,
            },
            false,
            "limits.max_input_bytes allows 10",
        ),
        (
            || AncestorError::NotAnAncestor("validate".to_owned()),
            false,
            "`validate` is not an ancestor",
        ),
    ];
    for (error, retryable, part) in table {
        let mut inputs = testing::inputs();
        inputs.ancestors = Arc::new(Failing(error));
        let error = StepContext::new(inputs)
            .result::<Value>("validate")
            .await
            .unwrap_err();
        assert_eq!(error.is_retryable(), retryable);
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[tokio::test]
async fn all_inputs_together_are_the_texts_as_they_came() {
    let context = testing::context()
        .input_json(r#"{ "n": 1.10, "big": 1e999999 }"#)
        .config(json!({"jq": "."}))
        .dependency("b", json!([1]))
        .dependency("a\"", json!(null))
        .ancestor("far", json!("x"))
        .attempt(3)
        .build();
    assert_eq!(
        context.inputs_json(),
        concat!(
            r#"{"context":{ "n": 1.10, "big": 1e999999 },"dependencies":{"b":[1],"a\"":null},"#,
            r#""initialization":{"jq":"."},"attempt":3}"#
        )
    );
    let include = ["far", "b", "far"].map(str::to_owned);
    assert_eq!(
        context.inputs_json_including(&include).await.unwrap(),
        concat!(
            r#"{"context":{ "n": 1.10, "big": 1e999999 },"dependencies":{"b":[1],"a\"":null,"far":"x"},"#,
            r#""initialization":{"jq":"."},"attempt":3}"#
        )
    );
}

#[tokio::test]
async fn inputs_over_their_limit_are_refused_by_its_name() {
    let limits = Limits {
        max_input_bytes: 400,
        ..testing::LIMITS
    };
    let context = testing::context()
        .ancestor("far", "x".repeat(400))
        .limits(limits)
        .build();
    assert!(context.inputs_json_including(&[]).await.is_ok());
    let error = context
        .inputs_json_including(&["far".to_owned()])
        .await
        .unwrap_err();
    assert!(!error.is_retryable());
    assert!(
        error
            .message()
            .contains("limits.max_input_bytes allows 400"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_left_of_the_time_is_never_negative() {
    let context = testing::context()
        .deadline(Instant::now() + Duration::from_secs(5))
        .build();
    assert_eq!(context.remaining(), Duration::from_secs(5));
    tokio::time::advance(Duration::from_secs(9)).await;
    assert_eq!(context.remaining(), Duration::ZERO);
}

#[tokio::test]
async fn a_handler_learns_that_it_is_no_longer_wanted() {
    let token = CancellationToken::new();
    let context = testing::context().cancellation(token.clone()).build();
    assert!(!context.is_cancelled());
    token.cancel();
    context.cancelled().await;
    assert!(context.is_cancelled());
}

#[test]
fn nothing_of_a_context_reaches_a_log() {
    let context = testing::context()
        .input("secret")
        .dependency("a", "secret")
        .config("secret")
        .build();
    assert!(!format!("{context:?}").contains("secret"));
}
