//! The types a key can have: read from TOML and from the text of a variable or flag, and shown again.

use super::{Entry, Fault, HttpUrl, SecretUrl, Source, mask};
use config::{Value, ValueKind};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// A value as a layer gives it.
#[derive(Debug, Clone)]
pub(super) enum Raw {
    Toml(Value),
    Text(String),
}

/// The type of a key. The errors complete the sentence "`key` …".
pub(super) trait Setting: Sized {
    /// For the reference.
    const TYPE: &'static str;
    fn from_toml(value: &Value) -> Result<Self, String>;
    fn from_text(text: &str) -> Result<Self, String>;
    /// Null where the key has no value; the same text is valid TOML.
    fn to_json(&self) -> serde_json::Value;
}

/// What a value must be beyond its type.
pub(super) trait Rule<T> {
    fn check(&self, value: &T) -> Result<(), String>;
    /// For the reference.
    fn describe(&self) -> String;
}

impl<T> Rule<T> for () {
    fn check(&self, _: &T) -> Result<(), String> {
        Ok(())
    }

    fn describe(&self) -> String {
        String::new()
    }
}

impl<T: PartialOrd + fmt::Display> Rule<T> for RangeInclusive<T> {
    fn check(&self, value: &T) -> Result<(), String> {
        if self.contains(value) {
            return Ok(());
        }
        Err(format!(
            "must be from {} to {}, not {value}",
            self.start(),
            self.end()
        ))
    }

    fn describe(&self) -> String {
        format!("{} to {}", self.start(), self.end())
    }
}

/// One key as it was read, with what the reference says of it.
#[derive(Debug)]
pub(super) struct Fact {
    pub(super) entry: Entry,
    pub(super) section_doc: &'static [&'static str],
    pub(super) doc: &'static [&'static str],
    pub(super) kind: &'static str,
    pub(super) rule: String,
}

/// Takes the values of the layers apart, key by key; a key without a value gets its default.
#[derive(Debug, Default)]
pub(super) struct Reader {
    values: BTreeMap<String, (Raw, Source)>,
    pub(super) facts: Vec<Fact>,
    pub(super) faults: Vec<Fault>,
}

impl Reader {
    pub(super) fn new(values: BTreeMap<String, (Raw, Source)>) -> Self {
        Self {
            values,
            ..Self::default()
        }
    }

    pub(super) fn read<T: Setting>(
        &mut self,
        key: &str,
        docs: (&'static [&'static str], &'static [&'static str]),
        default: T,
        rule: &impl Rule<T>,
    ) -> T {
        let mut value = default;
        let mut source = Source::Default;
        if let Some((raw, from)) = self.values.remove(key) {
            let read = match &raw {
                Raw::Toml(toml) => T::from_toml(toml),
                Raw::Text(text) => T::from_text(text),
            };
            match read.and_then(|read| rule.check(&read).map(|()| read)) {
                Ok(read) => value = read,
                Err(message) => self.faults.push(Fault {
                    source: from.clone(),
                    key: key.to_owned(),
                    message,
                }),
            }
            source = from;
        }
        self.facts.push(Fact {
            entry: Entry {
                key: key.to_owned(),
                value: value.to_json(),
                source,
            },
            section_doc: docs.0,
            doc: docs.1,
            kind: T::TYPE,
            rule: rule.describe(),
        });
        value
    }
}

macro_rules! integer_settings {
    ($($type:ty),+) => {$(
        impl Setting for $type {
            const TYPE: &'static str = "integer";

            fn from_toml(value: &Value) -> Result<Self, String> {
                let number = match value.kind {
                    ValueKind::I64(number) => i128::from(number),
                    ValueKind::U64(number) => i128::from(number),
                    ValueKind::I128(number) => number,
                    _ => return Err(format!("must be a whole number, not {}", describe(value))),
                };
                Self::try_from(number).map_err(|_| format!("must be from {} to {}, not {number}", Self::MIN, Self::MAX))
            }

            fn from_text(text: &str) -> Result<Self, String> {
                text.trim().parse().map_err(|_| format!("must be a whole number from {} to {}, not {text:?}", Self::MIN, Self::MAX))
            }

            fn to_json(&self) -> serde_json::Value {
                (*self).into()
            }
        }
    )+};
}

integer_settings!(u32, u64, usize);

impl Setting for f64 {
    const TYPE: &'static str = "number";

