//! Processes and the database are killed in the middle of the work: nothing that was accepted is lost, every result
//! counts once, and a handler runs again only where its worker was lost.

use std::time::{Duration, Instant};

use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use tasker_tests::{Ledger, Setup, Stack};

const PATIENCE: Duration = Duration::from_secs(120);

const TASKS: i64 = 2_000;
/// Where something is killed: behind this many attempts, of four a task.
const MIDDLE: i64 = 1_500;
/// How long a killed worker may keep its steps under the default configuration.
const BACK: Duration = Duration::from_secs(20);

/// Each step gives one more than the one before.
const LINE: &str = "
name: line
namespace_name: faults
version: 1.0.0
steps:
  - { name: a, handler: { callable: sleep, initialization: { ms: 20, result: 1 } } }
  - { name: b, dependencies: [a], handler: { callable: sleep, initialization: { ms: 20, result: 2 } } }
  - { name: c, dependencies: [b], handler: { callable: sleep, initialization: { ms: 20, result: 3 } } }
  - { name: d, dependencies: [c], handler: { callable: sleep, initialization: { ms: 20, result: 4 } } }
";

/// A step that runs until its worker goes.
const ENDLESS: &str = "
name: endless
namespace_name: faults
version: 1.0.0
steps:
  - { name: only, handler: { callable: sleep, initialization: { ms: 600000 } } }
";

/// Steps that take longer than the short lease.
const LONG: &str = "
name: long
namespace_name: faults
version: 1.0.0
steps:
  - { name: first, handler: { callable: sleep, initialization: { ms: 1500, result: 1 } } }
  - { name: second, dependencies: [first], handler: { callable: echo, initialization: { result: 2 } } }
";

fn requests(name: &str, count: i64) -> Vec<Value> {
    (0..count)
        .map(|n| json!({"name": name, "namespace": "faults", "context": {"n": n}}))
        .collect()
}

/// Leases short enough that no test waits long for them.
fn short_leases() -> Setup {
    Setup::default()
        .configure("worker.lease_ms", 3_000)
        .configure("worker.heartbeat_interval_ms", 1_000)
}

/// Holds what is stored of so many tasks of so many steps each to what a fault may leave; answers how many attempts were
/// lost.
type Holds = fn(&Ledger, i64, i64) -> i64;

/// Waits for two thousand tasks to end, and holds their steps to having ended well once. Answers how many attempts
/// were lost.
async fn all_end_well(stack: &Stack, holds: Holds) -> i64 {
    stack.wait_all_at_rest(PATIENCE).await;
    let lost = holds(&stack.ledger("line").await, TASKS, 4);
    let wrong = stack
        .count(
            "SELECT count(*) FROM tasker.attempts WHERE outcome = 0 AND result::text <> step_no::text AND $1 <> ''",
            "-",
        )
        .await;
    assert_eq!(wrong, 0, "each step has its own result");
    let counted = stack
        .count(
            "SELECT coalesce(sum(lost), 0)::bigint FROM tasker.steps WHERE $1 <> ''",
            "-",
        )
        .await;
    assert_eq!(counted, lost, "what was lost is counted apart");
    lost
}

/// Fails where the work had ended already: then nothing was in the middle of it.
async fn assert_in_the_middle(stack: &Stack) {
    let busy = "SELECT count(*) FROM tasker.tasks WHERE state < 7 AND $1 <> ''";
    assert!(stack.count(busy, "-").await > 0, "it came too late");
}

#[tokio::test]
async fn a_worker_killed_in_the_middle_of_two_thousand_tasks_costs_only_its_own_attempts() {
    let mut stack = short_leases().start().await;
    stack.apply_template(LINE).await;
    stack.submit_all(&requests("line", TASKS)).await;
    stack.wait_attempts(MIDDLE, PATIENCE).await;
    stack.worker().kill_9().await;
    assert_in_the_middle(&stack).await;
    stack.add_worker(&[]).await;
    let lost = all_end_well(&stack, Ledger::assert_each_once_but_lost).await;
    assert!(
        (1..=512).contains(&lost),
        "{lost} lost: what it held, which is what it can run at once and the results on their way"
    );
}

