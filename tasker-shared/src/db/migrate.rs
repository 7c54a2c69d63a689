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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use sqlx::Executor;
    use uuid::Uuid;

    use super::*;
    use crate::db::task_views::{self, Filter};
    use crate::embedded::Temporary;

    const STORE: &str = "
        INSERT INTO tasker.templates (namespace, name, version, definition, source, step_count) VALUES ('n', 't', '1.0.0', '{}', '', 1);
        INSERT INTO tasker.tasks (task_uuid, template_id, state, priority, sampled, context, correlation_id, tags, created_at, updated_at)
        SELECT tasker.new_task_uuid(), 1, state, 0, false, '{}', gen_random_uuid(), '{a}', now(), now() FROM unnest(ARRAY[3, 8, 9]) AS s(state)";
    const SUBMIT: &str = "SELECT tasker.submit_task('n', 't', '{}', idempotency_key => 'k')";

    #[tokio::test]
    async fn a_database_of_the_oldest_version_and_of_the_last_keeps_what_it_has() {
        let versions: Vec<i64> = MIGRATOR.iter().map(|m| m.version).collect();
        for version in [versions[0], versions[versions.len() - 2]] {
            let postgres = Temporary::start().await.unwrap();
            let target = Target::parse(postgres.url(), "test", Duration::from_secs(10)).unwrap();
            let mut connection = target.connect().await.unwrap();
            MIGRATOR
                .run_direct(Some(version), &mut connection, false)
                .await
                .unwrap();
            connection.execute(STORE).await.unwrap();
            let submit = sqlx::query_scalar::<_, Uuid>(SUBMIT);
            let first = submit.fetch_one(&mut connection).await.unwrap();
            run(&target).await.unwrap();

            let submit = sqlx::query_scalar::<_, Uuid>(SUBMIT);
            assert_eq!(submit.fetch_one(&mut connection).await.unwrap(), first);
            let pool = target.pool(1);
            let request = task_views::find_request(&pool, first).await.unwrap();
            assert_eq!(request.unwrap().idempotency_key.as_deref(), Some("k"));
            for (tag, expected) in [(None, 3), (Some("a".to_owned()), 3)] {
                let filter = Filter {
                    tag,
                    ..Filter::default()
                };
                let list = task_views::List::of(&pool, &filter).await.unwrap();
                let found = list.page(&pool, None, 0, 10).await.unwrap();
                assert_eq!(found.len(), expected, "from version {version}");
                let rows = task_views::get(&pool, &found).await.unwrap();
                assert_eq!(rows.len(), expected);
            }
            assert_eq!(missing(&target).await.unwrap(), []);
        }
    }
}
