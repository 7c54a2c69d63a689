//! What a command says of who uses it.

use std::fmt;

use clap::Args;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use crate::failure::Failure;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// A key or a token; neither debug output nor `--help` shows it.
#[derive(Clone, Default, Args)]
pub(crate) struct Credentials {
    /// API key, where the server asks for credentials; better given by the variable, since others can see arguments
    #[arg(
        long,
        env = "TASKER_API_KEY",
        hide_env_values = true,
        value_name = "KEY",
        conflicts_with = "token",
        help_heading = "Server"
    )]
    api_key: Option<String>,
    /// Token (JWT), where the server asks for credentials; wins over a key
    #[arg(
        long,
        env = "TASKER_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN",
        help_heading = "Server"
    )]
    token: Option<String>,
}

impl Credentials {
    /// The headers that carry them. Empty ones count as none.
    pub(super) fn headers(&self) -> Result<HeaderMap, Failure> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let mut headers = HeaderMap::new();
        if let Some(token) = given(&self.token) {
            headers.insert(AUTHORIZATION, secret("token", &format!("Bearer {token}"))?);
        } else if let Some(key) = given(&self.api_key) {
            headers.insert(API_KEY, secret("API key", &key)?);
        }
        Ok(headers)
    }
}

fn secret(what: &str, text: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(text.trim()).map_err(|_| {
        Failure::Usage(format!(
            "the {what} has characters that none has, such as a line feed"
        ))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match (&self.token, &self.api_key) {
            (Some(_), _) => "token",
            (None, Some(_)) => "API key",
            (None, None) => "none",
        };
        write!(f, "Credentials({kind})")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_token_wins_over_a_key_and_empty_ones_are_none() {
        let text = |text: &str| Some(text.to_owned());
        let table = [
            (None, None, None),
            (text(""), text(""), None),
            (text("k"), None, Some(("x-api-key", "k"))),
            (text("k"), text("t"), Some(("authorization", "Bearer t"))),
            (text("k"), text(""), Some(("x-api-key", "k"))),
        ];
        for (api_key, token, expected) in table {
            let credentials = Credentials { api_key, token };
            let headers = credentials.headers().unwrap();
            let sent = headers.iter().next();
            let sent = sent.map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
            assert_eq!(sent, expected, "{credentials:?}");
        }
    }

    #[test]
    fn a_secret_that_cannot_be_sent_is_not_shown() {
        let credentials = Credentials {
            api_key: Some("hunter2\nx".to_owned()),
            token: None,
        };
        let failure = credentials.headers().unwrap_err();
        assert_eq!(failure.status(), 2);
        assert!(!format!("{failure} {failure:?} {credentials:?}").contains("hunter2"));
    }
}
