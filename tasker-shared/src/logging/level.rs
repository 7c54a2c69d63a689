//! Which events are logged, and changing that while the process runs.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber, callsite};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer};

use super::{InitError, STEP};

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The levels in force, as whoever changes them has them.
#[derive(Debug)]
pub(super) struct Levels {
    filter: Filter,
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
}

/// The layer that lets events through by their target and level. What it says of a place in the code is remembered
/// there, so that it is asked again only when it has changed; a span costs nothing here.
#[derive(Debug, Clone)]
pub(super) struct Filter(Arc<RwLock<Targets>>);

impl Filter {
    fn new(targets: Targets) -> Self {
        Self(Arc::new(RwLock::new(with_steps(targets))))
    }

    fn replace(&self, targets: Targets) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = with_steps(targets);
        callsite::rebuild_interest_cache();
    }

    fn ask<T>(&self, question: impl FnOnce(&Targets) -> T) -> T {
        question(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<S: Subscriber> Layer<S> for Filter {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        self.ask(|targets| Layer::<S>::register_callsite(targets, metadata))
    }

    fn enabled(&self, metadata: &Metadata<'_>, context: Context<'_, S>) -> bool {
        self.ask(|targets| Layer::<S>::enabled(targets, metadata, context))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.ask(Layer::<S>::max_level_hint)
    }
}

/// The filter that logging begins with, and the way to change it later.
pub(super) fn initial(
    variable: Option<String>,
    level: &str,
) -> Result<(Filter, Levels), InitError> {
    let (text, origin) = match variable.filter(|text| !text.trim().is_empty()) {
        Some(text) => (text, "RUST_LOG"),
        None => (level.to_owned(), "logging.level"),
    };
    // A target alone is all of it, as people are used to from the variable.
    let known = |part: &str| is_directive(part) || is_target(part);
    let Some((text, targets)) = targets(&text, known) else {
        return Err(InitError::Level { text, origin });
    };
    let filter = Filter::new(targets);
    let text = Mutex::new(text);
    Ok((filter.clone(), Levels { filter, text }))
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
        let Some((text, targets)) = targets(text, is_directive) else {
            return Err(LevelError::Unknown(text.to_owned()));
        };
        let mut current = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        self.filter.replace(targets);
        Ok(std::mem::replace(&mut current, text))
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

/// What a list of directives means, and the list without what is superfluous in it.
fn targets(text: &str, known: impl Fn(&str) -> bool) -> Option<(String, Targets)> {
    let parts = text.split(',').map(str::trim);
    let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    if parts.is_empty() || !parts.iter().all(|part| known(part)) {
        return None;
    }
    let text = parts.join(",");
    let targets = text.parse().ok()?;
    Some((text, targets))
}

/// Stricter than the filter itself, to which a misspelt level is the name of a target.
fn is_directive(part: &str) -> bool {
    match part.split_once('=') {
        Some((target, level)) => is_target(target) && is_level(level),
        None => is_level(part),
    }
}

fn is_level(text: &str) -> bool {
    LEVELS.iter().any(|level| text.eq_ignore_ascii_case(level))
}

fn is_target(text: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || "_-:.".contains(c);
    !text.is_empty() && text.chars().all(known)
}

/// The same with the spans of steps let through, whatever it says: lines of all levels want their fields.
fn with_steps(targets: Targets) -> Targets {
    targets.with_target(STEP, LevelFilter::ERROR)
}
