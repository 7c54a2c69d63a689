//! The types and rules of the keys that say who may use the API.

use std::fmt;

use http::HeaderName;

use super::setting::{Rule, text_settings};
use crate::access::ALGORITHMS;
use crate::spelling;

/// A public key as PEM. A private one is refused: it has no business here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(String);

impl PublicKey {
    /// Takes PEM; in a variable `\n` may stand for line feeds.
    ///
    /// # Errors
    /// A sentence's end that says what is wrong; the text itself is not in it, since it may be a secret.
    pub fn new(text: &str) -> Result<PublicKey, String> {
        let text = text.trim().replace("\\n", "\n");
        if text.contains("PRIVATE KEY") {
            return Err(
                "must be the public key: the private one stays with whoever signs".to_owned(),
            );
        }
        if !text.contains("-----BEGIN ") {
            return Err("must be PEM, beginning with -----BEGIN PUBLIC KEY-----".to_owned());
        }
        Ok(PublicKey(text))
    }

    /// As PEM.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PublicKey {
    /// In short: nobody reads a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "(PEM, {} bytes)", self.0.len())
    }
}

text_settings! {
    PublicKey, "PEM",
        |text| PublicKey::new(text),
        ToString::to_string;
}

/// A header that can carry a key.
pub(super) struct HeaderField;

impl Rule<String> for HeaderField {
    fn check(&self, value: &String) -> Result<(), String> {
        let name: HeaderName = value
            .parse()
            .map_err(|_| format!("must be the name of a header, not {value:?}"))?;
        match name == http::header::AUTHORIZATION {
            true => Err("must not be Authorization, which is for bearer tokens".to_owned()),
            false => Ok(()),
        }
    }

    fn describe(&self) -> String {
        "name of a header".to_owned()
    }
}

/// The algorithms of tokens.
pub(super) struct Algorithms;

impl Rule<Vec<String>> for Algorithms {
    fn check(&self, value: &Vec<String>) -> Result<(), String> {
        if value.is_empty() {
            return Err("must not be empty".to_owned());
        }
        let is_known = |name: &str| ALGORITHMS.iter().any(|(known, _)| *known == name);
        let Some(unknown) = value.iter().find(|name| !is_known(name)) else {
            return Ok(());
        };
        let secret = match unknown.starts_with("HS") {
            true => ": with a shared secret, whoever checks tokens could make them",
            false => "",
        };
        let hint = spelling::hint(unknown, ALGORITHMS.iter().map(|(name, _)| *name));
        Err(format!(
            "must hold some of {}, not {unknown:?}{secret}{hint}",
            names()
        ))
    }

    fn describe(&self) -> String {
        names()
    }
}

fn names() -> String {
    let names: Vec<&str> = ALGORITHMS.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

/// Origins of pages in browsers.
pub(super) struct Origins;

impl Rule<Vec<String>> for Origins {
    fn check(&self, value: &Vec<String>) -> Result<(), String> {
        if value.len() > 1 && value.iter().any(|origin| origin == "*") {
            return Err("must hold `*` alone or not at all".to_owned());
        }
        match value.iter().find(|origin| !is_origin(origin)) {
            Some(wrong) => Err(format!(
                "must hold origins such as https://ops.example, without a path, not {wrong:?}"
            )),
            None => Ok(()),
        }
    }

    fn describe(&self) -> String {
        "origins or `*`".to_owned()
    }
}

/// Whether browsers would send just this: an origin has no path, no default port and no capitals.
fn is_origin(text: &str) -> bool {
    text == "*"
        || reqwest::Url::parse(text).is_ok_and(|url| {
            matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == text
        })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_public_keys_are_taken_and_none_is_repeated() {
        let pem = "-----BEGIN PUBLIC KEY-----\\nMFkw\\n-----END PUBLIC KEY-----";
        assert_eq!(PublicKey::new(pem).unwrap().as_str().lines().count(), 3);
        assert_eq!(PublicKey::new(pem).unwrap().to_string(), "(PEM, 56 bytes)");
        for text in [
            "-----BEGIN RSA PRIVATE KEY-----hunter2",
            "-----BEGIN PRIVATE KEY-----hunter2",
            "hunter2",
        ] {
            assert!(!PublicKey::new(text).unwrap_err().contains("hunter2"));
        }
    }

    #[test]
    fn lists_are_checked_entry_by_entry() {
        let list = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        let algorithms: [(&[&str], &str); 5] = [
            (&["RS256", "ES256", "EdDSA"], ""),
            (&[], "must not be empty"),
            (&["HS256"], "with a shared secret"),
            (&["none"], "must hold some of RS256"),
            (&["rs256"], "must hold some of RS256"),
        ];
        for (texts, expected) in algorithms {
            let said = Algorithms.check(&list(texts)).err().unwrap_or_default();
            assert!(
                said.contains(expected) && said.is_empty() == expected.is_empty(),
                "{said}"
            );
        }
        let origins: [(&[&str], bool); 8] = [
            (&[], true),
            (&["*"], true),
            (&["https://ops.example", "http://localhost:3000"], true),
            (&["*", "https://ops.example"], false),
            (&["https://ops.example/"], false),
            (&["https://ops.example:443"], false),
            (&["ops.example"], false),
            (&["null"], false),
        ];
        for (texts, fits) in origins {
            assert_eq!(Origins.check(&list(texts)).is_ok(), fits, "{texts:?}");
        }
    }

    #[test]
    fn a_key_comes_in_a_header_of_its_own() {
        for (name, fits) in [
            ("X-API-Key", true),
            ("x y", false),
            ("", false),
            ("authorization", false),
        ] {
            assert_eq!(HeaderField.check(&name.to_owned()).is_ok(), fits, "{name}");
        }
    }
}
