#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::super::pool::{Pool, Target};
use super::super::weekly::Week;
use super::super::{migrate, step_views, templates, upkeep};
use super::*;
use crate::embedded::Temporary;
use crate::ids;
use crate::plan::Outcome;
use crate::template::{self, Limits};
use crate::wire::status;

/// A database with two templates of two steps one after the other, `a/line` and `b/line`.
struct World {
    _postgres: Temporary,
    pool: Pool,
    template_ids: Vec<i32>,
    began: DateTime<Utc>,
}

/// A step to be stored: its state, whether it has a message and a worker, and the outcome of its attempt.
type Step = (i16, bool, Option<Uuid>, Option<i16>);

const DONE: [Step; 2] = [(6, false, None, Some(0)), (6, false, None, Some(0))];

impl World {
    async fn new() -> World {
        World::begun(Utc::now() - TimeDelta::hours(1)).await
    }

    async fn begun(began: DateTime<Utc>) -> World {
        let postgres = Temporary::start().await.unwrap();
        let target = Target::parse(postgres.url(), "views", Duration::from_secs(10)).unwrap();
        migrate::run(&target).await.unwrap();
        let mut connection = target.connect().await.unwrap();
        let mut template_ids = Vec::new();
        for namespace in ["a", "b"] {
            let source = format!(
                "name: line\nnamespace_name: {namespace}\nversion: 1.0.0\nsteps:\n\
                 - {{ name: one, handler: {{ callable: echo }} }}\n\
                 - {{ name: two, handler: {{ callable: echo }}, dependencies: [one] }}\n"
            );
            let template = template::parse(&source, "t.yaml", &Limits::default()).unwrap();
            let id = templates::insert(&mut connection, &template, &source)
                .await
                .unwrap();
            template_ids.push(id.unwrap());
        }
        let pool = target.pool(2);
        upkeep::ensure_partitions(&pool, began, 1).await.unwrap();
        World {
            pool,
            _postgres: postgres,
            template_ids,
            began,
        }
    }

    /// Stores a task made `second` seconds after the others began.
    async fn task(&self, second: i64, template: usize, state: TaskState, steps: [Step; 2]) -> Uuid {
        let at = self.began + TimeDelta::seconds(second);
        let task = ids::new_task_uuid(at);
        sqlx::query(
            "INSERT INTO tasker.tasks (task_uuid, template_id, state, priority, sampled, context, correlation_id, initiator, tags, created_at, updated_at, unwell)
             VALUES ($1, $2, $3, 0, false, '{\"n\": 1.50}', $4, CASE WHEN $5 % 2 = 1 THEN 'odd' END, ARRAY['t' || $5], $6, $6, $7)",
        )
        .bind(task)
        .bind(self.template_ids[template])
        .bind(state as i16)
        .bind(Uuid::from_u128(second as u128 + 1))
        .bind(second)
        .bind(at)
        .bind(state.is_unwell())
        .execute(&self.pool)
        .await
        .unwrap();
        if !state.is_final() {
            sqlx::query("INSERT INTO tasker.task_counts (state, change) VALUES ($1, 1)")
                .bind(state as i16)
                .execute(&self.pool)
                .await
                .unwrap();
        }
        let join: Step = (if state.is_final() { 6 } else { 0 }, false, None, None);
        for (number, step) in (1..).zip([steps[0], steps[1], join]) {
            self.step(task, number, step, at).await;
        }
        task
    }

