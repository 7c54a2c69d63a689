#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use sqlx::{AssertSqlSafe, Executor};

use super::leaving::*;
use super::*;
use crate::db::pool::{Pool, Target};
use crate::db::{migrate, upkeep};
use crate::embedded::Temporary;

struct World {
    _postgres: Temporary,
    target: Target,
    pool: Pool,
    connection: PgConnection,
    long_ago: DateTime<Utc>,
}

/// A database with partitions of a time long ago.
async fn world() -> World {
    let postgres = Temporary::start().await.unwrap();
    let target = Target::parse(postgres.url(), "partitions", Duration::from_secs(10)).unwrap();
    migrate::run(&target).await.unwrap();
    let pool = target.pool(2);
    let long_ago = "2024-05-15T12:00:00Z".parse().unwrap();
    upkeep::ensure_partitions(&pool, long_ago, 0).await.unwrap();
    World {
        connection: target.connect().await.unwrap(),
        _postgres: postgres,
        target,
        pool,
        long_ago,
    }
}

impl World {
    async fn run(&mut self, sql: String) {
        self.connection.execute(AssertSqlSafe(sql)).await.unwrap();
    }

    /// A task of that time.
    async fn store(&mut self, state: i16) -> Uuid {
        let task = ids::new_task_uuid(self.long_ago);
        self.run(format!(
            "INSERT INTO tasker.tasks (task_uuid, template_id, state, priority, sampled, context, correlation_id, tags, created_at, updated_at, completed_at)
             VALUES ('{task}', 1, {state}, 0, false, '{{}}', '{task}', '{{}}', '2024-05-15', '2024-05-16', '2024-05-16');
             INSERT INTO tasker.idempotency_keys VALUES ('n', 't', '{task}', '{task}', '', '2024-05-15')"
        ))
        .await;
        task
    }

    async fn week(&mut self) -> Week {
        let weeks = list(&mut self.connection).await.unwrap();
        let begins = NaiveDate::from_ymd_opt(2024, 5, 13).unwrap();
        weeks.into_iter().find(|w| w.begins == begins).unwrap()
    }

    async fn detach_all(&mut self) {
        let week = self.week().await;
        for table in Table::ALL {
            assert!(detach(&mut self.connection, &week, table).await.unwrap());
        }
    }

    async fn settle(&mut self, marks: &BTreeMap<Table, Mark>) -> Settled {
        let week = self.week().await;
        let cutoff = self.long_ago + chrono::Duration::days(30);
        settle(&mut self.connection, &week, cutoff, marks)
            .await
            .unwrap()
    }

    async fn held(&mut self) -> Vec<String> {
        let week = self.week().await;
        let cutoff = self.long_ago + chrono::Duration::days(30);
        let holds = holds(&mut self.connection, &week, cutoff).await.unwrap();
        holds.into_iter().map(|hold| hold.what).collect()
    }
}

#[test]
fn tables_are_sorted_by_their_weeks_and_what_is_somebody_elses_is_left_out() {
    let row = |name: &str, attached, leaving| (name.to_owned(), attached, leaving);
    let found = weeks(&[
        row("steps_20240513", true, true),
        row("tasks_20240513", false, false),
        row("tasks_20240506", true, false),
        row("tasks_99999999", true, false),
        row("other_20240506", true, false),
    ]);
    let begins: Vec<String> = found.iter().map(|w| w.begins.to_string()).collect();
    assert_eq!(begins, ["2024-05-06", "2024-05-13"]);
    assert!(!found[0].is_leaving());
    let places: Vec<_> = found[1].tables.clone().into_iter().collect();
    assert_eq!(
        places,
        [
            (Table::Tasks, Place::Detached),
            (Table::Steps, Place::Leaving)
        ]
    );
}

#[test]
fn a_week_is_due_when_its_last_day_is_old_enough_or_when_it_has_begun_to_leave() {
    let begins = NaiveDate::from_ymd_opt(2026, 3, 2).unwrap();
    let week = |place| Week {
        begins,
        tables: BTreeMap::from([(Table::Tasks, place)]),
    };
    let cases = [
        ("2026-03-15T23:59:59Z", 7, Place::Attached, false),
        ("2026-03-16T00:00:00Z", 7, Place::Attached, true),
        ("2026-03-16T00:00:00Z", 8, Place::Attached, false),
        ("2026-03-10T00:00:00Z", 7, Place::Leaving, true),
        ("2026-03-10T00:00:00Z", 7, Place::Detached, true),
    ];
    for (now, keep_days, place, expected) in cases {
        let due = week(place).is_due(cutoff(now.parse().unwrap(), keep_days));
        assert_eq!(due, expected, "{now} {keep_days} {place:?}");
    }
}

