//! What can go wrong around tasks, brought about from outside: too much at once, and workers and databases that go away.

use std::path::Path;

use futures::future::join_all;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::json;
use tasker_tests::{Stack, until};
use uuid::Uuid;

use super::PATIENCE;
use super::drive::{cancel, request, submit};
use super::judge::Judge;

/// More than fits: submissions while tasks cannot be stored, results while they cannot.
pub(super) async fn crowded(stack: &mut Stack, judge: &mut Judge) {
    let mut transaction = stack.sql().begin().await.unwrap();
    sqlx::query("LOCK TABLE tasker.tasks IN EXCLUSIVE MODE")
        .execute(&mut *transaction)
        .await
        .unwrap();
    let url = stack.url("/v1/tasks");
    let sending: Vec<_> = (0..8)
        .map(|_| tokio::spawn(stack.client().post(&url).json(&request("single")).send()))
        .collect();
    wait_full(stack, judge, "server", "submissions").await;
    transaction.rollback().await.unwrap();
    let answers = join_all(sending).await;
    let statuses = answers
        .into_iter()
        .map(|answer| answer.unwrap().unwrap().status().as_u16());
    let statuses: Vec<u16> = statuses.collect();
    assert!(
        statuses.iter().all(|status| [201, 503].contains(status)),
        "{statuses:?}"
    );
    assert!(
        statuses.contains(&201) && statuses.contains(&503),
        "{statuses:?}"
    );

    let mut transaction = stack.sql().begin().await.unwrap();
    sqlx::query("LOCK TABLE tasker.attempts IN EXCLUSIVE MODE")
        .execute(&mut *transaction)
        .await
        .unwrap();
    let tasks = stack.submit_all(&vec![request("single"); 8]).await;
    wait_full(stack, judge, "worker", "results").await;
    transaction.rollback().await.unwrap();
    stack.wait_all_final(&tasks, PATIENCE).await;
    stack.slow_completions(&request("piped")).await;
}

async fn wait_full(stack: &Stack, judge: &mut Judge, kind: &str, channel: &str) {
    until(PATIENCE, async || {
        for (_, process) in stack.processes().filter(|(of, _)| *of == kind) {
            let shown = process.metrics().await;
            if shown.sum("mpsc_channel_full_events_total", &[("channel", channel)]) > 0.0 {
                return Ok(());
            }
        }
        Err(format!("no {channel} were full"))
    })
    .await;
    judge.look(stack).await;
}

/// Workers that freeze, are killed, or have to stop before they are done.
pub(super) async fn losing_workers(stack: &mut Stack, judge: &mut Judge) {
    let task = submit(stack, "long").await;
    wait_claimed(stack, judge).await;
    let before = lost(stack, 0).await;
    stack.worker().signal(Signal::STOP);
    lost(stack, before + 1).await;
    // It finds that its lease is somebody else's while its handler still runs.
    stack.worker().signal(Signal::CONT);
    wait_claimed(stack, judge).await;

    let before = lost(stack, 0).await;
    stack.worker().kill_9().await;
    lost(stack, before + 1).await;
    stack.worker().restart().await;
    wait_claimed(stack, judge).await;

    assert!(stack.worker().term().await.success());
    stack.worker().restart().await;
    wait_claimed(stack, judge).await;

    // One loss more than is allowed.
    let before = lost(stack, 0).await;
    stack.worker().kill_9().await;
    lost(stack, before + 1).await;
    stack.worker().restart().await;
    let ended = stack.wait_final(task, PATIENCE).await;
    assert_eq!(ended["status"], "error", "{ended}");
    let task = submit(stack, "long").await;
    wait_claimed(stack, judge).await;
    cancel(stack, task).await;
}

async fn wait_claimed(stack: &Stack, judge: &mut Judge) {
    let claimed = "SELECT count(*) FROM tasker.ready WHERE worker IS NOT NULL";
    stack
        .wait_count("claimed", claimed, PATIENCE, |claimed| claimed == 1)
        .await;
    judge.look(stack).await;
}

/// Waits until at least so many leases were lost, and answers how many were.
async fn lost(stack: &Stack, least: i64) -> i64 {
    let lost = "SELECT count(*) FROM tasker.attempts WHERE outcome = 6";
    let enough = |lost| lost >= least;
    stack.wait_count("lost", lost, PATIENCE, enough).await
}

/// A worker that claims a step and cannot read its template, because its connection is cut.
pub(super) async fn losing_a_template(stack: &mut Stack, judge: &mut Judge) {
    assert!(stack.workers()[1].term().await.success());
    let task = submit(stack, "telling").await;
    let mut transaction = stack.sql().begin().await.unwrap();
    sqlx::query("LOCK TABLE tasker.templates IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *transaction)
        .await
        .unwrap();
    stack.workers()[1].restart().await;
    wait_blocked(stack, &["FROM tasker.templates WHERE template_id"]).await;
    sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
          WHERE wait_event_type = 'Lock' AND query LIKE '%tasker.templates WHERE template_id%'",
    )
    .execute(stack.sql())
    .await
    .unwrap();
    transaction.rollback().await.unwrap();
    stack.wait_complete(task, PATIENCE).await;
    judge.look(stack).await;
}

