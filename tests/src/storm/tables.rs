//! Faults that are done through the database: statements and sessions killed in their middle, results that nobody
//! may hand in, and the tables that go onto the small disk.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgPool};
use tasker_shared::db::pool::Target;
use tasker_shared::db::submit::{self, Ended};
use tasker_shared::db::wake::Notice;
use tasker_shared::metrics::Correlation;
use tasker_shared::plan::Outcome;
use uuid::Uuid;

use super::kind::Kind;

/// How long statements are lain in wait for, and how many are struck.
const WAIT: Duration = Duration::from_secs(5);
const MOST_STRUCK: usize = 12;

/// Lane, id, attempt, when it was enqueued, and whose it is.
type Delivery = (i32, i64, i32, DateTime<Utc>, Option<Uuid>);
/// How long rows are held at a time.
const HELD: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(10);
/// Clocks are stepped by more than this, and no step of a storm takes as long.
const WRONG_SECONDS: f64 = 50.0;
/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many of each are handed in.
const LATE: i64 = 50;

/// Moves what results are written to onto another disk.
pub(super) async fn move_results_to(pool: &PgPool, directory: &Path) -> sqlx::Result<()> {
    let space = format!("CREATE TABLESPACE small LOCATION '{}'", directory.display());
    sqlx::query(AssertSqlSafe(space)).execute(pool).await?;
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'tasker.attempts'::regclass
         UNION ALL SELECT 'tasker.results'",
    )
    .fetch_all(pool)
    .await?;
    for table in tables {
        let moved = format!("ALTER TABLE {table} SET TABLESPACE small");
        sqlx::query(AssertSqlSafe(moved)).execute(pool).await?;
    }
    Ok(())
}

/// Holds rows that results and their graphs need, so that statements of servers and workers wait in their middle, and
/// cancels those, or ends their sessions. Answers how many it struck.
pub(super) async fn break_statements(pool: &PgPool, kind: Kind) -> usize {
    let strike = match kind {
        Kind::StatementCancelled => "pg_cancel_backend",
        _ => "pg_terminate_backend",
    };
    let strike = format!(
        "SELECT pid, query_start, {strike}(pid) FROM pg_stat_activity
          WHERE application_name LIKE 'tasker-%' AND state = 'active' AND wait_event_type = 'Lock'"
    );
    let began = Instant::now();
    let mut struck = BTreeSet::new();
    while struck.len() < MOST_STRUCK && began.elapsed() < WAIT {
        lie_in_wait(pool, &strike, &mut struck).await;
    }
    struck.len()
}

/// A statement: its process, and when it began.
type Running = (i32, DateTime<Utc>);

/// Holds what is claimed at this moment for a while, and strikes what runs into it.
async fn lie_in_wait(pool: &PgPool, strike: &str, struck: &mut BTreeSet<Running>) {
    let mut holding = pool.begin().await.unwrap();
    for rows in [
        "SELECT 1 FROM tasker.ready WHERE worker IS NOT NULL ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED",
        "SELECT 1 FROM tasker.steps AS s
          WHERE (task_uuid, step_no) IN (SELECT task_uuid, step_no FROM tasker.ready WHERE worker IS NOT NULL) FOR UPDATE SKIP LOCKED",
    ] {
        sqlx::query(rows).execute(&mut *holding).await.unwrap();
    }
    let began = Instant::now();
    while struck.len() < MOST_STRUCK && began.elapsed() < HELD {
        tokio::time::sleep(POLL).await;
        let found: Vec<(i32, DateTime<Utc>, bool)> = sqlx::query_as(AssertSqlSafe(strike))
            .fetch_all(&mut *holding)
            .await
            .unwrap();
        // One that takes its time to go is met again.
        let found = found.into_iter().filter(|(.., was_there)| *was_there);
        struck.extend(found.map(|(pid, since, _)| (pid, since)));
    }
    holding.rollback().await.unwrap();
}

/// How many tasks have times of a clock that is wrong: of their own, or of one of their attempts, as told by when the
/// database enqueued and handed out their steps.
pub(super) async fn wrong_times(pool: &PgPool) -> usize {
    let wrong: i64 = sqlx::query_scalar(
        "SELECT count(DISTINCT a.task_uuid) FROM tasker.attempts AS a JOIN tasker.tasks AS t USING (task_uuid)
          WHERE a.outcome IN (0, 1, 2)
            AND (abs(extract(epoch FROM a.finished_at - a.claimed_at)) > $1
                 OR a.step_no = 1 AND a.attempt = 1 AND abs(extract(epoch FROM t.created_at - a.enqueued_at)) > $1)",
    )
    .bind(WRONG_SECONDS)
    .fetch_one(pool)
    .await
    .unwrap();
    usize::try_from(wrong).unwrap_or(0)
}

/// Hands in results that must not count: once more of steps that have ended, by a stranger of steps that run, of an
/// earlier delivery of steps that run, and of another step with the same id. Answers how many, which are some of each.
///
/// # Panics
/// Where one of them counts.
pub(super) async fn hand_in_late_results(database_url: &str) -> usize {
    let target = Target::parse(database_url, "storm", PATIENCE).unwrap();
    let mut connection = target.connect().await.unwrap();
    let stranger = Uuid::now_v7();
    let mut handed_in = 0;
    for (whose, sql) in [
        (
            "ended already",
            "SELECT s.lane, s.message_id, s.attempt, a.enqueued_at, a.worker FROM tasker.steps AS s JOIN tasker.attempts AS a USING (task_uuid, step_no, attempt)
              WHERE a.outcome = 0 AND a.worker IS NOT NULL AND s.message_id IS NOT NULL ORDER BY a.finished_at DESC LIMIT $1",
        ),
        (
            "a stranger's",
            "SELECT lane, id, attempt, enqueued_at, NULL::uuid FROM tasker.ready WHERE worker IS NOT NULL LIMIT $1",
        ),
        (
            "of an earlier delivery",
            "SELECT lane, id, attempt - 1, enqueued_at, worker FROM tasker.ready WHERE worker IS NOT NULL LIMIT $1",
        ),
        (
            "of another step with the same id",
            "SELECT lane, id, attempt, enqueued_at - interval '1 ms', worker FROM tasker.ready WHERE worker IS NOT NULL LIMIT $1",
        ),
    ] {
        let began = Instant::now();
        let mut rows: Vec<Delivery> = Vec::new();
        while rows.is_empty() {
            assert!(began.elapsed() < PATIENCE, "no results are {whose}");
            let found = sqlx::query_as(sql).bind(LATE);
            rows = found.fetch_all(&mut connection).await.unwrap();
            tokio::time::sleep(POLL).await;
        }
        for (lane, id, attempt, enqueued_at, worker) in rows {
            let late = [late(lane, id, attempt, enqueued_at)];
            let counted = submit::submit(&mut connection, worker.unwrap_or(stranger), &late, Notice::Wake).await;
            assert_eq!(counted.unwrap(), [], "a result that is {whose} counted");
            handed_in += 1;
        }
    }
    handed_in
}

/// A result that would be seen to be wrong.
fn late(lane: i32, id: i64, attempt: i32, enqueued_at: DateTime<Utc>) -> Ended {
    Ended {
        lane,
        id,
        attempt,
        enqueued_at,
        correlation: Correlation {
            id: Uuid::nil(),
            sampled: false,
        },
        outcome: Outcome::Success,
        started_at: None,
        finished_at: Utc::now(),
        result: Some(r#"{"sum": -1}"#.to_owned()),
        error: None,
        retry_after_ms: None,
    }
}
