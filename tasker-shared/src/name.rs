//! Names that recur in every message and metric (namespaces, task types, step names), kept once for the life of
//! the process: what stored templates can name is bounded, and a copy of one is a pointer.

use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{LazyLock, Mutex, PoisonError};

/// A name. Copies are free; two are equal where their texts are.
#[derive(Clone, Copy, Eq, PartialOrd, Ord)]
pub struct Name(&'static str);

/// Most are the same text in the same place, which needs no look at it: metrics compare some with every record.
impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        std::ptr::eq(self.0, other.0) || self.0 == other.0
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

static KNOWN: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);

impl Name {
    /// No name.
    pub const EMPTY: Name = Name("");

    /// The name with this text. What is given is kept for ever, so never data of a request.
    pub fn of(text: &str) -> Name {
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = known.get(text) {
            return Name(kept);
        }
        let kept: &'static str = String::leak(text.to_owned());
        known.insert(kept);
        Name(kept)
    }

    /// A name that the code itself gives.
    pub const fn fixed(text: &'static str) -> Name {
        Name(text)
    }

    /// Its text.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_once_and_equals_the_same_text_from_elsewhere() {
        let (first, second) = (Name::of("shop"), Name::of(String::from("shop").as_str()));
        assert!(std::ptr::eq(first.as_str(), second.as_str()));
        assert_eq!(first, Name::fixed("shop"));
    }
}
