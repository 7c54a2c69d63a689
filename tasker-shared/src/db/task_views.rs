//! Reading tasks: one, and how many steps of each state they have; lists of them are in `lists`. Nothing here
//! changes anything. Every statement bounds `task_uuid`, so that it meets the partitions it needs only.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row};
use uuid::Uuid;

use super::pool::Pool;
use super::requests::Request;
use super::weekly::Week;
use super::{Result, Statement, statements};
use crate::state::step::StepState;
use crate::state::task::TaskState;
use crate::wire::status::StepCounts;

pub(super) mod lists;

pub use lists::{COUNTED, Filter, List};

/// A task as stored, for reading.
#[derive(Debug, Clone)]
pub struct TaskRow {
    pub task_uuid: Uuid,
    pub template_id: i32,
    pub state: TaskState,
    pub priority: i16,
    /// JSON text.
    pub context: String,
    pub correlation_id: Uuid,
    pub parent_correlation_id: Option<Uuid>,
    pub initiator: Option<String>,
    pub source_system: Option<String>,
    pub reason: Option<String>,
    pub tags: Vec<String>,
    pub idempotency_key: Option<String>,
    pub run_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub completed_at: Option<DateTime<Utc>>,
    /// JSON text.
    pub failure: Option<String>,
}

/// The steps of a task, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    pub task_uuid: Uuid,
    pub counts: StepCounts,
    /// When a step last changed.
    pub changed_at: DateTime<Utc>,
}

statements! {
    GET, "get_tasks" =
        "SELECT task_uuid, template_id, state, priority, context::text AS context, correlation_id, parent_correlation_id, initiator,
                source_system, reason, tags, idempotency_key, run_at, created_at, updated_at, completed_at, failure::text AS failure
           FROM tasker.tasks t WHERE t.task_uuid >= $1 /*since t*/ AND t.task_uuid <= $2 AND t.task_uuid = ANY ($3) ORDER BY task_uuid DESC";
    COUNT_STEPS, "count_steps" =
        // an enqueued step without its message has its result on the way
        "SELECT s.task_uuid,
                CASE WHEN s.state <> 1 THEN s.state WHEN r.id IS NULL THEN 3 WHEN r.worker IS NULL THEN 1 ELSE 2 END::int2 AS state,
                count(*) AS steps, max(s.changed_at) AS changed_at,
                count(*) FILTER (WHERE s.state = 0 AND s.waiting_on = 0 AND s.failed = 0 OR s.state = 5 AND s.due_at <= now()) AS ready
           FROM unnest($3::uuid[], $4::int4[]) AS w(task_uuid, step_count)
           JOIN tasker.steps s ON s.task_uuid = ANY (ARRAY[w.task_uuid]) AND s.step_no <= w.step_count
           LEFT JOIN tasker.ready r ON s.state = 1 AND r.lane = ANY (ARRAY[s.lane]) AND r.id = s.message_id
          WHERE s.task_uuid >= $1 /*since s*/ AND s.task_uuid <= $2
          GROUP BY 1, 2";
    TEMPLATE_IDS, "list_template_ids" =
        "SELECT template_id FROM tasker.templates WHERE ($1::text IS NULL OR namespace = $1) AND ($2::text IS NULL OR name = $2)";
    FIND_REQUEST, "find_request" =
        "SELECT id, task_uuid, namespace, name, version, context::text AS context, priority, correlation_id, parent_correlation_id,
                idempotency_key, initiator, source_system, reason, tags, run_at, requested_at
           FROM tasker.requests WHERE task_uuid = $1";
}

/// The tasks of these uuids, the newest first; those that do not exist are left out.
pub async fn get(pool: &Pool, tasks: &[Uuid]) -> Result<Vec<TaskRow>> {
    let (lowest, highest) = bounds(tasks);
    let statement = since(&GET, lowest);
    let query = sqlx::query_as(statement.sql)
        .bind(lowest)
        .bind(highest)
        .bind(tasks);
    statement.run(query.fetch_all(pool)).await
}

/// The task of this uuid.
pub async fn find(pool: &Pool, task_uuid: Uuid) -> Result<Option<TaskRow>> {
    Ok(get(pool, &[task_uuid]).await?.pop())
}

/// The templates of a namespace, of a name, or of both.
pub async fn template_ids(
    pool: &Pool,
    namespace: Option<&str>,
    name: Option<&str>,
) -> Result<Vec<i32>> {
    let query = sqlx::query_scalar(TEMPLATE_IDS.sql)
        .bind(namespace)
        .bind(name);
    TEMPLATE_IDS.run(query.fetch_all(pool)).await
}

