//! JSON that passes through as the text it came as, and how requests read `null`.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A JSON value kept as its text: no number, key or order changes on the way through.
pub type RawJson = Box<RawValue>;

/// Reads an explicit null as the default, as if the key were absent.
pub(super) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads a value that has to be there: an explicit null is refused as its absence is.
pub(super) fn required<'de, D>(deserializer: D) -> Result<RawJson, D::Error>
where
    D: Deserializer<'de>,
{
    let value = RawJson::deserialize(deserializer)?;
    if value.get() == "null" {
        return Err(serde::de::Error::custom("is null but has to be there"));
    }
    Ok(value)
}
