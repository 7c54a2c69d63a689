//! Which handlers live workers have, and which circuits keep steps from them, asked of the database at most once
//! a second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tasker_shared::db::circuits::{self, Circuit};
use tasker_shared::db::pool::Pool;
use tasker_shared::db::{self, workers};
use tokio::sync::Mutex;

/// For how long an answer is taken as still true.
const FRESH_FOR: Duration = Duration::from_secs(1);
/// Circuits looked at; more are open at once only where everything is in trouble.
const MOST_CIRCUITS: i64 = 1_000;

/// The last answer.
#[derive(Debug, Default)]
pub(super) struct Served {
    last: Mutex<Option<(Instant, Arc<Handlers>)>>,
}

/// What enqueued steps wait for.
#[derive(Debug, Default)]
pub(super) struct Handlers {
    /// Handlers by who has them: (namespaces, callables) of each kind of worker; no namespaces means all.
    kinds: Vec<(Vec<String>, Vec<String>)>,
    /// Circuits that are not closed.
    circuits: Vec<Circuit>,
}

impl Served {
    /// What live workers have, and which circuits are open, now.
    pub(super) async fn get(&self, pool: &Pool) -> db::Result<Arc<Handlers>> {
        let mut last = self.last.lock().await;
        if let Some((at, handlers)) = &*last
            && at.elapsed() < FRESH_FOR
        {
            return Ok(handlers.clone());
        }
        let handlers = Arc::new(Handlers {
            kinds: workers::list_served(pool).await?,
            circuits: circuits::list(pool, MOST_CIRCUITS, None).await?,
        });
        *last = Some((Instant::now(), handlers.clone()));
        Ok(handlers)
    }
}

impl Handlers {
    /// Handlers as `workers::list_served` gives them.
    #[cfg(test)]
    pub(super) fn new(kinds: Vec<(Vec<String>, Vec<String>)>, circuits: Vec<Circuit>) -> Handlers {
        Handlers { kinds, circuits }
    }

    /// The circuit of a target, where it is not closed.
    pub(super) fn circuit(&self, target: &str) -> Option<&Circuit> {
        self.circuits.iter().find(|c| c.target == target)
    }

    /// Whether a live worker runs `callable` for `namespace`.
    pub(super) fn has(&self, namespace: &str, callable: &str) -> bool {
        self.kinds.iter().any(|(namespaces, callables)| {
            (namespaces.is_empty() || namespaces.iter().any(|n| n == namespace))
                && callables.iter().any(|c| c == callable)
        })
    }
}