    fn from_toml(value: &Value) -> Result<Self, String> {
        match value.kind {
            ValueKind::Float(number) => Ok(number),
            // Whole numbers need no point.
            ValueKind::I64(number) => Ok(number as f64),
            _ => Err(format!("must be a number, not {}", describe(value))),
        }
    }

    fn from_text(text: &str) -> Result<Self, String> {
        text.trim()
            .parse()
            .map_err(|_| format!("must be a number, not {text:?}"))
    }

    fn to_json(&self) -> serde_json::Value {
        (*self).into()
    }
}

impl Setting for bool {
    const TYPE: &'static str = "boolean";

    fn from_toml(value: &Value) -> Result<Self, String> {
        match value.kind {
            ValueKind::Boolean(value) => Ok(value),
            _ => Err(format!("must be true or false, not {}", describe(value))),
        }
    }

    fn from_text(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(format!("must be true or false, not {text:?}")),
        }
    }

    fn to_json(&self) -> serde_json::Value {
        (*self).into()
    }
}

/// Types that are a text in TOML too.
macro_rules! text_settings {
    ($($type:ty, $kind:literal, $parse:expr, $show:expr;)+) => {$(
        impl crate::config::setting::Setting for $type {
            const TYPE: &'static str = $kind;

            fn from_toml(value: &::config::Value) -> Result<Self, String> {
                match &value.kind {
                    ::config::ValueKind::String(text) => Self::from_text(text),
                    _ => Err(format!("must be text in quotes, not {}", crate::config::setting::describe(value))),
                }
            }

            fn from_text(text: &str) -> Result<Self, String> {
                let parse: fn(&str) -> Result<Self, String> = $parse;
                parse(text)
            }

            fn to_json(&self) -> serde_json::Value {
                let show: fn(&Self) -> String = $show;
                serde_json::Value::String(crate::config::mask::url(&show(self)))
            }
        }
    )+};
}
pub(super) use text_settings;

text_settings! {
    SocketAddr, "address and port",
        |text| text.trim().parse().map_err(|_| format!("must be an address and port such as 127.0.0.1:8080, not {text:?}")),
        ToString::to_string;
    PathBuf, "path",
        |text| if text.is_empty() { Err("must not be empty".to_owned()) } else { Ok(text.into()) },
        |path| path.display().to_string();
    SecretUrl, "URL",
        |text| SecretUrl::new(text),
        |url| url.expose().to_owned();
    HttpUrl, "URL",
        |text| HttpUrl::new(text),
        |url| url.as_str().to_owned();
    String, "text",
        |text| Ok(text.trim().to_owned()),
        Clone::clone;
}

/// A text that says something.
pub(super) struct NotEmpty;

impl Rule<String> for NotEmpty {
    fn check(&self, value: &String) -> Result<(), String> {
        if value.is_empty() {
            return Err("must not be empty".to_owned());
        }
        Ok(())
    }

    fn describe(&self) -> String {
        "not empty".to_owned()
    }
}

impl<T: Setting> Setting for Option<T> {
    const TYPE: &'static str = T::TYPE;

    fn from_toml(value: &Value) -> Result<Self, String> {
        T::from_toml(value).map(Some)
    }

    fn from_text(text: &str) -> Result<Self, String> {
        T::from_text(text).map(Some)
    }

    fn to_json(&self) -> serde_json::Value {
        self.as_ref().map_or(serde_json::Value::Null, T::to_json)
    }
}

impl Setting for Vec<String> {
    const TYPE: &'static str = "list of texts";

    fn from_toml(value: &Value) -> Result<Self, String> {
        let wrong = || format!("must be a list of texts, not {}", describe(value));
        let ValueKind::Array(items) = &value.kind else {
            return Err(wrong());
        };
        let texts = items.iter().map(|item| match &item.kind {
            ValueKind::String(text) => Ok(text.clone()),
            _ => Err(wrong()),
        });
        texts.collect()
    }

    /// Separated by commas; empty text is the empty list.
    fn from_text(text: &str) -> Result<Self, String> {
        let parts = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        Ok(parts.map(ToOwned::to_owned).collect())
    }

    fn to_json(&self) -> serde_json::Value {
        self.clone().into()
    }
}

pub(super) fn describe(value: &Value) -> String {
    match &value.kind {
        ValueKind::Table(_) => "a table".to_owned(),
        ValueKind::Array(_) => "a list".to_owned(),
        ValueKind::String(text) => format!("{:?}", mask::url(text)),
        _ => value.to_string(),
    }
}
