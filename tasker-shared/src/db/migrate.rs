//! The migrations, which are part of the program, and what of them a database has.

use std::sync::LazyLock;

use sqlx::Connection;
use sqlx::migrate::{Migrate, MigrateError, Migrator};

use super::pool::Target;

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

/// Applies what is missing. Several processes may do so at once: they take turns.
pub async fn run(target: &Target) -> Result<(), Error> {
    let mut connection = target.connect().await?;
    MIGRATOR.run_direct(None, &mut connection, false).await?;
    connection.close().await?;
    Ok(())
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
