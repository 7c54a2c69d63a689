//! Retention: how history goes when it is old, what it survives on the way, and how it comes back.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};
use tasker_shared::ids;
use tasker_tests::storm::disk::SmallDisk;
use tasker_tests::{Setup, Stack, until};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(60);
const LONG_AGO: &str = "2024-05-15T12:00:00Z";

const FINE: &str = "
name: fine
namespace_name: history
version: 1.0.0
steps:
  - { name: first, handler: { callable: echo } }
";

fn request(name: &str) -> Value {
    json!({"name": name, "namespace": "history", "context": {}})
}

async fn no_server() -> Stack {
    Stack::with(Setup {
        servers: 0,
        templates: vec![FINE.to_owned()],
        ..Setup::default()
    })
    .await
}

fn keep_for_30_days(stack: &mut Stack, archive: &Path) {
    stack.set_environment("TASKER__RETENTION__KEEP_DAYS", "30");
    let archive = archive.to_str().unwrap();
    stack.set_environment("TASKER__RETENTION__ARCHIVE_DIRECTORY", archive);
}

/// The files of a database's archives.
fn files(archive: &Path) -> Vec<PathBuf> {
    let list = |directory: &Path| {
        let entries = std::fs::read_dir(directory).unwrap();
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    };
    let shelves = list(archive).into_iter().filter(|path| path.is_dir());
    shelves.flat_map(|shelf| list(&shelf)).collect()
}

/// What the archive of a part says.
fn archived(archive: &Path, part: &str) -> String {
    let name = format!("{part}.jsonl.gz");
    let mut files = files(archive).into_iter();
    let file = files.rfind(|path| path.ends_with(&name));
    let unpacked = Command::new("gzip").arg("-dc").arg(file.unwrap()).output();
    String::from_utf8(unpacked.unwrap().stdout).unwrap()
}

/// The week is gone, and is in two files and no other.
async fn assert_gone(stack: &Stack, archive: &Path) {
    for part in ["tasks", "steps", "attempts"] {
        let part = format!("{part}_20240513");
        until(PATIENCE, async || match exists(stack, &part).await {
            true => Err(format!("{part} is still there")),
            false => Ok(()),
        })
        .await;
    }
    let names: Vec<_> = files(archive)
        .iter()
        .map(|path| path.file_name().unwrap().to_owned())
        .collect();
    assert_eq!(
        names,
        ["steps_20240513.jsonl.gz", "tasks_20240513.jsonl.gz"]
    );
}

/// Ended tasks of long ago, and in the week before one that has not.
async fn store_old(stack: &Stack) -> Uuid {
    let at: DateTime<Utc> = LONG_AGO.parse().unwrap();
    let run = async |sql: String| {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(stack.sql())
            .await
            .unwrap();
    };
    run(format!("SELECT tasker.ensure_partitions('{LONG_AGO}', 0)")).await;
    let store = |task: Uuid, state: i16| {
        format!(
            "INSERT INTO tasker.tasks (task_uuid, template_id, state, priority, sampled, context, correlation_id, tags, created_at, updated_at)
             VALUES ('{task}', 1, {state}, 0, false, '{{\"a\":\n1.50}}', '{task}', '{{}}', '{LONG_AGO}', '{LONG_AGO}');
             INSERT INTO tasker.steps (task_uuid, step_no, state, waiting_on, failed, attempt, tries, lost, changed_at)
             VALUES ('{task}', 1, 6, 0, 0, 1, 1, 0, '{LONG_AGO}');
             INSERT INTO tasker.idempotency_keys VALUES ('history', 'fine', '{task}', '{task}', '', '{LONG_AGO}');"
        )
    };
    let ended: String = (0..200).map(|_| store(ids::new_task_uuid(at), 8)).collect();
    run(ended).await;
    let alive = ids::new_task_uuid(at - chrono::Duration::days(7));
    run(store(alive, 7)).await;
    alive
}