    async fn step(
        &self,
        task: Uuid,
        number: i32,
        (state, queued, worker, outcome): Step,
        at: DateTime<Utc>,
    ) {
        sqlx::query(
            "WITH message AS (SELECT nextval('tasker.message_ids') AS id),
             step AS (INSERT INTO tasker.steps (task_uuid, step_no, state, waiting_on, failed, attempt, tries, lost, lane, message_id, changed_at, due_at)
                      SELECT $1, $2, $3, CASE WHEN $3 = 0 THEN 1 ELSE 0 END, 0, CASE WHEN $3 = 0 THEN 0 ELSE 1 END, 0, 0, 1, id, $6,
                             CASE WHEN $3 = 5 THEN $6 + interval '1 day' END FROM message),
             queued AS (INSERT INTO tasker.ready (lane, id, task_uuid, correlation_id, worker, enqueued_at, claimed_at, step_no, attempt, tries, lost, template_id, shard, priority, sampled)
                        SELECT 1, id, $1, $1, $5, $6, CASE WHEN $5 IS NOT NULL THEN $6 END, $2, 1, 0, 0, 1, 0, 0, false FROM message WHERE $4)
             INSERT INTO tasker.attempts (task_uuid, step_no, attempt, outcome, started_at, finished_at, result, error)
             SELECT $1, $2, 1, $7, $6, $6 + interval '1 s', CASE WHEN $7 = 0 THEN '{\"b\":1.0,\"a\":2}'::json END, CASE WHEN $7 > 0 THEN '{\"message\":\"no\"}'::json END
              WHERE $7 IS NOT NULL",
        )
        .bind(task)
        .bind(number)
        .bind(state)
        .bind(queued)
        .bind(worker)
        .bind(at)
        .bind(outcome)
        .execute(&self.pool)
        .await
        .unwrap();
    }

    async fn page(
        &self,
        filter: &Filter,
        behind: Option<Uuid>,
        skipped: i64,
        most: i64,
    ) -> Vec<Uuid> {
        let list = List::of(&self.pool, filter).await.unwrap();
        list.page(&self.pool, behind, skipped, most).await.unwrap()
    }

    async fn counted(&self, filter: &Filter) -> Option<i64> {
        let list = List::of(&self.pool, filter).await.unwrap();
        list.count(&self.pool).await.unwrap()
    }

    async fn estimated(&self, filter: &Filter) -> i64 {
        let list = List::of(&self.pool, filter).await.unwrap();
        list.estimate(&self.pool).await.unwrap()
    }

    async fn listed(&self, filter: &Filter) -> Vec<Uuid> {
        self.page(filter, None, 0, 100).await
    }
}

#[tokio::test]
async fn a_list_has_what_its_filter_says_newest_first() {
    // Of late, long ago, and half of them before the weeks that are looked at first.
    let lately = ids::accepted_at(Week::lately().lowest_uuid());
    for began in [
        Utc::now() - TimeDelta::hours(1),
        Utc::now() - TimeDelta::weeks(9),
        lately - TimeDelta::seconds(4),
    ] {
        check_lists(&World::begun(began).await).await;
    }
}

