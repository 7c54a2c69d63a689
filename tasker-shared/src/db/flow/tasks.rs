//! What else decides how a task goes: its retries, its priority, its key, and people who cancel it.

use super::*;
use StepState as S;

#[tokio::test]
async fn a_retry_waits_and_the_second_failure_is_for_good() {
    let mut world = World::new().await;
    let blueprint = world.template("diamond", DIAMOND).await;
    let task = world.submit(&blueprint).await;
    let (worker, shards): (Uuid, Vec<i16>) = (world.worker, (0..16).collect());
    let root = world.claim(worker, 1).await;
    world.end(&root[0], Outcome::Success).await;
    world.advance().await;
    for (tries, state) in [(0, S::WaitingForRetry), (1, S::Error)] {
        let claimed = world.claim(worker, 10).await;
        let b = claimed.iter().find(|c| c.step_no == 2).unwrap();
        assert_eq!((b.tries, b.attempt), (tries, tries + 1));
        world.end(b, Outcome::Retryable).await;
        for c in claimed.iter().filter(|c| c.step_no == 3) {
            world.end(c, Outcome::Success).await;
        }
        world.advance().await;
        assert_eq!(world.state(task).await.1[1], state);
        delayed::promote(&world.pool, &shards, 10).await.unwrap();
        world.advance().await;
    }
    assert_eq!(world.state(task).await.0, TaskState::Error);
    world.assert_settled().await;
}

#[tokio::test]
async fn a_cancelled_task_takes_back_what_waits_and_ignores_what_runs() {
    let mut world = World::new().await;
    let blueprint = world.template("diamond", DIAMOND).await;
    let task = world.submit(&blueprint).await;
    let worker = world.worker;
    let root = world.claim(worker, 1).await;
    world.end(&root[0], Outcome::Success).await;
    world.advance().await;
    let running = world.claim(worker, 1).await;
    world
        .intervene(&blueprint, task, intervene::Action::Cancel)
        .await
        .unwrap();
    assert!(
        world.claim(worker, 10).await.is_empty(),
        "what waited is taken back"
    );
    let mut own = crate::db::pool::Pinned::new(world.target.clone());
    let beat = workers::beat(&mut own, worker, 60_000, 1, &[task])
        .await
        .unwrap();
    assert_eq!((beat.alive, beat.ended), (true, vec![task]));
    assert_eq!(
        world.end(&running[0], Outcome::Cancelled).await,
        1,
        "its attempt is kept"
    );
    world.advance().await;
    let (state, steps) = world.state(task).await;
    assert_eq!((state, steps[0]), (TaskState::Cancelled, S::Complete));
    assert!(steps[1..].iter().all(|s| *s == S::Cancelled));
    world.assert_settled().await;
}

#[tokio::test]
async fn an_idempotency_key_makes_one_task_even_within_a_batch() {
    let mut world = World::new().await;
    let blueprint = world.template("single", &chain(1)).await;
    let keyed = |world: &World| {
        let mut task = world.task(&blueprint, Begin::Now);
        task.key = Some(("k".into(), vec![1]));
        task
    };
    let batch = [
        keyed(&world),
        keyed(&world),
        world.task(&blueprint, Begin::Now),
    ];
    let made = world.accept(&batch, &blueprint).await;
    assert_eq!(made.len(), 2);
    assert!(world.accept(&[keyed(&world)], &blueprint).await.is_empty());
    let first = accept::find_first_tasks(&mut world.connection, &[("n", "single", "k")])
        .await
        .unwrap();
    assert!(made.contains(&first[0].task_uuid));
    assert_eq!(
        (world.count("tasks").await, world.count("ready").await),
        (2, 2)
    );
}

#[tokio::test]
async fn higher_priority_is_claimed_first() {
    let mut world = World::new().await;
    let blueprint = world.template("single", &chain(1)).await;
    let mut tasks: Vec<NewTask> = (0..6).map(|_| world.task(&blueprint, Begin::Now)).collect();
    for (task, priority) in tasks.iter_mut().zip([0, -5, 7, 0, 7, -5]) {
        task.priority = priority;
    }
    world.accept(&tasks, &blueprint).await;
    let worker = world.worker;
    let mut order = Vec::new();
    for _ in 0..3 {
        for step in world.claim(worker, 2).await {
            order.push(
                tasks
                    .iter()
                    .find(|t| t.task_uuid == step.task_uuid)
                    .unwrap()
                    .priority,
            );
        }
    }
    assert_eq!(order, [7, 7, 0, 0, -5, -5]);
}

#[tokio::test]
async fn each_hop_wakes_whoever_goes_on() {
    let mut world = World::new().await;
    let blueprint = world.template("chain", &chain(2)).await;
    world.route(&blueprint, 0).await;
    let mut listener = sqlx::postgres::PgListener::connect_with(&world.target.unmeasured_pool(1))
        .await
        .unwrap();
    listener
        .listen_all(["tasker_steps", "tasker_results", "tasker_cancels"])
        .await
        .unwrap();
    let task = world.submit(&blueprint).await;
    assert_eq!(listener.recv().await.unwrap().channel(), "tasker_steps");
    let worker = world.worker;
    let claimed = world.claim(worker, 1).await;
    world.end(&claimed[0], Outcome::Success).await;
    assert_eq!(listener.recv().await.unwrap().channel(), "tasker_results");
    world.advance().await;
    assert_eq!(listener.recv().await.unwrap().channel(), "tasker_steps");
    world
        .intervene(&blueprint, task, intervene::Action::Cancel)
        .await
        .unwrap();
    assert_eq!(listener.recv().await.unwrap().channel(), "tasker_cancels");
}
