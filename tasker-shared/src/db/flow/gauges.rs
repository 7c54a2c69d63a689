//! How much there is, read from what is there.

use super::*;
use crate::db::gauges::{self, Gauges, Marks};
use crate::metrics::messaging::Queue;
use crate::name::Name;

const RETRIED: &str = "  - {name: a, handler: {callable: echo}, retry: {max_attempts: 3, backoff: linear, backoff_base_ms: 60000}}\n";

impl World {
    async fn gauges(&mut self) -> Gauges {
        gauges::read(&mut self.connection, &mut Marks::default())
            .await
            .unwrap()
    }
}

fn number(gauges: &Gauges, state: TaskState) -> u64 {
    let found = gauges.tasks.iter().find(|(s, _)| *s == state);
    found.unwrap().1
}

fn waiting(gauges: &Gauges, queue: Queue) -> (u64, f64) {
    let place = (queue, Name::of("n"));
    let depth = gauges.depths.iter().find(|d| (d.0, d.1) == place);
    let age = gauges.ages.iter().find(|a| (a.0, a.1) == place);
    (depth.unwrap().2, age.unwrap().2)
}

#[tokio::test]
async fn gauges_tell_what_waits_and_in_which_state_tasks_are() {
    let mut world = World::new().await;
    let blueprint = world.template("retried", RETRIED).await;
    assert_eq!(world.gauges().await.ready, [], "there is no lane yet");
    world.route(&blueprint, 0).await;
    let idle = world.gauges().await;
    assert_eq!(idle.ready, [(Name::of("n"), 0)]);
    assert_eq!(idle.tasks.len(), 8);
    for queue in [Queue::Steps, Queue::Results, Queue::Requests] {
        assert_eq!(waiting(&idle, queue), (0, 0.0));
    }

    let mut tasks: Vec<NewTask> = (0..6).map(|_| world.task(&blueprint, Begin::Now)).collect();
    let later = Utc::now() + chrono::Duration::hours(1);
    (tasks[5].begin, tasks[5].run_at) = (Begin::At(later), Some(later));
    world.accept(&tasks, &blueprint).await;
    let worker = world.worker;
    let claimed = world.claim(worker, 3).await;
    world.end(&claimed[0], Outcome::Retryable).await;
    world.advance().await;
    world.end(&claimed[1], Outcome::Success).await;
    let request = "SELECT tasker.submit_task('n', 'retried', '{}')";
    sqlx::query(request).execute(&world.pool).await.unwrap();

    let gauges = world.gauges().await;
    assert_eq!(gauges.ready, [(Name::of("n"), 2)]);
    for (queue, messages) in [(Queue::Steps, 2), (Queue::Results, 1), (Queue::Requests, 1)] {
        let (depth, age_s) = waiting(&gauges, queue);
        assert_eq!(depth, messages, "{queue:?}");
        assert!(age_s > 0.0, "{queue:?}");
    }
    assert_eq!(number(&gauges, TaskState::Pending), 1);
    assert_eq!(number(&gauges, TaskState::WaitingForRetry), 1);
    assert_eq!(number(&gauges, TaskState::StepsInProcess), 4);

    // A task that ended leaves what was delayed of it behind.
    let retrying = claimed[0].task_uuid;
    world
        .intervene(&blueprint, retrying, intervene::Action::Cancel)
        .await
        .unwrap();
    let gauges = world.gauges().await;
    assert_eq!(number(&gauges, TaskState::WaitingForRetry), 0);
    assert_eq!(number(&gauges, TaskState::StepsInProcess), 4);
}

