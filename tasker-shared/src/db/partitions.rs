//! The weekly partitions of history: which there are, and what holds one that is old. Taking one away is in
//! `leaving`. Which go is decided by who calls.

use std::collections::BTreeMap;

use chrono::{DateTime, Days, NaiveDate, NaiveTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Result, statements, weekly};
use crate::ids;

pub mod leaving;

/// A transaction that is older holds things up.
const LONG_S: f64 = 300.0;

/// A table that is partitioned by the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    Tasks,
    Steps,
    Attempts,
}

impl Table {
    /// All, in the order in which they are taken away: what is not a task any more is not looked for.
    pub const ALL: [Table; 3] = [Table::Tasks, Table::Steps, Table::Attempts];

    /// Its name in the schema `tasker`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Table::Tasks => "tasks",
            Table::Steps => "steps",
            Table::Attempts => "attempts",
        }
    }
}

/// How a partition stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In its table.
    Attached,
    /// On its way out: what ran while it was taken away still sees it.
    Leaving,
    /// Beside its table, nobody's.
    Detached,
}

/// The partitions of one week.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Week {
    /// Its Monday.
    pub begins: NaiveDate,
    pub tables: BTreeMap<Table, Place>,
}

impl Week {
    /// The name of its part of a table.
    #[must_use]
    pub fn part(&self, table: Table) -> String {
        format!("{}_{}", table.as_str(), self.begins.format("%Y%m%d"))
    }

    /// From when, and before when, its tasks were accepted.
    #[must_use]
    pub fn span(&self) -> (DateTime<Utc>, DateTime<Utc>) {
        let at = |day: NaiveDate| day.and_time(NaiveTime::MIN).and_utc();
        let ends = self.begins.checked_add_days(Days::new(7));
        (at(self.begins), at(ends.unwrap_or(NaiveDate::MAX)))
    }

    /// From which uuid, and below which, its tasks are.
    #[must_use]
    pub fn uuids(&self) -> (Uuid, Uuid) {
        let (from, before) = self.span();
        (ids::lowest_uuid_at(from), ids::lowest_uuid_at(before))
    }

    /// Whether it may go if nothing holds it: it is old enough, or has begun to leave.
    #[must_use]
    pub fn is_due(&self, cutoff: DateTime<Utc>) -> bool {
        self.is_leaving() || self.span().1 <= cutoff
    }

    /// Whether taking it away has begun.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.tables.values().any(|place| *place != Place::Attached)
    }
}

/// Before when a task must have ended that is not kept.
#[must_use]
pub fn cutoff(now: DateTime<Utc>, keep_days: u32) -> DateTime<Utc> {
    let days = Days::new(u64::from(keep_days));
    now.checked_sub_days(days)
        .unwrap_or(DateTime::<Utc>::MIN_UTC)
}

/// Something that keeps a week's partitions.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Hold {
    /// What it is, for people.
    pub what: String,
    /// Of tasks, up to 10,000.
    pub count: i64,
    /// One of the tasks.
    pub task_uuid: Option<Uuid>,
}

/// Something outside the tables that keeps partitions from being taken away, and dead rows from being removed.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct Holder {
    pub what: String,
    pub who: String,
    pub age_s: Option<f64>,
}

