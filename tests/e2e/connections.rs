//! What becomes of the work while connections are silent, or all of a pool are in use.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tasker_shared::db::pool::Target;
use tasker_shared::db::wake::{self, Topic, Wakes};
use tasker_shared::embedded::Temporary;
use tasker_tests::proxy::Proxy;
use tasker_tests::{Setup, Stack, until};

const PATIENCE: Duration = Duration::from_secs(60);
/// Half as much again as is promised, on a machine that others work on.
const RECOVERY: Duration = Duration::from_secs(15);

const LINE: &str = "
name: line
namespace_name: connections
version: 1.0.0
steps:
  - { name: a, handler: { callable: echo, initialization: { result: 1 } } }
  - { name: b, dependencies: [a], handler: { callable: echo, initialization: { result: 2 } } }
  - { name: c, dependencies: [b], handler: { callable: echo, initialization: { result: 3 } } }
";

fn line() -> Value {
    json!({"name": "line", "namespace": "connections", "context": {}})
}

async fn start(setup: Setup) -> Stack {
    let setup = Setup {
        templates: vec![LINE.to_owned()],
        ..setup
    };
    setup.start().await
}

#[tokio::test]
async fn when_every_connection_falls_silent_work_goes_on_within_seconds() {
    let stack = start(Setup {
        meddled: true,
        ..Setup::default()
    })
    .await;
    let task = stack.submit(line()).await;
    stack.wait_complete(task, PATIENCE).await;
    for process in ["server-1", "worker-1"] {
        stack.line(process).silence();
    }
    let recovered = async {
        let task = stack.wait_accepted(&line()).await;
        stack.wait_complete(task, PATIENCE).await;
    };
    let recovered = tokio::time::timeout(RECOVERY, recovered).await;
    assert!(recovered.is_ok(), "not within {RECOVERY:?}");
}

#[tokio::test]
async fn a_listener_whose_connection_falls_silent_takes_another() {
    let postgres = Temporary::start().await.unwrap();
    let (proxy, url) = line_to(&postgres).await;
    let target = Target::parse(&url, "test", Duration::from_secs(5)).unwrap();
    let wakes = Wakes::default();
    let heard = wakes.clone();
    let listening = wake::listen(target, &[Topic::Steps], heard, |_| {}, Default::default());
    let listening = tokio::spawn(listening);
    let hears = |expected: bool| {
        let wakes = wakes.clone();
        until(PATIENCE, async move || match wakes.hears() == expected {
            true => Ok(()),
            false => Err(format!("hears: {expected}")),
        })
    };
    hears(true).await;
    proxy.silence();
    hears(false).await;
    hears(true).await;
    // What was woken for the new connection is not what is waited for.
    while wakes.wait(Topic::Steps, Duration::from_millis(1)).await {}
    let mut connection = PgConnection::connect(postgres.url()).await.unwrap();
    sqlx::query("NOTIFY tasker_steps")
        .execute(&mut connection)
        .await
        .unwrap();
    assert!(wakes.wait(Topic::Steps, PATIENCE).await);
    listening.abort();
}

#[tokio::test]
async fn a_worker_whose_pool_is_in_use_keeps_its_lease() {
    let stack = start(
        Setup::default()
            .configure("database.max_connections", 1)
            .configure("worker.lease_ms", 3_000)
            .configure("worker.heartbeat_interval_ms", 1_000),
    )
    .await;
    // What a worker does first with a step is to look its template up. The server has done so when it takes the task.
    let soon = chrono::Utc::now() + chrono::TimeDelta::seconds(4);
    let mut request = line();
    request["run_at"] = json!(soon.to_rfc3339());
    let task = stack.submit(request).await;
    let mut held = stack.sql().begin().await.unwrap();
    sqlx::query("LOCK TABLE tasker.templates IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *held)
        .await
        .unwrap();
    wait_locked_out(&stack).await;
    let since = "SELECT count(*) FROM tasker.workers WHERE stopped_at IS NULL AND seen_at > now() - interval '2 s'
                    AND started_at < now() - interval '8 s'";
    stack
        .wait_count("alive for longer than a lease", since, PATIENCE, |n| n == 1)
        .await;
    wait_locked_out(&stack).await;
    held.rollback().await.unwrap();
    stack.wait_complete(task, PATIENCE).await;
    let workers = "SELECT count(*) FROM tasker.workers WHERE $1 <> ''";
    assert_eq!(stack.count(workers, "-").await, 1, "under its first id");
}

#[tokio::test]
async fn a_server_whose_pool_is_in_use_keeps_its_shards() {
    let stack = start(Setup::default().configure("database.max_connections", 1)).await;
    let epochs = "SELECT sum(epoch)::bigint FROM tasker.shards WHERE $1 <> ''";
    let before = stack.count(epochs, "-").await;
    let mut held = stack.sql().begin().await.unwrap();
    sqlx::query("LOCK TABLE tasker.dead_letters IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *held)
        .await
        .unwrap();
    let began: chrono::DateTime<chrono::Utc> = sqlx::query_scalar("SELECT clock_timestamp()")
        .fetch_one(&mut *held)
        .await
        .unwrap();
    let asking = stack.client().get(stack.url("/v1/dlq")).send();
    let asking = tokio::spawn(asking);
    wait_locked_out(&stack).await;
    until(PATIENCE, async || {
        let renewed: bool = sqlx::query_scalar(
            "SELECT min(until) > $1 + interval '15 s' AND bool_and(owner IS NOT NULL) FROM tasker.shards",
        )
        .bind(began)
        .fetch_one(stack.sql())
        .await
        .unwrap();
        match renewed {
            true => Ok(()),
            false => Err("shards renewed for ten seconds".to_owned()),
        }
    })
    .await;
    held.rollback().await.unwrap();
    asking.abort();
    assert_eq!(stack.count(epochs, "-").await, before, "never lost");
}

/// Waits until a statement that a program has sent waits for a lock.
async fn wait_locked_out(stack: &Stack) {
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'tasker-%' AND wait_event_type = 'Lock'";
    stack
        .wait_count("waiting for the lock", waiting, PATIENCE, |n| n > 0)
        .await;
}

/// A line of one's own to PostgreSQL, and the URL at its end.
async fn line_to(postgres: &Temporary) -> (Proxy, String) {
    use sqlx::postgres::PgConnectOptions;
    let options: PgConnectOptions = postgres.url().parse().unwrap();
    let socket = options.get_socket().unwrap();
    let proxy = Proxy::start(socket, options.get_port()).await;
    let (user, database) = (options.get_username(), options.get_database());
    let url = format!(
        "postgres://{user}@{}/{}?sslmode=disable",
        proxy.address(),
        database.unwrap_or(user)
    );
    (proxy, url)
}