#[tokio::test]
async fn what_waits_is_counted_however_long_it_does_and_however_much_is_taken_beside_it() {
    let mut world = World::new().await;
    let blueprint = world.template("retried", RETRIED).await;
    world.route(&blueprint, 0).await;
    let mut marks = Marks::default();
    let mut tell = async |world: &mut World| {
        // Others take so many ids that what waits is further back than any margin.
        let others = "SELECT setval('tasker.message_ids', nextval('tasker.message_ids') + 1000000)";
        sqlx::query(others).execute(&world.pool).await.unwrap();
        let read = gauges::read(&mut world.connection, &mut marks).await;
        let gauges = read.unwrap();
        [Queue::Steps, Queue::Results, Queue::Requests].map(|queue| waiting(&gauges, queue).0)
    };
    let request = "SELECT tasker.submit_task('n', 'retried', '{}')";
    for _ in 0..2 {
        world.submit(&blueprint).await;
        sqlx::query(request).execute(&world.pool).await.unwrap();
    }
    let worker = world.worker;
    let claimed = world.claim(worker, 1).await;
    world.end(&claimed[0], Outcome::Success).await;
    for _ in 0..3 {
        assert_eq!(tell(&mut world).await, [1, 1, 2]);
    }
    world.advance().await;
    let claimed = world.claim(worker, 1).await;
    assert_eq!(tell(&mut world).await, [0, 0, 2]);
    assert_eq!(tell(&mut world).await, [0, 0, 2]);
    world.submit(&blueprint).await;
    world.end(&claimed[0], Outcome::Success).await;
    assert_eq!(tell(&mut world).await, [1, 1, 2]);
}

#[tokio::test]
async fn a_task_with_a_step_to_run_does_not_wait_for_its_retry() {
    let mut world = World::new().await;
    let both = RETRIED.to_owned() + "  - {name: b, handler: {callable: echo}}\n";
    let blueprint = world.template("both", &both).await;
    world.submit(&blueprint).await;
    let worker = world.worker;
    let claimed = world.claim(worker, 2).await;
    let retried = claimed.iter().find(|step| step.step_no == 1).unwrap();
    world.end(retried, Outcome::Retryable).await;
    world.advance().await;
    let gauges = world.gauges().await;
    assert_eq!(number(&gauges, TaskState::WaitingForRetry), 0);
    assert_eq!(number(&gauges, TaskState::StepsInProcess), 1);
}

#[tokio::test]
async fn what_is_more_than_ten_thousand_is_estimated() {
    let mut world = World::new().await;
    let blueprint = world.template("retried", RETRIED).await;
    world.route(&blueprint, 0).await;
    let flood = "INSERT INTO tasker.ready (lane, id, task_uuid, correlation_id, enqueued_at, step_no, attempt, tries, lost, template_id, shard, priority, sampled)
                 SELECT l.lane, nextval('tasker.message_ids'), gen_random_uuid(), gen_random_uuid(), now(), 1, 1, 0, 0, $1, 0, 0, false
                   FROM tasker.lanes l, generate_series(1, 30000)";
    let results = "INSERT INTO tasker.results (shard, kind, task_uuid, correlation_id, sent_at, step_no, attempt, tries, lost, template_id, priority, sampled)
                   SELECT s.shard, 0, gen_random_uuid(), gen_random_uuid(), now(), 1, 1, 0, 0, $1, 0, false
                     FROM tasker.shards s, generate_series(1, 2000)";
    for sql in [flood, results] {
        let insert = sqlx::query(sql).bind(blueprint.template_id);
        insert.execute(&world.pool).await.unwrap();
    }
    let gauges = world.gauges().await;
    for (queue, messages) in [(Queue::Steps, 30_000), (Queue::Results, 32_000)] {
        let (depth, _) = waiting(&gauges, queue);
        assert!(
            depth.abs_diff(messages) < messages / 50,
            "{queue:?}: {depth}"
        );
    }
}

#[tokio::test]
async fn folding_keeps_the_sums_beside_another_folder_and_those_who_append() {
    let mut world = World::new().await;
    let blueprint = world.template("retried", RETRIED).await;
    for _ in 0..60 {
        world.submit(&blueprint).await;
    }
    let mut other = world.target.batches().connect().await.unwrap();
    let pool = world.pool.clone();
    let mut transaction = Transaction::begin(&mut other, "test").await.unwrap();
    gauges::fold(&mut *transaction).await.unwrap();
    // The second folder waits for the first one; meanwhile somebody appends.
    let second = tokio::spawn(async move { gauges::fold(&pool).await });
    let blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    while sqlx::query_scalar::<_, i64>(blocked)
        .fetch_one(&world.pool)
        .await
        .unwrap()
        == 0
    {
        assert!(
            tokio::time::Instant::now() < until,
            "the second never waits"
        );
        tokio::task::yield_now().await;
    }
    world.submit(&blueprint).await;
    transaction.commit().await.unwrap();
    second.await.unwrap().unwrap();
    world.assert_counted().await;
    assert_eq!(world.count("task_counts").await, 2);
    world.drain(&[]).await;
    world.assert_counted().await;
}