statements! {
    LIST, "list_partitions" =
        "SELECT c.relname::text, i.inhrelid IS NOT NULL, coalesce(i.inhdetachpending, false)
           FROM pg_class c
           LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
          WHERE c.relnamespace = 'tasker'::regnamespace AND c.relkind = 'r' AND c.relname ~ '^(tasks|steps|attempts)_[0-9]{8}$'
            -- a table beside its own that retention did not put there is somebody's
            AND (i.inhrelid IS NOT NULL OR obj_description(c.oid, 'pg_class') = 'leaving')";
    HOLDS, "list_partition_holds" =
        // the week's tasks are read once, and no further than to as many as are told of
        "WITH seen AS (SELECT task_uuid, state IN (8, 9, 10, 11) AS has_ended FROM tasker.tasks
                        WHERE task_uuid >= $1 AND task_uuid < $2 AND (state NOT IN (8, 9, 10, 11) OR updated_at >= $3) LIMIT 10000)
         SELECT 'tasks that have not ended' AS what, count(*) AS count, (array_agg(task_uuid))[1] AS task_uuid
           FROM seen WHERE NOT has_ended HAVING count(*) > 0
         UNION ALL
         SELECT 'tasks that ended lately', count(*), (array_agg(task_uuid))[1] FROM seen WHERE has_ended HAVING count(*) > 0
         UNION ALL
         SELECT 'pending dead letters', count(*), (array_agg(task_uuid))[1]
           FROM tasker.dead_letters WHERE task_uuid >= $1 AND task_uuid < $2 AND resolution = 0 HAVING count(*) > 0
         UNION ALL
         SELECT 'steps that are enqueued', count(*), (array_agg(task_uuid))[1]
           FROM tasker.ready WHERE task_uuid >= $1 AND task_uuid < $2 HAVING count(*) > 0
         UNION ALL
         SELECT 'messages to a server', count(*), (array_agg(task_uuid))[1]
           FROM tasker.results WHERE task_uuid >= $1 AND task_uuid < $2 HAVING count(*) > 0
         UNION ALL
         SELECT 'steps that wait for a time', count(*), (array_agg(task_uuid))[1]
           FROM tasker.delayed WHERE task_uuid >= $1 AND task_uuid < $2 HAVING count(*) > 0
         UNION ALL
         SELECT 'submissions that are not tasks yet', count(*), (array_agg(task_uuid))[1]
           FROM tasker.requests WHERE task_uuid >= $1 AND task_uuid < $2 HAVING count(*) > 0
         UNION ALL
         SELECT 'wishes that are not answered yet', count(*), (array_agg(task_uuid))[1]
           FROM tasker.controls WHERE task_uuid >= $1 AND task_uuid < $2 AND applied_at IS NULL HAVING count(*) > 0";
    HOLDERS, "list_partition_holders" =
        "SELECT 'a transaction' AS what, concat_ws(' ', 'process', pid, nullif(application_name, ''), nullif(state, '')) AS who,
                extract(epoch FROM clock_timestamp() - xact_start)::float8 AS age_s
           FROM pg_stat_activity
          WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start < clock_timestamp() - $1 * interval '1 s'
            AND backend_type = 'client backend'
         UNION ALL
         SELECT 'a prepared transaction', gid, extract(epoch FROM clock_timestamp() - prepared)::float8
           FROM pg_prepared_xacts WHERE database = current_database()
         UNION ALL
         SELECT 'a replication slot that nobody reads', slot_name::text, NULL
           FROM pg_replication_slots WHERE NOT active AND (xmin IS NOT NULL OR catalog_xmin IS NOT NULL OR restart_lsn IS NOT NULL)
          ORDER BY 3 DESC NULLS LAST";
    NOW, "read_retention_clock" = "SELECT clock_timestamp()";
}

/// The weeks that have partitions, the oldest first.
pub async fn list(connection: &mut PgConnection) -> Result<Vec<Week>> {
    let query = sqlx::query_as(LIST.sql);
    let rows: Vec<(String, bool, bool)> = LIST.run(query.fetch_all(connection)).await?;
    Ok(weeks(&rows))
}

/// Sorts tables by their weeks: name, whether it is in its table, whether it is on its way out.
fn weeks(rows: &[(String, bool, bool)]) -> Vec<Week> {
    let mut weeks: BTreeMap<NaiveDate, Week> = BTreeMap::new();
    for (name, is_attached, is_leaving) in rows {
        let Some((table, day)) = name.split_once('_') else {
            continue;
        };
        let table = Table::ALL.into_iter().find(|t| t.as_str() == table);
        let (Some(table), Ok(begins)) = (table, NaiveDate::parse_from_str(day, "%Y%m%d")) else {
            continue;
        };
        let place = match (is_attached, is_leaving) {
            (true, true) => Place::Leaving,
            (true, false) => Place::Attached,
            (false, _) => Place::Detached,
        };
        let week = weeks.entry(begins).or_insert_with(|| Week {
            begins,
            tables: BTreeMap::new(),
        });
        week.tables.insert(table, place);
    }
    weeks.into_values().collect()
}

/// What keeps a week whose tasks should all have ended before `cutoff`; nothing where it may go. Reads the week's
/// tasks, whether its partition is in its table or not.
pub async fn holds(
    connection: &mut PgConnection,
    week: &Week,
    cutoff: DateTime<Utc>,
) -> Result<Vec<Hold>> {
    if !week.tables.contains_key(&Table::Tasks) {
        return Ok(Vec::new());
    }
    let (from, before) = week.uuids();
    let statement = HOLDS.in_week(weekly::Week::at(week.span().0));
    let query = sqlx::query_as(statement.sql)
        .bind(from)
        .bind(before)
        .bind(cutoff);
    statement.run_at_length(query.fetch_all(connection)).await
}

/// The database's clock, which judges what is old.
pub async fn now(connection: &mut PgConnection) -> Result<DateTime<Utc>> {
    let query = sqlx::query_scalar(NOW.sql);
    NOW.run(query.fetch_one(connection)).await
}

/// Long transactions, and what else of that kind there is, the longest first.
pub async fn holders(connection: &mut PgConnection) -> Result<Vec<Holder>> {
    let query = sqlx::query_as(HOLDERS.sql).bind(LONG_S);
    HOLDERS.run(query.fetch_all(connection)).await
}

#[cfg(test)]
mod tests;
