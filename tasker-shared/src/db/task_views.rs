//! Reading tasks: one, a page of a list, how many a list has, and how many steps of each state they have.
//! Nothing here changes anything. Every statement bounds `task_uuid`, so that it meets the partitions it needs only.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, Row};
use uuid::Uuid;

use super::pool::Pool;
use super::requests::Request;
use super::{Result, statements};
use crate::ids;
use crate::state::step::StepState;
use crate::state::task::TaskState;
use crate::wire::status::StepCounts;

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

/// Which tasks a list has.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Those of these templates; `None` for all.
    pub templates: Option<Vec<i32>>,
    /// The state as it is shown.
    pub state: Option<TaskState>,
    pub correlation_id: Option<Uuid>,
    pub tag: Option<String>,
    /// `unknown` finds the tasks that have none.
    pub initiator: Option<String>,
    /// `unknown` finds the tasks that have none.
    pub source_system: Option<String>,
    pub created_after: Option<DateTime<Utc>>,
    pub created_before: Option<DateTime<Utc>>,
}

/// Tasks of a list are counted up to this many, and estimated beyond.
pub const COUNTED: i64 = 10_000;

/// What `Filter` says of a task `t`, by the parameters that `bind_filter` binds. The state of a task in process
/// is derived as `wire::status::task_state` does.
macro_rules! fits {
    () => {
        "t.task_uuid >= $1::uuid AND t.task_uuid < $2::uuid
         AND ($3::timestamptz IS NULL OR t.created_at > $3)
         AND ($4::timestamptz IS NULL OR t.created_at < $4)
         AND ($5::text IS NULL OR $5 = ANY (t.tags))
         AND ($6::text IS NULL OR coalesce(t.initiator, 'unknown') = $6)
         AND ($7::text IS NULL OR coalesce(t.source_system, 'unknown') = $7)
         AND ($8::int2 IS NULL OR t.state = $8)
         AND ($9::int2 IS NULL OR $9 = (
             SELECT CASE WHEN bool_or(s.state = 1) THEN 3 WHEN bool_or(s.state = 5) THEN 6 WHEN bool_or(s.state = 0) THEN 5 ELSE 4 END
               FROM tasker.steps s JOIN tasker.templates d ON s.step_no <= d.step_count
              WHERE s.task_uuid = t.task_uuid AND d.template_id = t.template_id))"
    };
}

