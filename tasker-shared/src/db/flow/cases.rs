use super::*;
use crate::db::advance;
use crate::db::effects::Effects;
use crate::plan::advance::plan;

use StepState as S;

fn fan(width: usize) -> String {
    let mut steps = "  - {name: root, handler: {callable: echo}}\n".to_owned();
    let mut names = Vec::new();
    for i in 0..width {
        names.push(format!("m{i}"));
        steps +=
            &format!("  - {{name: m{i}, handler: {{callable: echo}}, dependencies: [root]}}\n");
    }
    steps
        + &format!(
            "  - {{name: last, handler: {{callable: echo}}, dependencies: [{}]}}\n",
            names.join(", ")
        )
}

const DIAMOND: &str = "  - {name: a, handler: {callable: echo}}
  - {name: b, handler: {callable: echo}, dependencies: [a], retry: {max_attempts: 2, backoff: none}}
  - {name: c, handler: {callable: echo}, dependencies: [a]}
  - {name: d, handler: {callable: echo}, dependencies: [b, c]}\n";

#[tokio::test]
async fn a_chain_runs_step_by_step_with_what_each_needs() {
    let mut world = World::new().await;
    let blueprint = world.template("chain", &chain(4)).await;
    let task = world.submit(&blueprint).await;
    let worker = world.worker;
    for number in 1..=4 {
        let claimed = world.claim(worker, 10).await;
        let numbers: Vec<i32> = claimed.iter().map(|c| c.step_no).collect();
        assert_eq!(numbers, [number]);
        assert_eq!(
            claimed[0].context, r#"{"n": 1.50}"#,
            "the context is what came in, to the byte"
        );
        if number > 1 {
            let result = Some(format!("{{\"step\": {}}}", number - 1));
            assert_eq!(claimed[0].results, Some(vec![result]));
        }
        assert_eq!(world.end(&claimed[0], Outcome::Success).await, 1);
        world.advance().await;
    }
    let (state, steps) = world.state(task).await;
    assert_eq!((state, steps), (TaskState::Complete, vec![S::Complete; 5]));
    world.assert_settled().await;
}

#[tokio::test]
async fn a_failure_travels_to_the_join_and_a_retry_brings_the_task_home() {
    let mut world = World::new().await;
    let blueprint = world.template("diamond", DIAMOND).await;
    let task = world.submit(&blueprint).await;
    assert_eq!(world.drain(&[2]).await, 3, "d is never run");
    let failed = vec![S::Complete, S::Error, S::Complete, S::Skipped, S::Skipped];
    assert_eq!(world.state(task).await, (TaskState::Error, failed));
    world.assert_settled().await;

    world
        .intervene(&blueprint, task, intervene::Action::Retry)
        .await
        .unwrap();
    let (state, steps) = world.state(task).await;
    assert_eq!(
        (state, steps[1], steps[3]),
        (TaskState::StepsInProcess, S::Enqueued, S::Pending)
    );
    assert_eq!(
        world.drain(&[]).await,
        2,
        "what had succeeded is not run again"
    );
    assert_eq!(
        world.state(task).await,
        (TaskState::Complete, vec![S::Complete; 5])
    );
    world.assert_settled().await;
}

