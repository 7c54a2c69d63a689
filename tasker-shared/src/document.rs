//! Contexts, inputs and results: JSON text kept exactly as it came, never parsed into a tree.
//! [`Document::parse`] is the one gate where such text enters; what lies behind it may be copied as it is.

mod scan;

use serde::ser::{Error as _, Serialize, Serializer};
use std::fmt;

/// Arrays and objects may lie within each other this deep: far below the limits of JSON parsers and of PostgreSQL.
pub const MAX_DEPTH: usize = 64;

/// JSON text that passed the gate: valid, within its limit, without what PostgreSQL or other readers would trip over.
#[derive(Clone, PartialEq, Eq)]
pub struct Document(Box<str>);

/// Why text is not taken as a document.
///
/// Where it has a place inside the JSON, `pointer` is the JSON pointer of the innermost value being read there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(
        "not valid JSON at line {line}, column {column}{}: {reason}",
        at(pointer)
    )]
    Malformed {
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        pointer: String,
        reason: &'static str,
    },
    #[error("the key {key:?} occurs twice{}", at(pointer))]
    DuplicateKey { key: String, pointer: String },
    #[error("the character \\u0000 is not allowed{}", at(pointer))]
    NulCharacter { pointer: String },
    #[error("half of a surrogate pair stands alone{}", at(pointer))]
    LoneSurrogate { pointer: String },
    #[error("nested deeper than {MAX_DEPTH} levels{}", at(pointer))]
    TooDeep { pointer: String },
    #[error("{bytes} bytes are more than the {limit_bytes} that {limit} allows")]
    TooLarge {
        /// The configuration key of the limit.
        limit: &'static str,
        limit_bytes: usize,
        bytes: usize,
    },
}

fn at(pointer: &str) -> String {
    if pointer.is_empty() {
        String::new()
    } else {
        format!(" at {pointer}")
    }
}

impl Error {
    /// The JSON pointer of the place; the empty pointer (the whole document) where there is no narrower one.
    #[must_use]
    pub fn pointer(&self) -> &str {
        match self {
            Self::Malformed { pointer, .. }
            | Self::DuplicateKey { pointer, .. }
            | Self::NulCharacter { pointer }
            | Self::LoneSurrogate { pointer }
            | Self::TooDeep { pointer } => pointer,
            Self::TooLarge { .. } => "",
        }
    }
}

impl Document {
    /// Takes the text where it is one JSON value of at most `limit_bytes`, surrounding blanks counted and kept.
    /// `limit` is the configuration key that sets `limit_bytes`, for the error. One pass, no tree; numbers of any size
    /// are legal.
    ///
    /// # Errors
    /// The first thing wrong with the text.
    pub fn parse(text: &str, limit_bytes: usize, limit: &'static str) -> Result<Self, Error> {
        check(text, limit_bytes, limit)?;
        Ok(Self(text.into()))
    }

    /// [`Document::parse`] without copying.
    ///
    /// # Errors
    /// The first thing wrong with the text.
    pub fn parse_owned(
        text: String,
        limit_bytes: usize,
        limit: &'static str,
    ) -> Result<Self, Error> {
        check(&text, limit_bytes, limit)?;
        Ok(Self(text.into_boxed_str()))
    }

    /// Text that passed the gate before, read back from the database: not looked at again.
    #[must_use]
    pub fn stored(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The document `null`.
    #[must_use]
    pub fn null() -> Self {
        Self("null".into())
    }

    /// The text, to the byte as it came.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check(text: &str, limit_bytes: usize, limit: &'static str) -> Result<(), Error> {
    if text.len() > limit_bytes {
        return Err(Error::TooLarge {
            limit,
            limit_bytes,
            bytes: text.len(),
        });
    }
    scan::check(text)
}

impl fmt::Debug for Document {
    /// Only the size: contexts and results may hold what no log should.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Document({} bytes)", self.0.len())
    }
}

impl From<Document> for String {
    fn from(document: Document) -> Self {
        document.0.into_string()
    }
}

impl AsRef<str> for Document {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Serialize for Document {
    /// Writes the text as it is, through `serde_json` only. Checks it once more on the way, so this is for bodies of
    /// the API, not for the hot path: there the text itself goes into the database.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::from_str::<&serde_json::value::RawValue>(&self.0)
            .map_err(S::Error::custom)?
            .serialize(serializer)
    }
}

#[cfg(test)]
mod tests;
