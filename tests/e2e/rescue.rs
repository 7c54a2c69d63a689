//! Steps that nobody has any more, and results that find no place: nothing waits for ever.

use std::time::Duration;

use serde_json::json;
use tasker_tests::Setup;

const PATIENCE: Duration = Duration::from_secs(60);

const ENDLESS: &str = "
name: endless
namespace_name: rescue
version: 1.0.0
steps: [ { name: only, handler: { callable: sleep, initialization: { ms: 600000 } } } ]
";

const SHORT: &str = "
name: short
namespace_name: rescue
version: 1.0.0
steps: [ { name: only, handler: { callable: sleep, initialization: { ms: 3000, result: 7 } } } ]
";

const CLAIMED: &str = "SELECT count(*) FROM tasker.ready WHERE worker IS NOT NULL";

#[tokio::test]
async fn what_a_worker_had_that_nobody_knows_any_more_comes_back_when_there_is_a_server() {
    let mut stack = Setup {
        templates: vec![ENDLESS.to_owned()],
        ..Setup::default()
    }
    .start()
    .await;
    let request = json!({"name": "endless", "namespace": "rescue", "context": {}});
    let tasks = stack.submit_all(&[request.clone(), request]).await;
    stack
        .wait_count("claimed", CLAIMED, PATIENCE, |count| count == 2)
        .await;
    stack.server().kill_9().await;
    stack.worker().kill_9().await;
    // As if the one had stopped long ago, and the row of the other had been removed.
    let other = "UPDATE tasker.ready SET worker = gen_random_uuid() WHERE id = (SELECT min(id) FROM tasker.ready)";
    let long_ago = "UPDATE tasker.workers SET stopped_at = now() - interval '12 h'";
    for sql in [other, long_ago] {
        sqlx::query(sql).execute(stack.sql()).await.unwrap();
    }
    stack.server().restart().await;
    stack.worker().restart().await;
    let again = "SELECT count(*) FROM tasker.ready JOIN tasker.workers USING (worker) WHERE lost = 1 AND stopped_at IS NULL";
    stack
        .wait_count("claimed again", again, PATIENCE, |count| count == 2)
        .await;
    for task in tasks {
        assert_eq!(stack.steps(task).await["only"]["lost_leases"], 1);
    }
}

#[tokio::test]
async fn a_result_whose_partition_has_gone_is_kept_and_counts() {
    let stack = Setup {
        templates: vec![SHORT.to_owned()],
        ..Setup::default()
    }
    .start()
    .await;
    let request = json!({"name": "short", "namespace": "rescue", "context": {}});
    let task = stack.submit(request).await;
    stack
        .wait_count("claimed", CLAIMED, PATIENCE, |count| count == 1)
        .await;
    let part: String = sqlx::query_scalar(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'tasker.attempts'::regclass
            AND inhrelid::regclass::text LIKE '%' || to_char(date_trunc('week', now() AT TIME ZONE 'UTC'), 'YYYYMMDD')",
    )
    .fetch_one(stack.sql())
    .await
    .unwrap();
    let drop = sqlx::AssertSqlSafe(format!("DROP TABLE {part}"));
    sqlx::query(drop).execute(stack.sql()).await.unwrap();
    stack.wait_complete(task, PATIENCE).await;
    let step = &stack.steps(task).await["only"];
    assert_eq!(stack.outcomes(step).await, ["success"], "{step}");
    assert_eq!(step["results"], 7);
}

#[tokio::test]
async fn a_submission_that_cannot_be_stored_holds_up_no_other() {
    let stack = Setup {
        templates: vec![SHORT.to_owned()],
        ..Setup::default()
    }
    .start()
    .await;
    // One that the database refuses whoever sends it, and whatever with.
    let refuse = "ALTER TABLE tasker.tasks ADD CONSTRAINT refused CHECK (task_uuid <> '00000000-0000-7000-8000-000000000000')";
    sqlx::query(refuse).execute(stack.sql()).await.unwrap();
    let submit = "SELECT tasker.submit_task('rescue', 'short', '{}')";
    let rename = "UPDATE tasker.requests SET task_uuid = '00000000-0000-7000-8000-000000000000'";
    let mut transaction = stack.sql().begin().await.unwrap();
    for sql in [submit, rename, submit, submit] {
        sqlx::query(sql).execute(&mut *transaction).await.unwrap();
    }
    transaction.commit().await.unwrap();
    let ended = "SELECT count(*) FROM tasker.attempts WHERE outcome = 0";
    stack
        .wait_count("the others at their end", ended, PATIENCE, |count| {
            count == 2
        })
        .await;
    let waiting = "SELECT count(*) FROM tasker.requests WHERE $1 <> ''";
    assert_eq!(stack.count(waiting, "-").await, 1, "it waits");
}
