//! Statements counted by `pg_stat_statements`, where it is loaded. Its view is there only then, so these are not
//! among the statements that every database has to understand.

use super::super::pool::Pool;
use super::super::{Result, statements};

/// The setting that loads it when PostgreSQL starts.
pub const PRELOAD: (&str, &str) = ("shared_preload_libraries", "pg_stat_statements");

statements! {
    CREATE, "create_pg_stat_statements" = "CREATE EXTENSION IF NOT EXISTS pg_stat_statements";
    FIND, "find_pg_stat_statements" =
        "SELECT /* tasker bench */ EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'pg_stat_statements')
                AND EXISTS (SELECT 1 FROM pg_settings WHERE name = 'pg_stat_statements.max')";
    COUNT, "count_statements" =
        "SELECT /* tasker bench */ coalesce(sum(calls) FILTER (WHERE query NOT LIKE '%/* tasker bench */%'), 0)::int8 AS measured,
                coalesce(sum(calls) FILTER (WHERE query LIKE '%/* tasker bench */%'), 0)::int8 AS own
           FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())";
}

/// Statements run in this database since it counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Calls {
    /// Those of everybody else, `BEGIN` and `COMMIT` included.
    pub measured: i64,
    /// Those of the measurement itself.
    pub own: i64,
}

/// Makes the view where the library is loaded.
pub async fn create(pool: &Pool) -> Result<()> {
    CREATE
        .run(sqlx::query(CREATE.sql).execute(pool))
        .await
        .map(drop)
}

/// Whether statements are counted here.
pub async fn are_counted(pool: &Pool) -> Result<bool> {
    FIND.run(sqlx::query_scalar(FIND.sql).fetch_one(pool)).await
}

/// How many there were.
pub async fn count(pool: &Pool) -> Result<Calls> {
    COUNT.run(sqlx::query_as(COUNT.sql).fetch_one(pool)).await
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::db::measure;
    use crate::db::pool::Target;
    use crate::embedded::{Temporary, TemporaryError};

    #[tokio::test]
    async fn statements_are_counted_apart_from_those_of_the_measurement() {
        let postgres = match Temporary::start_with(&[PRELOAD], false).await {
            Ok(postgres) => postgres,
            // A distribution may have the library in a package of its own.
            Err(TemporaryError::Start(error)) if error.to_string().contains(PRELOAD.1) => return,
            Err(error) => panic!("{error}"),
        };
        let target = Target::parse(postgres.url(), "test", Duration::from_secs(10)).unwrap();
        let pool = target.pool(1);
        assert!(!are_counted(&pool).await.unwrap());
        create(&pool).await.unwrap();
        assert!(are_counted(&pool).await.unwrap());
        let before = count(&pool).await.unwrap();
        sqlx::query("SELECT 'measured'")
            .execute(&pool)
            .await
            .unwrap();
        measure::clock(&pool).await.unwrap();
        let after = count(&pool).await.unwrap();
        assert_eq!(after.measured - before.measured, 1);
        // The first count is counted when the second looks.
        assert_eq!(after.own - before.own, 2);
        assert_eq!(STATEMENTS.len(), 3);
    }
}
