//! The weekly partitions of history: which there are, what holds one that is old, and taking one away without
//! keeping anybody waiting. Which go is decided by who calls.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Days, NaiveDate, NaiveTime, Utc};
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::pool::Pool;
use super::{Error, Result, Statement, statements};
use crate::ids;

/// How long a lock on a partition is waited for; what was not had is tried again with the next pass.
const LOCK_TIMEOUT: &str = "5s";
/// Rows deleted at once, so that no transaction is long.
const BATCH: i64 = 5_000;
/// Between two such batches: what else wants the disk comes through.
const PAUSE: Duration = Duration::from_millis(50);
/// The advisory lock of whoever takes partitions away.
const LOCK: i64 = 0x7461_736b_6572_0001;
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
        "SELECT 'tasks that have not ended' AS what, count(*) AS count, (array_agg(task_uuid))[1] AS task_uuid
           FROM tasker.tasks WHERE task_uuid >= $1 AND task_uuid < $2 AND state NOT IN (8, 9, 10, 11) HAVING count(*) > 0
         UNION ALL
         SELECT 'tasks that ended lately', count(*), (array_agg(task_uuid))[1]
           FROM tasker.tasks WHERE task_uuid >= $1 AND task_uuid < $2 AND state IN (8, 9, 10, 11) AND updated_at >= $3 HAVING count(*) > 0
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
    TURN, "try_partition_lock" = "SELECT pg_try_advisory_lock($1)";
    TIMEOUT, "set_lock_timeout" = "SELECT set_config('lock_timeout', $1, false)";
    KEYS, "delete_old_idempotency_keys" =
        "DELETE FROM tasker.idempotency_keys WHERE ctid = ANY (ARRAY (
             SELECT ctid FROM tasker.idempotency_keys WHERE task_uuid >= $1 AND task_uuid < $2 LIMIT $3))";
    DEADLINES, "delete_old_deadlines" = "DELETE FROM tasker.deadlines WHERE task_uuid >= $1 AND task_uuid < $2";
    LETTERS, "delete_old_dead_letters" =
        "DELETE FROM tasker.dead_letters WHERE entry = ANY (ARRAY (
             SELECT entry FROM tasker.dead_letters WHERE buried_at < $1 AND resolution <> 0 AND resolved_at < $1 ORDER BY buried_at LIMIT $2))";
}

/// Statements whose tables have names that are only known when they run.
const MARK: Statement = named("mark_partition");
const DETACH: Statement = named("detach_partition");
const FINALIZE: Statement = named("finalize_partition");
const ATTACH: Statement = named("attach_partition");
const DROP: Statement = named("drop_partition");
const ALIVE: Statement = named("find_alive_task");

