//! The migrations, which are part of the program, and what of them a database has.

use std::sync::LazyLock;

use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::{Connection, PgConnection};

use super::pool::Target;
use super::{Transaction, statements};

/// They keep their own account in the schema that they make, wherever a role's search path points.
static MIGRATOR: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrator = sqlx::migrate!("../migrations");
    migrator.dangerous_set_table_name("tasker.migrations");
    migrator.create_schema("tasker");
    // This version runs on the next one's schema.
    migrator.set_ignore_missing(true);
    migrator
});

/// A migration that could not be applied or looked up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Unreachable(#[from] super::Error),
    #[error("the database cannot be migrated: {0}")]
    Migrate(#[from] MigrateError),
    #[error(
        "the database needs migrations, which a pooler stands in the way of: set database.direct_url, or run `tasker migrate` with DATABASE_URL leading to the database itself"
    )]
    Pooled,
    #[error("closing the connection after migrating: {0}")]
    Close(#[from] sqlx::Error),
}

statements! {
    FOUND, "find_migrations" = "SELECT to_regclass('tasker.migrations') IS NOT NULL";
    APPLIED, "list_migrations" = "SELECT version, checksum FROM tasker.migrations WHERE success";
}

/// Applies what is missing. Several processes may do so at once: they take turns. Where nothing is missing, nobody
/// waits for anybody.
pub async fn run(target: &Target) -> Result<(), Error> {
    let mut connection = target.connect().await?;
    if !missing_by(&mut connection).await?.is_empty() {
        if target.is_pooled() {
            return Err(Error::Pooled);
        }
        MIGRATOR.run_direct(None, &mut connection, false).await?;
    }
    connection.close().await?;
    Ok(())
}

/// A migration of this version that the database does not have as it is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Number and description.
    pub name: String,
    /// The database has another one of this number.
    pub changed: bool,
}

/// What [`run`] would have to apply. Changes nothing, and needs no right to.
pub async fn missing(target: &Target) -> Result<Vec<Missing>, Error> {
    let mut connection = target.connect().await?;
    let missing = missing_by(&mut connection).await?;
    connection.close().await?;
    Ok(missing)
}

async fn missing_by(connection: &mut PgConnection) -> Result<Vec<Missing>, super::Error> {
    let mut transaction = Transaction::begin(connection, "check_migrations").await?;
    let found = sqlx::query_scalar(FOUND.sql).fetch_one(&mut *transaction);
    let applied: Vec<(i64, Vec<u8>)> = if FOUND.run(found).await? {
        let applied = sqlx::query_as(APPLIED.sql).fetch_all(&mut *transaction);
        APPLIED.run(applied).await?
    } else {
        Vec::new()
    };
    transaction.commit().await?;
    let missing = MIGRATOR.iter().filter_map(|m| {
        let found = applied.iter().find(|(version, _)| *version == m.version);
        let is_same = found.is_some_and(|(_, checksum)| **checksum == *m.checksum);
        (!is_same).then(|| Missing {
            name: format!("{} {}", m.version, m.description),
            changed: found.is_some(),
        })
    });
    Ok(missing.collect())
}

/// The migrations that are not applied yet, as `version description`.
pub async fn pending(target: &Target) -> Result<Vec<String>, Error> {
    let mut connection = target.connect().await?;
    connection.create_schema_if_not_exists("tasker").await?;
    connection
        .ensure_migrations_table(&MIGRATOR.table_name)
        .await?;
    let applied = connection
        .list_applied_migrations(&MIGRATOR.table_name)
        .await?;
    connection.close().await?;
    Ok(MIGRATOR
        .iter()
        .filter(|m| !applied.iter().any(|a| a.version == m.version))
        .map(|m| format!("{} {}", m.version, m.description))
        .collect())
}