#[tokio::test]
async fn by_default_a_killed_worker_s_steps_run_elsewhere_within_twenty_seconds() {
    let mut stack = Stack::start().await;
    stack.apply_template(ENDLESS).await;
    stack.submit_all(&requests("endless", 100)).await;
    let claimed = "SELECT count(*) FROM tasker.ready WHERE worker IS NOT NULL";
    stack
        .wait_count("claimed", claimed, PATIENCE, |count| count == 100)
        .await;
    stack.add_worker(&[]).await;
    stack.worker().kill_9().await;
    let killed = Instant::now();
    stack
        .wait_count(
            "claimed again",
            "SELECT count(*) FROM tasker.ready WHERE worker IS NOT NULL AND lost = 1 AND attempt = 2",
            BACK,
            |count| count == 100,
        )
        .await;
    assert!(killed.elapsed() < BACK, "{:?}", killed.elapsed());
}

#[tokio::test]
async fn one_of_two_servers_killed_leaves_its_tasks_to_the_other() {
    let mut stack = Setup {
        servers: 2,
        ..short_leases()
    }
    .start()
    .await;
    stack.apply_template(LINE).await;
    stack
        .wait_count(
            "shared among both servers",
            "SELECT count(DISTINCT owner) FROM tasker.shards",
            PATIENCE,
            |owners| owners == 2,
        )
        .await;
    stack.submit_all(&requests("line", TASKS)).await;
    stack.wait_attempts(MIDDLE, PATIENCE).await;
    stack.servers()[1].kill_9().await;
    assert_in_the_middle(&stack).await;
    let lost = all_end_well(&stack, Ledger::assert_each_once_but_lost).await;
    assert_eq!(lost, 0, "no worker was lost");
}

#[tokio::test]
async fn the_only_server_killed_goes_on_when_it_is_back() {
    let mut stack = short_leases().start().await;
    stack.apply_template(LINE).await;
    stack.submit_all(&requests("line", TASKS)).await;
    stack.wait_attempts(MIDDLE, PATIENCE).await;
    stack.server().kill_9().await;
    assert_in_the_middle(&stack).await;
    stack.server().restart().await;
    let lost = all_end_well(&stack, Ledger::assert_each_once_but_lost).await;
    assert_eq!(lost, 0, "no worker was lost");
}

#[tokio::test]
async fn a_server_killed_while_it_accepts_keeps_every_task_that_it_confirmed() {
    let mut stack = short_leases().start().await;
    stack.apply_template(LINE).await;
    let (client, url) = (stack.client().clone(), stack.url("/v1/tasks/batch"));
    let sender = tokio::spawn(async move {
        let mut confirmed: Vec<String> = Vec::new();
        for _ in 0..1_000 {
            let body = json!({"tasks": requests("line", 20)});
            let Ok(reply) = client.post(&url).json(&body).send().await else {
                break;
            };
            let Ok(answer) = reply.json::<Value>().await else {
                break;
            };
            let results = answer["results"].as_array().unwrap().iter();
            confirmed
                .extend(results.map(|result| result["task_uuid"].as_str().unwrap().to_owned()));
        }
        confirmed
    });
    stack.wait_attempts(400, PATIENCE).await;
    stack.server().kill_9().await;
    let confirmed = sender.await.unwrap();
    assert!(!confirmed.is_empty());
    stack.server().restart().await;
    stack.wait_all_at_rest(PATIENCE).await;
    assert_stored_complete(&stack, &confirmed, Ledger::assert_each_once_but_lost).await;
}

/// Holds that the confirmed tasks are there, and that all tasks there, confirmed or not, ended well.
async fn assert_stored_complete(stack: &Stack, confirmed: &[String], holds: Holds) {
    let stored: i64 =
        sqlx::query_scalar("SELECT count(*) FROM tasker.tasks WHERE task_uuid = ANY ($1::uuid[])")
            .bind(confirmed)
            .fetch_one(stack.sql())
            .await
            .unwrap();
    assert_eq!(stored, i64::try_from(confirmed.len()).unwrap());
    let tasks = stack
        .count("SELECT count(*) FROM tasker.tasks WHERE $1 <> ''", "-")
        .await;
    holds(&stack.ledger("line").await, tasks, 4);
}