/// The same through the index that serves a filter best, as one list, newest first: $10 the templates, $11 the
/// correlation id. No list needs more of one template than its page and what is before it ($12).
macro_rules! listed {
    (all) => {
        concat!("SELECT t.task_uuid FROM tasker.tasks t WHERE $10::int4[] IS NULL AND $11::uuid IS NULL AND ", fits!(),
                " ORDER BY t.task_uuid DESC LIMIT $12::int8")
    };
    (of_templates) => {
        concat!("SELECT l.task_uuid FROM unnest($10::int4[]) AS w(template_id),
                 LATERAL (SELECT t.task_uuid FROM tasker.tasks t WHERE t.template_id = w.template_id AND $11::uuid IS NULL AND ", fits!(),
                " ORDER BY t.task_uuid DESC LIMIT $12::int8) l ORDER BY l.task_uuid DESC LIMIT $12::int8")
    };
    (of_correlation) => {
        concat!("SELECT t.task_uuid FROM tasker.tasks t
                  WHERE t.correlation_id = $11::uuid AND ($10::int4[] IS NULL OR t.template_id = ANY ($10)) AND ", fits!(),
                " ORDER BY t.task_uuid DESC LIMIT $12::int8")
    };
}

/// A page of it: what is before it ($13) left out.
macro_rules! paged {
    ($list:ident) => {
        concat!(
            "SELECT p.task_uuid FROM (",
            listed!($list),
            ") p ORDER BY p.task_uuid DESC OFFSET $13::int8"
        )
    };
}

statements! {
    GET, "get_tasks" =
        "SELECT task_uuid, template_id, state, priority, context::text AS context, correlation_id, parent_correlation_id, initiator,
                source_system, reason, tags, idempotency_key, run_at, created_at, updated_at, completed_at, failure::text AS failure
           FROM tasker.tasks WHERE task_uuid = ANY ($1) AND task_uuid BETWEEN $2 AND $3 ORDER BY task_uuid DESC";
    COUNT_STEPS, "count_steps" =
        // an enqueued step without its message has its result on the way
        "SELECT s.task_uuid,
                CASE WHEN s.state <> 1 THEN s.state WHEN r.id IS NULL THEN 3 WHEN r.worker IS NULL THEN 1 ELSE 2 END::int2 AS state,
                count(*) AS steps, max(s.changed_at) AS changed_at,
                count(*) FILTER (WHERE s.state = 0 AND s.waiting_on = 0 AND s.failed = 0 OR s.state = 5 AND s.due_at <= now()) AS ready
           FROM unnest($1::uuid[], $2::int4[]) AS w(task_uuid, step_count)
           JOIN tasker.steps s ON s.task_uuid = w.task_uuid AND s.step_no <= w.step_count
           LEFT JOIN tasker.ready r ON s.state = 1 AND r.lane = s.lane AND r.id = s.message_id
          WHERE s.task_uuid BETWEEN $3 AND $4
          GROUP BY 1, 2";
    TEMPLATE_IDS, "list_template_ids" =
        "SELECT template_id FROM tasker.templates WHERE ($1::text IS NULL OR namespace = $1) AND ($2::text IS NULL OR name = $2)";
    FIND_REQUEST, "find_request" =
        "SELECT id, task_uuid, namespace, name, version, context::text AS context, priority, correlation_id, parent_correlation_id,
                idempotency_key, initiator, source_system, reason, tags, run_at, requested_at
           FROM tasker.requests WHERE task_uuid = $1";
    LIST_ALL, "list_tasks" = paged!(all);
    LIST_OF_TEMPLATES, "list_tasks_of_templates" = paged!(of_templates);
    LIST_OF_CORRELATION, "list_tasks_of_correlation" = paged!(of_correlation);
    COUNT_ALL, "count_tasks" = concat!("SELECT count(*) FROM (", listed!(all), ") c");
    COUNT_OF_TEMPLATES, "count_tasks_of_templates" = concat!("SELECT count(*) FROM (", listed!(of_templates), ") c");
    COUNT_OF_CORRELATION, "count_tasks_of_correlation" = concat!("SELECT count(*) FROM (", listed!(of_correlation), ") c");
    ESTIMATE, "estimate_tasks" =
        concat!("EXPLAIN (FORMAT JSON) SELECT 1 FROM tasker.tasks t
                  WHERE ($10::int4[] IS NULL OR t.template_id = ANY ($10)) AND ($11::uuid IS NULL OR t.correlation_id = $11) AND ", fits!());
}

/// The tasks of these uuids, the newest first; those that do not exist are left out.
pub async fn get(pool: &Pool, tasks: &[Uuid]) -> Result<Vec<TaskRow>> {
    let query = sqlx::query_as(GET.sql)
        .bind(tasks)
        .bind(lowest(tasks))
        .bind(highest(tasks));
    GET.run(query.fetch_all(pool)).await
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
    let query = sqlx::query_as::<_, CountRow>(COUNT_STEPS.sql)
        .bind(&uuids)
        .bind(tasks.iter().map(|t| t.1).collect::<Vec<_>>())
        .bind(lowest(&uuids))
        .bind(highest(&uuids));
    let mut counted: Vec<Counted> = Vec::with_capacity(tasks.len());
    let mut rows = COUNT_STEPS.run(query.fetch_all(pool)).await?;
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

/// The uuids of a list's tasks, the newest first: those older than `behind` where that is given, without the
/// first `skipped`, at most `most`.
pub async fn list(
    pool: &Pool,
    filter: &Filter,
    behind: Option<Uuid>,
    skipped: i64,
    most: i64,
) -> Result<Vec<Uuid>> {
    let statement = match (&filter.correlation_id, &filter.templates) {
        (Some(_), _) => LIST_OF_CORRELATION,
        (None, Some(_)) => LIST_OF_TEMPLATES,
        (None, None) => LIST_ALL,
    };
    let query = bind_filter(sqlx::query_scalar(statement.sql), filter, behind)
        .bind(most.saturating_add(skipped))
        .bind(skipped);
    statement.run(query.fetch_all(pool)).await
}

/// How many tasks a list has, exactly up to [`COUNTED`]; `None` where it has more.
pub async fn count(pool: &Pool, filter: &Filter) -> Result<Option<i64>> {
    let statement = match (&filter.correlation_id, &filter.templates) {
        (Some(_), _) => COUNT_OF_CORRELATION,
        (None, Some(_)) => COUNT_OF_TEMPLATES,
        (None, None) => COUNT_ALL,
    };
    let query = bind_filter(sqlx::query_scalar(statement.sql), filter, None).bind(COUNTED + 1);
    let counted: i64 = statement.run(query.fetch_one(pool)).await?;
    Ok((counted <= COUNTED).then_some(counted))
}

/// How many tasks a list may have, as the planner sees it.
pub async fn estimate(pool: &Pool, filter: &Filter) -> Result<i64> {
    let query = bind_filter(sqlx::query_scalar(ESTIMATE.sql), filter, None);
    let plan: Json<serde_json::Value> = ESTIMATE.run(query.fetch_one(pool)).await?;
    let rows = plan
        .0
        .pointer("/0/Plan/Plan Rows")
        .and_then(serde_json::Value::as_f64);
    // Counts of rows are far below the integers that a float holds exactly.
    Ok(rows.unwrap_or_default() as i64)
}

type Scalar<'q, T> = sqlx::query::QueryScalar<'q, sqlx::Postgres, T, sqlx::postgres::PgArguments>;

/// Binds $1 to $11.
fn bind_filter<'q, T>(
    query: Scalar<'q, T>,
    filter: &'q Filter,
    behind: Option<Uuid>,
) -> Scalar<'q, T> {
    let derived = filter.state.filter(|state| {
        use TaskState as S;
        std::matches!(
            state,
            S::StepsInProcess
                | S::WaitingForRetry
                | S::WaitingForDependencies
                | S::EvaluatingResults
        )
    });
    let stored = match derived {
        Some(_) => Some(TaskState::StepsInProcess),
        None => filter.state,
    };
    let from = filter
        .created_after
        .map_or(Uuid::nil(), ids::lowest_uuid_at);
    let just_after = |at: DateTime<Utc>| at.checked_add_signed(chrono::TimeDelta::milliseconds(1));
    let before = filter
        .created_before
        .and_then(just_after)
        .map_or(Uuid::max(), ids::lowest_uuid_at);
    query
        .bind(from)
        .bind(behind.map_or(before, |behind| behind.min(before)))
        .bind(filter.created_after)
        .bind(filter.created_before)
        .bind(&filter.tag)
        .bind(&filter.initiator)
        .bind(&filter.source_system)
        .bind(stored.map(|state| state as i16))
        .bind(derived.map(|state| state as i16))
        .bind(&filter.templates)
        .bind(filter.correlation_id)
}

fn lowest(tasks: &[Uuid]) -> Uuid {
    tasks.iter().min().copied().unwrap_or_default()
}

fn highest(tasks: &[Uuid]) -> Uuid {
    tasks.iter().max().copied().unwrap_or_default()
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
