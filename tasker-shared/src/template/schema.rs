//! JSON Schemas of templates: checked when a template is read, compiled the same way where one is enforced.
//! Nothing outside the schema itself is ever fetched.

use jsonschema::{ReferencingError, ValidationError, Validator, error::ValidationErrorKind};
use serde_json::Value;

/// Of the faults of one schema, this many are reported at once.
const FAULTS_REPORTED: usize = 20;

/// Why a schema cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid JSON Schema: {message}")]
pub struct Error {
    /// JSON pointer into the schema; empty where there is no narrower place.
    pub pointer: String,
    /// The reference that leads nowhere or outside, where that is the fault.
    pub reference: Option<String>,
    pub message: String,
}

/// The validator of a schema, in the draft its `$schema` names or else 2020-12. Formats are enforced.
///
/// # Errors
/// The first thing wrong with the schema.
pub fn compile(schema: &Value) -> Result<Validator, Error> {
    if !schema.is_object() && !schema.is_boolean() {
        return Err(Error {
            pointer: String::new(),
            reference: None,
            message: "a schema is a mapping, `true` or `false`".to_owned(),
        });
    }
    jsonschema::options()
        .should_validate_formats(true)
        .offline()
        .build(schema)
        .map_err(|error| Error::from(&error))
}

/// Everything wrong with a schema, up to a bound.
pub(super) fn faults(schema: &Value) -> Vec<Error> {
    let Err(first) = compile(schema) else {
        return Vec::new();
    };
    let is_schema = schema.is_object() || schema.is_boolean();
    if first.reference.is_some() || !is_schema {
        return vec![first];
    }
    let faults = jsonschema::meta::validator_for(schema).map(|rules| {
        let errors = rules.iter_errors(schema);
        errors
            .take(FAULTS_REPORTED)
            .map(|error| Error::from(&error))
            .collect::<Vec<_>>()
    });
    // What the rules of its draft allow may still not compile: a regular expression, say.
    faults
        .ok()
        .filter(|faults| !faults.is_empty())
        .unwrap_or_else(|| vec![first])
}

impl From<&ValidationError<'_>> for Error {
    fn from(error: &ValidationError<'_>) -> Self {
        let (reference, message) = match error.kind() {
            ValidationErrorKind::Referencing(source) => describe(source),
            _ => (None, error.to_string()),
        };
        Self {
            pointer: error.instance_path().as_str().to_owned(),
            reference,
            message,
        }
    }
}

fn describe(error: &ReferencingError) -> (Option<String>, String) {
    let reference = match error {
        ReferencingError::Unretrievable { uri, .. } => {
            let message = format!(
                "`{uri}` lies outside the template, and nothing is fetched; put it under `$defs`"
            );
            return (Some(uri.clone()), message);
        }
        ReferencingError::PointerToNowhere { pointer } => Some(pointer.clone()),
        ReferencingError::NoSuchAnchor { anchor } => Some(anchor.clone()),
        ReferencingError::UnknownSpecification { specification } => Some(specification.clone()),
        _ => None,
    };
    (reference, error.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_schema_is_enforced_with_its_formats() {
        let schema = json!({"type": "object", "properties": {"at": {"type": "string", "format": "date-time"}}});
        let validator = compile(&schema).unwrap();
        assert!(validator.is_valid(&json!({"at": "2024-01-01T00:00:00Z"})));
        assert!(!validator.is_valid(&json!({"at": "yesterday"})));
    }

    #[test]
    fn references_inside_the_schema_are_followed() {
        let schema = json!({"$ref": "#/$defs/positive", "$defs": {"positive": {"type": "integer", "minimum": 1}}});
        let validator = compile(&schema).unwrap();
        assert!(validator.is_valid(&json!(1)));
        assert!(!validator.is_valid(&json!(0)));
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let schema = json!({"properties": {"child": {"$ref": "#"}}, "type": "object"});
        let validator = compile(&schema).unwrap();
        assert!(validator.is_valid(&json!({"child": {"child": {}}})));
        assert!(!validator.is_valid(&json!({"child": {"child": 1}})));
        if let Ok(circle) = compile(&json!({"$ref": "#"})) {
            let _ = circle.is_valid(&json!({}));
        }
    }

    #[test]
    fn numbers_beyond_machine_words_are_judged_without_a_panic() {
        let schema =
            json!({"type": "number", "maximum": 10, "multipleOf": 3, "exclusiveMinimum": -5});
        let validator = compile(&schema).unwrap();
        for text in [
            "1e999999",
            "-1e999999",
            "1e-999999",
            &"9".repeat(400),
            "0.1e400",
        ] {
            let number: Value = serde_json::from_str(text).unwrap();
            for error in validator.iter_errors(&number) {
                assert!(!error.to_string().is_empty());
            }
            let _ = compile(&json!({"enum": [1, "a"], "const": 2, "type": "integer"}))
                .unwrap()
                .is_valid(&number);
            let _ = compile(&json!({"uniqueItems": true}))
                .unwrap()
                .is_valid(&json!([number, number, 1]));
        }
        let huge: Value = serde_json::from_str("1e999999").unwrap();
        assert!(!validator.is_valid(&huge));
    }

    #[test]
    fn every_fault_of_a_schema_is_reported_with_its_pointer() {
        let schema = json!({
            "type": "objekt",
            "properties": {"a": {"minLength": -1}, "b": {"required": "a"}},
        });
        let mut pointers: Vec<String> = faults(&schema)
            .into_iter()
            .map(|fault| fault.pointer)
            .collect();
        pointers.sort();
        assert_eq!(
            pointers,
            ["/properties/a/minLength", "/properties/b/required", "/type"]
        );
        assert!(faults(&json!({"type": "object"})).is_empty());
    }

    #[test]
    fn what_cannot_be_compiled_is_a_fault() {
        let cases = [
            (json!("object"), ""),
            (json!([]), ""),
            (
                json!({"properties": {"a": {"pattern": "("}}}),
                "/properties/a/pattern",
            ),
        ];
        for (schema, pointer) in cases {
            let faults = faults(&schema);
            assert_eq!(faults.len(), 1, "{schema}");
            assert_eq!(faults[0].pointer, pointer, "{schema}: {}", faults[0]);
        }
    }

    #[test]
    fn nothing_is_fetched_from_outside() {
        let cases = [
            (
                json!({"$ref": "https://schemas.example/order.json"}),
                "https://schemas.example/order.json",
            ),
            (
                json!({"$ref": "file:///etc/hostname"}),
                "file:///etc/hostname",
            ),
            (json!({"$ref": "#/$defs/missing"}), "/$defs/missing"),
            (json!({"$ref": "#anchor"}), "anchor"),
        ];
        for (schema, reference) in cases {
            let error = compile(&schema).unwrap_err();
            assert_eq!(
                error.reference.as_deref(),
                Some(reference),
                "{schema}: {error}"
            );
        }
        assert!(compile(&json!({"$ref": "other.json"})).is_err());
        assert!(compile(&json!({"$schema": "https://schemas.example/mine"})).is_err());
        assert!(compile(&json!({"$schema": "http://json-schema.org/draft-07/schema#"})).is_ok());
    }
}