#[tokio::test]
async fn a_crash_of_postgresql_in_the_middle_loses_nothing_and_processes_come_back_by_themselves() {
    assert_survives(async |stack| stack.postgres().kill_now().await.unwrap()).await;
}

#[tokio::test]
async fn kill_9_of_postgresql_in_the_middle_loses_nothing_either() {
    assert_survives(async |stack| stack.kill_postgres_9().await).await;
}

/// Holds that tasks that are under way when PostgreSQL ends so all end well once it is back.
async fn assert_survives(end: impl AsyncFnOnce(&mut Stack)) {
    let mut stack = Setup {
        durable: true,
        ..short_leases()
    }
    .start()
    .await;
    stack.apply_template(LINE).await;
    stack.submit_all(&requests("line", TASKS)).await;
    stack.wait_attempts(MIDDLE, PATIENCE).await;
    assert_in_the_middle(&stack).await;
    end(&mut stack).await;
    stack.postgres().restart().await.unwrap();
    // A claim is not flushed: the crash may have taken it back, or only its answer. So a step may have run twice, but its
    // result counts once.
    all_end_well(&stack, Ledger::assert_each_once_but_lost_or_unheard).await;
    for process in [stack.server().is_running(), stack.worker().is_running()] {
        assert!(process, "nothing ended");
    }
}

#[tokio::test]
async fn postgresql_crashing_while_tasks_are_accepted_keeps_what_was_confirmed() {
    let mut stack = Setup {
        durable: true,
        ..short_leases()
    }
    .start()
    .await;
    stack.apply_template(LINE).await;
    let (client, url) = (stack.client().clone(), stack.url("/v1/tasks/batch"));
    let (enough, told) = tokio::sync::oneshot::channel::<()>();
    let mut sender = tokio::spawn(async move {
        let mut told = told;
        let mut confirmed: Vec<String> = Vec::new();
        while told.try_recv().is_err() {
            let body = json!({"tasks": requests("line", 20)});
            let reply = client.post(&url).json(&body).send().await;
            let reply = reply.expect("the server is there all the time");
            let answer: Value = reply.json().await.unwrap();
            // Held back until the database is there again, or refused, or of unknown outcome: that confirms nothing.
            for result in answer["results"].as_array().unwrap_or(&Vec::new()) {
                match result["task_uuid"].as_str() {
                    Some(uuid) => confirmed.push(uuid.to_owned()),
                    None => assert!(result["status"].as_u64() >= Some(500), "{result}"),
                }
            }
        }
        confirmed
    });
    stack.wait_attempts(200, PATIENCE).await;
    stack.postgres().kill_now().await.unwrap();
    stack.postgres().restart().await.unwrap();
    let before: i64 = stack
        .wait_count(
            "answering",
            "SELECT count(*) FROM tasker.tasks",
            PATIENCE,
            |_| true,
        )
        .await;
    let accepting = stack.wait_count(
        "accepting again",
        "SELECT count(*) FROM tasker.tasks",
        PATIENCE,
        |count| count > before + 40,
    );
    tokio::select! {
        _ = accepting => {}
        ended = &mut sender => panic!("the sender gave up: {ended:?}"),
    }
    enough.send(()).unwrap();
    let confirmed = sender.await.unwrap();
    assert!(confirmed.len() > 40, "before and after");
    stack.wait_all_at_rest(PATIENCE).await;
    assert_stored_complete(
        &stack,
        &confirmed,
        Ledger::assert_each_once_but_lost_or_unheard,
    )
    .await;
}

