//! What statements tell the metrics. One test, because what it looks at belongs to the whole process.

use sqlx::Connection;

use super::*;
use crate::db::accept::accept_within;
use crate::db::requests;
use crate::metrics::collect::{Series, Value, snapshot};
use crate::metrics::{Mode, Process, Settings, start};

const PAIR: &str =
    "  - {name: a, handler: {callable: echo}, retry: {max_attempts: 2, backoff: none}}
  - {name: b, handler: {callable: echo}, dependencies: [a]}\n";

/// The number of the series of a metric whose labels have these values.
fn number(metric: &str, values: &[&str]) -> u64 {
    let families = snapshot();
    let family = families.iter().find(|f| f.definition.prom == metric);
    let fits = |s: &&Series| {
        s.names
            .iter()
            .map(|n| n.1.as_str())
            .eq(values.iter().copied())
    };
    let found = family.unwrap().series.iter().find(fits);
    match found.map(|s| &s.value) {
        Some(Value::Count(n)) => *n,
        Some(Value::Distribution { count, .. }) => *count,
        Some(Value::Gauge(n)) => n.round() as u64,
        None => 0,
    }
}

/// Messages sent to, received from, deleted from and delivered again from a queue.
fn moved(queue: &str) -> [u64; 4] {
    [
        "tasker_queue_messages_sent_total",
        "tasker_queue_messages_received_total",
        "tasker_queue_messages_deleted_total",
        "tasker_queue_retry_attempts_total",
    ]
    .map(|metric| number(metric, &[queue]))
}

#[tokio::test]
async fn statements_messages_connections_and_transactions_are_measured() {
    start(Settings {
        process: Process::Server,
        mode: Mode::Off,
        window: Duration::from_secs(600),
        limit: 0,
    });
    let mut world = World::new().await;
    let blueprint = world.template("pair", PAIR).await;
    let route = world.route(&blueprint, 0).await;
    let shards: Vec<i16> = (0..16).collect();
    let operation = "tasker_sql_queries_total";
    let waits = "tasker_db_pool_wait_duration_milliseconds";

    // A pass that finds nothing moves no messages.
    world.advance().await;
    delayed::promote(&world.pool, &shards, 10).await.unwrap();
    assert_eq!([moved("steps"), moved("results")], [[0; 4]; 2]);
    assert_eq!(number(operation, &["promote_delayed", "ok"]), 1);
    assert_eq!(
        number(
            "tasker_sql_query_duration_milliseconds",
            &["promote_delayed"]
        ),
        1
    );
    assert!(number(waits, &["general"]) > 0);
    let connections = ["active", "idle"]
        .map(|use_| number(&format!("tasker_db_pool_connections_{use_}"), &["general"]));
    assert!(connections.iter().sum::<u64>() > 0);

    // One task: a fails once, then a and b succeed.
    world.submit(&blueprint).await;
    assert_eq!(moved("steps"), [1, 0, 0, 0]);
    let worker = world.worker;
    let first = world.claim(worker, 1).await;
    world.end(&first[0], Outcome::Retryable).await;
    assert_eq!(moved("steps"), [1, 1, 1, 0]);
    assert_eq!(moved("results"), [1, 0, 0, 0]);
    world.advance().await;
    delayed::promote(&world.pool, &shards, 10).await.unwrap();
    assert_eq!(moved("results"), [2, 1, 1, 0]);
    world.drain(&[]).await;
    assert_eq!(
        moved("steps"),
        [3, 3, 3, 1],
        "the retry is a second delivery"
    );
    assert_eq!(moved("results"), [4, 4, 4, 0]);

    // A lost worker's step.
    world.submit(&blueprint).await;
    world.lose_worker().await;
    assert_eq!(
        number("tasker_queue_visibility_timeouts_total", &["steps"]),
        1
    );
    assert_eq!(moved("steps"), [4, 4, 4, 1]);
    assert_eq!(moved("results"), [5, 4, 4, 0]);
    world.drain(&[]).await;

    // Submissions count when they are taken for good, and so do their tasks' first messages.
    let request = "SELECT tasker.submit_task('n', 'pair', '{}')";
    sqlx::query(request).execute(&world.pool).await.unwrap();
    let task = world.task(&blueprint, Begin::Now);
    let roots = [Root {
        template_id: blueprint.template_id,
        priority: 0,
        step_no: 1,
        lane: route.lane(1).unwrap(),
    }];
    let steps = moved("steps")[0];
    for commits in [false, true] {
        let mut connection = world.target.acceptance().connect().await.unwrap();
        let mut transaction = Transaction::begin(&mut connection, "test").await.unwrap();
        let taken = requests::take(&mut transaction, &[], 10).await.unwrap();
        assert_eq!(taken.len(), 1);
        let tasks = [task.clone()];
        accept_within(&mut transaction, &tasks, &roots, false)
            .await
            .unwrap();
        assert_eq!((moved("requests"), moved("steps")[0]), ([0; 4], steps));
        match commits {
            true => transaction.commit().await.unwrap(),
            false => {
                drop(transaction);
                // The next statement of the connection rolls back first.
                connection.ping().await.unwrap();
            }
        }
    }
    assert_eq!(
        (moved("requests"), moved("steps")[0]),
        ([1, 1, 1, 0], steps + 1)
    );
    let transactions = "tasker_db_transactions_total";
    assert_eq!(number(transactions, &["rollback"]), 1);
    assert_eq!(
        number(transactions, &["commit"]),
        3,
        "the look at the migrations and the template, too"
    );

    // A step takes four statements, besides one for its task.
    world.drain(&[]).await;
    let names = [
        "accept_tasks",
        "claim_steps",
        "submit_results",
        "list_messages",
        "advance_graphs",
    ];
    let counts = || names.map(|name| number(operation, &[name, "ok"]));
    let before = counts();
    world.submit(&blueprint).await;
    for _ in 0..2 {
        let claimed = world.claim(worker, 10).await;
        world.end(&claimed[0], Outcome::Success).await;
        let messages = world.messages().await;
        world.apply(messages).await;
    }
    let each: Vec<u64> = counts().iter().zip(before).map(|(a, b)| a - b).collect();
    assert_eq!(each, [1, 2, 2, 2, 2]);

    // Calls: the three ways of a step's message, and a failure.
    let sends = "tasker_queue_message_send_duration_milliseconds";
    assert_eq!(
        number(sends, &["results"]),
        number(operation, &["submit_results", "ok"])
            + number(operation, &["promote_delayed", "ok"])
            + number(operation, &["rescue_steps", "ok"])
    );
    let receives = "tasker_queue_message_receive_duration_milliseconds";
    assert_eq!(
        number(receives, &["steps"]),
        number(operation, &["claim_steps", "ok"])
    );
    sqlx::query("ALTER TABLE tasker.ready RENAME TO away")
        .execute(&world.pool)
        .await
        .unwrap();
    let claimed = claim::claim(
        &mut world.connection,
        worker,
        &[Take {
            lane: 1,
            span: Span::behind(0),
            most: 1,
        }],
        1,
    )
    .await;
    assert!(claimed.is_err());
    assert_eq!(number(operation, &["claim_steps", "error"]), 1);
    assert_eq!(
        number("tasker_queue_errors_total", &["steps", "receive"]),
        1
    );
}
