//! What statements say of what they did, and what goes with a task from hop to hop.

use chrono::DateTime;

use super::*;
use crate::db::advance::{self, Ask};
use crate::db::controls::Changed;
use crate::db::effects::{Effects, Taken};

const PAIR: &str =
    "  - {name: a, handler: {callable: echo}, retry: {max_attempts: 2, backoff: none}}
  - {name: b, handler: {callable: echo}, dependencies: [a]}\n";

/// A person's wish for a task, as it would be read.
pub(super) fn control(task_uuid: Uuid) -> Message {
    Message {
        shard: ids::shard_of(task_uuid),
        id: 0,
        kind: Kind::Control,
        task_uuid,
        correlation_id: Uuid::now_v7(),
        step_no: 0,
        attempt: 0,
        tries: 0,
        lost: 0,
        template_id: 0,
        priority: 0,
        sampled: false,
        traced: false,
        progress: 0,
        retry_after_ms: None,
        control: None,
    }
}

fn places(effects: &Effects) -> Vec<(usize, bool)> {
    let place = |taken: &Taken| (taken.place, taken.applied);
    effects.taken.iter().map(place).collect()
}

fn enqueued(effects: &Effects) -> Vec<(i32, i32)> {
    let steps = effects.enqueued.iter();
    let mut steps: Vec<_> = steps.map(|step| (step.step_no, step.attempt)).collect();
    steps.sort_unstable();
    steps
}

fn ended(effects: &Effects) -> Vec<(i32, StepState)> {
    let mut steps: Vec<_> = effects.ended.iter().map(|s| (s.step_no, s.state)).collect();
    steps.sort_unstable();
    steps
}

fn states(effects: &Effects) -> Vec<TaskState> {
    effects.tasks.iter().map(|task| task.state).collect()
}

#[tokio::test]
async fn an_advance_tells_of_every_message_step_and_task() {
    let mut world = World::new().await;
    let blueprint = world.template("pair", PAIR).await;
    let task = world.submit(&blueprint).await;
    let worker = world.worker;
    let first = world.claim(worker, 1).await;
    world.end(&first[0], Outcome::Retryable).await;
    let messages = world.messages().await;
    let (_, effects) = world.apply(messages).await;
    assert_eq!(places(&effects), [(0, true)]);
    assert_eq!((enqueued(&effects), ended(&effects)), (vec![], vec![]));

    let shards: Vec<i16> = (0..16).collect();
    delayed::promote(&world.pool, &shards, 10).await.unwrap();
    let messages = world.messages().await;
    let (_, effects) = world.apply(messages).await;
    assert_eq!(enqueued(&effects), [(1, 2)], "a retry is enqueued again");

    let second = world.claim(worker, 1).await;
    world.end(&second[0], Outcome::Success).await;
    let messages = world.messages().await;
    let mut late = messages[0].clone();
    late.attempt = 1;
    let (plan, effects) = world.apply(messages).await;
    assert_eq!(effects.taken[0].id, plan.moves[0].message.id);
    assert_eq!(enqueued(&effects), [(2, 1)]);
    assert_eq!(ended(&effects), [(1, StepState::Complete)]);
    assert_eq!(states(&effects), []);
    let (_, effects) = world.apply(vec![late]).await;
    assert_eq!(effects, Effects::default(), "its message was gone");

    let last = world.claim(worker, 1).await;
    world.end(&last[0], Outcome::Permanent).await;
    let messages = world.messages().await;
    let (_, effects) = world.apply(messages).await;
    assert_eq!(ended(&effects), [(2, StepState::Error)]);
    assert_eq!(states(&effects), [TaskState::Error]);
    assert_eq!(effects.tasks[0].task_uuid, task);
    assert!(!effects.tasks[0].age.is_zero());
}

