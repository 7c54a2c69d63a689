//! Admission: whether a request may become a task. Checks the request's fields and its context against the
//! limits and the template's `input_schema`; stores nothing.

use std::sync::Arc;

use jsonschema::Validator;
use moka::sync::Cache;
use tasker_shared::plan::Blueprint;
use tasker_shared::template;
use tasker_shared::wire::TaskRequest;
use uuid::Uuid;

use super::pressure::Busy;

/// Input errors reported for one context.
const MOST_ERRORS: usize = 20;
/// Compiled schemas kept.
const SCHEMAS: u64 = 1_000;

/// Something wrong at a place of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputError {
    /// JSON pointer.
    pub pointer: String,
    pub message: String,
}

/// Why a request does not become a task.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    #[error("{pointer}: {message}")]
    InvalidRequest { pointer: String, message: String },
    #[error("there is no template {namespace}/{name}{}; apply it first", version.as_ref().map(|v| format!(" in version {v}")).unwrap_or_default())]
    UnknownTemplate {
        namespace: String,
        name: String,
        version: Option<String>,
    },
    #[error("the context cannot be taken as it is: the errors name the places")]
    InvalidContext(Vec<InputError>),
    #[error("the {what} has {actual} bytes, {limit} allows {allowed}")]
    TooLarge {
        what: &'static str,
        limit: &'static str,
        actual: usize,
        allowed: usize,
    },
    #[error("the idempotency key was used before for a different request")]
    IdempotencyMismatch,
    #[error(transparent)]
    Busy(#[from] Busy),
    #[error("the database is not available; nothing was stored")]
    Unavailable,
    #[error("the database failed while storing the task; use an idempotency key and try again")]
    OutcomeUnknown,
    #[error("the database did not take the task, and did not store it; the server's log has more")]
    NotTaken,
}

/// Limits that requests are held to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub max_context_bytes: usize,
}

/// Compiled input schemas by template.
#[derive(Debug, Clone)]
pub struct Schemas {
    compiled: Cache<i32, Option<Arc<Validator>>>,
}

impl Default for Schemas {
    fn default() -> Schemas {
        Schemas {
            compiled: Cache::new(SCHEMAS),
        }
    }
}

impl Schemas {
    /// Checks a context (JSON text) against the template's `input_schema`.
    pub fn check(&self, blueprint: &Blueprint, context: &str) -> Result<(), Refusal> {
        let validator = self.compiled.get_with(blueprint.template_id, || {
            let schema = blueprint.template.input_schema.as_ref()?;
            // A stored template's schema was compiled before it was stored.
            template::schema::compile(schema).ok().map(Arc::new)
        });
        let Some(validator) = validator else {
            return Ok(());
        };
        let value: serde_json::Value = serde_json::from_str(context).map_err(|error| {
            Refusal::InvalidContext(vec![InputError {
                pointer: String::new(),
                message: error.to_string(),
            }])
        })?;
        let errors: Vec<InputError> = validator
            .iter_errors(&value)
            .take(MOST_ERRORS)
            .map(|error| InputError {
                pointer: error.instance_path().to_string(),
                message: error.to_string(),
            })
            .collect();
        if errors.is_empty() {
            Ok(())
        } else {
            Err(Refusal::InvalidContext(errors))
        }
    }
}

/// Checks the fields of a request, its context apart.
pub fn check_fields(request: &TaskRequest) -> Result<(), Refusal> {
    let length = |field: &str, value: &str, most: usize| match value.chars().count() {
        0 => invalid(field, "is empty"),
        n if n > most => invalid(field, &format!("has {n} characters, {most} are allowed")),
        _ if value.contains('\0') => invalid(field, "contains a NUL character"),
        _ => Ok(()),
    };
    let optional =
        |field: &str, value: Option<&str>, most| value.map_or(Ok(()), |v| length(field, v, most));
    length("name", &request.name, 255)?;
    length("namespace", &request.namespace, 255)?;
    optional("version", request.version.as_deref(), 50)?;
    optional("initiator", request.initiator.as_deref(), 255)?;
    optional("source_system", request.source_system.as_deref(), 255)?;
    optional("reason", request.reason.as_deref(), 500)?;
    optional("idempotency_key", request.idempotency_key.as_deref(), 255)?;
    if request.tags.len() > 100 {
        return invalid("tags", "has more than 100 entries");
    }
    for (index, tag) in request.tags.iter().enumerate() {
        length(&format!("tags/{index}"), tag, 255)?;
    }
    if !(-100..=100).contains(&request.priority.unwrap_or(0)) {
        return invalid("priority", "is outside -100 to 100");
    }
    for (field, id) in [
        ("correlation_id", request.correlation_id),
        ("parent_correlation_id", request.parent_correlation_id),
    ] {
        if id.is_some_and(|id| id == Uuid::nil()) {
            return invalid(field, "is the nil UUID; leave it out to have one made");
        }
    }
    Ok(())
}

fn invalid(field: &str, message: &str) -> Result<(), Refusal> {
    Err(Refusal::InvalidRequest {
        pointer: format!("/{field}"),
        message: message.to_owned(),
    })
}
