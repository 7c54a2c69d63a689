//! Controls: what a person asks of a task. The request is a message to the owner of the task's shard, who
//! changes the whole task in one transaction and leaves the answer.

use std::time::Duration;

use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::effects::{self, Enqueued, TaskChange};
use super::pool::Pool;
use super::transaction::{Moved, Transaction, recent};
use super::{Error, Result, statements};
use crate::ids;
use crate::metrics::messaging::{self, Operation, Queue};
use crate::plan::intervene::{Intervention, Snapshot, StepRow};
use crate::plan::{Blueprint, Message, Route};
use crate::state::step::StepState;
use crate::state::task::TaskState;

/// What an intervention did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Steps put on their lanes.
    pub enqueued: Vec<Enqueued>,
    /// The task, where its state changed.
    pub task: Option<TaskChange>,
}

statements! {
    ASK, "insert_control", [Send Results] =
        "WITH
         of AS (SELECT task_uuid, template_id, priority, correlation_id, sampled, traced FROM tasker.tasks WHERE task_uuid = $2),
         asked AS (INSERT INTO tasker.controls (control, task_uuid, action, requested_at)
                   SELECT $1, task_uuid, $3::json, now() FROM of RETURNING task_uuid),
         sent AS (INSERT INTO tasker.results (shard, kind, task_uuid, correlation_id, control, sent_at, step_no, attempt, tries, lost, template_id, priority, sampled, traced)
                  SELECT $4, 23, task_uuid, correlation_id, $1, clock_timestamp(), 0, 0, 0, 0, template_id, priority, sampled, traced FROM of)
         SELECT pg_notify('tasker_results', '') IS NOT NULL AS woken, of.correlation_id, of.sampled FROM asked JOIN of USING (task_uuid)";
    ANSWER, "find_answer" = "SELECT answer::text FROM tasker.controls WHERE control = $1 AND applied_at IS NOT NULL";
    ACTION, "find_action" = "SELECT action::text FROM tasker.controls WHERE control = $1 AND applied_at IS NULL";
    TAKE, "take_control", [Delete Results] =
        "DELETE FROM tasker.results r USING tasker.shards s
          WHERE r.shard = $2 AND r.id = $3 AND s.shard = r.shard AND s.owner = $1 AND s.until > now()";
    SPREADING, "count_spreading" =
        "SELECT count(*) FROM tasker.results WHERE shard = $1 AND task_uuid = $2 AND kind IN (20, 21)";
    LOCK_TASK, "lock_task" = "SELECT state FROM tasker.tasks WHERE task_uuid = $1 FOR UPDATE";
    LOCK_STEPS, "lock_steps" =
        "SELECT step_no, state, waiting_on, failed, tries, lost FROM tasker.steps WHERE task_uuid = $1 ORDER BY step_no FOR UPDATE";
    REVOKE, "revoke_messages", [Delete Steps] =
        // a step that a worker has claimed stays: the worker is told, and hands in the end of its attempt
        "DELETE FROM tasker.ready r USING tasker.steps s, unnest($2::int4[]) AS n(step_no)
          WHERE s.task_uuid = $1 AND s.step_no = n.step_no AND s.state = 1 AND r.lane = ANY (ARRAY[s.lane]) AND r.id = s.message_id AND r.worker IS NULL";
    CHANGE, "change_steps", [Send Steps] =
        "WITH
         changed AS (UPDATE tasker.steps s
                        SET state = c.state, waiting_on = c.waiting_on, failed = c.failed, tries = c.tries, lost = c.lost, changed_at = now(), due_at = NULL,
                            attempt = s.attempt + CASE WHEN c.state = 1 AND s.state <> 1 THEN 1 ELSE 0 END,
                            lane = CASE WHEN c.state = 1 AND s.state <> 1 THEN c.lane ELSE s.lane END,
                            message_id = CASE WHEN c.state = 1 AND s.state <> 1 THEN nextval('tasker.message_ids') ELSE s.message_id END
                       FROM unnest($2::int4[], $3::int2[], $4::int4[], $5::int4[], $6::int4[], $7::int4[], $8::int4[], $9::bool[])
                            AS c(step_no, state, waiting_on, failed, tries, lost, lane, enqueue)
                      WHERE s.task_uuid = $1 AND s.step_no = c.step_no
                     RETURNING s.step_no, s.attempt, s.tries, s.lost, s.lane, s.message_id, c.enqueue),
         queued AS (INSERT INTO tasker.ready (lane, id, task_uuid, correlation_id, enqueued_at, step_no, attempt, tries, lost, template_id, shard, priority, sampled, traced)
                    SELECT c.lane, c.message_id, t.task_uuid, t.correlation_id, clock_timestamp(), c.step_no, c.attempt, c.tries, c.lost, t.template_id, $10, t.priority, t.sampled, t.traced
                      FROM changed c, tasker.tasks t WHERE c.enqueue AND t.task_uuid = $1
                    RETURNING step_no, attempt),
         woken AS (SELECT pg_notify('tasker_steps', '') FROM queued LIMIT 1)
         -- what nobody reads is not run: this reads the notification
         SELECT q.step_no, q.attempt FROM queued q JOIN (SELECT count(*) AS n FROM woken) w ON w.n >= 0";
    MANUAL, "insert_manual_attempt" =
        "INSERT INTO tasker.attempts (task_uuid, step_no, attempt, outcome, started_at, finished_at, result, error)
         SELECT $1, $2, s.attempt + 1, 8, now(), now(), $3::json, $4::json FROM tasker.steps s WHERE s.task_uuid = $1 AND s.step_no = $2";
    MANUAL_FENCE, "raise_attempt" =
        "UPDATE tasker.steps SET attempt = attempt + 1 WHERE task_uuid = $1 AND step_no = $2";
    CHANGE_TASK, "change_task", [Send Results] =
        // the task is locked, so the state before ($3) is what it was
        "WITH
         changed AS (UPDATE tasker.tasks SET state = $2::int2, updated_at = now(), completed_at = CASE WHEN $2::int2 >= 8 THEN now() END,
                             unwell = unwell OR $2::int2 IN (7, 9, 10, 11)
                      WHERE task_uuid = $1 RETURNING task_uuid, correlation_id, template_id, priority, sampled, traced, created_at),
         -- one that ends badly by hand becomes a dead letter as any other
         buried AS (INSERT INTO tasker.results (shard, kind, task_uuid, correlation_id, sent_at, step_no, attempt, tries, lost, template_id, priority, sampled, traced)
                    SELECT tasker.shard_of(task_uuid), 24, task_uuid, correlation_id, clock_timestamp(), 0, 0, 0, 0, template_id, priority, sampled, traced
                      FROM changed WHERE $2::int2 IN (7, 9)),
         counted AS (INSERT INTO tasker.task_counts (state, change)
                     SELECT c.state, c.change FROM changed, (VALUES ($3::int2, -1), ($2::int2, 1)) AS c(state, change) WHERE c.state < 8)
         SELECT (extract(epoch FROM clock_timestamp() - created_at) * 1000)::float8 FROM changed";
    CANCELLED, "notify_cancelled" = "SELECT pg_notify('tasker_cancels', '')";
    REPLY, "answer_control" =
        "WITH answered AS (UPDATE tasker.controls SET applied_at = now(), answer = $2::json WHERE control = $1 RETURNING requested_at)
         SELECT (extract(epoch FROM clock_timestamp() - requested_at) * 1000)::float8, pg_notify('tasker_controls', '') IS NOT NULL FROM answered";
}

