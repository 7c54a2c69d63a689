#![allow(clippy::unwrap_used)]

use std::time::Duration;

use sqlx::{AssertSqlSafe, Executor, PgConnection, Row};

use super::*;
use crate::db::pool::Target;
use crate::db::{migrate, upkeep};
use crate::embedded::Temporary;

/// How a list is found by the plan that serves every call, as the server tells it after it has looked.
async fn plan(
    connection: &mut PgConnection,
    statement: Statement,
    filter: &Filter,
    since: Option<Week>,
) -> String {
    let text = |text: &Option<String>| match text {
        Some(text) => format!("'{text}'"),
        None => "NULL".to_owned(),
    };
    let state = filter.state.map(|state| (state as i16).to_string());
    let prepare = format!(
        "SET plan_cache_mode = force_generic_plan; DEALLOCATE ALL;
         PREPARE list (uuid, uuid, timestamptz, timestamptz, text, text, text, int2, int2, int4[], uuid, int8, int8) AS {}",
        asking(statement.sql, |parameter| filter.says(parameter), since)
    );
    connection.execute(AssertSqlSafe(prepare)).await.unwrap();
    let explain = format!(
        "EXPLAIN (ANALYZE, COSTS OFF) EXECUTE list ('{}', '{}', NULL, NULL, {}, {}, NULL, {}, NULL, NULL, NULL, 50, 0)",
        Uuid::nil(),
        Uuid::max(),
        text(&filter.tag),
        text(&filter.initiator),
        state.unwrap_or_else(|| "NULL".to_owned()),
    );
    let lines = connection.fetch_all(AssertSqlSafe(explain)).await.unwrap();
    let lines: Vec<String> = lines.iter().map(|line| line.get(0)).collect();
    lines.join("\n")
}

#[test]
fn a_list_is_found_by_what_is_rare() {
    let text = |text: &str| Some(text.to_owned());
    let filter = Filter::default;
    let table = [
        (filter(), Way::All),
        (
            Filter {
                state: Some(TaskState::Complete),
                ..filter()
            },
            Way::All,
        ),
        (
            Filter {
                state: Some(TaskState::Error),
                ..filter()
            },
            Way::Unwell,
        ),
        (
            Filter {
                initiator: text("unknown"),
                ..filter()
            },
            Way::All,
        ),
        (
            Filter {
                initiator: text("me"),
                templates: Some(vec![1]),
                ..filter()
            },
            Way::Initiator,
        ),
        (
            Filter {
                tag: text("a"),
                state: Some(TaskState::Error),
                ..filter()
            },
            Way::Tag,
        ),
        (
            Filter {
                templates: Some(vec![1]),
                state: Some(TaskState::Complete),
                ..filter()
            },
            Way::Templates,
        ),
        (
            Filter {
                correlation_id: Some(Uuid::nil()),
                tag: text("a"),
                ..filter()
            },
            Way::Correlation,
        ),
    ];
    for (filter, expected) in table {
        assert_eq!(Way::of(&filter), expected, "{filter:?}");
    }
}

#[tokio::test]
async fn what_is_rare_is_found_without_reading_weeks_of_history() {
    let postgres = Temporary::start().await.unwrap();
    let target = Target::parse(postgres.url(), "lists", Duration::from_secs(10)).unwrap();
    migrate::run(&target).await.unwrap();
    let pool = target.pool(1);
    let mut connection = target.connect().await.unwrap();
    let then = "2024-05-15T12:00:00Z".parse().unwrap();
    upkeep::ensure_partitions(&pool, then, 0).await.unwrap();
    // One of each in a week that is long over, and in one that is not.
    let fill = "INSERT INTO tasker.tasks (task_uuid, template_id, state, unwell, priority, sampled, context, correlation_id, initiator, tags, created_at, updated_at)
                SELECT (left(tasker.lowest_uuid_at($1 + n * interval '1 ms')::text, 24) || lpad(to_hex(n), 12, '0'))::uuid, 1,
                       CASE n WHEN 77 THEN 9 ELSE 8 END, n = 77, 0, false, '{}', gen_random_uuid(),
                       CASE n WHEN 78 THEN 'me' ELSE 'you' END, CASE n WHEN 79 THEN ARRAY['rare', 'all'] ELSE ARRAY['all'] END, now(), now()
                  FROM generate_series(1, 20000) AS n";
    for at in [then, Utc::now()] {
        let fill = sqlx::query(fill).bind(at);
        fill.execute(&mut connection).await.unwrap();
    }
    sqlx::query("ANALYZE tasker.tasks")
        .execute(&mut connection)
        .await
        .unwrap();
    assert!(upkeep::index_closed_weeks(&pool, Utc::now()).await.unwrap() >= 2);
    assert_eq!(
        upkeep::index_closed_weeks(&pool, Utc::now()).await.unwrap(),
        0
    );

    let text = |text: &str| Some(text.to_owned());
    let rare = [
        Filter {
            state: Some(TaskState::Error),
            ..Filter::default()
        },
        Filter {
            state: Some(TaskState::Pending),
            ..Filter::default()
        },
        Filter {
            initiator: text("me"),
            ..Filter::default()
        },
        Filter {
            tag: text("rare"),
            ..Filter::default()
        },
    ];
    for filter in rare {
        let way = Way::choose(&pool, &filter).await.unwrap();
        assert_eq!(way, Way::of(&filter));
        let (listing, _) = way.statements();
        for since in [None, Some(Week::lately())] {
            let plan = plan(&mut connection, listing, &filter, since).await;
            let read_all = plan.lines().any(|line| {
                let removed = line.trim().strip_prefix("Rows Removed by Filter: ");
                removed.is_some_and(|rows| rows.parse::<u64>().unwrap() > 1_000)
            });
            assert!(!read_all, "{filter:?}\n{plan}");
            assert_eq!(plan.contains("tasks_20240513"), since.is_none(), "{plan}");
        }
        let expected = if filter.state == Some(TaskState::Pending) {
            0
        } else {
            2
        };
        let list = List::of(&pool, &filter).await.unwrap();
        let page = list.page(&pool, None, 0, 50).await.unwrap();
        assert_eq!(page.len(), expected);
        assert_eq!(list.count(&pool).await.unwrap(), Some(expected as i64));
    }
    let common = Filter {
        tag: text("all"),
        ..Filter::default()
    };
    assert_eq!(Way::choose(&pool, &common).await.unwrap(), Way::All);
}
