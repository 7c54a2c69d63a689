//! Where log lines go and how they look: standard error, as text for people and JSON lines for machines.

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::LogFormat;

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The filter is no filter.
    #[error(
        "the log level {text:?} from {origin} is not understood: use error, warn, info, debug, trace, or target=level pairs"
    )]
    Level {
        /// As it was given.
        text: String,
        /// Which setting it came from.
        origin: &'static str,
        /// What is wrong with it.
        source: ParseError,
    },
    /// It was set up before.
    #[error("logging is set up already")]
    Again(#[from] TryInitError),
}

/// Sends events to standard error from now on. `RUST_LOG`, where it is set, wins over `level`; both are
/// a level or `target=level` pairs.
///
/// # Errors
/// The level is not understood, or the process logs already.
pub fn init(format: LogFormat, level: &str) -> Result<(), InitError> {
    let filter = filter(std::env::var("RUST_LOG").ok(), level)?;
    let text = match format {
        LogFormat::Text => true,
        LogFormat::Json => false,
        LogFormat::Auto => io::stderr().is_terminal(),
    };
    let lines = fmt().with_env_filter(filter).with_writer(io::stderr);
    if text {
        lines
            .with_ansi(io::stderr().is_terminal())
            .finish()
            .try_init()?;
    } else {
        lines
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .finish()
            .try_init()?;
    }
    Ok(())
}

fn filter(variable: Option<String>, level: &str) -> Result<EnvFilter, InitError> {
    let (text, origin) = match variable.filter(|text| !text.trim().is_empty()) {
        Some(text) => (text, "RUST_LOG"),
        None => (level.to_owned(), "logging.level"),
    };
    EnvFilter::builder()
        .parse(&text)
        .map_err(|source| InitError::Level {
            text,
            origin,
            source,
        })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_wins_where_it_says_something() {
        for (variable, level, expected) in [
            (None, "info", "info"),
            (Some(""), "warn", "warn"),
            (Some("debug"), "info", "debug"),
            (
                Some("tasker=trace,sqlx=warn"),
                "info",
                "tasker=trace,sqlx=warn",
            ),
        ] {
            let filter = filter(variable.map(str::to_owned), level)
                .unwrap()
                .to_string();
            let mut parts: Vec<&str> = filter.split(',').collect();
            parts.sort_unstable();
            let mut wanted: Vec<&str> = expected.split(',').collect();
            wanted.sort_unstable();
            assert_eq!(parts, wanted);
        }
    }

    #[test]
    fn a_level_that_is_none_is_refused_with_its_origin() {
        let error = filter(None, "tasker=loud").unwrap_err().to_string();
        assert!(
            error.contains("\"tasker=loud\" from logging.level"),
            "{error}"
        );
        let error = filter(Some("tasker=loud".to_owned()), "info")
            .unwrap_err()
            .to_string();
        assert!(error.contains("from RUST_LOG"), "{error}");
    }
}