async fn check_lists(world: &World) {
    let enqueued: Step = (1, true, None, None);
    let retrying: Step = (5, false, None, Some(1));
    let pending: Step = (0, false, None, None);
    let complete = DONE[0];
    let tasks = [
        world.task(0, 0, TaskState::Complete, DONE).await,
        world.task(1, 1, TaskState::Complete, DONE).await,
        world
            .task(2, 0, TaskState::StepsInProcess, [enqueued, retrying])
            .await,
        world
            .task(3, 0, TaskState::StepsInProcess, [complete, retrying])
            .await,
        world
            .task(4, 1, TaskState::StepsInProcess, [complete, pending])
            .await,
        world.task(5, 1, TaskState::StepsInProcess, DONE).await,
        world
            .task(6, 1, TaskState::Pending, [pending, pending])
            .await,
        world.task(7, 0, TaskState::Error, DONE).await,
    ];
    let of = |state| Filter {
        state: Some(state),
        ..Filter::default()
    };
    let templates = |ids: &[i32]| Filter {
        templates: Some(ids.to_vec()),
        ..Filter::default()
    };
    let at = |second| Some(world.began + TimeDelta::seconds(second));
    let text = |text: &str| Some(text.to_owned());
    let (a, b) = (world.template_ids[0], world.template_ids[1]);
    let table: Vec<(Filter, Vec<usize>)> = vec![
        (Filter::default(), vec![7, 6, 5, 4, 3, 2, 1, 0]),
        (templates(&[a]), vec![7, 3, 2, 0]),
        (templates(&[a, b]), vec![7, 6, 5, 4, 3, 2, 1, 0]),
        (templates(&[]), vec![]),
        (of(TaskState::Complete), vec![1, 0]),
        (of(TaskState::Error), vec![7]),
        (of(TaskState::Pending), vec![6]),
        (of(TaskState::Cancelled), vec![]),
        (of(TaskState::StepsInProcess), vec![2]),
        (of(TaskState::WaitingForRetry), vec![3]),
        (of(TaskState::WaitingForDependencies), vec![4]),
        (of(TaskState::EvaluatingResults), vec![5]),
        (
            Filter {
                templates: Some(vec![b]),
                ..of(TaskState::WaitingForRetry)
            },
            vec![],
        ),
        (
            Filter {
                correlation_id: Some(Uuid::from_u128(4)),
                ..Filter::default()
            },
            vec![3],
        ),
        (
            Filter {
                correlation_id: Some(Uuid::from_u128(4)),
                ..templates(&[b])
            },
            vec![],
        ),
        (
            Filter {
                correlation_id: Some(Uuid::from_u128(99)),
                ..Filter::default()
            },
            vec![],
        ),
        (
            Filter {
                tag: text("t2"),
                ..Filter::default()
            },
            vec![2],
        ),
        (
            Filter {
                initiator: text("odd"),
                ..Filter::default()
            },
            vec![7, 5, 3, 1],
        ),
        (
            Filter {
                initiator: text("unknown"),
                ..templates(&[b])
            },
            vec![6, 4],
        ),
        (
            Filter {
                source_system: text("nobody"),
                ..Filter::default()
            },
            vec![],
        ),
        (
            Filter {
                created_after: at(5),
                ..Filter::default()
            },
            vec![7, 6],
        ),
        (
            Filter {
                created_before: at(1),
                ..Filter::default()
            },
            vec![0],
        ),
        (
            Filter {
                created_after: at(2),
                created_before: at(5),
                ..templates(&[b])
            },
            vec![4],
        ),
    ];
    for (filter, expected) in table {
        let expected: Vec<Uuid> = expected.into_iter().map(|i| tasks[i]).collect();
        assert_eq!(world.listed(&filter).await, expected, "{filter:?}");
        let counted = world.counted(&filter).await;
        assert_eq!(counted, Some(expected.len() as i64), "{filter:?}");
        world.estimated(&filter).await;
    }
    let paged = world.page(&Filter::default(), None, 2, 3).await;
    assert_eq!(paged, [tasks[5], tasks[4], tasks[3]]);
    let behind = world.page(&templates(&[a]), Some(tasks[3]), 0, 1).await;
    assert_eq!(behind, [tasks[2]]);

    // What the filter took a task in process for is what the API shows it as.
    let sizes: Vec<(Uuid, i32)> = tasks.iter().map(|task| (*task, 2)).collect();
    for counted in count_steps(&world.pool, &sizes).await.unwrap() {
        let task = find(&world.pool, counted.task_uuid).await.unwrap().unwrap();
        let shown = status::task_state(task.state, &counted.counts);
        assert!(
            world.listed(&of(shown)).await.contains(&counted.task_uuid),
            "{shown:?}"
        );
    }
}