async fn exists(stack: &Stack, table: &str) -> bool {
    sqlx::query_scalar("SELECT to_regclass('tasker.' || $1) IS NOT NULL")
        .bind(table)
        .fetch_one(stack.sql())
        .await
        .unwrap()
}

#[tokio::test]
async fn old_history_is_archived_and_dropped_while_work_goes_on_and_what_is_held_stays() {
    let mut stack = Stack::with(Setup {
        servers: 0,
        templates: vec![FINE.to_owned()],
        ..Setup::default()
    })
    .await;
    let archive = stack.directory("archive");
    let alive = store_old(&stack).await;
    keep_for_30_days(&mut stack, &archive);
    stack.add_server().await;
    let mut tasks = Vec::new();
    while exists(&stack, "tasks_20240513").await {
        tasks.extend(stack.submit_all(&vec![request("fine"); 20]).await);
        assert!(
            tasks.len() < 5_000,
            "the old week is not dropped: {}",
            stack.server().log_tail()
        );
    }
    for task in tasks {
        stack.wait_complete(task, PATIENCE).await;
    }
    for (part, rows) in [("tasks_20240513", 200), ("steps_20240513", 200)] {
        let text = archived(&archive, part);
        assert_eq!(text.lines().count(), rows, "{part}");
        assert!(
            text.lines()
                .all(|line| serde_json::from_str::<Value>(line).is_ok()),
            "{part}"
        );
    }
    assert_gone(&stack, &archive).await;
    assert!(exists(&stack, "tasks_20240506").await);
    assert_eq!(stack.task(alive).await["status"], "blocked_by_failures");
    let keys: i64 = sqlx::query_scalar("SELECT count(*) FROM tasker.idempotency_keys")
        .fetch_one(stack.sql())
        .await
        .unwrap();
    assert_eq!(keys, 1);
    until(PATIENCE, async || {
        let log = stack.server().log();
        match log.contains("history is kept for tasks that have not ended")
            && log.contains(&alive.to_string())
        {
            true => Ok(()),
            false => Err(log),
        }
    })
    .await;
}

/// A session that has read a table, so that no partition can be taken out of it.
async fn reader(stack: &Stack) -> PgConnection {
    let mut reader = PgConnection::connect(stack.database_url()).await.unwrap();
    reader
        .execute("BEGIN; SELECT count(*) FROM tasker.tasks")
        .await
        .unwrap();
    reader
}

#[tokio::test]
async fn a_server_that_is_killed_between_archive_and_drop_is_taken_up_by_another_and_nothing_is_lost()
 {
    let mut stack = no_server().await;
    let archive = stack.directory("archive");
    store_old(&stack).await;
    let reader = reader(&stack).await;
    keep_for_30_days(&mut stack, &archive);
    stack.add_server().await;
    stack.add_server().await;
    // Only one of them is at it.
    let at_it = until(PATIENCE, async || {
        let busy = |log: String| log.contains("history is in use and cannot be dropped yet");
        let logs: Vec<String> = stack.servers().iter().map(|server| server.log()).collect();
        match logs.iter().position(|log| busy(log.clone())) {
            Some(at) => Ok(at),
            None => Err(logs.concat()),
        }
    })
    .await;
    assert_eq!(files(&archive).len(), 2);
    stack.servers()[at_it].kill_9().await;
    drop(reader);
    assert_gone(&stack, &archive).await;
    let text = archived(&archive, "tasks_20240513");
    assert_eq!(text.lines().count(), 200);
    let keys = "SELECT count(*) FROM tasker.idempotency_keys";
    let keys: i64 = sqlx::query_scalar(keys)
        .fetch_one(stack.sql())
        .await
        .unwrap();
    assert_eq!(keys, 1);
}

