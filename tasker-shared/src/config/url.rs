//! Addresses of what is outside: a database, and whatever speaks HTTP.

use super::mask;
use std::fmt;

/// The URL of a database: neither debug output nor serialisation shows its password.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// Takes `postgres://` and `postgresql://`.
    ///
    /// # Errors
    /// A sentence's end that says what the URL must begin with; the text itself is not in it.
    pub fn new(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self(text.to_owned()));
        }
        Err("must begin with postgres:// or postgresql://".to_owned())
    }

    /// The URL with its password, for connecting only.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SecretUrl {
    /// The password masked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask::url(&self.0))
    }
}

/// The address of something that speaks HTTP. It holds no password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpUrl(String);

impl HttpUrl {
    /// Takes `http://` and `https://` with a host, and without user, query or fragment.
    ///
    /// # Errors
    /// A sentence's end that says what is wrong; the text itself is not in it, since it may hold a password.
    pub fn new(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let url = reqwest::Url::parse(text)
            .map_err(|error| format!("must be a URL such as http://localhost:4317: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err("must begin with http:// or https://".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not name a user; what is secret goes into headers".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("must not have a query or a fragment".to_owned());
        }
        Ok(Self(text.to_owned()))
    }

    /// One that the code itself gives.
    pub(super) fn fixed(text: &'static str) -> Self {
        Self(text.to_owned())
    }

    /// As written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_scheme_and_a_host_and_no_secret() {
        for text in [
            "http://localhost:4317",
            "https://collector.example/otlp/",
            " http://[::1]:4318 ",
        ] {
            assert_eq!(HttpUrl::new(text).unwrap().as_str(), text.trim());
        }
        for (text, message) in [
            ("localhost:4317", "must begin with http:// or https://"),
            (
                "grpc://collector:4317",
                "must begin with http:// or https://",
            ),
            ("collector", "must be a URL such as http://localhost:4317: "),
            ("http://", "must be a URL such as http://localhost:4317: "),
            ("http://u:hunter2@h", "must not name a user"),
            ("http://h/?token=hunter2", "must not have a query"),
        ] {
            let error = HttpUrl::new(text).unwrap_err();
            assert!(error.starts_with(message), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
