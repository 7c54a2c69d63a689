#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::HashSet;
use std::time::Duration;

use sqlx::{Connection, Executor, PgConnection, SqlSafeStr};

use super::pool::Target;
use super::weekly::Week;
use super::{Statement, all_statements};
use crate::embedded::Temporary;
use crate::ids;

async fn migrated() -> (Temporary, Target) {
    let postgres = Temporary::start().await.unwrap();
    let target = Target::parse(postgres.url(), "test", Duration::from_secs(10)).unwrap();
    super::migrate::run(&target).await.unwrap();
    (postgres, target)
}

#[tokio::test]
async fn every_statement_is_understood_by_the_server_and_named_once() {
    let (_postgres, target) = migrated().await;
    let mut connection = target.connect().await.unwrap();
    let mut names = HashSet::new();
    for statement in all_statements() {
        if let Err(error) = connection.prepare(statement.sql.into_sql_str()).await {
            panic!("{}: {error}", statement.name);
        }
        assert!(
            names.insert(statement.name),
            "{} names two statements",
            statement.name
        );
    }
}

#[tokio::test]
async fn migrating_twice_changes_nothing_and_nothing_is_pending_after() {
    let (_postgres, target) = migrated().await;
    super::migrate::run(&target).await.unwrap();
    assert!(super::migrate::pending(&target).await.unwrap().is_empty());
    assert_eq!(super::migrate::missing(&target).await.unwrap(), []);
    let mut connection = target.connect().await.unwrap();
    connection
        .execute("UPDATE tasker.migrations SET checksum = '' WHERE version = 2; DELETE FROM tasker.migrations WHERE version = 3")
        .await
        .unwrap();
    let missing = super::migrate::missing(&target).await.unwrap();
    let told: Vec<(&str, bool)> = missing.iter().map(|m| (&m.name[..1], m.changed)).collect();
    assert_eq!(told, [("2", true), ("3", false)]);
}

#[tokio::test]
async fn sql_and_rust_agree_on_shards_and_uuids() {
    let (_postgres, target) = migrated().await;
    let mut connection = target.connect().await.unwrap();
    for _ in 0..50 {
        let task = ids::new_task_uuid(chrono::Utc::now() - chrono::Duration::minutes(1));
        assert_eq!(
            scalar::<i16>(&mut connection, "SELECT tasker.shard_of($1)", task).await,
            ids::shard_of(task)
        );
        let made: uuid::Uuid = scalar(
            &mut connection,
            "SELECT tasker.new_task_uuid() WHERE $1 IS NOT NULL",
            task,
        )
        .await;
        assert_eq!(
            (made.get_version_num(), ids::split_step_uuid(made)),
            (7, (made, 0))
        );
        assert!(
            made > task
                && ids::lowest_uuid_at(chrono::Utc::now() + chrono::Duration::minutes(1)) > made
        );
    }
    connection.close().await.unwrap();
}

