//! Tasks of several weeks, whose rows lie in several partitions, on one way.

use super::*;
use chrono::TimeDelta;

const PAIR: &str = "  - {name: a, handler: {callable: echo}}
  - {name: b, handler: {callable: echo}, dependencies: [a]}\n";

#[tokio::test]
async fn steps_of_this_week_and_others_are_claimed_and_advanced_together() {
    let mut world = World::new().await;
    let blueprint = world.template("pair", PAIR).await;
    let mut tasks = Vec::new();
    for days in [-7, 0, 0, 7, 14] {
        let mut task = world.task(&blueprint, Begin::Now);
        task.created_at += TimeDelta::days(days);
        task.task_uuid = ids::new_task_uuid(task.created_at);
        task.context = format!(r#"{{"days": {days}}}"#).into();
        tasks.push(task);
    }
    world.accept(&tasks, &blueprint).await;
    let worker = world.worker;
    for step_no in [1, 2] {
        let claimed = world.claim(worker, 100).await;
        assert_eq!(claimed.len(), tasks.len());
        for step in &claimed {
            let task = tasks
                .iter()
                .find(|t| t.task_uuid == step.task_uuid)
                .unwrap();
            let expected = (step_no, &*task.context);
            assert_eq!((step.step_no, step.context.as_str()), expected);
            let results = (1..step_no).map(|parent| Some(format!("{{\"step\": {parent}}}")));
            assert_eq!(
                step.results.clone().unwrap_or_default(),
                results.collect::<Vec<_>>()
            );
            world.end(step, Outcome::Success).await;
        }
        world.advance().await;
    }
    for task in tasks {
        assert_eq!(world.state(task.task_uuid).await.0, TaskState::Complete);
    }
    assert_eq!(world.count("results").await, 0);
}

#[tokio::test]
async fn a_message_of_a_week_whose_partitions_are_gone_is_taken_and_does_nothing() {
    let mut world = World::new().await;
    let blueprint = world.template("pair", PAIR).await;
    let mut old = world.task(&blueprint, Begin::Now);
    old.created_at -= TimeDelta::days(7);
    old.task_uuid = ids::new_task_uuid(old.created_at);
    let current = world.task(&blueprint, Begin::Now);
    let both = [old.clone(), current.clone()];
    world.accept(&both, &blueprint).await;
    world.drain(&[]).await;
    for task in &both {
        sqlx::query(
            "INSERT INTO tasker.results (shard, kind, task_uuid, correlation_id, sent_at, step_no, attempt, tries, lost, template_id, priority, sampled, traced)
             VALUES (tasker.shard_of($1), 0, $1, $1, now(), 2, 7, 0, 0, $2, 0, false, false)",
        )
        .bind(task.task_uuid)
        .bind(blueprint.template_id)
        .execute(&mut world.connection)
        .await
        .unwrap();
    }
    let parts: Vec<String> = sqlx::query_scalar(
        "SELECT inhrelid::regclass::text FROM pg_inherits
          WHERE inhparent IN ('tasker.tasks'::regclass, 'tasker.steps'::regclass, 'tasker.attempts'::regclass)
          ORDER BY 1",
    )
    .fetch_all(&mut world.connection)
    .await
    .unwrap();
    let monday = old.created_at.date_naive();
    let monday = monday
        - TimeDelta::days(i64::from(
            chrono::Datelike::weekday(&monday).num_days_from_monday(),
        ));
    let suffix = monday.format("_%Y%m%d").to_string();
    for part in parts.iter().filter(|part| part.ends_with(&suffix)) {
        let drop = format!("DROP TABLE {part}");
        sqlx::query(sqlx::AssertSqlSafe(drop))
            .execute(&mut world.connection)
            .await
            .unwrap();
    }
    world.advance().await;
    assert_eq!(world.count("results").await, 0);
    assert_eq!(world.state(current.task_uuid).await.0, TaskState::Complete);
}