#[tokio::test]
async fn a_week_is_held_by_what_refers_to_it_and_says_by_what() {
    let mut world = world().await;
    assert!(world.held().await.is_empty());
    let ended = world.store(8).await;
    assert!(world.held().await.is_empty());
    world
        .run(format!(
            "UPDATE tasker.tasks SET updated_at = now() WHERE task_uuid = '{ended}'"
        ))
        .await;
    assert_eq!(world.held().await, ["tasks that ended lately"]);
    world
        .run(format!(
            "UPDATE tasker.tasks SET state = 7 WHERE task_uuid = '{ended}'"
        ))
        .await;
    assert_eq!(world.held().await, ["tasks that have not ended"]);
    world
        .run(format!(
            "UPDATE tasker.tasks SET state = 9, updated_at = created_at WHERE task_uuid = '{ended}';
             INSERT INTO tasker.dead_letters (task_uuid, template_id, namespace, name, reason, original_state, buried_at, updated_at, snapshot)
             VALUES ('{ended}', 1, 'n', 't', 1, 9, now(), now(), '{{}}');
             INSERT INTO tasker.delayed (shard, due_at, task_uuid, correlation_id, step_no, attempt, tries, lost, template_id, priority, sampled)
             VALUES (0, now(), '{ended}', '{ended}', 1, 1, 1, 0, 1, 0, false);
             INSERT INTO tasker.controls VALUES ('{ended}', '{ended}', '{{}}', now())"
        ))
        .await;
    assert_eq!(
        world.held().await,
        [
            "pending dead letters",
            "steps that wait for a time",
            "wishes that are not answered yet"
        ]
    );
}

#[tokio::test]
async fn a_week_is_taken_away_while_another_session_writes_and_its_keys_with_it() {
    let mut world = world().await;
    world.store(8).await;
    let mut week = world.week().await;
    assert!(take_turn(&mut world.connection).await.unwrap());
    let mut other = world.target.connect().await.unwrap();
    assert!(!take_turn(&mut other).await.unwrap());
    for table in Table::ALL {
        assert!(detach(&mut world.connection, &week, table).await.unwrap());
    }
    week = world.week().await;
    assert!(week.tables.values().all(|p| *p == Place::Detached));
    assert!(week.is_leaving());
    assert_eq!(world.settle(&BTreeMap::new()).await, Settled::Gone);
    // What is left says that the week is not done with.
    week = world.week().await;
    assert_eq!(
        week.tables.into_iter().collect::<Vec<_>>(),
        [(Table::Tasks, Place::Detached)]
    );
    week = world.week().await;
    assert_eq!(world.settle(&BTreeMap::new()).await, Settled::Gone);
    assert_eq!(forget(&world.pool, &week).await.unwrap(), 1);
    assert_eq!(forget(&world.pool, &week).await.unwrap(), 0);
    assert!(drop_emptied(&mut world.connection, &week).await.unwrap());
    let begins: Vec<_> = list(&mut world.connection).await.unwrap();
    assert!(begins.iter().all(|w| w.begins != week.begins));
}

#[tokio::test]
async fn a_week_that_something_refers_to_after_all_or_that_has_changed_is_put_back() {
    let mut world = world().await;
    let task = world.store(8).await;
    let week = world.week().await;
    let marks = BTreeMap::from([(
        Table::Tasks,
        mark(&mut world.connection, &week, Table::Tasks)
            .await
            .unwrap(),
    )]);
    world.detach_all().await;
    world
        .run(format!(
            "INSERT INTO tasker.controls VALUES ('{task}', '{task}', '{{}}', now())"
        ))
        .await;
    let Settled::Held(holds) = world.settle(&marks).await else {
        panic!("it is not held");
    };
    assert_eq!(holds[0].what, "wishes that are not answered yet");
    // The statements of a step's way name their partition, and reach it wherever it stands.
    world
        .run(
            "DELETE FROM tasker.controls; UPDATE tasker.tasks_20240513 SET priority = 1".to_owned(),
        )
        .await;
    assert_eq!(world.settle(&marks).await, Settled::Changed);
    assert!(world.week().await.is_leaving());
    assert!(put_back(&mut world.connection, &week).await.unwrap());
    assert!(put_back(&mut world.connection, &week).await.unwrap());
    assert!(!world.week().await.is_leaving());
    assert_eq!(world.week().await.tables.len(), 3);
    world
        .run("UPDATE tasker.tasks SET priority = 2".to_owned())
        .await;
}