/// A database that goes away while everything is in the middle of a statement, and comes back.
pub(super) async fn losing_the_database(stack: &mut Stack, judge: &mut Judge) {
    let gate = stack.directory("gate");
    stack.apply_template(&gated(&gate)).await;
    submit(stack, "gated").await;
    wait_claimed(stack, judge).await;
    hold_requests(stack).await;
    let locked = lock_queues(stack).await;
    sqlx::query("SELECT tasker.submit_task('contract', 'single', '{}')")
        .execute(stack.sql())
        .await
        .unwrap();
    std::fs::write(gate.join("open"), "").unwrap();
    let url = stack.url("/v1/tasks");
    let sending = tokio::spawn(stack.client().post(&url).json(&request("single")).send());
    // What is being claimed, handed in, applied, taken and stored.
    let blocked = [
        "UPDATE tasker.ready SET worker",
        "DELETE FROM tasker.ready",
        "LATERAL (SELECT * FROM tasker.results",
        "DELETE FROM tasker.requests",
        "-- the tasks as they came",
    ];
    wait_blocked(stack, &blocked).await;
    stack.postgres().kill_now().await.unwrap();
    drop(locked);
    stack.wait_refused(&request("single")).await;
    // It stays away until a worker could not renew its lease.
    until(PATIENCE, async || {
        let extending = [("queue", "steps"), ("operation", "extend")];
        for worker in stack.workers() {
            let shown = worker.metrics().await;
            if shown.sum("tasker_queue_errors_total", &extending) > 0.0 {
                return Ok(());
            }
        }
        Err("every worker has renewed its lease".to_owned())
    })
    .await;
    stack.postgres().restart().await.unwrap();
    // Stored when the database was back in time, and otherwise nobody knows.
    let answer = sending.await.unwrap().unwrap();
    let status = answer.status();
    assert!(status == 201 || status.is_server_error(), "{answer:?}");
    let task = until(PATIENCE, async || {
        let request = request("single");
        let (status, answer) = stack.call(Method::POST, "/v1/tasks", Some(&request)).await;
        match answer["task_uuid"].as_str() {
            Some(task) => Ok(task.parse::<Uuid>().unwrap()),
            None => Err(format!("{status} {answer}")),
        }
    })
    .await;
    stack.wait_complete(task, PATIENCE).await;
    wait_done(stack).await;
}

/// A step that ends when it is let.
fn gated(gate: &Path) -> String {
    format!(
        "name: gated
namespace_name: contract
version: 1.0.0
steps:
  - {{ name: runs, handler: {{ callable: command, initialization: {{ argv: [sh, -c, 'until [ -e open ]; do sleep 0.05; done'], cwd: {} }} }} }}
",
        json!(gate.to_str().unwrap())
    )
}

/// Waits until nothing is under way but the tasks of [`by_hand`] that wait.
async fn wait_done(stack: &Stack) {
    let left = "SELECT count(*) FROM tasker.tasks WHERE state IN (0, 3)";
    stack
        .wait_count("done", left, PATIENCE, |left| left == 2)
        .await;
}

/// Taking submissions waits from now on for whoever holds the results. A lock of their own would keep a server from
/// seeing that there are any.
async fn hold_requests(stack: &Stack) {
    let hold = "CREATE FUNCTION held() RETURNS trigger LANGUAGE plpgsql
                    AS $$ BEGIN PERFORM FROM tasker.results LIMIT 1; RETURN OLD; END $$;
                CREATE TRIGGER held BEFORE DELETE ON tasker.requests FOR EACH ROW EXECUTE FUNCTION held()";
    sqlx::raw_sql(hold).execute(stack.sql()).await.unwrap();
}

/// Keeps everybody from what goes through the queues, as long as the transaction lives.
async fn lock_queues(stack: &Stack) -> sqlx::Transaction<'static, sqlx::Postgres> {
    until(PATIENCE, async || {
        let mut transaction = stack.sql().begin().await.unwrap();
        // Where a statement is in the middle of some of them, one of the two is told of a deadlock.
        sqlx::query("LOCK TABLE tasker.ready, tasker.results IN ACCESS EXCLUSIVE MODE")
            .execute(&mut *transaction)
            .await
            .map_err(|error| error.to_string())?;
        Ok(transaction)
    })
    .await
}

/// Waits until statements with these texts wait for a lock.
async fn wait_blocked(stack: &Stack, texts: &[&str]) {
    until(PATIENCE, async || {
        let queries: Vec<String> =
            sqlx::query_scalar("SELECT query FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
                .fetch_all(stack.sql())
                .await
                .unwrap();
        let missing = texts
            .iter()
            .find(|text| !queries.iter().any(|query| query.contains(**text)));
        match missing {
            None => Ok(()),
            Some(text) => Err(format!("{text} does not wait")),
        }
    })
    .await;
}
