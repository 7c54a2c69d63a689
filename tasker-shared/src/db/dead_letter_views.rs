//! Reading dead letters: lists, one, the most urgent, statistics, and how many are pending. Nothing here changes
//! anything.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row};
use uuid::Uuid;

use super::pool::Pool;
use super::{Result, statements};
use crate::plan::dead_letter::{Reason, Resolution};
use crate::state::task::TaskState;

/// Entries of a namespace that are counted one by one.
const COUNTED: i64 = 10_000;

/// A dead letter as stored.
#[derive(Debug, Clone)]
pub struct Entry {
    pub entry: Uuid,
    pub task_uuid: Uuid,
    pub template_id: i32,
    pub namespace: String,
    /// The template's name.
    pub name: String,
    pub reason: Reason,
    /// The task's when the entry was made.
    pub original_state: TaskState,
    pub resolution: Resolution,
    pub buried_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub resolved_at: Option<DateTime<Utc>>,
    pub resolved_by: Option<String>,
    pub notes: Option<String>,
    /// JSON text.
    pub metadata: Option<String>,
    /// JSON text: the task, and its steps that had not ended well, by number.
    pub snapshot: String,
}

/// Which entries a list has.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub resolution: Option<Resolution>,
    /// Those of any of these reasons; `None` for all.
    pub reasons: Option<Vec<Reason>>,
    /// Those of any of these namespaces; `None` for all.
    pub namespaces: Option<Vec<String>>,
    /// The template's name.
    pub name: Option<String>,
    /// Made before this.
    pub before: Option<DateTime<Utc>>,
}

/// An entry that waits for a person.
#[derive(Debug, Clone)]
pub struct Waiting {
    pub entry: Uuid,
    pub task_uuid: Uuid,
    pub namespace: String,
    pub name: String,
    pub reason: Reason,
    pub original_state: TaskState,
    pub buried_at: DateTime<Utc>,
    /// The task's as stored, and since when; none where its rows are gone.
    pub state: Option<TaskState>,
    pub state_since: Option<DateTime<Utc>>,
}

/// The entries of one reason, counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Counted {
    pub reason: Reason,
    /// By the number of the resolution.
    pub by_resolution: [i64; 4],
    pub oldest: Option<DateTime<Utc>>,
    pub newest: Option<DateTime<Utc>>,
    /// How many have been resolved at a known time, and how long that took them altogether.
    pub timed: i64,
    pub resolution_minutes: f64,
}

/// How many entries of a namespace are pending.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Open {
    pub namespace: String,
    /// At most [`COUNTED`].
    counted: i64,
    /// Of all namespaces, as the planner knows it.
    estimated: i64,
}

/// The columns of an `Entry`.
macro_rules! columns {
    () => {
        "entry, task_uuid, template_id, namespace, name, reason, original_state, resolution, buried_at, updated_at, resolved_at, resolved_by, notes,
                 metadata::text AS metadata, snapshot::text AS snapshot"
    };
}
pub(super) use columns;

/// What a `Filter` says, by the parameters that `bind` binds.
macro_rules! fits {
    () => {
        "($1::int2 IS NULL OR resolution = $1) AND ($2::int2[] IS NULL OR reason = ANY ($2)) AND ($3::text[] IS NULL OR namespace = ANY ($3))
             AND ($4::text IS NULL OR name = $4) AND ($5::timestamptz IS NULL OR buried_at < $5)"
    };
}

