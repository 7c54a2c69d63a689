//! YAML as a tree whose every value and key knows its line and column, read by YAML 1.2's core rules into what JSON
//! can hold. Aliases and merge keys (`<<`) are resolved, within bounds; tags other than `!!str` are refused.

mod build;
mod scalar;
#[cfg(test)]
mod tests;

pub(super) use build::build;

use serde_json::{Map, Number, Value};
use std::rc::Rc;

/// Collections may lie within each other this deep; as deep as contexts and results may.
const MAX_DEPTH: usize = crate::document::MAX_DEPTH;

/// Together, aliases may stand for this many values: enough for any real template, too few to fill the memory.
const MAX_ALIASED_VALUES: usize = 1_000_000;

/// Where something begins in the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct Place {
    /// From 1.
    pub(super) line: usize,
    /// From 1, in characters.
    pub(super) column: usize,
}

/// A value and where it begins; where it is an alias, the alias does.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) kind: Rc<Kind>,
    /// How many values it is, itself and each use of an alias counted.
    weight: usize,
    /// How many collections lie within each other here.
    depth: usize,
}

/// What a value is.
#[derive(Debug)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: Rc<str>,
    pub(super) place: Place,
    pub(super) value: Node,
}

impl Node {
    /// The value under a key, where this is a mapping that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match &*self.kind {
            Kind::Map(entries) => entries
                .iter()
                .find(|entry| &*entry.key == key)
                .map(|entry| &entry.value),
            _ => None,
        }
    }

    /// Where the JSON pointer leads, or as far as it leads.
    pub(super) fn locate(&self, pointer: &str) -> Place {
        let mut node = self;
        for part in pointer.split('/').skip(1) {
            let part = part.replace("~1", "/").replace("~0", "~");
            let next = match &*node.kind {
                Kind::List(items) => part.parse::<usize>().ok().and_then(|at| items.get(at)),
                _ => node.get(&part),
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node.place
    }

    /// The first place, in reading order, where `accept` says yes to a key and its value.
    pub(super) fn find(&self, accept: &impl Fn(&str, &Self) -> bool) -> Option<Place> {
        match &*self.kind {
            Kind::List(items) => items.iter().find_map(|item| item.find(accept)),
            Kind::Map(entries) => entries.iter().find_map(|entry| {
                if accept(&entry.key, &entry.value) {
                    Some(entry.value.place)
                } else {
                    entry.value.find(accept)
                }
            }),
            _ => None,
        }
    }

    pub(super) fn to_json(&self) -> Value {
        match &*self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(value) => Value::Bool(*value),
            Kind::Number(number) => Value::Number(number.clone()),
            Kind::Text(text) => Value::String(text.clone()),
            Kind::List(items) => items.iter().map(Self::to_json).collect(),
            Kind::Map(entries) => Value::Object(Self::to_object(entries)),
        }
    }

    pub(super) fn to_object(entries: &[Entry]) -> Map<String, Value> {
        entries
            .iter()
            .map(|entry| (entry.key.to_string(), entry.value.to_json()))
            .collect()
    }

    /// What the value is, for a message: `a list`, `the text "x"`.
    pub(super) fn describe(&self) -> String {
        const SHOWN: usize = 40;
        match &*self.kind {
            Kind::Null => "nothing".to_owned(),
            Kind::Bool(value) => format!("`{value}`"),
            Kind::Number(number) => format!("the number {}", shorten(&number.to_string(), SHOWN)),
            Kind::Text(text) => format!("the text {:?}", shorten(text, SHOWN)),
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "a mapping".to_owned(),
        }
    }
}

/// The text, or its beginning and an ellipsis.
fn shorten(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
