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
         -- each step with each of its parents
         early AS (SELECT count(*) AS out_of_order
                     FROM ran r
                     JOIN tasker.template_steps g ON g.template_id = r.template_id AND g.step_no = r.step_no
                    CROSS JOIN LATERAL unnest(g.parents) AS p(parent)
                     JOIN tasker.attempts b ON b.task_uuid = r.task_uuid AND b.step_no = p.parent AND b.outcome = 0 AND b.task_uuid >= $3
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
    LEFT.run(sqlx::query_scalar(LEFT.sql).fetch_one(pool)).await
}