#[tokio::test]
async fn a_partition_that_is_in_no_table_is_attached_where_it_is_wanted() {
    let mut world = world().await;
    world.store(8).await;
    world.detach_all().await;
    let made = upkeep::ensure_partitions(&world.pool, world.long_ago, 0)
        .await
        .unwrap();
    assert_eq!(made, 3);
    assert!(!world.week().await.is_leaving());
    let made = upkeep::ensure_partitions(&world.pool, world.long_ago, 0).await;
    assert_eq!(made.unwrap(), 0);
}

#[tokio::test]
async fn keys_of_many_tasks_are_forgotten_in_batches_and_those_of_other_weeks_are_kept() {
    let mut world = world().await;
    world
        .run(
            "INSERT INTO tasker.idempotency_keys
             SELECT 'n', 't', n::text, tasker.lowest_uuid_at('2024-05-13Z'::timestamptz + n * interval '1 minute'), '', now()
               FROM generate_series(-3, 10002) AS n"
                .to_owned(),
        )
        .await;
    let week = world.week().await;
    assert_eq!(forget(&world.pool, &week).await.unwrap(), 10_003);
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM tasker.idempotency_keys")
        .fetch_one(&mut world.connection)
        .await
        .unwrap();
    assert_eq!(kept, 3);
}

#[tokio::test]
async fn a_transaction_that_uses_a_table_delays_the_end_of_taking_a_part_away_and_not_who_writes() {
    let mut world = world().await;
    world.store(8).await;
    world.run("SET lock_timeout = '300ms'".to_owned()).await;
    let mut reader = world.target.connect().await.unwrap();
    reader
        .execute("BEGIN; SELECT count(*) FROM tasker.tasks")
        .await
        .unwrap();
    let week = world.week().await;
    assert!(
        !detach(&mut world.connection, &week, Table::Tasks)
            .await
            .unwrap()
    );
    let week = world.week().await;
    assert_eq!(week.tables[&Table::Tasks], Place::Leaving);
    let mut writer = world.target.connect().await.unwrap();
    writer
        .execute("SET lock_timeout = '2s'; UPDATE tasker.tasks SET priority = 1")
        .await
        .unwrap();
    assert!(
        !detach(&mut world.connection, &week, Table::Tasks)
            .await
            .unwrap()
    );
    reader.execute("COMMIT").await.unwrap();
    assert!(
        detach(&mut world.connection, &week, Table::Tasks)
            .await
            .unwrap()
    );
    let week = world.week().await;
    assert_eq!(week.tables[&Table::Tasks], Place::Detached);
    assert!(put_back(&mut world.connection, &week).await.unwrap());
    assert!(!world.week().await.is_leaving());
}

#[tokio::test]
async fn a_table_of_somebody_elses_beside_a_partitioned_one_is_never_taken_for_a_part() {
    let mut world = world().await;
    world
        .run("CREATE TABLE tasker.tasks_20200106 (LIKE tasker.tasks)".to_owned())
        .await;
    let weeks = list(&mut world.connection).await.unwrap();
    assert!(weeks.iter().all(|week| !week.is_leaving()));
}

#[tokio::test]
async fn a_transaction_that_lasts_is_named() {
    let mut world = world().await;
    let mut other = world.target.connect().await.unwrap();
    other
        .execute("BEGIN; SELECT 1 FROM tasker.shards")
        .await
        .unwrap();
    let query = sqlx::query_as::<_, Holder>(HOLDERS.sql).bind(0.0_f64);
    let found = query.fetch_all(&mut world.connection).await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].who.contains("partitions"), "{found:?}");
    assert!(holders(&mut world.connection).await.unwrap().is_empty());
}

#[tokio::test]
async fn dead_letters_that_were_resolved_long_ago_go_and_pending_ones_stay() {
    let mut world = world().await;
    world
        .run(
            "INSERT INTO tasker.dead_letters (task_uuid, template_id, namespace, name, reason, original_state, resolution, buried_at, updated_at, resolved_at, snapshot)
             SELECT gen_random_uuid(), 1, 'n', 't', 1, 9, r, '2024-01-01', '2024-01-01', CASE WHEN r > 0 THEN timestamptz '2024-01-01' + r * interval '300 days' END, '{}'
               FROM unnest(ARRAY[0, 1, 2, 3]) AS r".to_owned(),
        )
        .await;
    let cutoff = "2025-01-01T00:00:00Z".parse().unwrap();
    assert_eq!(delete_dead_letters(&world.pool, cutoff).await.unwrap(), 1);
    assert_eq!(delete_dead_letters(&world.pool, cutoff).await.unwrap(), 0);
}
