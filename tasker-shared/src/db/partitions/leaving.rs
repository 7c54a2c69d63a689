//! Taking a week's partitions away without keeping anybody waiting: out of their tables, back again, and gone. What
//! was begun and not ended is seen by where the partitions stand.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::{Hold, Place, Table, Week, holds};
use crate::db::pool::Pool;
use crate::db::{Error, Result, Statement, Transaction, statements};

/// How long a lock on a partition is waited for; what was not had is tried again with the next pass.
const LOCK_TIMEOUT: &str = "5s";
/// Rows deleted at once, so that no transaction is long.
const BATCH: i64 = 5_000;
/// Between two such batches: what else wants the disk comes through.
const PAUSE: Duration = Duration::from_millis(50);
/// The advisory lock of whoever takes partitions away.
const LOCK: i64 = 0x7461_736b_6572_0001;

/// What a partition has: equal marks mean that no row has come, gone or changed in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    pub rows: u64,
    /// Of every row's place and of the transaction that wrote it.
    hash: i64,
}

/// How the last look at a week went that is out of its tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// Its rows are gone for good. The tasks' partition is left, empty, until [`forget`] and [`drop_emptied`].
    Gone,
    /// Something refers to it after all.
    Held(Vec<Hold>),
    /// It is not any more what was marked.
    Changed,
    /// Somebody used it for longer than is waited for.
    Busy,
}

statements! {
    TURN, "try_partition_lock" = "SELECT pg_try_advisory_lock($1)";
    SETTINGS, "prepare_retention" =
        // without sorting, pages of a partition come by its key, whatever the planner takes it to hold
        "SELECT set_config('lock_timeout', $1, false), set_config('enable_sort', 'off', false)";
    KEYS, "delete_old_idempotency_keys" =
        // from where the last batch ended, so that none reads again what those before have deleted
        "WITH old AS (SELECT ctid, task_uuid FROM tasker.idempotency_keys
                       WHERE task_uuid >= $1 AND task_uuid < $2 ORDER BY task_uuid LIMIT $3),
         gone AS (DELETE FROM tasker.idempotency_keys WHERE ctid = ANY (ARRAY (SELECT ctid FROM old)))
         SELECT count(*), max(task_uuid::text)::uuid FROM old";
    DEADLINES, "delete_old_deadlines" = "DELETE FROM tasker.deadlines WHERE task_uuid >= $1 AND task_uuid < $2";
    LETTERS, "delete_old_dead_letters" =
        "DELETE FROM tasker.dead_letters WHERE entry = ANY (ARRAY (
             SELECT entry FROM tasker.dead_letters WHERE buried_at < $1 AND resolution <> 0 AND resolved_at < $1 ORDER BY buried_at LIMIT $2))";
}

/// Statements whose tables have names that are only known when they run.
const NOTE: Statement = named("note_partition");
const DETACH: Statement = named("detach_partition");
const FINALIZE: Statement = named("finalize_partition");
const ATTACH: Statement = named("attach_partition");
const MARK: Statement = named("mark_partition");
const CLOSE: Statement = named("lock_partitions");
const EMPTY: Statement = named("empty_partitions");
const DROP: Statement = named("drop_partition");

pub(in crate::db) const fn named(name: &'static str) -> Statement {
    Statement {
        name,
        sql: "",
        calls: &[],
    }
}

/// Takes the turn of taking partitions away, for as long as the connection lives, which must be one of its own
/// without a pooler between; false where somebody else has it. Locks are waited for for a short time from here on.
pub async fn take_turn(connection: &mut PgConnection) -> Result<bool> {
    let settings = sqlx::query(SETTINGS.sql).bind(LOCK_TIMEOUT);
    SETTINGS.run(settings.execute(&mut *connection)).await?;
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
    let note = format!("COMMENT ON TABLE tasker.{part} IS 'leaving'");
    if !in_time(run(connection, &NOTE, note).await)? {
        return Ok(false);
    }
    let sql = format!("ALTER TABLE tasker.{parent} DETACH PARTITION tasker.{part} {how}");
    in_time(run(connection, &statement, sql).await)
}