/// Asks for `action` (JSON text) on a task; `false` where there is no such task.
pub async fn ask(pool: &Pool, control: Uuid, task_uuid: Uuid, action: &str) -> Result<bool> {
    let query = sqlx::query_as(ASK.sql)
        .bind(control)
        .bind(task_uuid)
        .bind(action)
        .bind(ids::shard_of(task_uuid));
    let asked: Option<(bool, _, _)> = ASK.run(query.fetch_optional(pool)).await?;
    if let Some((_, id, sampled)) = asked {
        messaging::sent(Queue::Results, 1, recent(Some(id), Some(sampled)));
    }
    Ok(asked.is_some())
}

/// The answer (JSON text), once there is one.
pub async fn find_answer(pool: &Pool, control: Uuid) -> Result<Option<String>> {
    let query = sqlx::query_scalar(ANSWER.sql).bind(control);
    ANSWER.run(query.fetch_optional(pool)).await
}

/// Removes the control's message; `false` where it is gone, or the shard is not the server's any more. The
/// functions below run in the same transaction.
pub async fn take(
    transaction: &mut Transaction<'_>,
    server: Uuid,
    message: &Message,
) -> Result<bool> {
    let query = sqlx::query(TAKE.sql)
        .bind(server)
        .bind(message.shard)
        .bind(message.id);
    let done = TAKE.run(query.execute(&mut **transaction)).await?;
    let taken = done.rows_affected() == 1;
    for operation in [Operation::Receive, Operation::Delete] {
        transaction.moved(Moved {
            operation,
            queue: Queue::Results,
            messages: usize::from(taken),
            recent: Some(message.into()),
        });
    }
    Ok(taken)
}

