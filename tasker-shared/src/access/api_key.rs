//! API keys: made at random, shown once, kept as a hash.

use std::fmt;
use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// Tells a key from a token, and a key in a text from other words.
const PREFIX: &str = "tsk_";
const RANDOM_BYTES: usize = 32;
/// So much of a key is kept in the clear, for people to tell keys apart; the rest has 224 bits.
const HINT_DIGITS: usize = 8;

/// A key as it is sent: `tsk_` and 64 hexadecimal digits. Neither debug output nor errors show it.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

/// The SHA-256 of a key. A key has 256 random bits, so there is nothing to guess and no need for a slow hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash(pub [u8; 32]);

impl ApiKey {
    /// A new one.
    #[must_use]
    pub fn random() -> ApiKey {
        let bytes: [u8; RANDOM_BYTES] = rand::random();
        let mut text = PREFIX.to_owned();
        for byte in bytes {
            // Writing to a text cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        ApiKey(text)
    }

    /// A text that has the form of a key.
    #[must_use]
    pub fn read(text: &str) -> Option<ApiKey> {
        let digits = text.strip_prefix(PREFIX)?;
        let is_key = digits.len() == 2 * RANDOM_BYTES
            && digits
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        is_key.then(|| ApiKey(text.to_owned()))
    }

    /// Whether a text means to be a key, well formed or not.
    pub(super) fn is_meant(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// What is stored.
    #[must_use]
    pub fn hash(&self) -> KeyHash {
        KeyHash(Sha256::digest(self.0.as_bytes()).into())
    }

    /// Its beginning, by which people tell keys apart.
    #[must_use]
    pub fn hint(&self) -> &str {
        &self.0[..PREFIX.len() + HINT_DIGITS]
    }

    /// The key itself, for whoever is to use it only.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({}…)", self.hint())
    }
}

impl KeyHash {
    /// Whether both are the same, in a time that does not tell where they differ.
    pub(super) fn matches(&self, other: &KeyHash) -> bool {
        let difference = self.0.iter().zip(&other.0).fold(0, |d, (a, b)| d | (a ^ b));
        std::hint::black_box(difference) == 0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_again_and_shown_by_its_beginning_alone() {
        let key = ApiKey::random();
        assert_eq!(ApiKey::read(key.expose()), Some(key.clone()));
        assert!(key.expose().starts_with(key.hint()) && key.hint().len() == 12);
        let shown = format!("{key:?}");
        assert!(!shown.contains(&key.expose()[13..]), "{shown}");
        assert_ne!(key, ApiKey::random());
        assert!(key.hash().matches(&key.hash()));
        assert!(!key.hash().matches(&ApiKey::random().hash()));
    }

    #[test]
    fn what_has_another_form_is_no_key() {
        let digits = "0".repeat(64);
        for text in [
            String::new(),
            "tsk_".to_owned(),
            digits.clone(),
            format!("tsk_{digits}0"),
            format!("tsk_{}g", &digits[1..]),
            format!("tsk_{}A", &digits[1..]),
            format!("TSK_{digits}"),
        ] {
            assert_eq!(ApiKey::read(&text), None, "{text}");
        }
        assert!(ApiKey::read(&format!("tsk_{digits}")).is_some());
    }
}