#[tokio::test]
async fn what_comes_too_late_is_taken_and_not_applied() {
    let mut world = World::new().await;
    let blueprint = world.template("pair", PAIR).await;
    let task = world.submit(&blueprint).await;
    let worker = world.worker;
    let running = world.claim(worker, 1).await;
    world
        .intervene(&blueprint, task, intervene::Action::Cancel)
        .await
        .unwrap();
    world.end(&running[0], Outcome::Cancelled).await;
    let messages = world.messages().await;
    let (_, effects) = world.apply(messages).await;
    assert_eq!(places(&effects), [(0, false)]);
    assert_eq!((effects.enqueued, effects.ended), (vec![], vec![]));
}

#[tokio::test]
async fn a_start_in_slices_and_steps_that_are_skipped_are_told() {
    let mut world = World::new().await;
    world.rules.slice = 2;
    let steps: String = (0..3)
        .map(|i| format!("  - {{name: r{i}, handler: {{callable: echo}}}}\n"))
        .collect();
    let last = "  - {name: z, handler: {callable: echo}, dependencies: [r0, r1, r2]}\n";
    let blueprint = world.template("roots", &(steps + last)).await;
    let task = world.task(&blueprint, Begin::Spread);
    world.accept(&[task], &blueprint).await;
    let messages = world.messages().await;
    let (_, effects) = world.apply(messages).await;
    assert_eq!(places(&effects), [(0, true)]);
    assert_eq!(enqueued(&effects), [(1, 1), (2, 1)]);
    assert_eq!(states(&effects), [TaskState::StepsInProcess]);
    let messages = world.messages().await;
    let (_, effects) = world.apply(messages).await;
    assert_eq!(
        (enqueued(&effects), states(&effects)),
        (vec![(3, 1)], vec![])
    );

    let worker = world.worker;
    for step in world.claim(worker, 3).await {
        world.end(&step, Outcome::Permanent).await;
    }
    let messages = world.messages().await;
    let (_, effects) = world.apply(messages).await;
    let failed = (1..4).map(|number| (number, StepState::Error));
    let all: Vec<_> = failed.chain([(4, StepState::Skipped)]).collect();
    assert_eq!(ended(&effects), all);
    assert_eq!(
        states(&effects),
        [],
        "what was skipped tells the join apart"
    );
    let messages = world.messages().await;
    let (_, effects) = world.apply(messages).await;
    assert_eq!(states(&effects), [TaskState::Error]);
    world.assert_counted().await;
}

#[tokio::test]
async fn an_intervention_tells_what_it_enqueued_and_how_old_the_task_is() {
    let mut world = World::new().await;
    let blueprint = world.template("pair", PAIR).await;
    let task = world.submit(&blueprint).await;
    world.drain(&[1]).await;
    let route = world.route(&blueprint, 0).await;
    let connection = &mut world.connection;
    let mut transaction = Transaction::begin(connection, "test").await.unwrap();
    let before = controls::lock(&mut transaction, task, &blueprint)
        .await
        .unwrap();
    let plan = intervene::plan(&before, &blueprint, &intervene::Action::Retry).unwrap();
    let changed =
        controls::intervene(&mut transaction, &control(task), &before, &plan, &route).await;
    let Changed { enqueued, task } = changed.unwrap();
    assert_eq!(enqueued.len(), 1);
    assert_eq!((enqueued[0].step_no, enqueued[0].attempt), (1, 2));
    let task = task.unwrap();
    assert_eq!(task.state, TaskState::StepsInProcess);
    assert!(!task.age.is_zero());
    transaction.commit().await.unwrap();
    world.assert_counted().await;
}

#[tokio::test]
async fn a_control_is_answered_with_the_time_that_it_took() {
    let mut world = World::new().await;
    let blueprint = world.template("pair", PAIR).await;
    let task = world.submit(&blueprint).await;
    let wish = Uuid::now_v7();
    assert!(controls::ask(&world.pool, wish, task, "{}").await.unwrap());
    let strange = Uuid::now_v7();
    assert!(
        !controls::ask(&world.pool, wish, strange, "{}")
            .await
            .unwrap()
    );
    let took = controls::answer(&mut world.connection, wish, "{}").await;
    assert!(!took.unwrap().is_zero());
}

