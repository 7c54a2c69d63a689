//! One mapping with known keys, and the readers of single values.

use super::Reader;
use crate::spelling;
use crate::template::yaml::{Kind, Node, Place};
use crate::template::{Choice, schema};
use serde_json::{Map, Value};
use std::ops::RangeInclusive;

/// The keys of a mapping that were recognised and are not null.
pub(super) struct Fields<'n> {
    /// As in "a step": for messages.
    pub(super) what: &'static str,
    pub(super) place: Place,
    found: Vec<(&'n str, Place, &'n Node)>,
    /// It is a mapping at all; where not, nothing more is said of keys that are missing.
    is_mapping: bool,
}

impl<'n> Fields<'n> {
    pub(super) fn get(&self, key: &str) -> Option<&'n Node> {
        self.found
            .iter()
            .find(|(name, ..)| *name == key)
            .map(|(_, _, node)| *node)
    }

    /// Where the key itself stands; where it is absent, the mapping.
    pub(super) fn key_place(&self, key: &str) -> Place {
        let found = self.found.iter().find(|(name, ..)| *name == key);
        found.map_or(self.place, |(_, place, _)| *place)
    }

    /// Where the key's value stands; where it is absent, the mapping.
    pub(super) fn place_of(&self, key: &str) -> Place {
        self.get(key).map_or(self.place, |node| node.place)
    }
}

