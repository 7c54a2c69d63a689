//! What a process counts and times. The functions of `orchestration`, `worker`, `resilience`, `database`,
//! `messaging` and `export` are the only way in, one a fact; `collect` is the only way out. In between one
//! store keeps the series: exact, bounded, and forgotten when their correlation id has been quiet for a while.

pub mod catalog;
pub mod collect;
pub mod correlation;
pub mod database;
pub mod definition;
pub mod export;
pub mod exposition;
mod instrument;
pub mod messaging;
pub mod orchestration;
pub mod page;
pub mod reference;
pub mod resilience;
mod store;
pub mod worker;

use std::sync::OnceLock;
use std::time::Duration;

use uuid::Uuid;

pub use definition::{Definition, Process};

use crate::plan::Message;

/// A task's correlation id, and whether it was admitted to have series of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Correlation {
    pub id: Uuid,
    pub sampled: bool,
}

impl From<&Message> for Correlation {
    fn from(message: &Message) -> Correlation {
        Correlation {
            id: message.correlation_id,
            sampled: message.sampled,
        }
    }
}

/// What becomes of correlation ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Admitted ids have series of their own until they have been quiet for the window.
    Window,
    /// No id has series of its own; each series shows the latest as its exemplar.
    Exemplar,
    Off,
}

/// How a process records.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub process: Process,
    pub mode: Mode,
    /// How long after its last record an id keeps its series.
    pub window: Duration,
    /// Ids that are admitted at once.
    pub limit: usize,
}

static SETTINGS: OnceLock<Settings> = OnceLock::new();

/// Begins recording; until then nothing is. Only the first call counts.
pub fn start(settings: Settings) {
    if SETTINGS.set(settings).is_ok() {
        export::watch_series();
    }
}

/// Whether anything is recorded.
pub fn is_on() -> bool {
    SETTINGS.get().is_some()
}

/// How this process records; `None` while it does not.
fn settings() -> Option<&'static Settings> {
    SETTINGS.get()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
