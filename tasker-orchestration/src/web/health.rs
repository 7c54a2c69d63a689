//! The server's health: what it knows of itself, and the checks made from that and from the database.

mod checks;
pub(super) mod routes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::lifecycle::Progress;

/// In what part of its life the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationalState {
    /// It has not looked for work yet.
    Startup,
    /// It takes work.
    Normal,
    /// It ends what runs.
    GracefulShutdown,
}

impl OperationalState {
    /// The client's string.
    pub fn as_str(self) -> &'static str {
        match self {
            OperationalState::Startup => "Startup",
            OperationalState::Normal => "Normal",
            OperationalState::GracefulShutdown => "GracefulShutdown",
        }
    }
}

/// What the server knows of itself. Clones share it.
#[derive(Debug, Clone)]
pub struct Health {
    stopping: Arc<AtomicBool>,
    progress: Arc<Progress>,
    shards: watch::Receiver<Vec<i16>>,
    /// A pass that is longer away than this is late.
    longest: Duration,
}

impl Health {
    /// Of a server whose result processor reports `progress` and should do so within `longest`, and which owns
    /// `shards`.
    pub fn new(
        progress: Arc<Progress>,
        shards: watch::Receiver<Vec<i16>>,
        longest: Duration,
    ) -> Health {
        Health {
            stopping: Arc::default(),
            progress,
            shards,
            longest,
        }
    }

    /// Says that the server begins to stop.
    pub fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// In what part of its life the server is.
    pub fn state(&self) -> OperationalState {
        if self.stopping.load(Ordering::Relaxed) {
            OperationalState::GracefulShutdown
        } else if self.progress.since().is_none() {
            OperationalState::Startup
        } else {
            OperationalState::Normal
        }
    }

    /// How long ago the last pass was, where that is too long.
    fn late(&self) -> Option<Duration> {
        self.progress.since().filter(|since| *since > self.longest)
    }

    /// How many shards the server owns.
    fn owned(&self) -> usize {
        self.shards.borrow().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_works_from_its_first_pass_until_it_stops() {
        let progress = Arc::new(Progress::default());
        let (_owner, shards) = watch::channel(vec![1, 2]);
        let health = Health::new(progress.clone(), shards, Duration::from_secs(60));
        assert_eq!(health.state(), OperationalState::Startup);
        progress.passed();
        assert_eq!(health.state(), OperationalState::Normal);
        assert_eq!((health.late(), health.owned()), (None, 2));
        health.clone().stopping();
        assert_eq!(health.state(), OperationalState::GracefulShutdown);
    }
}
