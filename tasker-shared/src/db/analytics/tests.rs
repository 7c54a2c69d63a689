#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::Executor;

use super::*;
use crate::db::pool::Target;
use crate::db::{migrate, stats};
use crate::embedded::Temporary;
use crate::stats::{Steps, Tasks, Times};

async fn world() -> (Temporary, Pool) {
    let postgres = Temporary::start().await.unwrap();
    let target = Target::parse(postgres.url(), "analytics", Duration::from_secs(10)).unwrap();
    migrate::run(&target).await.unwrap();
    (postgres, target.pool(2))
}

fn steps(executions: i64, errors: i64, total_ms: f64, max_ms: f64) -> Steps {
    Steps {
        executions,
        errors,
        times: Times { total_ms, max_ms },
    }
}

fn count(what: i32, part: i32, counted: i64, looked: i64, rows: i64) -> Count {
    Count {
        what,
        part,
        counted,
        looked,
        rows,
    }
}

#[tokio::test]
async fn nothing_seen_is_noughts_and_what_processes_add_is_summed() {
    let (_postgres, pool) = world().await;
    let nothing = performance(&pool, 24, None).await.unwrap();
    assert_eq!(
        (nothing.executions, nothing.completed, nothing.first),
        (0, 0, None)
    );
    assert_eq!((nothing.task_ms, nothing.step_ms), (0.0, 0.0));
    assert_eq!(
        bottlenecks(&pool, 24, 1, 10, None).await.unwrap(),
        Bottlenecks::default()
    );
    for _ in 0..2 {
        let seen = BTreeMap::from([
            ((1, 1), steps(10, 1, 100.0, 40.0)),
            ((1, 2), steps(2, 0, 2_000.0, 1_500.0)),
        ]);
        stats::add_steps(&pool, &seen).await.unwrap();
        let times = Times {
            total_ms: 5_000.0,
            max_ms: 3_000.0,
        };
        let seen = Tasks {
            completed: 3,
            failed: 1,
            cancelled: 1,
            resolved: 0,
            times,
        };
        stats::add_tasks(&pool, &BTreeMap::from([(1, seen)]))
            .await
            .unwrap();
    }
    let found = performance(&pool, 24, None).await.unwrap();
    assert_eq!(
        (found.executions, found.errors, found.step_ms),
        (24, 2, 4_200.0)
    );
    assert_eq!((found.completed, found.failed, found.cancelled), (6, 2, 2));
    let slow = bottlenecks(&pool, 24, 5, 10, None).await.unwrap().steps;
    assert_eq!(slow.len(), 1);
    assert_eq!(
        (slow[0].step_no, slow[0].mean_ms, slow[0].max_ms),
        (1, 10.0, 40.0)
    );
    let slow = bottlenecks(&pool, 24, 1, 1, None).await.unwrap().steps;
    assert_eq!(
        (slow.len(), slow[0].step_no, slow[0].mean_ms),
        (1, 2, 1_000.0)
    );
    let slow = bottlenecks(&pool, 24, 1, 10, None).await.unwrap().tasks;
    assert_eq!(
        (slow[0].executions, slow[0].errors, slow[0].mean_ms),
        (8, 2, 1_250.0)
    );
}

#[tokio::test]
async fn what_is_two_days_old_becomes_hours_and_says_the_same() {
    let (_postgres, pool) = world().await;
    let old = "INSERT INTO tasker.step_stats
               SELECT date_trunc('hour', now() - interval '3 days', 'UTC') + i * interval '5 minutes', 1, 1, 10, 1, 100, i, now() - interval '3 days'
                 FROM generate_series(0, 11) AS i
               UNION ALL SELECT now() - interval '401 days', 1, 1, 1, 1, 1, 1, now()";
    pool.acquire().await.unwrap().execute(old).await.unwrap();
    let before = performance(&pool, 24 * 7, None).await.unwrap();
    for _ in 0..2 {
        stats::fold(&pool).await.unwrap();
        assert_eq!(
            performance(&pool, 24 * 7, None).await.unwrap().executions,
            before.executions
        );
        let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM tasker.step_stats")
            .fetch_one(&pool)
            .await
            .unwrap();
        assert_eq!(rows, 1);
    }
    let slow = bottlenecks(&pool, 24 * 7, 1, 10, None).await.unwrap().steps;
    assert_eq!((slow[0].executions, slow[0].max_ms), (120, 11.0));
}

