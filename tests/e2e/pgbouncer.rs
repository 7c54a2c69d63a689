//! Servers and workers behind a PgBouncer in transaction mode, with listening beside it and without.

use std::time::Duration;

use serde_json::json;
use tasker_shared::db::migrate;
use tasker_shared::db::pool::Target;
use tasker_tests::pgbouncer::PgBouncer;
use tasker_tests::{Setup, Stack};

const PATIENCE: Duration = Duration::from_secs(120);
const TASKS: usize = 300;
/// What the server says where the role lacks its settings.
const LACKS: &str = "connections of the pooler lack settings";

const DIAMOND: &str = "
name: diamond
namespace_name: pooled
version: 1.0.0
steps:
  - { name: a, handler: { callable: echo } }
  - { name: b, handler: { callable: fail, initialization: { times: 1, kind: retryable } }, dependencies: [a], retry: { backoff: none } }
  - { name: c, handler: { callable: echo }, dependencies: [a] }
  - { name: d, handler: { callable: echo }, dependencies: [b, c] }
";

/// A database without processes, and a pooler before it that processes will be started on.
async fn pooled() -> Option<(Stack, PgBouncer)> {
    let setup = Setup {
        servers: 0,
        workers: 0,
        templates: vec![DIAMOND.to_owned()],
        ..Setup::default()
    };
    let mut stack = setup.start().await;
    let pooler = PgBouncer::start(&stack.directory("pooler"), stack.database_url()).await?;
    stack.set_environment("DATABASE_URL", pooler.url());
    stack.set_environment("TASKER__DATABASE__POOLER", "true");
    Some((stack, pooler))
}

/// Tasks by REST, by batch and by SQL through the pooler come to their ends.
async fn work(stack: &Stack, pooler: &PgBouncer) {
    let request = json!({"name": "diamond", "namespace": "pooled", "context": {}});
    let tasks = stack.submit_all(&vec![request.clone(); TASKS]).await;
    let alone = stack.submit(request).await;
    let pool = sqlx::PgPool::connect_with(
        pooler
            .url()
            .parse::<sqlx::postgres::PgConnectOptions>()
            .unwrap()
            .extra_float_digits(None),
    )
    .await
    .unwrap();
    let by_sql: uuid::Uuid =
        sqlx::query_scalar("SELECT tasker.submit_task('pooled', 'diamond', '{}')")
            .fetch_one(&pool)
            .await
            .unwrap();
    for task in tasks.into_iter().chain([alone, by_sql]) {
        stack.wait_complete(task, PATIENCE).await;
    }
}

#[tokio::test]
async fn everything_works_through_a_pooler_and_the_role_is_given_what_it_needs() {
    let Some((mut stack, pooler)) = pooled().await else {
        return;
    };
    let direct = stack.database_url().to_owned();
    stack.set_environment("TASKER__DATABASE__DIRECT_URL", &direct);
    stack.add_server().await;
    stack.add_worker(&[]).await;
    work(&stack, &pooler).await;
    let given: Vec<String> =
        sqlx::query_scalar("SELECT unnest(setconfig) FROM pg_db_role_setting WHERE setrole <> 0")
            .fetch_all(stack.sql())
            .await
            .unwrap();
    assert!(
        given.contains(&"plan_cache_mode=force_generic_plan".to_owned()),
        "{given:?}"
    );
    assert!(
        given.contains(&"enable_seqscan=off".to_owned()),
        "{given:?}"
    );
    let log = stack.server().log();
    assert!(!log.contains(LACKS), "{log}");
    // A pass lists what must not be there: errors that come and are tried again.
    assert!(!log.contains("failed"), "{log}");
    let log = stack.worker().log();
    assert!(!log.contains("failed"), "{log}");
}

#[tokio::test]
async fn everything_works_through_a_pooler_alone_by_polling_and_says_what_it_lacks() {
    let Some((mut stack, pooler)) = pooled().await else {
        return;
    };
    let target = Target::parse(stack.database_url(), "test", PATIENCE).unwrap();
    let through = Target::parse(pooler.url(), "test", PATIENCE).unwrap();
    let refused = migrate::run(&through).await.unwrap_err().to_string();
    assert!(
        refused.contains("unsupported startup parameter"),
        "{refused}"
    );
    let refused = migrate::run(&through.behind_pooler(true))
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("database.direct_url"),
        "{refused}"
    );
    migrate::run(&target).await.unwrap();
    stack.set_environment("TASKER__DATABASE__LISTEN", "false");
    stack.add_server().await;
    stack.add_worker(&[]).await;
    work(&stack, &pooler).await;
    let log = stack.server().log();
    assert!(log.contains(LACKS), "{log}");
}
