//! Log lines: standard error, as text for people and JSON for machines, and OTLP where it is switched on. What a
//! line belongs to is in the same fields everywhere: `task_uuid`, `step_uuid`, `correlation_id`.

mod level;
mod lines;

use std::io::{self, IsTerminal};

use tracing::Span;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{fmt, registry};
use uuid::Uuid;

use crate::config::LogFormat;
use crate::telemetry;

pub use level::{LevelError, level, set_level};

/// The target of the span around a handler; nothing is logged under it.
const STEP: &str = "tasker::step";
/// What log lines say of the step that they belong to.
const STEP_FIELDS: &[&str] = &["task_uuid", "step_uuid", "correlation_id"];

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
    },
    /// It was set up before.
    #[error("logging is set up already")]
    Again(#[from] TryInitError),
}

/// Sends events to standard error from now on, and by OTLP as soon as telemetry exports logs. `RUST_LOG`, where it
/// is set, wins over `level`; both are a level or `target=level` pairs.
///
/// # Errors
/// The level is not understood, or the process logs already.
pub fn init(format: LogFormat, level: &str) -> Result<(), InitError> {
    let (filter, levels) = level::initial(std::env::var("RUST_LOG").ok(), level)?;
    let text = match format {
        LogFormat::Text => true,
        LogFormat::Json => false,
        LogFormat::Auto => io::stderr().is_terminal(),
    };
    if text {
        let lines = fmt::layer()
            .with_writer(io::stderr)
            .with_ansi(io::stderr().is_terminal());
        registry()
            .with(filter)
            .with(lines)
            .with(telemetry::logs::layer(STEP_FIELDS))
            .try_init()?;
    } else {
        let lines = fmt::layer()
            .with_writer(io::stderr)
            .fmt_fields(lines::SpanFields)
            .event_format(lines::JsonLines);
        registry()
            .with(filter)
            .with(lines)
            .with(telemetry::logs::layer(STEP_FIELDS))
            .try_init()?;
    }
    levels.take_effect();
    Ok(())
}

/// The span to run a step's handler in: whatever is logged there says which step it is for, at any level.
#[must_use]
pub fn step_span(task_uuid: Uuid, step_uuid: Uuid, correlation_id: Uuid) -> Span {
    tracing::error_span!(target: STEP, parent: None, "step", %task_uuid, %step_uuid, %correlation_id)
}

#[cfg(test)]
pub(crate) mod tests;
