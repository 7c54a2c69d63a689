//! The server's health: what it knows of itself, and the checks made from that and from the database.

mod checks;
pub(super) mod routes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tasker_shared::resilience::vitals::Vitals;
use tokio::sync::watch;

use crate::lifecycle::Progress;
use crate::loops::pulse::Answering;

/// A loop that has not come round for so long, while the database answered all the time, is stuck for good. Long,
/// since a statement may have to wait for somebody's lock, and no new process would mend that.
const STUCK: Duration = Duration::from_secs(300);

/// In what part of its life the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationalState {
    /// It has not looked for work yet.
    Startup,
    /// It takes work.
    Normal,
    /// It ends what runs.
    GracefulShutdown,
    /// One of its loops has died: it needs to be started anew.
    Emergency,
}

impl OperationalState {
    /// The client's string.
    pub fn as_str(self) -> &'static str {
        match self {
            OperationalState::Startup => "Startup",
            OperationalState::Normal => "Normal",
            OperationalState::GracefulShutdown => "GracefulShutdown",
            OperationalState::Emergency => "Emergency",
        }
    }
}

/// What the server knows of itself. Clones share it.
#[derive(Debug, Clone)]
pub struct Health {
    stopping: Arc<AtomicBool>,
    progress: Arc<Progress>,
    shards: watch::Receiver<Vec<i16>>,
    vitals: Vitals,
    answering: Arc<Answering>,
    /// A pass that is longer away than this is late.
    longest: Duration,
}

impl Health {
    /// Of a server whose result processor reports `progress` and should do so within `longest`, which owns `shards`,
    /// whose loops are watched by `vitals` and whose database is asked by the pulse.
    pub fn new(
        progress: Arc<Progress>,
        shards: watch::Receiver<Vec<i16>>,
        vitals: Vitals,
        answering: Arc<Answering>,
        longest: Duration,
    ) -> Health {
        Health {
            stopping: Arc::default(),
            progress,
            shards,
            vitals,
            answering,
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
        } else if self.vitals.death().is_some() {
            OperationalState::Emergency
        } else if self.progress.since().is_none() {
            OperationalState::Startup
        } else {
            OperationalState::Normal
        }
    }

    /// Why starting the process anew would help, where it would. Never asks the database.
    fn deadly(&self) -> Option<String> {
        if let Some(death) = self.vitals.death() {
            return Some(death.to_string());
        }
        let round = self.progress.since_it_came_round()?;
        let answered = self.answering.since()?;
        (round.min(answered) > STUCK).then(|| {
            format!(
                "results have not been processed for {} s though the database answers",
                round.as_secs()
            )
        })
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
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test]
    async fn a_server_works_from_its_first_pass_until_it_stops_and_says_when_it_needs_a_new_start()
    {
        let progress = Arc::new(Progress::default());
        let (_owner, shards) = watch::channel(vec![1, 2]);
        let vitals = Vitals::default();
        let (answering, longest) = (Arc::default(), Duration::from_secs(60));
        let health = Health::new(progress.clone(), shards, vitals.clone(), answering, longest);
        assert_eq!(health.state(), OperationalState::Startup);
        progress.came_round();
        progress.passed();
        assert_eq!(health.state(), OperationalState::Normal);
        assert_eq!((health.late(), health.owned()), (None, 2));
        assert_eq!(health.deadly(), None);
        let dies = async { panic!("so it is") };
        let stop = CancellationToken::new();
        vitals.keep("result_processor", stop, dies).await;
        assert_eq!(health.state(), OperationalState::Emergency);
        assert!(health.deadly().unwrap().contains("so it is"));
        health.clone().stopping();
        assert_eq!(health.state(), OperationalState::GracefulShutdown);
    }
}
