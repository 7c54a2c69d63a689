//! What the built-in handlers read from `handler.initialization`.
//!
//! Every settings type refuses keys it does not know; `circuit` and `include` are known to all.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::context::StepContext;
use crate::error::StepError;

/// Reads the step's initialization; an unknown key or a wrong type is a permanent failure that names it.
pub(super) fn read<T: serde::de::DeserializeOwned>(
    context: &StepContext,
    handler: &str,
) -> Result<T, StepError> {
    context.config().map_err(|error| {
        StepError::permanent(format!("handler `{handler}`: {}", error.message()))
            .with_type("settings_error")
    })
}

/// A value given as `null` is present, unlike with a plain `Option`.
pub(super) fn present<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}