async fn scalar<T>(connection: &mut PgConnection, sql: &'static str, task: uuid::Uuid) -> T
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
{
    sqlx::query_scalar(sql)
        .bind(task)
        .fetch_one(connection)
        .await
        .unwrap()
}

/// The statements of a step's way, on a database whose tables have been analysed while they were empty, which
/// is when the planner is most wrong about them.
#[tokio::test]
async fn hot_statements_reach_every_row_by_its_key() {
    let (_postgres, target) = migrated().await;
    let mut connection = target.batches().connect().await.unwrap();
    connection.execute("ANALYZE").await.unwrap();
    for name in [
        "claim_steps",
        "submit_results",
        "list_messages",
        "advance_graphs",
        "promote_delayed",
    ] {
        let plan = plan_of(&mut connection, name).await;
        for table in [
            "ready",
            "results",
            "delayed",
            "steps_",
            "tasks_",
            "attempts_",
        ] {
            assert!(
                !plan.contains(&format!("Seq Scan on {table}")),
                "{name} scans {table}:\n{plan}"
            );
        }
        assert!(!plan.contains("Hash"), "{name} hashes:\n{plan}");
    }
}

#[tokio::test]
async fn dead_letters_and_stale_tasks_are_reached_by_their_keys() {
    let (_postgres, target) = migrated().await;
    let mut connection = target.batches().connect().await.unwrap();
    connection.execute("ANALYZE").await.unwrap();
    for name in [
        "bury_tasks",
        "list_due_deadlines",
        "fail_stale_steps",
        "count_open_dead_letters",
    ] {
        let plan = plan_of(&mut connection, name).await;
        for table in [
            "ready",
            "results",
            "delayed",
            "deadlines",
            "dead_letters",
            "steps_",
            "tasks_",
            "attempts_",
        ] {
            assert!(
                !plan.contains(&format!("Seq Scan on {table}")),
                "{name} scans {table}:\n{plan}"
            );
        }
    }
}

#[tokio::test]
async fn gauges_are_read_by_keys_from_tables_that_grow() {
    let (_postgres, target) = migrated().await;
    let mut connection = target.batches().connect().await.unwrap();
    connection.execute("ANALYZE").await.unwrap();
    let plan = plan_of(&mut connection, "read_gauges").await;
    for table in [
        "ready",
        "results",
        "delayed",
        "requests",
        "steps_",
        "templates",
    ] {
        assert!(
            !plan.contains(&format!("Seq Scan on {table}")),
            "it scans {table}:\n{plan}"
        );
    }
    assert!(!plan.contains("Hash Join"), "it hashes:\n{plan}");
    assert!(!plan.contains("tasks_"), "it counts tasks:\n{plan}");
}

#[tokio::test]
async fn what_the_version_before_stored_and_stores_is_known_to_telemetry() {
    let postgres = Temporary::start().await.unwrap();
    let target = Target::parse(postgres.url(), "test", Duration::from_secs(10)).unwrap();
    let mut connection = target.connect().await.unwrap();
    let store = "INSERT INTO tasker.tasks (task_uuid, template_id, state, priority, sampled, context, correlation_id, tags, created_at, updated_at)
                 SELECT tasker.new_task_uuid(), 1, state, 0, false, '{}', gen_random_uuid(), '{}', now(), now()
                   FROM unnest(ARRAY[0, 3, 3, 7, 8, 9, 10, 11]) AS s(state)";
    connection.execute("CREATE SCHEMA tasker").await.unwrap();
    for sql in [include_str!("../../../migrations/0001_engine.sql"), store] {
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    }
    let add = concat!(
        "BEGIN;",
        include_str!("../../../migrations/0002_telemetry.sql"),
        "COMMIT;"
    );
    sqlx::raw_sql(add).execute(&mut connection).await.unwrap();
    let counts =
        "SELECT array_agg(array[state::int4, change] ORDER BY state)::text FROM tasker.task_counts";
    let counts: String = sqlx::query_scalar(counts)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(counts, "{{0,1},{3,2},{7,1}}");
    connection.execute(store).await.unwrap();
    let traced = "SELECT count(*) FROM tasker.tasks WHERE NOT traced";
    let untraced: i64 = sqlx::query_scalar(traced)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(untraced, 16);
}

#[tokio::test]
async fn statements_of_a_week_touch_no_partition_of_another() {
    let (_postgres, target) = migrated().await;
    let mut connection = target.batches().connect().await.unwrap();
    // The fewest rows that autovacuum counts: before, the planner takes a table to hold ten pages.
    let task = "INSERT INTO tasker.steps (task_uuid, step_no, state, waiting_on, failed, attempt, tries, lost, changed_at)
                SELECT tasker.new_task_uuid(), n, 0, 0, 0, 0, 0, 0, now() FROM generate_series(1, 50) n";
    connection.execute(task).await.unwrap();
    let task = "INSERT INTO tasker.tasks (task_uuid, template_id, state, priority, sampled, context, correlation_id, tags, created_at, updated_at)
                SELECT tasker.new_task_uuid(), 1, 3, 0, false, '{}', gen_random_uuid(), '{}', now(), now() FROM generate_series(1, 50)";
    connection.execute(task).await.unwrap();
    connection.execute("ANALYZE").await.unwrap();
    let week = Week::at(chrono::Utc::now());
    for name in ["claim_steps", "list_inputs", "advance_graphs"] {
        let statement = all_statements()
            .into_iter()
            .find(|s| s.name == name)
            .unwrap();
        let plan = plan(&mut connection, &statement.in_week(week)).await;
        for other in [-7, 7] {
            let other = chrono::Utc::now() + chrono::TimeDelta::days(other);
            let part = Week::at(other).part("tasks");
            assert!(!plan.contains(&part), "{name} looks at {part}:\n{plan}");
        }
        assert!(!plan.contains("Hash Join"), "{name} hashes:\n{plan}");
        assert_by_key(&plan);
        for table in ["ready", "results", "steps_", "tasks_", "attempts_"] {
            assert!(
                !plan.contains(&format!("Seq Scan on {table}")),
                "{name} scans {table}:\n{plan}"
            );
        }
    }
}

/// Every look at a partition has a condition on its index.
fn assert_by_key(plan: &str) {
    let lines: Vec<&str> = plan.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let looks = ["on tasks_", "on steps_", "on attempts_"];
        if line.contains("Index Scan") && looks.iter().any(|look| line.contains(look)) {
            let next = lines.get(at + 1).copied().unwrap_or_default();
            assert!(
                next.contains("Index Cond"),
                "a whole index is read:\n{plan}"
            );
        }
    }
}

/// The generic plan of the statement with a name, as text.
async fn plan_of(connection: &mut PgConnection, name: &str) -> String {
    let statement = all_statements()
        .into_iter()
        .find(|s| s.name == name)
        .unwrap();
    plan(connection, statement).await
}

/// The generic plan of a statement, as text.
async fn plan(connection: &mut PgConnection, statement: &Statement) -> String {
    let name = statement.name;
    let parameters = (1..)
        .take_while(|n| statement.sql.contains(&format!("${n}")))
        .count();
    let prepare = format!("PREPARE {name} AS {}", statement.sql);
    connection
        .execute(sqlx::AssertSqlSafe(prepare))
        .await
        .unwrap();
    let explain = format!(
        "EXPLAIN EXECUTE {name} ({})",
        vec!["NULL"; parameters].join(", ")
    );
    let lines: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(explain))
        .fetch_all(connection)
        .await
        .unwrap();
    lines.join("\n")
}
