//! What autovacuum could remove, and whether it may try. It removes what no session can see any more; until the oldest
//! snapshot has gone, it reads its tables for nothing.

use super::pool::Pool;
use super::{Result, statements};

/// A table with many rows that have died or come, or one that autovacuum is held off.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Table {
    pub name: String,
    /// How often it has been vacuumed, by autovacuum or by hand.
    pub vacuums: i64,
    pub is_held: bool,
    /// The oldest transaction that some session of this database still looks at, the same in all tables of one look; absent
    /// where nobody does. Only what this role may see of other roles' sessions counts, which is all with `pg_read_all_stats`.
    pub horizon: Option<i64>,
}

/// Dead rows, or rows since the last vacuum. Tables with fewer are read in no time.
const MANY: i64 = 100_000;

statements! {
    LIST, "list_vacuumed_tables" =
        "SELECT c.relname::text AS name, t.vacuum_count + t.autovacuum_count AS vacuums, o.held IS NOT NULL AS is_held, h.horizon
           FROM pg_stat_user_tables t
           JOIN pg_class c ON c.oid = t.relid
           -- the number of `hold_autovacuum`; somebody else's are left as they are
          CROSS JOIN LATERAL (SELECT max(v) FILTER (WHERE v = 'autovacuum_vacuum_threshold=2000000000') AS held,
                                     max(v) FILTER (WHERE v ~ '^autovacuum_vacuum_(insert_)?threshold=') AS given
                                FROM unnest(c.reloptions) AS v) o
           -- ids of transactions have 32 bits: the whole is the nearest to the newest
          CROSS JOIN (SELECT min(n.newest - (((n.newest - s.xid::text::int8 + 2147483648) & 4294967295) - 2147483648)) AS horizon
                        FROM (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int8 AS newest) n,
                             -- vacuum looks at everything and keeps nothing
                             (SELECT unnest(ARRAY[a.backend_xid, a.backend_xmin]) AS xid
                                FROM pg_stat_activity a
                               WHERE (a.datname = current_database() OR a.backend_type = 'walsender') AND a.backend_type <> 'autovacuum worker'
                                 AND a.pid <> pg_backend_pid() AND NOT EXISTS (SELECT 1 FROM pg_stat_progress_vacuum v WHERE v.pid = a.pid)
                              UNION ALL
                              SELECT xmin FROM pg_replication_slots
                              UNION ALL
                              SELECT transaction FROM pg_prepared_xacts WHERE database = current_database()) s) h
          WHERE t.schemaname = 'tasker' AND pg_has_role(c.relowner, 'USAGE')
            AND (o.held IS NOT NULL OR o.given IS NULL AND greatest(t.n_dead_tup, t.n_ins_since_vacuum) >= $1)";
    HOLD, "hold_autovacuum" = "SELECT tasker.hold_autovacuum($1, $2)";
}

/// The tables with many dead rows or new ones, and those that autovacuum is held off; of those that this role owns.
pub async fn list(pool: &Pool) -> Result<Vec<Table>> {
    let query = sqlx::query_as(LIST.sql).bind(MANY);
    LIST.run(query.fetch_all(pool)).await
}

