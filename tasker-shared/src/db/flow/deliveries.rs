//! What is delivered twice, late, to nobody, or to a server that it is not for.

use super::*;
use crate::db::advance;
use crate::db::effects::Effects;
use crate::plan::advance::plan;
use StepState as S;

#[tokio::test]
async fn a_stopped_workers_steps_come_back_and_its_late_result_counts_for_nothing() {
    let mut world = World::new().await;
    let blueprint = world.template("single", &chain(1)).await;
    let task = world.submit(&blueprint).await;
    let (dead, alive) = (Uuid::now_v7(), world.worker);
    world.register(dead).await;
    let lost = world.claim(dead, 1).await;
    assert!(
        world.claim(alive, 1).await.is_empty(),
        "it is claimed already"
    );
    workers::stop(&world.pool, dead).await.unwrap();
    let expired = workers::expire(&world.pool, 60_000, None).await.unwrap();
    assert_eq!(expired.workers, [dead]);
    assert_eq!(workers::rescue(&world.pool, &[dead], 10).await.unwrap(), 1);
    assert_eq!(
        world.end_as(dead, &lost[0], Outcome::Success).await,
        0,
        "too late"
    );
    world.advance().await;
    let again = world.claim(alive, 1).await;
    assert_eq!(
        (again[0].attempt, again[0].tries),
        (2, 0),
        "a lost lease is no attempt of the handler"
    );
    assert!(
        world.claim(dead, 1).await.is_empty(),
        "who has stopped claims nothing"
    );
    world.end(&again[0], Outcome::Success).await;
    world.advance().await;
    assert_eq!(world.state(task).await.0, TaskState::Complete);
    assert_eq!(world.count("attempts").await, 2);
    world.assert_settled().await;
}

#[tokio::test]
async fn a_step_that_loses_its_worker_again_and_again_is_given_up() {
    let mut world = World::new().await;
    let blueprint = world.template("single", &chain(1)).await;
    let task = world.submit(&blueprint).await;
    for _ in 0..4 {
        world.lose_worker().await;
        world.advance().await;
    }
    assert_eq!(
        world.state(task).await,
        (TaskState::Error, vec![S::Error, S::Skipped])
    );
    world.assert_settled().await;
}

#[tokio::test]
async fn a_server_that_does_not_own_the_shards_changes_nothing() {
    let mut world = World::new().await;
    let blueprint = world.template("single", &chain(1)).await;
    let task = world.submit(&blueprint).await;
    let worker = world.worker;
    let claimed = world.claim(worker, 1).await;
    world.end(&claimed[0], Outcome::Success).await;
    let owner = std::mem::replace(&mut world.server, Uuid::now_v7());
    let messages = world.messages().await;
    let route = world.route(&blueprint, 0).await;
    let plan = plan(messages, &world.rules, |_| Some(&route), || 0.5);
    let effects = advance::apply(&mut world.connection, world.server, &plan, true)
        .await
        .unwrap();
    assert_eq!(effects, Effects::default());
    assert_eq!(world.state(task).await.0, TaskState::StepsInProcess);
    world.server = owner;
    world.advance().await;
    assert_eq!(world.state(task).await.0, TaskState::Complete);
}

#[tokio::test]
async fn a_result_that_is_delivered_twice_is_applied_once() {
    let mut world = World::new().await;
    let blueprint = world.template("chain", &chain(2)).await;
    world.submit(&blueprint).await;
    let worker = world.worker;
    let claimed = world.claim(worker, 1).await;
    assert_eq!(world.end(&claimed[0], Outcome::Success).await, 1);
    assert_eq!(world.end(&claimed[0], Outcome::Success).await, 0);
    let messages = world.messages().await;
    let route = world.route(&blueprint, 0).await;
    assert!(matches!(messages[0].kind, Kind::Ended(Outcome::Success)));
    let plan = plan(messages, &world.rules, |_| Some(&route), || 0.5);
    for _ in 0..2 {
        advance::apply(&mut world.connection, world.server, &plan, true)
            .await
            .unwrap();
    }
    assert_eq!(
        world.claim(worker, 10).await.len(),
        1,
        "the child is enqueued once"
    );
}