const fn named(name: &'static str) -> Statement {
    Statement {
        name,
        sql: "",
        calls: &[],
    }
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

/// What keeps a week whose tasks should all have ended before `cutoff`; nothing where it may go. Reads the week's tasks.
pub async fn holds(
    connection: &mut PgConnection,
    week: &Week,
    cutoff: DateTime<Utc>,
) -> Result<Vec<Hold>> {
    let (from, before) = week.uuids();
    let query = sqlx::query_as(HOLDS.sql)
        .bind(from)
        .bind(before)
        .bind(cutoff);
    HOLDS.run_at_length(query.fetch_all(connection)).await
}

/// Long transactions, and what else of that kind there is, the longest first.
pub async fn holders(connection: &mut PgConnection) -> Result<Vec<Holder>> {
    let query = sqlx::query_as(HOLDERS.sql).bind(LONG_S);
    HOLDERS.run(query.fetch_all(connection)).await
}

/// Takes the turn of taking partitions away, for as long as the connection lives, which must be one of its own
/// without a pooler between; false where somebody else has it. Locks are waited for for a short time from here on.
pub async fn take_turn(connection: &mut PgConnection) -> Result<bool> {
    let timeout = sqlx::query(TIMEOUT.sql).bind(LOCK_TIMEOUT);
    TIMEOUT.run(timeout.execute(&mut *connection)).await?;
    let query = sqlx::query_scalar(TURN.sql).bind(LOCK);
    TURN.run(query.fetch_one(connection)).await
}

/// Takes a part out of its table: the load goes on. False where somebody used it for longer than is waited for; what
/// was begun is ended by the next call.
pub async fn detach(connection: &mut PgConnection, week: &Week, table: Table) -> Result<bool> {
    let (statement, how) = match week.tables.get(&table) {
        Some(Place::Attached) => (DETACH, "CONCURRENTLY"),
        Some(Place::Leaving) => (FINALIZE, "FINALIZE"),
        Some(Place::Detached) | None => return Ok(true),
    };
    let (parent, part) = (table.as_str(), week.part(table));
    let mark = format!("COMMENT ON TABLE tasker.{part} IS 'leaving'");
    if !in_time(run(connection, &MARK, mark).await)? {
        return Ok(false);
    }
    let sql = format!("ALTER TABLE tasker.{parent} DETACH PARTITION tasker.{part} {how}");
    in_time(run(connection, &statement, sql).await)
}

/// Puts a part back into its table, where a task in it has come to life again meanwhile.
pub async fn attach(connection: &mut PgConnection, week: &Week, table: Table) -> Result<bool> {
    let (from, before) = week.uuids();
    let (parent, part) = (table.as_str(), week.part(table));
    let sql = format!(
        "ALTER TABLE tasker.{parent} ATTACH PARTITION tasker.{part} FOR VALUES FROM ('{from}') TO ('{before}')"
    );
    in_time(run(connection, &ATTACH, sql).await)
}

/// Drops a part that is out of its table. False where somebody used it for longer than is waited for.
pub async fn drop_part(connection: &mut PgConnection, week: &Week, table: Table) -> Result<bool> {
    let sql = format!("DROP TABLE IF EXISTS tasker.{}", week.part(table));
    in_time(run(connection, &DROP, sql).await)
}

/// A task that has not ended, of a week that is out of its table.
pub async fn find_alive(connection: &mut PgConnection, week: &Week) -> Result<Option<Uuid>> {
    let sql = format!(
        "SELECT task_uuid FROM tasker.{} WHERE state NOT IN (8, 9, 10, 11) LIMIT 1",
        week.part(Table::Tasks)
    );
    let query = sqlx::query_scalar(AssertSqlSafe(sql));
    ALIVE.run_at_length(query.fetch_optional(connection)).await
}

async fn run(connection: &mut PgConnection, statement: &Statement, sql: String) -> Result<()> {
    let query = sqlx::raw_sql(AssertSqlSafe(sql));
    statement
        .run_at_length(query.execute(connection))
        .await
        .map(drop)
}

/// A lock that was not had in time is no error.
fn in_time(result: Result<()>) -> Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if is_timeout(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_timeout(error: &Error) -> bool {
    // lock_not_available
    error.sqlstate().as_deref() == Some("55P03")
}

/// Forgets the idempotency keys and deadlines of a week's tasks, in batches with a pause between them; returns how
/// many keys.
pub async fn forget(pool: &Pool, week: &Week) -> Result<u64> {
    let (from, before) = week.uuids();
    let deadlines = sqlx::query(DEADLINES.sql).bind(from).bind(before);
    DEADLINES.run_at_length(deadlines.execute(pool)).await?;
    let mut all = 0;
    loop {
        let query = sqlx::query(KEYS.sql).bind(from).bind(before).bind(BATCH);
        let deleted = KEYS
            .run_at_length(query.execute(pool))
            .await?
            .rows_affected();
        all += deleted;
        if deleted < BATCH.unsigned_abs() {
            return Ok(all);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Removes dead letters that were resolved before `cutoff`; returns how many.
pub async fn delete_dead_letters(pool: &Pool, cutoff: DateTime<Utc>) -> Result<u64> {
    let mut all = 0;
    loop {
        let query = sqlx::query(LETTERS.sql).bind(cutoff).bind(BATCH);
        let deleted = LETTERS
            .run_at_length(query.execute(pool))
            .await?
            .rows_affected();
        all += deleted;
        if deleted < BATCH.unsigned_abs() {
            return Ok(all);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests;
