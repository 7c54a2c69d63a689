#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::HashSet;
use std::time::Duration;

use sqlx::{Connection, Executor, PgConnection, SqlSafeStr};

use super::Transaction;
use super::advance::shorter;
use super::all_statements;
use super::pool::Target;
use crate::embedded::Temporary;
use crate::ids;

mod plans;

pub(super) async fn migrated() -> (Temporary, Target) {
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
    for short in shorter() {
        let short = connection.prepare(short.sql.into_sql_str());
        short.await.unwrap();
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
async fn a_snapshot_that_is_held_is_not_ended_for_being_idle() {
    let (_postgres, target) = migrated().await;
    let mut connection = target.connect().await.unwrap();
    let limit = "SHOW idle_in_transaction_session_timeout";
    let usual: String = sqlx::query_scalar(limit)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_ne!(usual, "0");
    let mut held = Transaction::begin(&mut connection, "test").await.unwrap();
    super::measure::pin(&mut held).await.unwrap();
    let pinned: String = sqlx::query_scalar(limit)
        .fetch_one(&mut *held)
        .await
        .unwrap();
    assert_eq!(pinned, "0");
    held.rollback().await.unwrap();
}