#[tokio::test]
async fn what_a_task_is_followed_by_goes_with_it_from_hop_to_hop() {
    let mut world = World::new().await;
    let blueprint = world.template("pair", PAIR).await;
    let mut task = world.task(&blueprint, Begin::At(DateTime::UNIX_EPOCH));
    task.run_at = Some(DateTime::UNIX_EPOCH);
    (task.sampled, task.traced) = (true, true);
    task.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into());
    task.tracestate = Some("vendor=1".into());
    world.accept(&[task], &blueprint).await;
    let (worker, shards): (Uuid, Vec<i16>) = (world.worker, (0..16).collect());
    let dead = Uuid::now_v7();
    world.register(dead).await;
    let ways = [
        (worker, Some(Outcome::Retryable)),
        (dead, None),
        (worker, Some(Outcome::Success)),
        (worker, Some(Outcome::Success)),
    ];
    for (by, outcome) in ways {
        // A result may mean a retry, and that is due at once.
        for _ in 0..2 {
            delayed::promote(&world.pool, &shards, 10).await.unwrap();
            let messages = world.messages().await;
            assert!(messages.iter().all(|m| m.sampled && m.traced));
            world.apply(messages).await;
        }
        let claimed = world.claim(by, 1).await;
        let [step] = &claimed[..] else {
            panic!("{} claimed", claimed.len());
        };
        assert!(step.sampled && step.traced);
        assert_eq!(step.tracestate.as_deref(), Some("vendor=1"));
        match outcome {
            Some(outcome) => drop(world.end(step, outcome).await),
            None => {
                workers::stop(&world.pool, dead).await.unwrap();
                workers::rescue(&world.pool, &[dead], 10).await.unwrap();
            }
        }
    }
    world.advance().await;
    world.assert_settled().await;
}

#[tokio::test]
async fn messages_of_one_task_need_not_agree_on_what_follows_it() {
    let mut world = World::new().await;
    let steps = "  - {name: a, handler: {callable: echo}}
  - {name: b, handler: {callable: echo}}
  - {name: c, handler: {callable: echo}, dependencies: [a, b]}\n";
    let blueprint = world.template("join", steps).await;
    let mut task = world.task(&blueprint, Begin::Now);
    task.traced = true;
    let task = world.accept(&[task], &blueprint).await[0];
    let worker = world.worker;
    for step in world.claim(worker, 2).await {
        world.end(&step, Outcome::Success).await;
    }
    // As a worker of the version before writes it.
    let sql = "UPDATE tasker.results SET traced = false WHERE step_no = 1";
    sqlx::query(sql).execute(&world.pool).await.unwrap();
    world.advance().await;
    let child = world.claim(worker, 1).await;
    assert_eq!((child[0].step_no, child[0].traced), (3, true));
    world.end(&child[0], Outcome::Success).await;
    world.advance().await;
    assert_eq!(world.state(task).await.0, TaskState::Complete);
}

#[tokio::test]
async fn a_message_of_a_kind_to_come_is_stepped_over_and_stays() {
    let mut world = World::new().await;
    let blueprint = world.template("pair", PAIR).await;
    let task = world.submit(&blueprint).await;
    let sql = "INSERT INTO tasker.results (shard, kind, task_uuid, correlation_id, sent_at, step_no, attempt, tries, lost, template_id, priority, sampled)
               VALUES (tasker.shard_of($1), 99, $1, $1, now(), 1, 1, 0, 0, 1, 0, false)";
    let newer = sqlx::query(sql).bind(task).execute(&world.pool).await;
    assert_eq!(newer.unwrap().rows_affected(), 1);
    assert_eq!(world.drain(&[]).await, 2);
    assert_eq!(world.state(task).await.0, TaskState::Complete);
    let ask = Ask {
        shard: ids::shard_of(task),
        span: Span::behind(0),
        most: 10,
    };
    let listed = advance::list_messages(&mut world.connection, &[ask]).await;
    let listed = listed.unwrap();
    assert!(listed.messages.is_empty());
    assert_eq!(listed.unknown[0].0, ids::shard_of(task));
    assert_eq!(world.count("results").await, 1);
}