/// Puts a week back into its tables, wherever its parts stand; false where somebody used one for longer than is
/// waited for.
pub async fn put_back(connection: &mut PgConnection, week: &Week) -> Result<bool> {
    let weeks = super::list(connection).await?;
    let Some(week) = weeks.iter().find(|found| found.begins == week.begins) else {
        return Ok(true);
    };
    // The tasks last: who finds one finds its steps.
    for (&table, &place) in week.tables.iter().rev() {
        let done = match place {
            Place::Attached => true,
            Place::Leaving => {
                detach(connection, week, table).await? && attach(connection, week, table).await?
            }
            Place::Detached => attach(connection, week, table).await?,
        };
        if !done {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn attach(connection: &mut PgConnection, week: &Week, table: Table) -> Result<bool> {
    let (from, before) = week.uuids();
    let (parent, part) = (table.as_str(), week.part(table));
    let sql = format!(
        "ALTER TABLE tasker.{parent} ATTACH PARTITION tasker.{part} FOR VALUES FROM ('{from}') TO ('{before}')"
    );
    in_time(run(connection, &ATTACH, sql).await)
}

/// Reads what a part has: its rows, not what is stored apart from them.
pub async fn mark(connection: &mut PgConnection, week: &Week, table: Table) -> Result<Mark> {
    let sql = format!(
        "SELECT count(*), coalesce(bit_xor(hashtextextended(ctid::text || xmin::text, 0)), 0) FROM tasker.{}",
        week.part(table)
    );
    let query = sqlx::query_as::<_, (i64, i64)>(AssertSqlSafe(sql));
    let (rows, hash) = MARK.run_at_length(query.fetch_one(connection)).await?;
    Ok(Mark {
        rows: rows.unsigned_abs(),
        hash,
    })
}

/// Looks for the last time whether anything holds a week that is out of its tables, or whether it is not any more
/// what was marked, and removes it where neither is so. Nobody can change it in between.
pub async fn settle(
    connection: &mut PgConnection,
    week: &Week,
    cutoff: DateTime<Utc>,
    marks: &BTreeMap<Table, Mark>,
) -> Result<Settled> {
    let parts: Vec<String> = week
        .tables
        .keys()
        .map(|table| format!("tasker.{}", week.part(*table)))
        .collect();
    let mut transaction = Transaction::begin(connection, "settle_partitions").await?;
    let close = format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", parts.join(", "));
    if !in_time(run(&mut transaction, &CLOSE, close).await)? {
        transaction.rollback().await?;
        return Ok(Settled::Busy);
    }
    let mut settled = Settled::Gone;
    if week.tables.contains_key(&Table::Tasks) {
        let holds = holds(&mut transaction, week, cutoff).await?;
        if !holds.is_empty() {
            settled = Settled::Held(holds);
        }
    }
    for (&table, marked) in marks {
        if settled == Settled::Gone && mark(&mut transaction, week, table).await? != *marked {
            settled = Settled::Changed;
        }
    }
    if settled == Settled::Gone {
        run(&mut transaction, &EMPTY, emptying(week)).await?;
        transaction.commit().await?;
    } else {
        transaction.rollback().await?;
    }
    Ok(settled)
}

/// Drops everything but the tasks' part. That stays, empty, so that who comes after a crash knows that the week's
/// idempotency keys are to be forgotten.
fn emptying(week: &Week) -> String {
    let each = week.tables.keys().map(|&table| {
        let part = week.part(table);
        match table {
            Table::Tasks => format!("TRUNCATE tasker.{part}"),
            Table::Steps | Table::Attempts => format!("DROP TABLE tasker.{part}"),
        }
    });
    each.collect::<Vec<_>>().join("; ")
}

/// Drops what [`settle`] left. False where somebody used it for longer than is waited for.
pub async fn drop_emptied(connection: &mut PgConnection, week: &Week) -> Result<bool> {
    let sql = format!("DROP TABLE IF EXISTS tasker.{}", week.part(Table::Tasks));
    in_time(run(connection, &DROP, sql).await)
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
    let (mut all, mut next) = (0, from);
    loop {
        let query = sqlx::query_as(KEYS.sql).bind(next).bind(before).bind(BATCH);
        let (deleted, last): (i64, Option<Uuid>) =
            KEYS.run_at_length(query.fetch_one(pool)).await?;
        all += deleted.unsigned_abs();
        match last {
            Some(last) if deleted == BATCH => next = last,
            _ => return Ok(all),
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
