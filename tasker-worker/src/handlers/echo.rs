//! `echo`: gives back what its template says, or the task's context and the attempt.

use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::value::RawValue;
use tasker_shared::document::Document;

use super::{Handler, document, settings};
use crate::context::StepContext;
use crate::error::StepError;

pub(super) struct Echo;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    #[serde(default, deserialize_with = "settings::present")]
    result: Option<Box<RawValue>>,
    #[serde(default, rename = "circuit")]
    _circuit: Option<String>,
    #[serde(default, rename = "include")]
    _include: Vec<String>,
}

impl Handler for Echo {
    fn call(&self, context: StepContext) -> BoxFuture<'static, Result<Document, StepError>> {
        Box::pin(async move {
            let settings: Settings = settings::read(&context, "echo")?;
            answer(settings.result.as_deref(), &context)
        })
    }
}

/// `initialization.result` where there is one, otherwise `{context, attempt}`.
pub(super) fn answer(
    result: Option<&RawValue>,
    context: &StepContext,
) -> Result<Document, StepError> {
    match result {
        Some(result) => document(result.get(), context.limits()),
        None => {
            let text = format!(
                r#"{{"context":{},"attempt":{}}}"#,
                context.input_json(),
                context.attempt()
            );
            document(text, context.limits())
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn it_gives_back_its_result_or_context_and_attempt_untouched() {
        let huge = r#"{"b":1.10,"a":1e999999,"b2":[ ]}"#;
        let table = [
            (json!({}), format!(r#"{{"context":{huge},"attempt":2}}"#)),
            (
                json!({"result": {"z": 1, "a": 2}}),
                r#"{"z":1,"a":2}"#.to_owned(),
            ),
            (json!({"result": null}), "null".to_owned()),
            (
                json!({"result": 1, "circuit": "shop", "include": []}),
                "1".to_owned(),
            ),
        ];
        for (config, expected) in table {
            let context = testing::context()
                .input_json(huge)
                .config(&config)
                .attempt(2)
                .build();
            assert_eq!(
                testing::call(&Echo, context).await.unwrap(),
                expected,
                "{config}"
            );
        }
    }

    #[tokio::test]
    async fn an_unknown_key_is_refused_by_name_for_good() {
        let context = testing::context().config(json!({"reslut": 1})).build();
        let error = testing::call(&Echo, context).await.unwrap_err();
        assert!(!error.is_retryable());
        assert!(
            error.message().contains("unknown field `reslut`"),
            "{error}"
        );
        assert!(
            error
                .message()
                .starts_with("handler `echo`: initialization"),
            "{error}"
        );
    }
}
