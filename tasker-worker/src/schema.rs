//! Result schemas: a result that breaks its step's `result_schema` is a permanent failure.

use std::sync::Arc;

use jsonschema::Validator;
use moka::sync::Cache;
use tasker_shared::plan::Blueprint;
use tasker_shared::template;

use crate::StepError;

/// Compiled schemas kept.
const SCHEMAS: u64 = 1_000;
/// Errors named for one result.
const MOST_ERRORS: usize = 5;

/// Compiled schemas by template and step.
#[derive(Debug, Clone)]
pub(crate) struct Schemas(Cache<(i32, i32), Option<Arc<Validator>>>);

impl Schemas {
    pub(crate) fn new() -> Schemas {
        Schemas(Cache::new(SCHEMAS))
    }

    /// Checks a result (JSON text).
    pub(crate) fn check(
        &self,
        blueprint: &Blueprint,
        step_no: i32,
        result: &str,
    ) -> Result<(), StepError> {
        let Some(schema) = blueprint
            .step(step_no)
            .and_then(|s| s.result_schema.as_ref())
        else {
            return Ok(());
        };
        let compile = || template::schema::compile(schema).ok().map(Arc::new);
        let Some(validator) = self.0.get_with((blueprint.template_id, step_no), compile) else {
            return Ok(());
        };
        let invalid = |message: String| StepError::permanent(message).with_type("result_invalid");
        let value: serde_json::Value = serde_json::from_str(result)
            .map_err(|error| invalid(format!("the result is not JSON: {error}")))?;
        let errors: Vec<String> = validator
            .iter_errors(&value)
            .take(MOST_ERRORS)
            .map(|error| match error.instance_path().to_string() {
                path if path.is_empty() => error.to_string(),
                path => format!("{path}: {error}"),
            })
            .collect();
        if errors.is_empty() {
            return Ok(());
        }
        Err(invalid(format!(
            "the result breaks the step's result_schema: {}",
            errors.join("; ")
        )))
    }
}
