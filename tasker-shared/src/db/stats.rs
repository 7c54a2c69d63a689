//! Statistics of steps and tasks by period: adding what processes have seen, and keeping the tables small. What is
//! read of them is in `analytics`.

use std::collections::BTreeMap;

use super::pool::Pool;
use super::{Result, statements};
use crate::stats::{Steps, Tasks};

statements! {
    ADD_STEPS, "add_step_stats" =
        // in the order of the keys, so that processes that add at once do not deadlock
        "INSERT INTO tasker.step_stats AS s (period, template_id, step_no, executions, errors, total_ms, max_ms, last_at)
         SELECT date_bin('5 minutes', now(), timestamptz 'epoch'), g.*, now()
           FROM unnest($1::int4[], $2::int4[], $3::int8[], $4::int8[], $5::float8[], $6::float8[])
                AS g(template_id, step_no, executions, errors, total_ms, max_ms)
          ORDER BY g.template_id, g.step_no
             ON CONFLICT (period, template_id, step_no) DO UPDATE
            SET executions = s.executions + excluded.executions, errors = s.errors + excluded.errors,
                total_ms = s.total_ms + excluded.total_ms, max_ms = greatest(s.max_ms, excluded.max_ms), last_at = excluded.last_at";
    ADD_TASKS, "add_task_stats" =
        "INSERT INTO tasker.task_stats AS s (period, template_id, completed, failed, cancelled, resolved, total_ms, max_ms, last_at)
         SELECT date_bin('5 minutes', now(), timestamptz 'epoch'), g.*, now()
           FROM unnest($1::int4[], $2::int8[], $3::int8[], $4::int8[], $5::int8[], $6::float8[], $7::float8[])
                AS g(template_id, completed, failed, cancelled, resolved, total_ms, max_ms)
          ORDER BY g.template_id
             ON CONFLICT (period, template_id) DO UPDATE
            SET completed = s.completed + excluded.completed, failed = s.failed + excluded.failed,
                cancelled = s.cancelled + excluded.cancelled, resolved = s.resolved + excluded.resolved,
                total_ms = s.total_ms + excluded.total_ms, max_ms = greatest(s.max_ms, excluded.max_ms), last_at = excluded.last_at";
    FOLD_STEPS, "fold_step_stats" =
        // the row of an hour's first five minutes becomes the hour's; it goes with the others and comes back
        "WITH gone AS (DELETE FROM tasker.step_stats WHERE period < date_trunc('hour', now() - interval '2 days', 'UTC') AND period >= now() - interval '14 days' AND period <> date_trunc('hour', period, 'UTC') RETURNING *)
         INSERT INTO tasker.step_stats AS s (period, template_id, step_no, executions, errors, total_ms, max_ms, last_at)
         SELECT date_trunc('hour', period, 'UTC'), template_id, step_no, sum(executions), sum(errors), sum(total_ms), max(max_ms), max(last_at)
           FROM gone GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
             ON CONFLICT (period, template_id, step_no) DO UPDATE
            SET executions = s.executions + excluded.executions, errors = s.errors + excluded.errors,
                total_ms = s.total_ms + excluded.total_ms, max_ms = greatest(s.max_ms, excluded.max_ms), last_at = greatest(s.last_at, excluded.last_at)";
    FOLD_TASKS, "fold_task_stats" =
        "WITH gone AS (DELETE FROM tasker.task_stats WHERE period < date_trunc('hour', now() - interval '2 days', 'UTC') AND period >= now() - interval '14 days' AND period <> date_trunc('hour', period, 'UTC') RETURNING *)
         INSERT INTO tasker.task_stats AS s (period, template_id, completed, failed, cancelled, resolved, total_ms, max_ms, last_at)
         SELECT date_trunc('hour', period, 'UTC'), template_id, sum(completed), sum(failed), sum(cancelled), sum(resolved), sum(total_ms), max(max_ms), max(last_at)
           FROM gone GROUP BY 1, 2 ORDER BY 1, 2
             ON CONFLICT (period, template_id) DO UPDATE
            SET completed = s.completed + excluded.completed, failed = s.failed + excluded.failed,
                cancelled = s.cancelled + excluded.cancelled, resolved = s.resolved + excluded.resolved,
                total_ms = s.total_ms + excluded.total_ms, max_ms = greatest(s.max_ms, excluded.max_ms), last_at = greatest(s.last_at, excluded.last_at)";
    OLD_STEPS, "delete_old_step_stats" = "DELETE FROM tasker.step_stats WHERE period < now() - interval '400 days'";
    OLD_TASKS, "delete_old_task_stats" = "DELETE FROM tasker.task_stats WHERE period < now() - interval '400 days'";
}

/// Adds attempts, by template and number of their step, to the period that is now.
pub async fn add_steps(pool: &Pool, steps: &BTreeMap<(i32, i32), Steps>) -> Result<()> {
    let values = || steps.values();
    let query = sqlx::query(ADD_STEPS.sql)
        .bind(steps.keys().map(|key| key.0).collect::<Vec<_>>())
        .bind(steps.keys().map(|key| key.1).collect::<Vec<_>>())
        .bind(values().map(|s| s.executions).collect::<Vec<_>>())
        .bind(values().map(|s| s.errors).collect::<Vec<_>>())
        .bind(values().map(|s| s.times.total_ms).collect::<Vec<_>>())
        .bind(values().map(|s| s.times.max_ms).collect::<Vec<_>>());
    ADD_STEPS.run(query.execute(pool)).await.map(drop)
}

/// Adds tasks, by template, to the period that is now.
pub async fn add_tasks(pool: &Pool, tasks: &BTreeMap<i32, Tasks>) -> Result<()> {
    let values = || tasks.values();
    let query = sqlx::query(ADD_TASKS.sql)
        .bind(tasks.keys().copied().collect::<Vec<_>>())
        .bind(values().map(|t| t.completed).collect::<Vec<_>>())
        .bind(values().map(|t| t.failed).collect::<Vec<_>>())
        .bind(values().map(|t| t.cancelled).collect::<Vec<_>>())
        .bind(values().map(|t| t.resolved).collect::<Vec<_>>())
        .bind(values().map(|t| t.times.total_ms).collect::<Vec<_>>())
        .bind(values().map(|t| t.times.max_ms).collect::<Vec<_>>());
    ADD_TASKS.run(query.execute(pool)).await.map(drop)
}

/// Keeps hours instead of five minutes of what is older than two days, and nothing of what is older than 400. Done
/// by one process at a time.
pub async fn fold(pool: &Pool) -> Result<()> {
    for statement in [FOLD_STEPS, FOLD_TASKS, OLD_STEPS, OLD_TASKS] {
        statement
            .run(sqlx::query(statement.sql).execute(pool))
            .await?;
    }
    Ok(())
}