/// What is asked (JSON text); `None` where it has been answered.
pub async fn find_action(connection: &mut PgConnection, control: Uuid) -> Result<Option<String>> {
    let query = sqlx::query_scalar(ACTION.sql).bind(control);
    ACTION.run(query.fetch_optional(connection)).await
}

/// Whether ended steps of the task still have children to tell: its counts are not settled yet.
pub async fn is_spreading(connection: &mut PgConnection, message: &Message) -> Result<bool> {
    let query = sqlx::query_scalar::<_, i64>(SPREADING.sql)
        .bind(message.shard)
        .bind(message.task_uuid);
    Ok(SPREADING.run(query.fetch_one(connection)).await? > 0)
}

/// The task, which is of `blueprint`, with all its steps, locked.
pub async fn lock(
    connection: &mut PgConnection,
    task_uuid: Uuid,
    blueprint: &Blueprint,
) -> Result<Snapshot> {
    let state = sqlx::query_scalar::<_, i16>(LOCK_TASK.sql).bind(task_uuid);
    let state = LOCK_TASK.run(state.fetch_one(&mut *connection)).await?;
    let task = effects::task_state(LOCK_TASK.name, state)?;
    let rows = LOCK_STEPS
        .run(
            sqlx::query(LOCK_STEPS.sql)
                .bind(task_uuid)
                .fetch_all(connection),
        )
        .await?;
    let step = |row: &sqlx::postgres::PgRow| -> Result<StepRow> {
        let wrong = |source| Error::new(LOCK_STEPS.name, source);
        Ok(StepRow {
            state: StepState::from_i16(row.try_get("state").map_err(wrong)?)
                .ok_or_else(|| effects::unknown(LOCK_STEPS.name))?,
            waiting_on: row.try_get("waiting_on").map_err(wrong)?,
            failed: row.try_get("failed").map_err(wrong)?,
            tries: row.try_get("tries").map_err(wrong)?,
            lost: row.try_get("lost").map_err(wrong)?,
        })
    };
    let steps = rows.iter().map(step).collect::<Result<Vec<_>>>()?;
    Ok(Snapshot::new(task, steps, blueprint))
}

/// Writes the result (JSON text) that a person supplied for a step, before the step changes.
pub async fn insert_manual_attempt(
    connection: &mut PgConnection,
    task_uuid: Uuid,
    step_no: i32,
    result: &str,
    note: &str,
) -> Result<()> {
    let query = sqlx::query(MANUAL.sql)
        .bind(task_uuid)
        .bind(step_no)
        .bind(result)
        .bind(note);
    MANUAL.run(query.execute(&mut *connection)).await?;
    let query = sqlx::query(MANUAL_FENCE.sql).bind(task_uuid).bind(step_no);
    MANUAL_FENCE.run(query.execute(connection)).await.map(drop)
}