/// The submission of this uuid that is not a task yet.
pub async fn find_request(pool: &Pool, task_uuid: Uuid) -> Result<Option<Request>> {
    let query = sqlx::query_as(FIND_REQUEST.sql).bind(task_uuid);
    FIND_REQUEST.run(query.fetch_optional(pool)).await
}

/// Counts the steps of tasks, given with how many steps their templates have; the join is left out.
pub async fn count_steps(pool: &Pool, tasks: &[(Uuid, i32)]) -> Result<Vec<Counted>> {
    let uuids: Vec<Uuid> = tasks.iter().map(|t| t.0).collect();
    let (lowest, highest) = bounds(&uuids);
    let statement = since(&COUNT_STEPS, lowest);
    let query = sqlx::query_as::<_, CountRow>(statement.sql)
        .bind(lowest)
        .bind(highest)
        .bind(&uuids)
        .bind(tasks.iter().map(|t| t.1).collect::<Vec<_>>());
    let mut counted: Vec<Counted> = Vec::with_capacity(tasks.len());
    let mut rows = statement.run(query.fetch_all(pool)).await?;
    rows.sort_by_key(|row| row.task_uuid);
    for row in rows {
        if counted
            .last()
            .is_none_or(|last| last.task_uuid != row.task_uuid)
        {
            counted.push(Counted {
                task_uuid: row.task_uuid,
                counts: StepCounts::default(),
                changed_at: row.changed_at,
            });
        }
        if let Some(last) = counted.last_mut() {
            last.counts.add(row.state, row.steps);
            last.counts.ready += row.ready;
            last.changed_at = last.changed_at.max(row.changed_at);
        }
    }
    Ok(counted)
}

/// The lowest and the highest of these uuids.
fn bounds(tasks: &[Uuid]) -> (Uuid, Uuid) {
    let lowest = tasks.iter().min().copied().unwrap_or_default();
    let highest = tasks.iter().max().copied().unwrap_or_default();
    (lowest, highest)
}

/// The statement for tasks from this uuid on: most that are looked at are of late.
fn since(statement: &Statement, lowest: Uuid) -> Statement {
    let lately = Week::lately();
    match lowest >= lately.lowest_uuid() {
        true => statement.since(lately),
        false => *statement,
    }
}

struct CountRow {
    task_uuid: Uuid,
    state: StepState,
    steps: i64,
    ready: i64,
    changed_at: DateTime<Utc>,
}

impl FromRow<'_, PgRow> for CountRow {
    fn from_row(row: &PgRow) -> sqlx::Result<CountRow> {
        Ok(CountRow {
            task_uuid: row.try_get("task_uuid")?,
            state: step_state(row.try_get("state")?)?,
            steps: row.try_get("steps")?,
            ready: row.try_get("ready")?,
            changed_at: row.try_get("changed_at")?,
        })
    }
}

impl FromRow<'_, PgRow> for TaskRow {
    fn from_row(row: &PgRow) -> sqlx::Result<TaskRow> {
        let state: i16 = row.try_get("state")?;
        Ok(TaskRow {
            task_uuid: row.try_get("task_uuid")?,
            template_id: row.try_get("template_id")?,
            state: TaskState::from_i16(state).ok_or_else(|| {
                sqlx::Error::Decode(
                    format!("a task has state {state}, which this version does not know").into(),
                )
            })?,
            priority: row.try_get("priority")?,
            context: row.try_get("context")?,
            correlation_id: row.try_get("correlation_id")?,
            parent_correlation_id: row.try_get("parent_correlation_id")?,
            initiator: row.try_get("initiator")?,
            source_system: row.try_get("source_system")?,
            reason: row.try_get("reason")?,
            tags: row.try_get("tags")?,
            idempotency_key: row.try_get("idempotency_key")?,
            run_at: row.try_get("run_at")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
            completed_at: row.try_get("completed_at")?,
            failure: row.try_get("failure")?,
        })
    }
}

/// The step state behind a stored number.
pub(super) fn step_state(number: i16) -> sqlx::Result<StepState> {
    StepState::from_i16(number).ok_or_else(|| {
        sqlx::Error::Decode(
            format!("a step has state {number}, which this version does not know").into(),
        )
    })
}

#[cfg(test)]
mod tests;
