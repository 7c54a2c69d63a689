//! Steps that come to nothing.

use tasker_shared::db::pool::Pinned;
use tasker_shared::resilience::breaker::{Breaker, Rules};

use super::*;
use crate::circuits::tests::{Database, claimed};
use crate::result_sender;
use crate::testing::LIMITS;

fn executor(database: &Database) -> (Arc<Executor>, result_sender::Sender) {
    let breaker = Breaker::new(
        "pgmq",
        Rules {
            enabled: false,
            failure_threshold: 1,
            success_threshold: 1,
            timeout: Duration::ZERO,
        },
    );
    let connection = Pinned::new(database.target.batches());
    let (results, sender) = result_sender::channel(16, connection, breaker);
    let executor = Executor {
        registry: Registry::default(),
        blueprints: Blueprints::new(database.pool.clone(), "test"),
        pool: database.pool.clone(),
        running: Running::new(10, Arc::default()),
        held: Held::default(),
        circuits: database.circuits.clone(),
        results,
        schemas: Schemas::new(),
        limits: LIMITS,
        default_timeout: Duration::from_secs(60),
        clock: Clock::default(),
    };
    (Arc::new(executor), sender)
}

#[tokio::test]
async fn a_probe_whose_step_has_no_template_that_could_be_read_is_given_back() {
    let database = Database::start().await;
    let (executor, _sender) = executor(&database);
    let probing = database.lent().await;
    database.until(1, 1).await;
    let worker = probing.probe.worker;
    executor
        .start(worker, vec![claimed(1, 0)], Some(probing))
        .await;
    database.until(1, 0).await;
}

#[tokio::test]
async fn the_future_of_a_step_is_small_enough_to_be_copied() {
    let database = Database::start().await;
    let (executor, _sender) = executor(&database);
    let step = claimed(1, 0);
    let held = (
        executor.running.enter(step.task_uuid),
        executor.held.hold(step.id),
    );
    let running = Arc::clone(&executor).run(Uuid::nil(), step, held, None, None);
    assert!(size_of_val(&running) < 4096, "{}", size_of_val(&running));
}