#[test]
fn a_census_counts_what_it_can_and_estimates_what_is_more() {
    let live = [
        count(0, 3, 7, 0, 0),
        count(1, 0, 4, 6, 0),
        count(1, 1, 2, 6, 0),
        count(3, 1, 5_000, 10_001, 20_002),
    ];
    let few = [
        count(0, 8, 90, 90, 0),
        count(0, 3, 6, 6, 0),
        count(1, 0, 11, 12, 0),
        count(1, 1, 6, 6, 0),
        count(1, 6, 200, 290, 0),
    ];
    let counted = work_out(&live, &few, &[]);
    assert_eq!(counted.tasks(TaskState::Complete), 90);
    assert_eq!(counted.tasks(TaskState::StepsInProcess), 7);
    assert_eq!(counted.steps(StepState::Pending), 11);
    assert_eq!(counted.steps(StepState::Enqueued), 4);
    assert_eq!(counted.steps(StepState::InProgress), 2);
    assert_eq!(counted.steps(StepState::Complete), 200);
    assert_eq!(counted.steps(StepState::WaitingForRetry), 10_000);
    assert_eq!(counted.totals(), (97, 10_217));
    let many = [count(0, 8, 10_001, 10_001, 0), count(1, 6, 5, 5, 0)];
    let estimated = [count(0, 8, 1_000_000, 0, 0), count(1, 6, 9, 0, 0)];
    let guessed = work_out(&live, &many, &estimated);
    assert_eq!(guessed.tasks(TaskState::Complete), 1_000_000);
    assert_eq!(guessed.steps(StepState::Complete), 5);
}

#[tokio::test]
async fn of_a_few_namespaces_only_what_is_theirs_counts() {
    let (_postgres, pool) = world().await;
    let templates =
        "INSERT INTO tasker.templates (namespace, name, version, definition, source, step_count)
                     SELECT n, 'line', '1.0.0', '{}', '', 1 FROM unnest(ARRAY['shop', 'bank']) n";
    pool.execute(templates).await.unwrap();
    let tasks = "INSERT INTO tasker.tasks (task_uuid, template_id, state, priority, sampled, context, correlation_id, tags, created_at, updated_at)
                 SELECT gen_random_uuid(), p.template_id, s.state, 0, false, '{}', gen_random_uuid(), '{}', now(), now()
                   FROM tasker.templates p, unnest(CASE p.namespace WHEN 'shop' THEN ARRAY[3, 7, 8] ELSE ARRAY[3, 3, 9, 9] END) AS s(state)";
    // Where they lie does not matter here.
    let partitions = "CREATE TABLE tasker.tasks_rest PARTITION OF tasker.tasks DEFAULT";
    pool.execute(partitions).await.unwrap();
    pool.execute(tasks).await.unwrap();
    let seen = BTreeMap::from([
        ((1, 1), steps(10, 1, 100.0, 40.0)),
        ((2, 1), steps(20, 2, 900.0, 90.0)),
    ]);
    stats::add_steps(&pool, &seen).await.unwrap();
    let shop = ["shop".to_owned()];
    let both = ["shop".to_owned(), "bank".to_owned()];
    let cases = [
        (&shop[..], 10, 2, 1, 3),
        (&both[..], 30, 4, 2, 7),
        (&[], 0, 0, 0, 0),
    ];
    for (namespaces, executions, active, slow, tasks) in cases {
        let found = performance(&pool, 24, Some(namespaces)).await.unwrap();
        assert_eq!(
            (found.executions, found.active),
            (executions, active),
            "{namespaces:?}"
        );
        let found = bottlenecks(&pool, 24, 1, 10, Some(namespaces))
            .await
            .unwrap();
        assert_eq!(found.steps.len(), slow, "{namespaces:?}");
        assert_eq!(found.census.totals().0, tasks, "{namespaces:?}");
    }
    let blocked = performance(&pool, 24, Some(&shop)).await.unwrap().blocked;
    assert_eq!(blocked, 1);
    let all = performance(&pool, 24, None).await.unwrap();
    assert_eq!(all.executions, 30);
}
