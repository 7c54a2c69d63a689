//! Settings of sessions where a pooler stands between: it refuses them when a connection is made, and whoever sets them
//! later sets them for somebody else. So the role has them in this database, and every connection of the pooler's too.

use sqlx::{AssertSqlSafe, PgConnection};

use super::pool::{Pool, Target};
use super::{Result, Statement, statements};

/// What every connection is told, and what the planner must be told for statements on batches (`Target::batches`).
/// Acceptance may not hash then, which it misses only where a template has very many roots.
const SETTINGS: [(&str, &str); 8] = [
    ("client_min_messages", "warning"),
    ("jit", "off"),
    ("idle_in_transaction_session_timeout", "60s"),
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
];

statements! {
    LACKING, "list_lacking_role_settings" =
        "SELECT w.name || '=' || w.value
           FROM unnest($1::text[], $2::text[]) AS w(name, value)
          WHERE NOT EXISTS (SELECT 1 FROM pg_db_role_setting s, pg_database d, pg_roles r
                             WHERE d.datname = current_database() AND s.setdatabase = d.oid AND r.rolname = current_user AND s.setrole = r.oid
                               AND w.name || '=' || w.value = ANY (s.setconfig))";
    UNSET, "list_unset_settings" =
        "SELECT w.name FROM unnest($1::text[], $2::text[]) AS w(name, value)
           JOIN pg_settings s USING (name)
          WHERE s.setting <> w.value AND s.vartype IN ('bool', 'enum')";
    SET, "format_role_settings" =
        // one process at a time: two that change one role's settings fail
        "SELECT 'SELECT pg_advisory_xact_lock(hashtext(''tasker.pooler'')); ' || string_agg(format('ALTER ROLE %I IN DATABASE %I SET %I = %L', current_user, current_database(), w.name, w.value), '; ')
           FROM unnest($1::text[], $2::text[]) AS w(name, value)";
}

const ALTER: Statement = Statement {
    name: "alter_role",
    sql: "",
    calls: &[],
};

/// Gives the role of `direct`, which must be the one that the pooler uses too, what connections through the pooler
/// `pool` need, and says where they do not have it.
///
/// # Errors
/// The database cannot be reached, or the pooler does not work.
pub async fn prepare(pool: &Pool, direct: &Target) -> Result<()> {
    if !direct.is_pooled() {
        let mut connection = direct.connect().await?;
        if !lacking(&mut connection).await?.is_empty() {
            give(&mut connection).await?;
        }
    }
    let (names, values) = columns();
    let unset = sqlx::query_scalar(UNSET.sql).bind(names).bind(values);
    let unset: Vec<String> = UNSET.run(unset.fetch_all(pool)).await?;
    if !unset.is_empty() {
        tracing::warn!(
            settings = unset.join(", "),
            "connections of the pooler lack settings that keep statements fast: set them for the role as docs/operations/pgbouncer.md tells, and have the pooler connect anew (RECONNECT)"
        );
    }
    Ok(())
}

/// What the role of this connection does not have.
async fn lacking(connection: &mut PgConnection) -> Result<Vec<String>> {
    let (names, values) = columns();
    let query = sqlx::query_scalar(LACKING.sql).bind(names).bind(values);
    LACKING.run(query.fetch_all(connection)).await
}

/// A role that may not change itself stays as it is.
async fn give(connection: &mut PgConnection) -> Result<()> {
    let (names, values) = columns();
    let sql = sqlx::query_scalar(SET.sql).bind(names).bind(values);
    let sql: String = SET.run(sql.fetch_one(&mut *connection)).await?;
    let altered = sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection);
    match ALTER.run(altered).await {
        Ok(_) => tracing::info!("the role was given what connections through a pooler need"),
        Err(error) if error.is_unavailable() => return Err(error),
        Err(error) => tracing::warn!(%error, "the role cannot be given its settings"),
    }
    Ok(())
}

fn columns() -> (Vec<&'static str>, Vec<&'static str>) {
    SETTINGS.into_iter().unzip()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::embedded::Temporary;

    #[tokio::test]
    async fn a_role_gets_its_settings_once_and_later_connections_have_them() {
        let postgres = Temporary::start().await.unwrap();
        let target = Target::parse(postgres.url(), "pooler", Duration::from_secs(10)).unwrap();
        let pooled = target.clone().behind_pooler(true);
        let mut before = pooled.connect().await.unwrap();
        assert_eq!(lacking(&mut before).await.unwrap().len(), SETTINGS.len());
        for _ in 0..2 {
            prepare(&pooled.pool(1), &target).await.unwrap();
            assert!(lacking(&mut before).await.unwrap().is_empty());
        }
        let mut after = pooled.batches().connect().await.unwrap();
        let query =
            "SELECT current_setting('plan_cache_mode') || ' ' || current_setting('enable_seqscan')";
        let settings: String = sqlx::query_scalar(query)
            .fetch_one(&mut after)
            .await
            .unwrap();
        assert_eq!(settings, "force_generic_plan off");
    }
}