#[tokio::test]
async fn tasks_and_their_steps_are_read_as_they_are() {
    let world = World::new().await;
    let worker = Uuid::now_v7();
    let running: Step = (1, true, Some(worker), None);
    let came: Step = (1, false, None, Some(2));
    let task = world
        .task(0, 0, TaskState::StepsInProcess, [DONE[0], running])
        .await;
    let other = world
        .task(
            1,
            1,
            TaskState::StepsInProcess,
            [came, (5, false, None, Some(1))],
        )
        .await;

    let rows = get(&world.pool, &[task, other, Uuid::nil()]).await.unwrap();
    assert_eq!(
        rows.iter().map(|row| row.task_uuid).collect::<Vec<_>>(),
        [other, task]
    );
    assert_eq!(rows[1].context, r#"{"n": 1.50}"#);
    assert!(find(&world.pool, Uuid::max()).await.unwrap().is_none());

    let counted = count_steps(&world.pool, &[(task, 2), (other, 2)])
        .await
        .unwrap();
    let of = |task: Uuid, state| {
        counted
            .iter()
            .find(|c| c.task_uuid == task)
            .unwrap()
            .counts
            .of(state)
    };
    assert_eq!(of(task, StepState::Complete), 1);
    assert_eq!(of(task, StepState::InProgress), 1);
    assert_eq!(of(other, StepState::EnqueuedForOrchestration), 1);
    assert_eq!(of(other, StepState::WaitingForRetry), 1);
    assert!(
        counted
            .iter()
            .all(|c| c.counts.total() == 2 && c.counts.ready == 0)
    );

    let steps = step_views::list(&world.pool, task, 1, 2, true)
        .await
        .unwrap();
    assert_eq!(steps.len(), 2, "the join is no step");
    assert_eq!(steps[0].result.as_deref(), Some(r#"{"b":1.0,"a":2}"#));
    assert_eq!(
        (steps[1].worker, steps[1].result.is_none()),
        (Some(worker), true)
    );
    let bare = step_views::list(&world.pool, task, 1, 1, false)
        .await
        .unwrap();
    assert_eq!((bare.len(), &bare[0].result), (1, &None));

    let results = step_views::list_results(&world.pool, task, 1, 2)
        .await
        .unwrap();
    assert_eq!(results, [(1, r#"{"b":1.0,"a":2}"#.to_owned())]);

    let steps = step_views::list(&world.pool, other, 1, 2, true)
        .await
        .unwrap();
    assert_eq!(
        (steps[0].last_attempt, steps[0].last_outcome),
        (Some(1), Some(Outcome::Permanent))
    );
    assert_eq!(steps[1].error.as_deref(), Some(r#"{"message":"no"}"#));
    assert!(steps[1].due_at > Some(Utc::now()) && steps[1].failed_at.is_some());

    let attempts = step_views::list_attempts(&world.pool, task, 1, 10)
        .await
        .unwrap();
    assert_eq!((attempts.len(), attempts[0].outcome), (1, Outcome::Success));
    let depth = super::super::queue_views::depth(&world.pool).await.unwrap();
    assert_eq!(
        (depth.ready, depth.results, depth.oldest_result_at),
        (1, 0, None)
    );
}

#[tokio::test]
async fn a_submission_made_by_sql_can_be_read_before_it_is_a_task() {
    let world = World::new().await;
    let task: Uuid = sqlx::query_scalar(
        "SELECT tasker.submit_task('a', 'line', '{\"n\":1.50}'::json, tags => '{x}')",
    )
    .fetch_one(&world.pool)
    .await
    .unwrap();
    assert!(find(&world.pool, task).await.unwrap().is_none());
    let request = find_request(&world.pool, task).await.unwrap().unwrap();
    assert_eq!(
        (request.name.as_str(), request.context.as_str()),
        ("line", r#"{"n":1.50}"#)
    );
    assert_eq!(
        template_ids(&world.pool, Some("a"), None).await.unwrap(),
        [world.template_ids[0]]
    );
    assert_eq!(
        template_ids(&world.pool, None, Some("line"))
            .await
            .unwrap()
            .len(),
        2
    );
    assert!(
        template_ids(&world.pool, Some("c"), Some("line"))
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_list_of_more_than_ten_thousand_is_estimated() {
    let world = World::new().await;
    sqlx::query(
        "INSERT INTO tasker.tasks (task_uuid, template_id, state, priority, sampled, context, correlation_id, tags, created_at, updated_at)
         SELECT tasker.new_task_uuid(), $1, 8, 0, false, '{}', gen_random_uuid(), '{}', now(), now() FROM generate_series(1, 12000)",
    )
    .bind(world.template_ids[0])
    .execute(&world.pool)
    .await
    .unwrap();
    sqlx::query("ANALYZE tasker.tasks")
        .execute(&world.pool)
        .await
        .unwrap();
    let all = Filter::default();
    let of_a = Filter {
        templates: Some(vec![world.template_ids[0]]),
        ..Filter::default()
    };
    let of_b = Filter {
        templates: Some(vec![world.template_ids[1]]),
        ..Filter::default()
    };
    for filter in [&all, &of_a] {
        assert_eq!(world.counted(filter).await, None);
        let estimated = world.estimated(filter).await;
        assert!((6_000..24_000).contains(&estimated), "{estimated}");
    }
    assert_eq!(world.counted(&of_b).await, Some(0));
}
