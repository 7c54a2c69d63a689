//! A process can be asked how it is from its first moment: it lives, and is not ready until it has started.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use sqlx::PgPool;
use tasker_tests::{Setup, Stack, until};

const PATIENCE: Duration = Duration::from_secs(60);

/// Looks at a process that cannot go on because of a lock, then lets it.
async fn look(pool: PgPool, locked: &str, address_file: PathBuf, client: reqwest::Client) {
    let mut transaction = pool.begin().await.unwrap();
    let lock = match locked {
        "settings" => "LOCK TABLE tasker.settings IN ACCESS EXCLUSIVE MODE",
        _ => "LOCK TABLE tasker.workers IN ACCESS EXCLUSIVE MODE",
    };
    sqlx::query(lock).execute(&mut *transaction).await.unwrap();
    let address = until(PATIENCE, async || {
        std::fs::read_to_string(&address_file).map_err(|error| error.to_string())
    })
    .await;
    let ask = async |path: &str| {
        let answer = client
            .get(format!("http://{}{path}", address.trim()))
            .send();
        let answer = answer.await.unwrap();
        let again = answer.headers().contains_key("retry-after");
        let status = answer.status().as_u16();
        (status, again, answer.json::<Value>().await.unwrap())
    };
    until(PATIENCE, async || match ask("/health/ready").await {
        (503, _, body) if body.to_string().contains("is starting") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert_eq!(ask("/health/live").await.0, 200);
    assert_eq!(ask("/health/detailed").await.0, 200);
    let (status, again, body) = ask("/v1/templates").await;
    assert_eq!((status, again), (503, true), "{body}");
    transaction.rollback().await.unwrap();
}

#[tokio::test]
async fn processes_live_and_are_not_ready_while_they_start() {
    let mut stack = Stack::with(Setup {
        workers: 0,
        ..Setup::default()
    })
    .await;
    let directory = stack.directory("stack");
    let (pool, client) = (stack.sql().clone(), stack.client().clone());
    let looking = look(
        pool.clone(),
        "settings",
        directory.join("server-2.address"),
        client.clone(),
    );
    tokio::join!(looking, stack.add_server());
    let looking = look(pool, "workers", directory.join("worker-1.address"), client);
    tokio::join!(looking, stack.add_worker(&[]));
}
