//! What keeps the database fit: partitions made ahead, settings that SQL functions read, old rows removed.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveTime, Utc, Weekday};
use sqlx::{PgConnection, PgExecutor};

use super::pool::{Pinned, Pool};
use super::{Result, statements};

statements! {
    PARTITIONS, "ensure_partitions" = "SELECT tasker.ensure_partitions($1, $2)";
    CLOSED, "index_closed_week" = "SELECT tasker.index_closed_week($1)";
    SETTING, "set_setting" =
        "INSERT INTO tasker.settings (name, value) VALUES ($1, $2)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE settings.value <> excluded.value";
    CONTROLS, "delete_old_controls" = "DELETE FROM tasker.controls WHERE applied_at < now() - interval '1 day'";
    PING, "ping" = "SELECT 1";
}

/// Makes the weekly partitions around `at` and `weeks` ahead, where they are missing; returns how many.
pub async fn ensure_partitions<'c>(
    on: impl PgExecutor<'c>,
    at: DateTime<Utc>,
    weeks: i32,
) -> Result<i32> {
    let query = sqlx::query_scalar(PARTITIONS.sql).bind(at).bind(weeks);
    PARTITIONS.run(query.fetch_one(on)).await
}

/// Makes the partitions for tasks accepted at `times` where they are missing: nobody made them ahead, as when no
/// server ran for weeks, or a clock has jumped.
pub async fn ensure_partitions_of(
    connection: &mut PgConnection,
    times: impl IntoIterator<Item = DateTime<Utc>>,
) -> Result<()> {
    let weeks: BTreeSet<_> = times
        .into_iter()
        .map(|at| at.date_naive().week(Weekday::Mon).first_day())
        .collect();
    for week in weeks {
        let at = week.and_time(NaiveTime::MIN).and_utc();
        let made = ensure_partitions(&mut *connection, at, 1).await?;
        if made > 0 {
            tracing::warn!(%week, partitions = made, "there was no partition for tasks of this week; it was made, or put back");
        } else {
            // Somebody else was faster, or an insert fails for another reason and says so itself.
            tracing::debug!(%week, "the partitions for tasks of this week are there");
        }
    }
    Ok(())
}

/// Gives weeks that are over at `at` the index that lists of rare states read, where they have none; returns how many.
pub async fn index_closed_weeks(pool: &Pool, at: DateTime<Utc>) -> Result<u64> {
    let mut made = 0;
    loop {
        let query = sqlx::query_scalar::<_, Option<String>>(CLOSED.sql).bind(at);
        if CLOSED.run_at_length(query.fetch_one(pool)).await?.is_none() {
            return Ok(made);
        }
        made += 1;
    }
}

/// The same on a loop's own connection. A failure is only told: whoever needs the partitions tries again, and finds out.
pub async fn try_partitions_of(
    connection: &mut Pinned,
    times: impl IntoIterator<Item = DateTime<Utc>>,
) {
    let made = match connection.get().await {
        Ok(connection) => ensure_partitions_of(connection, times).await,
        Err(error) => Err(error),
    };
    if let Err(error) = connection.check(made) {
        tracing::warn!(%error, "partitions could not be made");
    }
}

/// Tells the SQL functions a limit of the configuration.
pub async fn set_setting(pool: &Pool, name: &str, value: i64) -> Result<()> {
    SETTING
        .run(
            sqlx::query(SETTING.sql)
                .bind(name)
                .bind(value)
                .execute(pool),
        )
        .await
        .map(drop)
}

/// Removes the answers of controls that were applied more than a day ago.
pub async fn delete_old_controls(pool: &Pool) -> Result<u64> {
    let done = CONTROLS
        .run(sqlx::query(CONTROLS.sql).execute(pool))
        .await?;
    Ok(done.rows_affected())
}

/// Whether the database answers.
pub async fn ping<'c>(on: impl PgExecutor<'c>) -> Result<()> {
    PING.run(sqlx::query(PING.sql).execute(on)).await.map(drop)
}
