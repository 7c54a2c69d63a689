//! Whether what was asked for has happened: every task at its end, every step run once, with the right result and
//! after what it depends on. It reads all rows of the tasks that it judges.

use uuid::Uuid;

use super::super::pool::Pool;
use super::super::{Result, statements};
use chrono::{DateTime, Utc};

/// What the tables say of a template's tasks. All handlers are `echo` or `sleep` without a result of their own, so that a
/// step's result holds the task's context.
#[derive(Debug, Clone, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Verdict {
    pub tasks: i64,
    /// Tasks that are not complete.
    pub unfinished: i64,
    /// Steps, without the joins behind the leaves.
    pub steps: i64,
    /// Steps without a successful attempt.
    pub without_result: i64,
    /// Attempts beyond the one that a step needs.
    pub extra_attempts: i64,
    /// Steps whose result is not what the handler was to return.
    pub wrong_results: i64,
    /// Steps that began before one they depend on had ended.
    pub out_of_order: i64,
    /// When the last task ended, by the database's clock.
    pub last_end: Option<DateTime<Utc>>,
}

statements! {
    JUDGE, "judge_tasks" =
        "WITH /* tasker bench */
         mine AS (SELECT t.task_uuid, t.template_id, t.state, t.context::text AS context, t.completed_at
                    FROM tasker.tasks t
                   WHERE t.template_id = (SELECT template_id FROM tasker.templates WHERE namespace = $1 AND name = $2 AND version = '1.0.0')
                     AND t.task_uuid >= $3),
         -- a row a step: its attempts, and whether the one that counts is right
         ran AS (SELECT m.task_uuid, m.template_id, s.step_no, count(a.attempt) AS attempts, count(*) FILTER (WHERE a.outcome = 0) AS good,
                        bool_or(a.outcome = 0 AND ((a.result -> 'context')::text IS DISTINCT FROM m.context
                                                OR a.result ->> 'attempt' IS DISTINCT FROM a.attempt::text)) AS wrong,
                        min(a.started_at) AS started_at
                   FROM mine m
                   JOIN tasker.templates p USING (template_id)
                   JOIN tasker.steps s ON s.task_uuid = m.task_uuid AND s.step_no <= p.step_count
                   LEFT JOIN tasker.attempts a ON a.task_uuid = s.task_uuid AND a.step_no = s.step_no
                  WHERE s.task_uuid >= $3 AND (a.task_uuid >= $3 OR a.task_uuid IS NULL)
                  GROUP BY m.task_uuid, m.template_id, s.step_no),
         steps AS (SELECT count(*) AS steps, count(*) FILTER (WHERE good = 0) AS without_result,
                          coalesce(sum(attempts - 1) FILTER (WHERE attempts > 1), 0)::int8 AS extra_attempts,
                          count(*) FILTER (WHERE wrong) AS wrong_results FROM ran),
         -- each step with each of its parents, by key whatever the planner takes the tables to hold: it looked when they were empty
         early AS (SELECT count(*) AS out_of_order
                     FROM ran r,
                          LATERAL (SELECT parents FROM tasker.template_steps WHERE template_id = r.template_id AND step_no = r.step_no OFFSET 0) g,
                          LATERAL unnest(g.parents) AS p(parent),
                          LATERAL (SELECT finished_at FROM tasker.attempts
                                    WHERE task_uuid = r.task_uuid AND step_no = p.parent AND outcome = 0 AND task_uuid >= $3 OFFSET 0) b
                    WHERE b.finished_at > r.started_at)
         SELECT (SELECT count(*) FROM mine) AS tasks, (SELECT count(*) FROM mine WHERE state <> 8) AS unfinished,
                s.steps, s.without_result, s.extra_attempts, s.wrong_results, e.out_of_order,
                (SELECT max(completed_at) FROM mine) AS last_end
           FROM steps s, early e";
    LEFT, "count_messages_left" =
        "SELECT /* tasker bench */ (SELECT count(*) FROM tasker.ready) + (SELECT count(*) FROM tasker.results)
              + (SELECT count(*) FROM tasker.delayed) + (SELECT count(*) FROM tasker.requests)";
}

/// Judges the template's tasks from the one with this uuid on.
pub async fn judge(pool: &Pool, (namespace, name): (&str, &str), from: Uuid) -> Result<Verdict> {
    let query = sqlx::query_as(JUDGE.sql)
        .bind(namespace)
        .bind(name)
        .bind(from);
    JUDGE.run_at_length(query.fetch_one(pool)).await
}