#[tokio::test]
async fn where_the_archive_has_no_room_history_stays_where_it_is() {
    let mut stack = no_server().await;
    let disk = match SmallDisk::mount(&stack.directory("stack"), 1 << 20) {
        Ok(disk) => disk,
        Err(why) => return eprintln!("skipped: {why}"),
    };
    store_old(&stack).await;
    disk.fill();
    keep_for_30_days(&mut stack, disk.directory());
    stack.add_server().await;
    let failed = "retention failed";
    until(PATIENCE, async || {
        let log = stack.server().log();
        log.contains(failed).then_some(()).ok_or(log)
    })
    .await;
    let seen = "SELECT count(*) FROM tasker.tasks WHERE created_at < '2025-01-01'";
    let seen: i64 = sqlx::query_scalar(seen)
        .fetch_one(stack.sql())
        .await
        .unwrap();
    assert_eq!(seen, 201);
    assert!(files(disk.directory()).is_empty());
    disk.clear();
    stack.server().restart().await;
    assert_gone(&stack, disk.directory()).await;
}

#[tokio::test]
async fn a_pending_dead_letter_keeps_its_week_until_it_is_resolved() {
    let mut stack = no_server().await;
    let archive = stack.directory("archive");
    store_old(&stack).await;
    let bury = "INSERT INTO tasker.dead_letters (task_uuid, template_id, namespace, name, reason, original_state, buried_at, updated_at, snapshot)
                SELECT task_uuid, 1, 'history', 'fine', 1, 9, now(), now(), '{}' FROM tasker.tasks_20240513 LIMIT 1";
    stack.sql().execute(bury).await.unwrap();
    keep_for_30_days(&mut stack, &archive);
    stack.add_server().await;
    until(PATIENCE, async || {
        let log = stack.server().log();
        let told = log.contains("history is kept for pending dead letters");
        told.then_some(()).ok_or(log)
    })
    .await;
    assert!(exists(&stack, "tasks_20240513").await);
    let resolve = "UPDATE tasker.dead_letters SET resolution = 1, resolved_at = now()";
    stack.sql().execute(resolve).await.unwrap();
    stack.server().restart().await;
    assert_gone(&stack, &archive).await;
}

#[tokio::test]
async fn a_week_that_is_gone_comes_back_from_its_archive_as_documented() {
    let mut stack = no_server().await;
    let archive = stack.directory("archive");
    store_old(&stack).await;
    let one = "SELECT task_uuid FROM tasker.tasks_20240513 LIMIT 1";
    let task: Uuid = sqlx::query_scalar(one)
        .fetch_one(stack.sql())
        .await
        .unwrap();
    keep_for_30_days(&mut stack, &archive);
    stack.add_server().await;
    assert_gone(&stack, &archive).await;
    let path = format!("/v1/tasks/{task}");
    let (status, _) = stack.call(reqwest::Method::GET, &path, None).await;
    assert_eq!(status, 404);
    stack.server().term().await;

    let documented = include_str!("../../docs/operations/retention.md");
    let script = documented
        .split("```sh\n")
        .find(|block| block.starts_with("week=20260302"))
        .and_then(|block| block.split("```").next())
        .unwrap()
        .replace("20260302", "20240513");
    let shelf = files(&archive)[0].parent().unwrap().to_owned();
    let ran = Command::new("/bin/sh")
        .args(["-ec", &script])
        .current_dir(shelf)
        .env("DATABASE_URL", stack.database_url())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    stack.set_environment("TASKER__RETENTION__KEEP_DAYS", "36500");
    let url = stack.add_server().await.url(&path);
    let shown = stack.client().get(url).send().await.unwrap();
    let shown = shown.text().await.unwrap();
    assert!(
        shown.contains(r#""status":"complete""#) && shown.contains(r#"{"a": 1.50}"#),
        "{shown}"
    );
    let steps = "SELECT count(*) FROM tasker.tasks_20240513 JOIN tasker.steps USING (task_uuid)";
    let steps: i64 = sqlx::query_scalar(steps)
        .fetch_one(stack.sql())
        .await
        .unwrap();
    assert_eq!(steps, 200);
}
