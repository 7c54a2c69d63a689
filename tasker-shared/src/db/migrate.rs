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
    if !is_complete(&mut connection).await? {
        MIGRATOR.run_direct(None, &mut connection, false).await?;
    }
    connection.close().await?;
    Ok(())
}

/// Whether every migration of this version is applied as it is here.
async fn is_complete(connection: &mut PgConnection) -> Result<bool, super::Error> {
    let mut transaction = Transaction::begin(connection, "check_migrations").await?;
    let found = sqlx::query_scalar(FOUND.sql).fetch_one(&mut *transaction);
    let applied: Vec<(i64, Vec<u8>)> = if FOUND.run(found).await? {
        let applied = sqlx::query_as(APPLIED.sql).fetch_all(&mut *transaction);
        APPLIED.run(applied).await?
    } else {
        Vec::new()
    };
    transaction.commit().await?;
    Ok(MIGRATOR.iter().all(|m| {
        applied
            .iter()
            .any(|(version, checksum)| *version == m.version && **checksum == *m.checksum)
    }))
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