/// Writes an intervention on the task of `message`, which is locked.
pub async fn intervene(
    transaction: &mut Transaction<'_>,
    message: &Message,
    before: &Snapshot,
    plan: &Intervention,
    route: &Route,
) -> Result<Changed> {
    let task_uuid = message.task_uuid;
    let was = |number: i32| {
        usize::try_from(number - 1)
            .ok()
            .and_then(|i| before.steps.get(i))
            .map(|s| s.state)
    };
    let steps = &plan.steps;
    let revoked: Vec<i32> = steps
        .iter()
        .filter(|(n, s)| was(*n) == Some(StepState::Enqueued) && s.state != StepState::Enqueued)
        .map(|(n, _)| *n)
        .collect();
    let enqueue =
        |n: i32, s: &StepRow| s.state == StepState::Enqueued && was(n) != Some(StepState::Enqueued);
    let revoke = sqlx::query(REVOKE.sql).bind(task_uuid).bind(revoked);
    let revoked = REVOKE.run(revoke.execute(&mut **transaction)).await?;
    let change = sqlx::query_as(CHANGE.sql)
        .bind(task_uuid)
        .bind(steps.iter().map(|(n, _)| *n).collect::<Vec<_>>())
        .bind(
            steps
                .iter()
                .map(|(_, s)| s.state as i16)
                .collect::<Vec<_>>(),
        )
        .bind(steps.iter().map(|(_, s)| s.waiting_on).collect::<Vec<_>>())
        .bind(steps.iter().map(|(_, s)| s.failed).collect::<Vec<_>>())
        .bind(steps.iter().map(|(_, s)| s.tries).collect::<Vec<_>>())
        .bind(steps.iter().map(|(_, s)| s.lost).collect::<Vec<_>>())
        .bind(
            steps
                .iter()
                .map(|(n, _)| route.lane(*n))
                .collect::<Vec<_>>(),
        )
        .bind(
            steps
                .iter()
                .map(|(n, s)| enqueue(*n, s))
                .collect::<Vec<_>>(),
        )
        .bind(ids::shard_of(task_uuid));
    let rows: Vec<(i32, i32)> = CHANGE.run(change.fetch_all(&mut **transaction)).await?;
    let recent = Some(message.into());
    let revoked = usize::try_from(revoked.rows_affected()).unwrap_or(usize::MAX);
    for (operation, messages) in [(Operation::Delete, revoked), (Operation::Send, rows.len())] {
        transaction.moved(Moved {
            operation,
            queue: Queue::Steps,
            messages,
            recent,
        });
    }
    let enqueued = rows.into_iter().map(|(step_no, attempt)| Enqueued {
        task_uuid,
        step_no,
        attempt,
    });
    Ok(Changed {
        enqueued: enqueued.collect(),
        task: match plan.task {
            Some(state) => Some(change_task(transaction, message, before.task, state).await?),
            None => None,
        },
    })
}

async fn change_task(
    transaction: &mut Transaction<'_>,
    message: &Message,
    before: TaskState,
    state: TaskState,
) -> Result<TaskChange> {
    let task_uuid = message.task_uuid;
    let query = sqlx::query_scalar(CHANGE_TASK.sql)
        .bind(task_uuid)
        .bind(state as i16)
        .bind(before as i16);
    let age_ms = CHANGE_TASK.run(query.fetch_one(&mut **transaction)).await?;
    let buried = matches!(state, TaskState::BlockedByFailures | TaskState::Error);
    transaction.moved(Moved {
        operation: Operation::Send,
        queue: Queue::Results,
        messages: usize::from(buried),
        recent: Some(message.into()),
    });
    if state == TaskState::Cancelled {
        CANCELLED
            .run(sqlx::query(CANCELLED.sql).execute(&mut **transaction))
            .await?;
    }
    Ok(TaskChange {
        task_uuid,
        state,
        age: effects::milliseconds(age_ms),
    })
}

/// Leaves the answer (JSON text) for whoever asked; returns how long ago that was.
pub async fn answer(
    connection: &mut PgConnection,
    control: Uuid,
    answer: &str,
) -> Result<Duration> {
    let query = sqlx::query_as(REPLY.sql).bind(control).bind(answer);
    let (asked_ms_ago, _): (f64, bool) = REPLY.run(query.fetch_one(connection)).await?;
    Ok(effects::milliseconds(asked_ms_ago))
}
