//! The circuit breakers of a server, and who asks which: the API `web`, the result processor `task_readiness`, the
//! loops that work on queues `pgmq`.

use tasker_shared::config::CircuitBreakers;
use tasker_shared::resilience::breaker::Breaker;

/// The breakers. Clones share them.
#[derive(Debug, Clone)]
pub struct Breakers {
    pub web: Breaker,
    pub task_readiness: Breaker,
    pub pgmq: Breaker,
}

impl Breakers {
    /// Closed ones, with these rules.
    pub fn new(keys: &CircuitBreakers) -> Breakers {
        Breakers {
            web: Breaker::new("web", keys.web().into()),
            task_readiness: Breaker::new("task_readiness", keys.task_readiness().into()),
            pgmq: Breaker::new("pgmq", keys.pgmq().into()),
        }
    }

    /// All of them.
    pub fn all(&self) -> [Breaker; 3] {
        [
            self.web.clone(),
            self.task_readiness.clone(),
            self.pgmq.clone(),
        ]
    }
}
