//! Lists of tasks: a page of one, and how many it has. Which statement serves a filter is chosen here; all of them
//! find the same.

use chrono::{DateTime, Utc};
use sqlx::types::Json;
use uuid::Uuid;

use super::super::pool::Pool;
use super::super::{Result, Statement, statements};
use crate::ids;
use crate::state::task::TaskState;

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
/// correlation id. No list needs more of one template than its page and what is before it ($12). What has not ended
/// is counted, and when as many are found nothing older is looked at. Weeks that are over have an index of what did
/// not complete, which a statement only meets that says `state <> 8`.
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
    (of_initiator) => {
        concat!("SELECT t.task_uuid FROM tasker.tasks t
                  WHERE t.initiator = $6 AND $11::uuid IS NULL AND ($10::int4[] IS NULL OR t.template_id = ANY ($10)) AND ", fits!(),
                " ORDER BY t.task_uuid DESC LIMIT $12::int8")
    };
    (of_tag) => {
        concat!("SELECT t.task_uuid FROM tasker.tasks t
                  WHERE t.tags @> ARRAY[$5::text] AND t.tags <> '{}' AND $11::uuid IS NULL
                    AND ($10::int4[] IS NULL OR t.template_id = ANY ($10)) AND ", fits!(),
                " ORDER BY t.task_uuid DESC LIMIT $12::int8")
    };
    (in_process) => {
        concat!("SELECT t.task_uuid FROM (
                     SELECT t.* FROM tasker.tasks t WHERE t.state = $8 AND t.state <> 8 AND t.task_uuid >= $1::uuid AND t.task_uuid < $2::uuid
                      ORDER BY t.task_uuid DESC
                      LIMIT (SELECT greatest(coalesce(sum(c.change), 0), 0) FROM tasker.task_counts c WHERE c.state = $8)) t
                  WHERE $11::uuid IS NULL AND ($10::int4[] IS NULL OR t.template_id = ANY ($10)) AND ", fits!(),
                " ORDER BY t.task_uuid DESC LIMIT $12::int8")
    };
    (not_complete) => {
        concat!("SELECT t.task_uuid FROM tasker.tasks t
                  WHERE t.state = $8 AND t.state <> 8 AND $11::uuid IS NULL
                    AND ($10::int4[] IS NULL OR t.template_id = ANY ($10)) AND ", fits!(),
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
    LIST_ALL, "list_tasks" = paged!(all);
    LIST_OF_TEMPLATES, "list_tasks_of_templates" = paged!(of_templates);
    LIST_OF_CORRELATION, "list_tasks_of_correlation" = paged!(of_correlation);
    COUNT_ALL, "count_tasks" = concat!("SELECT count(*) FROM (", listed!(all), ") c");
    COUNT_OF_TEMPLATES, "count_tasks_of_templates" = concat!("SELECT count(*) FROM (", listed!(of_templates), ") c");
    COUNT_OF_CORRELATION, "count_tasks_of_correlation" = concat!("SELECT count(*) FROM (", listed!(of_correlation), ") c");
    ESTIMATE, "estimate_tasks" =
        concat!("EXPLAIN (FORMAT JSON) SELECT 1 FROM tasker.tasks t
                  WHERE ($10::int4[] IS NULL OR t.template_id = ANY ($10)) AND ($11::uuid IS NULL OR t.correlation_id = $11) AND ", fits!());
    LIST_INITIATOR, "list_tasks_of_initiator" = paged!(of_initiator);
    COUNT_INITIATOR, "count_tasks_of_initiator" = concat!("SELECT count(*) FROM (", listed!(of_initiator), ") c");
    LIST_TAG, "list_tasks_of_tag" = paged!(of_tag);
    COUNT_TAG, "count_tasks_of_tag" = concat!("SELECT count(*) FROM (", listed!(of_tag), ") c");
    LIST_IN_PROCESS, "list_tasks_in_process" = paged!(in_process);
    COUNT_IN_PROCESS, "count_tasks_in_process" = concat!("SELECT count(*) FROM (", listed!(in_process), ") c");
    LIST_NOT_COMPLETE, "list_tasks_not_complete" = paged!(not_complete);
    COUNT_NOT_COMPLETE, "count_tasks_not_complete" = concat!("SELECT count(*) FROM (", listed!(not_complete), ") c");
    TAGGED, "count_lately_tagged" =
        "SELECT count(*) FILTER (WHERE $1 = ANY (t.tags)) FROM (SELECT tags FROM tasker.tasks ORDER BY task_uuid DESC LIMIT 2000) t";
}

/// By what a list is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Correlation,
    Initiator,
    Tag,
    State(TaskState),
    Templates,
    All,
}

/// Of the tasks that came last, how many have a tag that is found faster by looking at one after the other.
const COMMON: i64 = 100;

impl Way {
    /// The best for `filter`, as far as that can be said without knowing the data.
    fn of(filter: &Filter) -> Way {
        let is_named = |name: &Option<String>| name.as_ref().is_some_and(|name| name != "unknown");
        match filter {
            f if f.correlation_id.is_some() => Way::Correlation,
            f if is_named(&f.initiator) => Way::Initiator,
            f if f.tag.is_some() => Way::Tag,
            Filter {
                state: Some(state), ..
            } if *state != TaskState::Complete => Way::State(*state),
            f if f.templates.is_some() => Way::Templates,
            _ => Way::All,
        }
    }

    /// The best for `filter`: what many tasks have is found by no index.
    async fn choose(pool: &Pool, filter: &Filter) -> Result<Way> {
        let way = Way::of(filter);
        if way != Way::Tag {
            return Ok(way);
        }
        let query = sqlx::query_scalar::<_, i64>(TAGGED.sql).bind(&filter.tag);
        let tagged = TAGGED.run(query.fetch_one(pool)).await?;
        let is_common = tagged >= COMMON;
        Ok(if is_common {
            Way::of(&Filter {
                tag: None,
                ..filter.clone()
            })
        } else {
            way
        })
    }

    /// The statements that list and that count.
    fn statements(self) -> (Statement, Statement) {
        match self {
            Way::Correlation => (LIST_OF_CORRELATION, COUNT_OF_CORRELATION),
            Way::Initiator => (LIST_INITIATOR, COUNT_INITIATOR),
            Way::Tag => (LIST_TAG, COUNT_TAG),
            Way::State(state) if state.is_final() => (LIST_NOT_COMPLETE, COUNT_NOT_COMPLETE),
            Way::State(_) => (LIST_IN_PROCESS, COUNT_IN_PROCESS),
            Way::Templates => (LIST_OF_TEMPLATES, COUNT_OF_TEMPLATES),
            Way::All => (LIST_ALL, COUNT_ALL),
        }
    }
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
    let (statement, _) = Way::choose(pool, filter).await?.statements();
    let query = bind_filter(sqlx::query_scalar(statement.sql), filter, behind)
        .bind(most.saturating_add(skipped))
        .bind(skipped);
    statement.run(query.fetch_all(pool)).await
}

/// How many tasks a list has, exactly up to [`COUNTED`]; `None` where it has more.
pub async fn count(pool: &Pool, filter: &Filter) -> Result<Option<i64>> {
    let (_, statement) = Way::choose(pool, filter).await?.statements();
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

#[cfg(test)]
mod tests;
