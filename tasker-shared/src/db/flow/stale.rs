//! Stale tasks, and steps that nobody can run, given up by hand.

use super::dead::{PAIR, snapshot};
use super::*;
use crate::db::staleness::{self, Stale};
use crate::db::unroutable;
use crate::plan::dead_letter::Reason;

impl World {
    async fn sql(&self, sql: &'static str) {
        sqlx::query(sql).execute(&self.pool).await.unwrap();
    }

    async fn fail_stale(&mut self, tasks: &[Uuid], most: i64) -> i64 {
        let stale: Vec<Stale> = tasks
            .iter()
            .map(|&task_uuid| Stale {
                task_uuid,
                error: r#"{"message": "too old"}"#.into(),
            })
            .collect();
        shards::renew(&self.pool, self.server, "test")
            .await
            .unwrap();
        staleness::fail(&mut self.connection, self.server, &stale, most)
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn stale_steps_end_wherever_they_lie_and_the_task_can_be_retried() {
    let mut world = World::new().await;
    let steps = "  - {name: runs, handler: {callable: echo}}
  - {name: waits, handler: {callable: echo}}
  - {name: retries, handler: {callable: echo}, retry: {max_attempts: 2, backoff: linear, backoff_base_ms: 600000, max_backoff_ms: 600000}}
  - {name: after, handler: {callable: echo}, dependencies: [runs, waits, retries]}\n";
    let blueprint = world.template("many", steps).await;
    let task = world.submit(&blueprint).await;
    let worker = world.worker;
    let claimed = world.claim(worker, 3).await;
    let by_number = |n: i32| claimed.iter().find(|c| c.step_no == n).unwrap();
    world.end(by_number(3), Outcome::Retryable).await;
    world.end(by_number(2), Outcome::Released).await;
    world.advance().await;
    let states = vec![
        StepState::Enqueued,
        StepState::Enqueued,
        StepState::WaitingForRetry,
        StepState::Pending,
        StepState::Pending,
    ];
    assert_eq!(world.state(task).await.1, states);

    assert_eq!(world.fail_stale(&[task], 100).await, 3);
    assert_eq!(world.fail_stale(&[task], 100).await, 0, "once is enough");
    assert_eq!(
        world.end(by_number(1), Outcome::Success).await,
        0,
        "what was taken away is nobody's to hand in"
    );
    world.advance().await;
    let failed = vec![
        StepState::Error,
        StepState::Error,
        StepState::Error,
        StepState::Skipped,
        StepState::Skipped,
    ];
    assert_eq!(world.state(task).await, (TaskState::Error, failed));
    let entry = world.entry(task).await;
    assert_eq!(entry.reason, Reason::Stale);
    let steps = &snapshot(&entry)["steps"];
    assert_eq!(steps[0]["error"]["message"], "too old");
    assert_eq!(
        (&steps[2]["attempts"], &steps[1]["attempts"]),
        (&1.into(), &0.into()),
        "what the handler did not do is not counted as its attempt"
    );
    world.assert_settled().await;

    world
        .intervene(&blueprint, task, intervene::Action::Retry)
        .await
        .unwrap();
    assert_eq!(world.drain(&[]).await, 4);
    assert_eq!(world.state(task).await.0, TaskState::Complete);
    world.assert_settled().await;
}

#[tokio::test]
async fn stale_steps_end_in_small_parts_and_results_on_their_way_are_left_alone() {
    let mut world = World::new().await;
    let steps: String = (0..5)
        .map(|i| format!("  - {{name: s{i}, handler: {{callable: echo}}}}\n"))
        .collect();
    let blueprint = world.template("wide", &steps).await;
    let task = world.submit(&blueprint).await;
    let worker = world.worker;
    let claimed = world.claim(worker, 1).await;
    world.end(&claimed[0], Outcome::Success).await;
    let mut failed = 0;
    while failed < 4 {
        let now = world.fail_stale(&[task], 2).await;
        assert!(now <= 2);
        failed += now;
        world.advance().await;
    }
    let (state, steps) = world.state(task).await;
    assert_eq!(state, TaskState::Error);
    let well = steps.iter().filter(|s| **s == StepState::Complete).count();
    assert_eq!(well, 1, "{steps:?}");
}

#[tokio::test]
async fn steps_that_only_wait_for_others_end_where_nothing_else_is_left() {
    let mut world = World::new().await;
    let blueprint = world.template("pair", PAIR).await;
    let task = world.submit(&blueprint).await;
    let worker = world.worker;
    let claimed = world.claim(worker, 1).await;
    world.end(&claimed[0], Outcome::Success).await;
    assert_eq!(
        world.fail_stale(&[task], 10).await,
        0,
        "its result is on its way"
    );
    // As if what it waits for were somebody's signal.
    world.sql("DELETE FROM tasker.results").await;
    world
        .sql("UPDATE tasker.steps SET state = 6 WHERE step_no = 1")
        .await;
    assert_eq!(world.fail_stale(&[task], 10).await, 1);
    world.advance().await;
    assert_eq!(
        world.state(task).await.1[1],
        StepState::Error,
        "the one that waited"
    );
}

#[tokio::test]
async fn a_server_fails_only_what_is_on_its_shards() {
    let mut world = World::new().await;
    let blueprint = world.template("pair", PAIR).await;
    let task = world.submit(&blueprint).await;
    shards::leave(&world.pool, world.server).await.unwrap();
    assert_eq!(world.fail_stale(&[task], 10).await, 0);
    shards::take(&world.pool, world.server, 16).await.unwrap();
    assert_eq!(world.fail_stale(&[task], 10).await, 1);
}

#[tokio::test]
async fn deadlines_come_with_tasks_that_have_limits_and_are_fenced() {
    let mut world = World::new().await;
    let blueprint = world.template("pair", PAIR).await;
    let mut limited = world.task(&blueprint, Begin::Now);
    limited.look_at = Some(limited.created_at);
    let plain = world.task(&blueprint, Begin::Now);
    let tasks = world.accept(&[limited, plain], &blueprint).await;
    assert_eq!(world.count("deadlines").await, 1);
    let server = world.server;
    let due = staleness::list_due(&mut world.connection, server, 10)
        .await
        .unwrap();
    let [due] = &due[..] else {
        panic!("{due:?}");
    };
    assert_eq!(due.task_uuid, tasks[0]);
    let life = due.life.unwrap();
    assert_eq!(
        (life.state, life.since),
        (TaskState::StepsInProcess, due.since)
    );

    // It begins anew between the look and what follows from it.
    let connection = &mut world.connection;
    staleness::begin(connection, due.task_uuid, due.template_id, 0)
        .await
        .unwrap();
    staleness::forget(connection, &[due]).await.unwrap();
    let later = due.since + chrono::TimeDelta::hours(1);
    staleness::look_again(connection, &[(due, later)])
        .await
        .unwrap();
    let again = staleness::list_due(connection, server, 10).await.unwrap();
    assert!(again[0].since > due.since);
    staleness::look_again(
        connection,
        &[(&again[0], Utc::now() + chrono::TimeDelta::hours(1))],
    )
    .await
    .unwrap();
    assert!(
        staleness::list_due(connection, server, 10)
            .await
            .unwrap()
            .is_empty()
    );
    staleness::forget(connection, &[&again[0]]).await.unwrap();
    assert_eq!(world.count("deadlines").await, 0);
}

#[tokio::test]
async fn what_waits_for_longest_is_found_wherever_it_waits() {
    let mut world = World::new().await;
    let blueprint = world.template("pair", PAIR).await;
    let queued = world.submit(&blueprint).await;
    let retried = world.submit(&blueprint).await;
    let worker = world.worker;
    for step in world.claim(worker, 2).await {
        let outcome = match step.task_uuid == retried {
            true => Outcome::Retryable,
            false => Outcome::Released,
        };
        world.end(&step, outcome).await;
    }
    world.advance().await;
    let found = staleness::list_candidates(&world.pool, None, 10)
        .await
        .unwrap();
    let mut found: Vec<(Uuid, TaskState)> =
        found.iter().map(|c| (c.task_uuid, c.life.state)).collect();
    found.sort_unstable();
    let mut expected = [
        (queued, TaskState::StepsInProcess),
        (retried, TaskState::WaitingForRetry),
    ];
    expected.sort_unstable();
    assert_eq!(found, expected);
    let other = ["other".to_owned()];
    let none = staleness::list_candidates(&world.pool, Some(&other), 10).await;
    assert!(none.unwrap().is_empty());
}

#[tokio::test]
async fn steps_are_given_up_only_where_no_worker_has_served_them_for_long() {
    let mut world = World::new().await;
    let blueprint = world.template("pair", PAIR).await;
    let task = world.submit(&blueprint).await;
    let old = "UPDATE tasker.ready SET enqueued_at = now() - interval '1 hour'";
    world.sql(old).await;
    let lanes = async |world: &World| unroutable::list_lanes(&world.pool, 60, 10).await.unwrap();
    assert!(lanes(&world).await.is_empty(), "a worker is there");
    workers::stop(&world.pool, world.worker).await.unwrap();
    assert!(lanes(&world).await.is_empty(), "it was there just now");
    world
        .sql("UPDATE tasker.workers SET stopped_at = now() - interval '2 minutes'")
        .await;
    let unserved = lanes(&world).await;
    assert_eq!(unserved.len(), 1);
    world.submit(&blueprint).await;
    let given_up = unroutable::fail(&world.pool, &unserved, 60, 10).await;
    assert_eq!(given_up.unwrap(), 1, "the other has not waited for long");
    world.advance().await;
    let entry = world.entry(task).await;
    assert_eq!(entry.reason, Reason::Unroutable);
    let steps = &snapshot(&entry)["steps"];
    let message = steps[0]["error"]["message"].as_str().unwrap();
    assert!(message.contains("handler echo in namespace n"), "{message}");
    assert_eq!(steps[0]["attempts"], 0);
}
