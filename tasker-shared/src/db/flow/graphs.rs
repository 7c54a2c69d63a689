//! Graphs of every shape, from their roots to the end of their task.

use super::*;
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