/// Messages of whatever task that wait for somebody.
pub async fn messages_left(pool: &Pool) -> Result<i64> {
    LEFT.run_at_length(sqlx::query_scalar(LEFT.sql).fetch_one(pool))
        .await
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use chrono::Utc;

    use super::*;
    use crate::db::lanes::{self, LaneKey};
    use crate::db::measure::fill::{self, Batch};
    use crate::db::measure::{counters, open, times};
    use crate::db::pool::Target;
    use crate::db::{Transaction, migrate, templates};
    use crate::embedded::Temporary;
    use crate::template::{self, Limits};

    const PAIR: &str = "name: pair\nnamespace_name: bench\nversion: 1.0.0\nsteps:
  - {name: a, handler: {callable: echo}}
  - {name: b, handler: {callable: echo}, dependencies: [a]}\n";
    const NAME: (&str, &str) = ("bench", "pair");
    const TASKS: Batch<'_> = Batch {
        namespace: "bench",
        name: "pair",
        first: 0,
        last: 9,
    };

    async fn stored() -> (Temporary, Pool) {
        let postgres = Temporary::start().await.unwrap();
        let target = Target::parse(postgres.url(), "test", Duration::from_secs(10)).unwrap();
        migrate::run(&target).await.unwrap();
        let template = template::parse(PAIR, "t.yaml", &Limits::default()).unwrap();
        let mut connection = target.connect().await.unwrap();
        let mut transaction = Transaction::begin(&mut connection, "test").await.unwrap();
        let made = templates::insert(&mut transaction, &template, PAIR).await;
        assert!(made.unwrap().is_some());
        transaction.commit().await.unwrap();
        (postgres, target.pool(2))
    }

    #[tokio::test]
    async fn each_thing_that_is_wrong_with_tasks_is_found() {
        let (_postgres, pool) = stored().await;
        let now = Utc::now();
        fill::ended(&pool, TASKS, (now, now)).await.unwrap();
        let good = Verdict {
            tasks: 10,
            steps: 20,
            last_end: judge(&pool, NAME, Uuid::nil()).await.unwrap().last_end,
            ..Verdict::default()
        };
        assert!(good.last_end.is_some());
        let all = "SELECT task_uuid FROM tasker.tasks ORDER BY (context ->> 'n')::int";
        let tasks: Vec<Uuid> = sqlx::query_scalar(all).fetch_all(&pool).await.unwrap();
        let damages = [
            ("UPDATE tasker.tasks SET state = 9 WHERE task_uuid = $1", Verdict { unfinished: 1, ..good.clone() }),
            ("DELETE FROM tasker.attempts WHERE step_no = 2 AND task_uuid = $1", Verdict { unfinished: 1, without_result: 1, ..good.clone() }),
            ("UPDATE tasker.attempts SET result = '{\"context\":{\"n\":77},\"attempt\":1}' WHERE step_no = 1 AND task_uuid = $1",
             Verdict { unfinished: 1, without_result: 1, wrong_results: 1, ..good.clone() }),
            ("INSERT INTO tasker.attempts SELECT task_uuid, step_no, 2, 6, worker, enqueued_at, claimed_at, started_at, finished_at
                FROM tasker.attempts WHERE step_no = 1 AND task_uuid = $1",
             Verdict { unfinished: 1, without_result: 1, wrong_results: 1, extra_attempts: 1, ..good.clone() }),
            ("UPDATE tasker.attempts SET started_at = started_at - interval '1 s' WHERE step_no = 2 AND task_uuid = $1",
             Verdict { unfinished: 1, without_result: 1, wrong_results: 1, extra_attempts: 1, out_of_order: 1, ..good.clone() }),
        ];
        assert_eq!(judge(&pool, NAME, Uuid::nil()).await.unwrap(), good);
        for ((damage, expected), task) in damages.into_iter().zip(&tasks) {
            sqlx::query(damage).bind(task).execute(&pool).await.unwrap();
            assert_eq!(
                judge(&pool, NAME, Uuid::nil()).await.unwrap(),
                expected,
                "{damage}"
            );
        }
        let later = judge(
            &pool,
            NAME,
            crate::ids::lowest_uuid_at(now + chrono::Duration::hours(1)),
        )
        .await;
        assert_eq!(later.unwrap(), Verdict::default());
        let last = *tasks.last().unwrap();
        let times = times(&pool, &[last]).await.unwrap();
        assert!(times[0].ended_at.is_some() && times[0].started_at.is_some());
    }

    #[tokio::test]
    async fn a_backlog_waits_in_the_lanes_it_was_given() {
        let (_postgres, pool) = stored().await;
        let before = counters(&pool).await.unwrap();
        let keys: Vec<LaneKey> = [0, 5]
            .map(|priority| LaneKey {
                namespace: "bench".into(),
                callable: "echo".into(),
                priority,
                target: String::new(),
            })
            .into();
        let found = lanes::ensure(&pool, &keys).await.unwrap();
        let lanes = [(0, found[0]), (5, found[1])];
        fill::waiting(&pool, TASKS, &lanes).await.unwrap();
        assert_eq!(messages_left(&pool).await.unwrap(), 10);
        assert_eq!(open(&pool).await.unwrap(), 10);
        let each = "SELECT min(n) FROM (SELECT count(*) AS n FROM tasker.ready GROUP BY lane) AS l";
        let each: i64 = sqlx::query_scalar(each).fetch_one(&pool).await.unwrap();
        assert_eq!(each, 5);
        assert!(counters(&pool).await.unwrap().wal_bytes > before.wal_bytes);
        let found = judge(&pool, NAME, Uuid::nil()).await.unwrap();
        assert_eq!(
            (found.tasks, found.unfinished, found.without_result),
            (10, 10, 20)
        );
    }
}