#[tokio::test]
async fn a_worker_frozen_past_its_lease_brings_nothing_twice_and_works_on_under_a_new_id() {
    let mut stack = short_leases()
        .configure("worker.concurrency", 50)
        .start()
        .await;
    stack.apply_template(LONG).await;
    stack.submit_all(&requests("long", 50)).await;
    stack
        .wait_count(
            "claimed",
            "SELECT count(*) FROM tasker.ready WHERE worker IS NOT NULL",
            PATIENCE,
            |count| count == 50,
        )
        .await;
    stack.worker().signal(Signal::STOP);
    stack.add_worker(&[]).await;
    stack.wait_all_at_rest(PATIENCE).await;
    let frozen = stack.ledger("long").await;
    assert_eq!(frozen.assert_each_once_but_lost(50, 2), 50);

    // Its handlers end the moment that it goes on, and all they bring is late.
    stack.worker().signal(Signal::CONT);
    stack.workers()[1].kill_9().await;
    stack.submit_all(&requests("long", 50)).await;
    stack.wait_all_at_rest(PATIENCE).await;
    let lost = stack.ledger("long").await.assert_each_once_but_lost(100, 2);
    assert!((50..=100).contains(&lost), "{lost}");
    let ids = "SELECT count(DISTINCT worker) FROM tasker.attempts WHERE outcome = 0 AND $1 <> ''";
    assert_eq!(
        stack.count(ids, "-").await,
        2,
        "the other one's id and its new one; its first brought nothing"
    );
    let first = "SELECT count(DISTINCT worker) FROM tasker.attempts AS a WHERE outcome = 6 AND $1 <> ''
                    AND EXISTS (SELECT 1 FROM tasker.attempts AS b WHERE b.outcome = 0 AND b.worker = a.worker
                                   AND b.claimed_at < a.claimed_at)";
    assert_eq!(stack.count(first, "-").await, 0);
    assert!(stack.worker().is_running());
}

#[tokio::test]
async fn a_step_that_loses_its_worker_too_often_is_given_up() {
    let mut stack = short_leases()
        .configure("limits.max_lost_leases", 1)
        .start()
        .await;
    stack.apply_template(ENDLESS).await;
    let task = stack.submit(requests("endless", 1).remove(0)).await;
    for loss in 0..2 {
        let claimed = [
            "SELECT count(*) FROM tasker.ready WHERE worker IS NOT NULL AND lost = 0",
            "SELECT count(*) FROM tasker.ready WHERE worker IS NOT NULL AND lost = 1",
        ][loss];
        stack
            .wait_count("claimed", claimed, PATIENCE, |count| count == 1)
            .await;
        stack.worker().restart().await;
    }
    let shown = stack.wait_final(task, PATIENCE).await;
    assert_eq!(shown["status"], "error", "{shown}");
    let step = &stack.steps(task).await["only"];
    assert_eq!(stack.outcomes(step).await, ["lost", "lost"]);
    assert_eq!(
        (&step["attempts"], &step["lost_leases"]),
        (&json!(0), &json!(2)),
        "losses are no attempts of the handler"
    );
    let path = format!("/v1/tasks/{task}/retry");
    let (status, answer) = stack.call(Method::POST, &path, None).await;
    assert_eq!(status, 200, "{answer}");
    stack.wait_for(task, &["steps_in_process"], PATIENCE).await;
}

#[tokio::test]
async fn a_claim_whose_answer_never_came_is_handed_back_while_its_worker_lives() {
    let mut stack = Setup {
        templates: vec![
            "name: lone\nnamespace_name: faults\nversion: 1.0.0\nsteps: [ { name: only, handler: { callable: echo } } ]\n"
                .to_owned(),
        ],
        ..Setup::default()
    }
    .start()
    .await;
    stack.worker().signal(Signal::STOP);
    let task = stack
        .submit(json!({"name": "lone", "namespace": "faults", "context": {}}))
        .await;
    // As if the worker had claimed it in a statement that was committed when the connection was gone.
    let claimed = sqlx::query(
        "UPDATE tasker.ready SET worker = (SELECT worker FROM tasker.workers WHERE stopped_at IS NULL), claimed_at = now()",
    );
    let claimed = claimed.execute(stack.sql()).await.unwrap();
    assert_eq!(claimed.rows_affected(), 1);
    sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tasker-worker'")
        .execute(stack.sql())
        .await
        .unwrap();
    stack.worker().signal(Signal::CONT);
    stack.wait_complete(task, Duration::from_secs(60)).await;
    let step = stack.steps(task).await["only"].clone();
    assert_eq!(stack.outcomes(&step).await, ["released", "success"]);
}