impl Reader<'_> {
    /// The mapping's keys; complains of unknown ones.
    pub(super) fn fields<'n>(
        &mut self,
        node: &'n Node,
        what: &'static str,
        known: &[&str],
    ) -> Fields<'n> {
        let mut fields = Fields {
            what,
            place: node.place,
            found: Vec::new(),
            is_mapping: true,
        };
        let Kind::Map(entries) = &*node.kind else {
            self.complain(
                node.place,
                format!("{what} is a mapping, not {}", node.describe()),
            );
            fields.is_mapping = false;
            return fields;
        };
        for entry in entries {
            if !known.contains(&&*entry.key) {
                let hint = spelling::hint(&entry.key, known.iter().copied());
                self.complain(
                    entry.place,
                    format!("unknown key `{}` of {what}{hint}", entry.key),
                );
            } else if !matches!(*entry.value.kind, Kind::Null) {
                fields.found.push((&*entry.key, entry.place, &entry.value));
            }
        }
        fields
    }

    /// The fields of a mapping inside a mapping; empty ones where the key is absent.
    pub(super) fn inner<'n>(
        &mut self,
        outer: &Fields<'n>,
        key: &'static str,
        known: &[&str],
    ) -> Option<Fields<'n>> {
        outer.get(key).map(|node| self.fields(node, key, known))
    }

    /// The value under the key; complains where there is none.
    pub(super) fn required<'n>(&mut self, fields: &Fields<'n>, key: &str) -> Option<&'n Node> {
        let node = fields.get(key);
        if node.is_none() && fields.is_mapping {
            self.complain(
                fields.place,
                format!("{} needs the key `{key}`", fields.what),
            );
        }
        node
    }

    pub(super) fn text(&mut self, fields: &Fields<'_>, key: &str) -> Option<String> {
        fields.get(key).and_then(|node| self.text_of(node, key))
    }

    /// Text that has to be there and not blank.
    pub(super) fn required_text(&mut self, fields: &Fields<'_>, key: &str) -> Option<String> {
        let node = self.required(fields, key)?;
        let text = self.text_of(node, key)?;
        if text.trim().is_empty() {
            self.complain(node.place, format!("`{key}` must not be empty"));
            return None;
        }
        Some(text)
    }

    pub(super) fn text_of(&mut self, node: &Node, key: &str) -> Option<String> {
        match &*node.kind {
            Kind::Text(text) => Some(text.clone()),
            Kind::Bool(_) | Kind::Number(_) => {
                let message = format!(
                    "`{key}` must be text, not {}; put it in quotes",
                    node.describe()
                );
                self.complain(node.place, message);
                None
            }
            _ => self.wrong(node, key, "text"),
        }
    }

    pub(super) fn flag(&mut self, fields: &Fields<'_>, key: &str) -> Option<bool> {
        let node = fields.get(key)?;
        match *node.kind {
            Kind::Bool(value) => Some(value),
            _ => self.wrong(node, key, "`true` or `false`"),
        }
    }

    pub(super) fn integer<T: TryFrom<u64>>(
        &mut self,
        fields: &Fields<'_>,
        key: &str,
        range: RangeInclusive<u64>,
    ) -> Option<T> {
        let node = fields.get(key)?;
        let value = match &*node.kind {
            Kind::Number(number) => number.as_u64().filter(|value| range.contains(value)),
            _ => None,
        };
        let converted = value.and_then(|value| T::try_from(value).ok());
        if converted.is_none() {
            let wanted = format!("a whole number from {} to {}", range.start(), range.end());
            return self.wrong(node, key, &wanted);
        }
        converted
    }

    pub(super) fn choice<T: Choice>(&mut self, fields: &Fields<'_>, key: &str) -> Option<T> {
        let node = fields.get(key)?;
        let text = match &*node.kind {
            Kind::Text(text) => text.as_str(),
            _ => "",
        };
        let found = T::CHOICES.iter().find(|(spelling, _)| *spelling == text);
        if let Some((_, value)) = found {
            return Some(*value);
        }
        let spellings = T::CHOICES.iter().map(|(spelling, _)| *spelling);
        let hint = spelling::hint(text, spellings.clone());
        let wanted = format!(
            "one of {}",
            spellings
                .map(|one| format!("`{one}`"))
                .collect::<Vec<_>>()
                .join(", ")
        );
        self.complain(
            node.place,
            format!("`{key}` must be {wanted}, not {}{hint}", node.describe()),
        );
        None
    }

    /// The items of a list; none where the key is absent.
    pub(super) fn list<'n>(&mut self, fields: &Fields<'n>, key: &str) -> &'n [Node] {
        match fields.get(key) {
            None => &[],
            Some(node) => match &*node.kind {
                Kind::List(items) => items,
                _ => {
                    self.wrong::<()>(node, key, "a list");
                    &[]
                }
            },
        }
    }

    pub(super) fn texts(&mut self, fields: &Fields<'_>, key: &str) -> Vec<String> {
        let items = self.list(fields, key);
        items
            .iter()
            .filter_map(|item| self.text_of(item, key))
            .collect()
    }

    pub(super) fn object(&mut self, fields: &Fields<'_>, key: &str) -> Map<String, Value> {
        match fields.get(key) {
            None => Map::new(),
            Some(node) => match &*node.kind {
                Kind::Map(entries) => Node::to_object(entries),
                _ => self.wrong(node, key, "a mapping").unwrap_or_default(),
            },
        }
    }

    /// A JSON Schema; each of its faults where it stands.
    pub(super) fn schema(&mut self, fields: &Fields<'_>, key: &str) -> Option<Value> {
        let node = fields.get(key)?;
        let value = node.to_json();
        for fault in schema::faults(&value) {
            let place = match &fault.reference {
                Some(reference) => place_of_reference(node, reference),
                None => node.locate(&fault.pointer),
            };
            self.complain(place, format!("`{key}` is {fault}"));
        }
        Some(value)
    }

    pub(super) fn wrong<T>(&mut self, node: &Node, key: &str, wanted: &str) -> Option<T> {
        self.complain(
            node.place,
            format!("`{key}` must be {wanted}, not {}", node.describe()),
        );
        None
    }
}

/// The first `$ref`, or key like it, that is the reference or ends in it or is what it was resolved from.
fn place_of_reference(schema: &Node, reference: &str) -> Place {
    let found = schema.find(&|key, value| match &*value.kind {
        Kind::Text(text) if key.starts_with('$') => {
            let text = text.trim_matches('#');
            !text.is_empty() && (text.ends_with(reference) || reference.ends_with(text))
        }
        _ => false,
    });
    found.unwrap_or(schema.place)
}
