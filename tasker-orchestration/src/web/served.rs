//! Which handlers live workers have, asked of the database at most once a second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tasker_shared::db::pool::Pool;
use tasker_shared::db::{self, workers};
use tokio::sync::Mutex;

/// For how long an answer is taken as still true.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// The last answer.
#[derive(Debug, Default)]
pub(super) struct Served {
    last: Mutex<Option<(Instant, Arc<Handlers>)>>,
}

/// Handlers by who has them: (namespaces, callables) of each kind of worker; no namespaces means all.
#[derive(Debug, Default)]
pub(super) struct Handlers(Vec<(Vec<String>, Vec<String>)>);

impl Served {
    /// What live workers have now.
    pub(super) async fn get(&self, pool: &Pool) -> db::Result<Arc<Handlers>> {
        let mut last = self.last.lock().await;
        if let Some((at, handlers)) = &*last
            && at.elapsed() < FRESH_FOR
        {
            return Ok(handlers.clone());
        }
        let handlers = Arc::new(Handlers(workers::list_served(pool).await?));
        *last = Some((Instant::now(), handlers.clone()));
        Ok(handlers)
    }
}

impl Handlers {
    /// Handlers as `workers::list_served` gives them.
    #[cfg(test)]
    pub(super) fn new(kinds: Vec<(Vec<String>, Vec<String>)>) -> Handlers {
        Handlers(kinds)
    }

    /// Whether a live worker runs `callable` for `namespace`.
    pub(super) fn has(&self, namespace: &str, callable: &str) -> bool {
        self.0.iter().any(|(namespaces, callables)| {
            (namespaces.is_empty() || namespaces.iter().any(|n| n == namespace))
                && callables.iter().any(|c| c == callable)
        })
    }
}