/// Holds autovacuum off a table, or lets it in again; returns whether that is done, which it is not where somebody
/// works on the table.
pub async fn hold(pool: &Pool, table: &str, hold: bool) -> Result<bool> {
    let query = sqlx::query_scalar(HOLD.sql).bind(table).bind(hold);
    HOLD.run(query.fetch_one(pool)).await
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use sqlx::{Connection, Executor};

    use super::*;
    use crate::db::pool::Target;
    use crate::db::tests::migrated;
    use crate::db::{Transaction, measure};
    use crate::embedded::Temporary;

    async fn prepared() -> (Temporary, Target, Pool) {
        let (postgres, target) = migrated().await;
        let pool = target.pool(2);
        assert_eq!(list(&pool).await.unwrap(), []);
        (postgres, target, pool)
    }

    async fn die(target: &Target) {
        let mut connection = target.connect().await.unwrap();
        connection.execute(DIE).await.unwrap();
        // What has happened is told when a session ends, or after ten seconds.
        connection.close().await.unwrap();
    }

    /// As many dead rows as make a table one to look after.
    const DIE: &str = "INSERT INTO tasker.ready (lane, id, task_uuid, correlation_id, enqueued_at, step_no, attempt, tries, lost, template_id, shard, priority, sampled)
        SELECT 0, n, u.none, u.none, now(), 1, 1, 1, 0, 1, 0, 0, false
          FROM generate_series(1, 100000) n, (VALUES ('00000000-0000-0000-0000-000000000000'::uuid)) AS u(none);
        DELETE FROM tasker.ready;
        ALTER TABLE tasker.ready SET (autovacuum_enabled = off)";

    /// The names of the tables that are listed, once there are any, with whether they are held.
    async fn listed(pool: &Pool) -> Vec<(String, bool)> {
        for _ in 0..200 {
            let tables = list(pool).await.unwrap();
            if !tables.is_empty() {
                return tables.into_iter().map(|t| (t.name, t.is_held)).collect();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Vec::new()
    }

    #[tokio::test]
    async fn a_table_with_many_dead_rows_is_listed_held_off_and_let_in_again() {
        let (_postgres, target, pool) = prepared().await;
        die(&target).await;
        let ready = |held| vec![("ready".to_owned(), held)];
        assert_eq!(listed(&pool).await, ready(false));

        assert!(hold(&pool, "ready", true).await.unwrap());
        assert_eq!(listed(&pool).await, ready(true));
        measure::vacuum(&pool).await.unwrap();
        assert_eq!(listed(&pool).await, ready(true), "though nothing is dead");
        assert!(hold(&pool, "ready", false).await.unwrap());
        assert_eq!(list(&pool).await.unwrap(), []);
    }

    #[tokio::test]
    async fn what_somebody_works_on_has_set_by_hand_or_owns_is_left_alone() {
        let (_postgres, target, pool) = prepared().await;
        die(&target).await;
        assert_eq!(listed(&pool).await.len(), 1);

        let mut other = target.connect().await.unwrap();
        let mut vacuuming = other.begin().await.unwrap();
        let lock = "LOCK TABLE tasker.ready IN SHARE UPDATE EXCLUSIVE MODE";
        vacuuming.execute(lock).await.unwrap();
        assert!(!hold(&pool, "ready", true).await.unwrap());
        vacuuming.rollback().await.unwrap();
        assert!(!hold(&pool, "dropped", true).await.unwrap());
        assert_eq!(listed(&pool).await, [("ready".to_owned(), false)]);

        let mut connection = target.connect().await.unwrap();
        for set in [
            "ALTER TABLE tasker.ready SET (autovacuum_vacuum_threshold = 5000)",
            "ALTER TABLE tasker.ready RESET (autovacuum_vacuum_threshold); ALTER TABLE tasker.ready SET (autovacuum_vacuum_insert_threshold = 5000)",
        ] {
            connection.execute(set).await.unwrap();
            assert_eq!(list(&pool).await.unwrap(), [], "{set}");
        }
        let give = "ALTER TABLE tasker.ready RESET (autovacuum_vacuum_insert_threshold); CREATE ROLE guest; GRANT USAGE ON SCHEMA tasker TO guest";
        connection.execute(give).await.unwrap();
        assert_eq!(list(&pool).await.unwrap().len(), 1);
        connection.execute("SET ROLE guest").await.unwrap();
        let seen = connection.fetch_all(sqlx::query(LIST.sql).bind(MANY)).await;
        assert!(seen.unwrap().is_empty());
    }

    #[tokio::test]
    async fn the_horizon_stands_while_a_snapshot_or_a_transaction_does_and_moves_on_with_it() {
        let (_postgres, target, pool) = prepared().await;
        die(&target).await;
        assert_eq!(listed(&pool).await.len(), 1);
        let horizon = async || list(&pool).await.unwrap()[0].horizon;
        assert_eq!(horizon().await, None, "nobody looks at anything");

        let mut other = target.connect().await.unwrap();
        let mut reader = Transaction::begin(&mut other, "reader").await.unwrap();
        measure::pin(&mut reader).await.unwrap();
        let pinned = horizon().await;
        let mut connection = target.connect().await.unwrap();
        assert!(pinned.is_some());
        let write = "INSERT INTO tasker.settings (name, value) VALUES ('a', 1) ON CONFLICT (name) DO UPDATE SET value = settings.value + 1";
        for _ in 0..3 {
            connection.execute(write).await.unwrap();
            assert_eq!(horizon().await, pinned);
        }
        reader.rollback().await.unwrap();

        // A transaction that has written and looks at nothing just now.
        let mut writer = other.begin().await.unwrap();
        writer.execute(write).await.unwrap();
        let written = horizon().await;
        assert!(written > pinned, "{written:?}, {pinned:?}");
        writer.rollback().await.unwrap();
        assert_eq!(horizon().await, None);
    }
}