statements! {
    LIST, "list_dead_letters" =
        concat!("SELECT ", columns!(), " FROM tasker.dead_letters WHERE ", fits!(), " ORDER BY buried_at DESC, entry DESC LIMIT $6 OFFSET $7");
    OLDEST, "list_oldest_dead_letters" =
        concat!("SELECT entry, task_uuid FROM tasker.dead_letters WHERE ", fits!(), "
            AND ($7::uuid IS NULL OR (buried_at, entry) > (SELECT a.buried_at, a.entry FROM tasker.dead_letters a WHERE a.entry = $7))
          ORDER BY buried_at, entry LIMIT $6");
    FIND, "find_dead_letter" = concat!("SELECT ", columns!(), " FROM tasker.dead_letters WHERE entry = $1");
    OF_TASK, "find_dead_letter_of_task" =
        concat!("SELECT ", columns!(), " FROM tasker.dead_letters WHERE task_uuid = $1 ORDER BY buried_at DESC, entry DESC LIMIT 1");
    URGENT, "list_urgent_dead_letters" =
        // of each reason ($2) with its weight in minutes ($3) the oldest, and of those the heaviest
        "SELECT l.entry, l.task_uuid, l.namespace, l.name, l.reason, l.original_state, l.buried_at, t.state, t.updated_at AS state_since
           FROM (SELECT o.*, w.minutes
                   FROM unnest($2::int2[], $3::float8[]) AS w(reason, minutes),
                        LATERAL (SELECT entry, task_uuid, namespace, name, reason, original_state, buried_at FROM tasker.dead_letters
                                  WHERE reason = w.reason AND resolution = 0 AND ($4::text[] IS NULL OR namespace = ANY ($4))
                                  ORDER BY buried_at LIMIT $1) o
                  ORDER BY extract(epoch FROM now() - o.buried_at) / 60 + w.minutes DESC LIMIT $1) l
           LEFT JOIN tasker.tasks t ON t.task_uuid = ANY (ARRAY[l.task_uuid])
          ORDER BY extract(epoch FROM now() - l.buried_at) / 60 + l.minutes DESC, l.entry";
    COUNT, "count_dead_letters" =
        "SELECT reason, count(*) FILTER (WHERE resolution = 0) AS pending, count(*) FILTER (WHERE resolution = 1) AS resolved,
                count(*) FILTER (WHERE resolution = 2) AS failed, count(*) FILTER (WHERE resolution = 3) AS cancelled,
                min(buried_at) AS oldest, max(buried_at) AS newest, count(resolved_at) AS timed,
                coalesce(sum(extract(epoch FROM resolved_at - buried_at)) / 60, 0)::float8 AS resolution_minutes
           FROM tasker.dead_letters WHERE $1::text[] IS NULL OR namespace = ANY ($1) GROUP BY reason ORDER BY reason";
    OPEN, "count_open_dead_letters" =
        "WITH RECURSIVE
         -- every namespace that has one, each found behind the last
         namespaces AS ((SELECT namespace FROM tasker.dead_letters WHERE resolution = 0 ORDER BY namespace LIMIT 1)
                        UNION ALL
                        SELECT (SELECT l.namespace FROM tasker.dead_letters l WHERE l.resolution = 0 AND l.namespace > n.namespace ORDER BY l.namespace LIMIT 1)
                          FROM namespaces n WHERE n.namespace IS NOT NULL)
         SELECT n.namespace, (SELECT count(*) FROM (SELECT 1 FROM tasker.dead_letters WHERE resolution = 0 AND namespace = n.namespace LIMIT $1) c) AS counted,
                (SELECT reltuples::int8 FROM pg_class WHERE oid = 'tasker.dead_letters_open'::regclass) AS estimated
           FROM namespaces n WHERE n.namespace IS NOT NULL";
}

type Bound<'q, O> =
    sqlx::query::QueryAs<'q, sqlx::Postgres, O, <sqlx::Postgres as sqlx::Database>::Arguments>;

/// Binds $1 to $5.
fn bind<'q, O>(query: Bound<'q, O>, filter: &'q Filter) -> Bound<'q, O> {
    let numbers = |reasons: &Vec<Reason>| reasons.iter().map(|r| *r as i16).collect::<Vec<_>>();
    query
        .bind(filter.resolution.map(|resolution| resolution as i16))
        .bind(filter.reasons.as_ref().map(numbers))
        .bind(&filter.namespaces)
        .bind(&filter.name)
        .bind(filter.before)
}

/// Entries, the newest first.
pub async fn list(pool: &Pool, filter: &Filter, limit: i64, offset: i64) -> Result<Vec<Entry>> {
    let query = bind(sqlx::query_as(LIST.sql), filter)
        .bind(limit)
        .bind(offset);
    LIST.run(query.fetch_all(pool)).await
}

/// The entries, each with its task, that have been there for longest: of those behind the entry `after`, where it is given.
pub async fn list_oldest(
    pool: &Pool,
    filter: &Filter,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<(Uuid, Uuid)>> {
    let query = bind(sqlx::query_as(OLDEST.sql), filter)
        .bind(limit)
        .bind(after);
    OLDEST.run(query.fetch_all(pool)).await
}

/// One entry.
pub async fn find(pool: &Pool, entry: Uuid) -> Result<Option<Entry>> {
    let query = sqlx::query_as(FIND.sql).bind(entry);
    FIND.run(query.fetch_optional(pool)).await
}

/// The newest entry of a task.
pub async fn find_of_task(pool: &Pool, task_uuid: Uuid) -> Result<Option<Entry>> {
    let query = sqlx::query_as(OF_TASK.sql).bind(task_uuid);
    OF_TASK.run(query.fetch_optional(pool)).await
}

/// The pending entries that are most urgent, first: each minute counts one, and its reason as many as `weight` says.
pub async fn list_urgent(
    pool: &Pool,
    namespaces: Option<&[String]>,
    weight: impl Fn(Reason) -> f64,
    limit: i64,
) -> Result<Vec<Waiting>> {
    let query = sqlx::query_as(URGENT.sql)
        .bind(limit)
        .bind(Reason::ALL.map(|reason| reason as i16).to_vec())
        .bind(Reason::ALL.map(weight).to_vec())
        .bind(namespaces);
    URGENT.run(query.fetch_all(pool)).await
}

/// How many entries there are of each reason that has any.
pub async fn count(pool: &Pool, namespaces: Option<&[String]>) -> Result<Vec<Counted>> {
    let query = sqlx::query_as(COUNT.sql).bind(namespaces);
    COUNT.run(query.fetch_all(pool)).await
}

/// How many entries are pending in each namespace that has any: exact up to 10,000, then estimated.
pub async fn count_open(connection: &mut PgConnection) -> Result<Vec<(String, u64)>> {
    let query = sqlx::query_as(OPEN.sql).bind(COUNTED);
    let open: Vec<Open> = OPEN.run(query.fetch_all(connection)).await?;
    Ok(estimate(open))
}

/// What is pending altogether and was not counted is shared by the namespaces that were not counted to their end.
fn estimate(open: Vec<Open>) -> Vec<(String, u64)> {
    let counted: i64 = open.iter().map(|o| o.counted).sum();
    let full = open.iter().filter(|o| o.counted >= COUNTED).count();
    let rest = open
        .first()
        .map_or(0, |o| (o.estimated - counted).max(0).unsigned_abs());
    let share = rest / (full.max(1) as u64);
    open.into_iter()
        .map(|o| {
            let more = if o.counted >= COUNTED { share } else { 0 };
            (o.namespace, o.counted.unsigned_abs() + more)
        })
        .collect()
}

fn wrong(what: &str, number: i16) -> sqlx::Error {
    sqlx::Error::Decode(
        format!("a dead letter has {what} {number}, which this version does not know").into(),
    )
}

fn reason(row: &PgRow) -> sqlx::Result<Reason> {
    let number = row.try_get("reason")?;
    Reason::from_i16(number).ok_or_else(|| wrong("reason", number))
}

fn original_state(row: &PgRow) -> sqlx::Result<TaskState> {
    let number = row.try_get("original_state")?;
    TaskState::from_i16(number).ok_or_else(|| wrong("a task of state", number))
}

impl FromRow<'_, PgRow> for Entry {
    fn from_row(row: &PgRow) -> sqlx::Result<Entry> {
        let resolution = row.try_get("resolution")?;
        Ok(Entry {
            entry: row.try_get("entry")?,
            task_uuid: row.try_get("task_uuid")?,
            template_id: row.try_get("template_id")?,
            namespace: row.try_get("namespace")?,
            name: row.try_get("name")?,
            reason: reason(row)?,
            original_state: original_state(row)?,
            resolution: Resolution::from_i16(resolution)
                .ok_or_else(|| wrong("resolution", resolution))?,
            buried_at: row.try_get("buried_at")?,
            updated_at: row.try_get("updated_at")?,
            resolved_at: row.try_get("resolved_at")?,
            resolved_by: row.try_get("resolved_by")?,
            notes: row.try_get("notes")?,
            metadata: row.try_get("metadata")?,
            snapshot: row.try_get("snapshot")?,
        })
    }
}

impl FromRow<'_, PgRow> for Waiting {
    fn from_row(row: &PgRow) -> sqlx::Result<Waiting> {
        let state: Option<i16> = row.try_get("state")?;
        Ok(Waiting {
            entry: row.try_get("entry")?,
            task_uuid: row.try_get("task_uuid")?,
            namespace: row.try_get("namespace")?,
            name: row.try_get("name")?,
            reason: reason(row)?,
            original_state: original_state(row)?,
            buried_at: row.try_get("buried_at")?,
            state: state.and_then(TaskState::from_i16),
            state_since: row.try_get("state_since")?,
        })
    }
}

impl FromRow<'_, PgRow> for Counted {
    fn from_row(row: &PgRow) -> sqlx::Result<Counted> {
        Ok(Counted {
            reason: reason(row)?,
            by_resolution: [
                row.try_get("pending")?,
                row.try_get("resolved")?,
                row.try_get("failed")?,
                row.try_get("cancelled")?,
            ],
            oldest: row.try_get("oldest")?,
            newest: row.try_get("newest")?,
            timed: row.try_get("timed")?,
            resolution_minutes: row.try_get("resolution_minutes")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_to_count_is_shared_out() {
        let open = |namespace: &str, counted, estimated| Open {
            namespace: namespace.into(),
            counted,
            estimated,
        };
        let few = vec![open("a", 3, 0), open("b", 5, 0)];
        assert_eq!(estimate(few), [("a".into(), 3), ("b".into(), 5)]);
        let many = vec![open("a", 3, 30_003), open("b", COUNTED, 30_003)];
        assert_eq!(estimate(many), [("a".into(), 3), ("b".into(), 30_000)]);
        let unknown = vec![open("b", COUNTED, -1)];
        assert_eq!(estimate(unknown), [("b".into(), 10_000)]);
        assert_eq!(estimate(Vec::new()), []);
    }
}
