//! Which events are logged, and changing that while the process runs.

use std::sync::{Mutex, OnceLock, PoisonError};

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::{Registry, reload};

use super::{InitError, STEP};

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The filter in force.
#[derive(Debug)]
pub(super) struct Levels {
    filter: reload::Handle<EnvFilter, Registry>,
    text: Mutex<String>,
}

static IN_FORCE: OnceLock<Levels> = OnceLock::new();

/// The level could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum LevelError {
    /// It is none.
    #[error(
        "the log level {0:?} is not understood: use off, error, warn, info, debug, trace, or target=level pairs separated by commas"
    )]
    Unknown(String),
    /// Somebody else decides what is logged.
    #[error("this process does not log by itself")]
    NotSetUp,
    #[error("the log level cannot be changed: {0}")]
    Reload(#[from] reload::Error),
}

/// The filter that logging begins with, as a layer, and the way to change it later.
pub(super) fn initial(
    variable: Option<String>,
    level: &str,
) -> Result<(reload::Layer<EnvFilter, Registry>, Levels), InitError> {
    let (text, origin) = match variable.filter(|text| !text.trim().is_empty()) {
        Some(text) => (text, "RUST_LOG"),
        None => (level.to_owned(), "logging.level"),
    };
    match EnvFilter::builder().parse(&text) {
        Ok(filter) => {
            let (layer, filter) = reload::Layer::new(with_steps(filter));
            let text = Mutex::new(text);
            Ok((layer, Levels { filter, text }))
        }
        Err(source) => Err(InitError::Level {
            text,
            origin,
            source,
        }),
    }
}

impl Levels {
    /// Makes these the levels that [`set_level`] changes.
    pub(super) fn take_effect(self) {
        let _ = IN_FORCE.set(self);
    }

    /// As it was given.
    pub(super) fn text(&self) -> String {
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        text.clone()
    }

    pub(super) fn change(&self, text: &str) -> Result<String, LevelError> {
        let text = text.trim();
        let unknown = || LevelError::Unknown(text.to_owned());
        if !text.split(',').all(is_directive) {
            return Err(unknown());
        }
        let filter = EnvFilter::builder().parse(text).map_err(|_| unknown())?;
        let mut current = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        self.filter.reload(with_steps(filter))?;
        Ok(std::mem::replace(&mut current, text.to_owned()))
    }
}

/// Logs by another level from now on: one of off, error, warn, info, debug, trace, or `target=level` pairs. Returns
/// the level before.
///
/// # Errors
/// The text is no level, or logging was not set up by [`super::init`].
pub fn set_level(text: &str) -> Result<String, LevelError> {
    IN_FORCE.get().ok_or(LevelError::NotSetUp)?.change(text)
}

/// The level in force, as it was given; empty where logging was not set up by [`super::init`].
pub fn level() -> String {
    IN_FORCE.get().map(Levels::text).unwrap_or_default()
}

/// Stricter than the filter itself, to which a misspelt level is the name of a target.
fn is_directive(part: &str) -> bool {
    let is_level = |text: &str| LEVELS.iter().any(|level| text.eq_ignore_ascii_case(level));
    let is_target = |text: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || "_-:.".contains(c);
        !text.is_empty() && text.chars().all(known)
    };
    match part.trim().split_once('=') {
        Some((target, level)) => is_target(target) && is_level(level),
        None => is_level(part.trim()),
    }
}

/// The same filter with the spans of steps let through, whatever it says: lines of all levels want their fields.
fn with_steps(filter: EnvFilter) -> EnvFilter {
    match format!("{STEP}=error").parse() {
        Ok(steps) => filter.add_directive(steps),
        Err(_) => filter,
    }
}
