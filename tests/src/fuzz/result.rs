//! Any text is a document or none, and another reader that was written for this says the same.

use std::collections::HashSet;
use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use tasker_shared::document::{Document, Error, MAX_DEPTH};

pub(super) const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"a\":",
    "\"\\u0061\":",
    "\"",
    "\\",
    "\\u0000",
    "\\ud83d",
    "\\ude00",
    "\\ud800\\ud800",
    "1",
    "-",
    ".5",
    "e+",
    "E-1",
    "0",
    "true",
    "false",
    "null",
    " ",
    "\n",
    "\u{0}",
    "\u{7f}",
    "\u{2028}",
];

/// Large enough for what a mutation makes, small enough to be met.
const LIMIT_BYTES: usize = 4096;
/// Where a number stands in the way that `serde_json` hands its digits on.
const NUMBER: &str = "$serde_json::private::Number";

/// Panics where `data` breaks the gate of documents or what it promises.
pub fn result(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let taken = Document::parse(text, LIMIT_BYTES, "limits.max_result_bytes");
    if text.len() > LIMIT_BYTES {
        let error = taken.expect_err("it is over the limit");
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
        return;
    }
    let other = if text.contains("serde_json::private") {
        // The other reader cannot tell this from a number.
        taken.is_ok()
    } else {
        strict(text)
    };
    match taken {
        Ok(document) => {
            assert_eq!(document.as_str(), text, "it is kept to the byte");
            assert!(other, "{text:?} was taken");
            let written = serde_json::to_string(&document).unwrap();
            assert_eq!(written, text.trim_matches([' ', '\n', '\r', '\t']));
        }
        Err(error) => {
            assert!(!other, "{text:?} was refused: {error}");
            let pointer = error.pointer();
            assert!(pointer.is_empty() || pointer.starts_with('/'), "{error}");
            if let Error::Malformed { line, column, .. } = error {
                let lines = text.matches('\n').count() + 1;
                assert!((1..=lines).contains(&line) && column > 0, "{error:?}");
            }
        }
    }
}

/// Whether the text is what a document may be, as `serde_json` reads it.
fn strict(text: &str) -> bool {
    let Ok(raw) = serde_json::from_str::<&RawValue>(text) else {
        return false;
    };
    let mut reader = serde_json::Deserializer::from_str(raw.get());
    Strict(0).deserialize(&mut reader).is_ok()
}

/// A value inside so many others.
struct Strict(usize);

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Strict {
    fn inner<E: de::Error>(&self) -> Result<Strict, E> {
        match self.0 < MAX_DEPTH {
            true => Ok(Strict(self.0 + 1)),
            false => Err(E::custom("too deep")),
        }
    }
}

fn plain<E: de::Error>(text: &str) -> Result<(), E> {
    match text.contains('\0') {
        true => Err(E::custom("a NUL")),
        false => Ok(()),
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        plain(text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(self.inner()?)?.is_some() {}
        // An empty one counts as a level too.
        self.inner().map(drop)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut keys = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            if key == NUMBER {
                return entries.next_value::<Digits>().map(drop);
            }
            plain(&key)?;
            if !keys.insert(key) {
                return Err(de::Error::custom("a key twice"));
            }
            entries.next_value_seed(self.inner()?)?;
        }
        self.inner().map(drop)
    }
}

/// The digits of a number, whatever they are.
struct Digits;

impl<'de> Deserialize<'de> for Digits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        de::IgnoredAny::deserialize(deserializer).map(|_| Digits)
    }
}