#[tokio::test]
async fn a_task_whose_template_was_stored_with_a_join_behind_its_only_leaf_ends_by_the_join() {
    let mut world = World::new().await;
    let blueprint = world.template("pair", &chain(2)).await;
    // As templates were stored before an only leaf did without, which is known from when one is read.
    let join = "INSERT INTO tasker.template_steps (template_id, step_no, waiting_on, parents) VALUES ($1, 3, 1, '{2}')";
    let join = sqlx::query(join).bind(blueprint.template_id);
    join.execute(&world.pool).await.unwrap();
    world.blueprints = Blueprints::new(world.pool.clone(), "test");
    let found = world.blueprints.get([blueprint.template_id]).await.unwrap();
    let blueprint = found[&blueprint.template_id].clone();
    let task = world.submit(&blueprint).await;
    assert_eq!(world.count("steps").await, 3);
    assert_eq!(world.drain(&[2]).await, 2);
    let failed = vec![S::Complete, S::Error, S::Skipped];
    assert_eq!(world.state(task).await, (TaskState::Error, failed));

    world
        .intervene(&blueprint, task, intervene::Action::Retry)
        .await
        .unwrap();
    assert_eq!(world.drain(&[]).await, 1);
    let joined =
        "SELECT count(*) FROM tasker.steps WHERE step_no = 3 AND state = 6 AND waiting_on = 0";
    let joined = sqlx::query_scalar(joined).fetch_one(&world.pool);
    assert_eq!(joined.await.ok(), Some(1_i64));
    assert_eq!(
        world.state(task).await,
        (TaskState::Complete, vec![S::Complete; 3])
    );
    world.assert_settled().await;
}

#[tokio::test]
async fn a_failing_root_skips_everything_behind_it_however_deep() {
    let mut world = World::new().await;
    let blueprint = world.template("deep", &chain(30)).await;
    let task = world.submit(&blueprint).await;
    assert_eq!(world.drain(&[1]).await, 1);
    let (state, steps) = world.state(task).await;
    assert_eq!((state, steps[0]), (TaskState::Error, S::Error));
    assert!(steps[1..].iter().all(|s| *s == S::Skipped));
    world.assert_settled().await;
}

#[tokio::test]
async fn a_wide_fan_out_comes_together_again() {
    let mut world = World::new().await;
    let blueprint = world.template("wide", &fan(2500)).await;
    let task = world.submit(&blueprint).await;
    assert_eq!(world.drain(&[]).await, 2502);
    let (state, steps) = world.state(task).await;
    assert_eq!(state, TaskState::Complete);
    assert!(steps.iter().all(|s| *s == S::Complete));
    assert_eq!(world.count("attempts").await, 2502);
    world.assert_settled().await;
}

#[tokio::test]
async fn a_wide_fan_out_whose_root_fails_is_skipped_whole() {
    let mut world = World::new().await;
    let blueprint = world.template("wide", &fan(2500)).await;
    let task = world.submit(&blueprint).await;
    assert_eq!(world.drain(&[1]).await, 1);
    let (state, steps) = world.state(task).await;
    assert_eq!(state, TaskState::Error);
    assert!(steps[1..].iter().all(|s| *s == S::Skipped));
    world.assert_settled().await;
}

#[tokio::test]
async fn a_task_with_many_roots_or_a_time_to_come_starts_by_a_message() {
    let mut world = World::new().await;
    let steps: String = (0..1500)
        .map(|i| format!("  - {{name: r{i}, handler: {{callable: echo}}}}\n"))
        .collect();
    let blueprint = world.template("roots", &steps).await;
    let spread = world.task(&blueprint, Begin::Spread);
    let mut later = world.task(
        &blueprint,
        Begin::At(Utc::now() - chrono::Duration::seconds(1)),
    );
    later.run_at = Some(Utc::now() - chrono::Duration::seconds(1));
    let made = world.accept(&[spread, later], &blueprint).await;
    assert_eq!(made.len(), 2);
    let shards: Vec<i16> = (0..16).collect();
    assert_eq!(
        delayed::promote(&world.pool, &shards, 10)
            .await
            .unwrap()
            .count,
        1
    );
    assert_eq!(world.drain(&[]).await, 3000);
    for task in made {
        assert_eq!(world.state(task).await.0, TaskState::Complete);
    }
    world.assert_settled().await;
}

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
    assert_eq!(
        workers::expire(&world.pool, 60_000, false).await.unwrap(),
        [dead]
    );
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
        let worker = Uuid::now_v7();
        world.register(worker).await;
        assert_eq!(world.claim(worker, 1).await.len(), 1);
        workers::stop(&world.pool, worker).await.unwrap();
        workers::rescue(&world.pool, &[worker], 10).await.unwrap();
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
