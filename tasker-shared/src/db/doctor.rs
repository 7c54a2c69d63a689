//! What a person wants to know of a database that gives trouble: its server, what the role may do, and what the cluster
//! of servers and workers looks like in it. Read now and then; nothing here changes anything.

use chrono::{DateTime, Utc};

use super::pool::Pool;
use super::{Result, statements};

/// The database's server, seen from a connection of ours.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct Server {
    /// As 150004.
    pub version_number: i32,
    pub version: String,
    pub max_connections: i32,
    pub connections: i32,
    pub fsync: bool,
    pub full_page_writes: bool,
    pub autovacuum: bool,
    pub synchronous_commit: bool,
    pub is_replica: bool,
    /// The connection is encrypted.
    pub encrypted: bool,
    /// It leaves the machine that PostgreSQL runs on.
    pub remote: bool,
    pub now: DateTime<Utc>,
    /// The age of the oldest transaction of any client that this role may see; 0 where there is none.
    pub oldest_transaction_seconds: f64,
}

/// What the role may do in the schema.
#[derive(Debug, Clone, Default, PartialEq, sqlx::FromRow)]
pub struct Role {
    pub role: String,
    /// It may make tables there, as partitions are.
    pub can_create: bool,
    /// Tables that it may not both read and write; some of them where they are many.
    pub closed: Vec<String>,
    /// Partitioned tables that are somebody else's, so that it can add no partitions.
    pub not_owned: Vec<String>,
    /// Up to when tasks can be stored.
    pub partitions_until: Option<DateTime<Utc>>,
}

/// Servers, workers and what waits for them.
#[derive(Debug, Clone, Default, PartialEq, sqlx::FromRow)]
pub struct Cluster {
    pub servers: i64,
    /// Shards that no server works.
    pub orphaned_shards: i64,
    pub workers: i64,
    pub slots: i64,
    pub busy: i64,
    pub open_circuits: i64,
    /// Up to [`COUNTED`].
    pub pending_dead_letters: i64,
    /// Keys in force.
    pub api_keys: i64,
    pub expired_api_keys: i64,
}

/// Steps that no live worker can run.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Unserved {
    pub namespace: String,
    pub callable: String,
}

/// Dead letters are counted up to this many.
pub const COUNTED: i64 = 10_000;
/// Unserved handlers told of.
const MOST_UNSERVED: i64 = 20;

statements! {
    SERVER, "read_server" =
        "SELECT current_setting('server_version_num')::int4 AS version_number, current_setting('server_version') AS version,
                current_setting('max_connections')::int4 AS max_connections,
                (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')::int4 AS connections,
                current_setting('fsync')::bool AS fsync, current_setting('full_page_writes')::bool AS full_page_writes,
                current_setting('autovacuum')::bool AS autovacuum, current_setting('synchronous_commit') <> 'off' AS synchronous_commit,
                pg_is_in_recovery() AS is_replica,
                coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false) AS encrypted,
                -- both are null on a socket of the same machine
                coalesce(inet_client_addr() <> inet_server_addr(), false) AS remote,
                clock_timestamp() AS now,
                coalesce(extract(epoch FROM clock_timestamp() - (SELECT min(xact_start) FROM pg_stat_activity
                          WHERE backend_type = 'client backend' AND pid <> pg_backend_pid())), 0)::float8 AS oldest_transaction_seconds";
    ROLE, "read_role" =
        "SELECT current_user::text AS role, has_schema_privilege('tasker', 'CREATE') AS can_create,
                ARRAY (SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                        WHERE n.nspname = 'tasker' AND c.relkind IN ('r', 'p') AND c.relname <> 'migrations'
                          AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
                                   AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE'))
                        ORDER BY 1 LIMIT 5) AS closed,
                ARRAY (SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                        WHERE n.nspname = 'tasker' AND c.relkind = 'p' AND NOT pg_has_role(c.relowner, 'USAGE') ORDER BY 1) AS not_owned,
                -- up to the first week from this one on of which a partition is missing, though there are later ones
                (SELECT min(w.monday) AT TIME ZONE 'UTC'
                   FROM generate_series(date_trunc('week', now() AT TIME ZONE 'UTC'), now() AT TIME ZONE 'UTC' + interval '2 years', interval '7 days') AS w(monday)
                  WHERE 3 > (SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                              WHERE c.relnamespace = 'tasker'::regnamespace AND NOT i.inhdetachpending
                                AND c.relname IN ('tasks_' || to_char(w.monday, 'YYYYMMDD'), 'steps_' || to_char(w.monday, 'YYYYMMDD'),
                                                  'attempts_' || to_char(w.monday, 'YYYYMMDD')))) AS partitions_until";
    CLUSTER, "read_cluster" =
        "SELECT (SELECT count(DISTINCT owner) FROM tasker.shards WHERE owner IS NOT NULL AND until > now()) AS servers,
                (SELECT count(*) FROM tasker.shards WHERE owner IS NULL OR until <= now()) AS orphaned_shards,
                count(*) AS workers, coalesce(sum(w.slots), 0) AS slots, coalesce(sum(w.busy), 0) AS busy,
                (SELECT count(*) FROM tasker.circuits) AS open_circuits,
                (SELECT count(*) FROM (SELECT 1 FROM tasker.dead_letters WHERE resolution = 0 LIMIT $1) d) AS pending_dead_letters,
                (SELECT count(*) FROM tasker.api_keys
                  WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())) AS api_keys,
                (SELECT count(*) FROM tasker.api_keys WHERE revoked_at IS NULL AND expires_at <= now()) AS expired_api_keys
           FROM tasker.workers w WHERE w.stopped_at IS NULL AND w.lease_until > now()";
    UNSERVED, "list_unserved" =
        "SELECT DISTINCT l.namespace, l.callable FROM tasker.lanes l
          WHERE EXISTS (SELECT 1 FROM tasker.ready r WHERE r.lane = l.lane AND r.worker IS NULL)
            AND NOT EXISTS (SELECT 1 FROM tasker.workers w
                             WHERE w.stopped_at IS NULL AND w.lease_until > now() AND l.callable = ANY (w.callables)
                               AND (w.namespaces = '{}' OR l.namespace = ANY (w.namespaces)))
          ORDER BY 1, 2 LIMIT $1";
}

/// The server at the other end.
pub async fn get_server(pool: &Pool) -> Result<Server> {
    SERVER.run(sqlx::query_as(SERVER.sql).fetch_one(pool)).await
}

/// What the role may do; the migrations must have been applied.
pub async fn get_role(pool: &Pool) -> Result<Role> {
    ROLE.run(sqlx::query_as(ROLE.sql).fetch_one(pool)).await
}

/// Who is there; the migrations must have been applied.
pub async fn get_cluster(pool: &Pool) -> Result<Cluster> {
    let query = sqlx::query_as(CLUSTER.sql).bind(COUNTED);
    CLUSTER.run(query.fetch_one(pool)).await
}

/// Handlers that steps wait for and no live worker has.
pub async fn list_unserved(pool: &Pool) -> Result<Vec<Unserved>> {
    let query = sqlx::query_as(UNSERVED.sql).bind(MOST_UNSERVED);
    UNSERVED.run(query.fetch_all(pool)).await
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::db::migrate;
    use crate::db::pool::Target;
    use crate::db::workers::{self, Registration};
    use crate::embedded::Temporary;

    #[tokio::test]
    async fn an_empty_database_has_everything_but_servers_and_workers() {
        let postgres = Temporary::start().await.unwrap();
        let target = Target::parse(postgres.url(), "test", Duration::from_secs(10)).unwrap();
        migrate::run(&target).await.unwrap();
        let pool = target.pool(1);
        let server = get_server(&pool).await.unwrap();
        assert!(server.version_number >= 140_000 && !server.is_replica && !server.fsync);
        assert!(!server.encrypted && !server.remote);
        assert!((server.now - Utc::now()).num_seconds().abs() < 60);

        let role = get_role(&pool).await.unwrap();
        assert!(role.can_create && role.closed.is_empty() && role.not_owned.is_empty());
        let ahead = role.partitions_until.unwrap() - Utc::now();
        assert!((21..=42).contains(&ahead.num_days()), "{ahead}");
        // The last week has all it needs, and one before it lacks a partition.
        let gap = "DO $$ BEGIN EXECUTE 'DROP TABLE tasker.steps' || to_char(date_trunc('week', now() AT TIME ZONE 'UTC') + interval '7 days', '\"_\"YYYYMMDD'); END $$";
        sqlx::raw_sql(gap)
            .execute(&target.unmeasured_pool(1))
            .await
            .unwrap();
        let ahead = get_role(&pool).await.unwrap().partitions_until.unwrap() - Utc::now();
        assert!((0..=7).contains(&ahead.num_days()), "{ahead}");

        let cluster = get_cluster(&pool).await.unwrap();
        let nobody = Cluster {
            orphaned_shards: 16,
            ..Cluster::default()
        };
        assert_eq!(cluster, nobody);
        assert_eq!(list_unserved(&pool).await.unwrap(), []);

        let registration = Registration {
            worker: uuid::Uuid::now_v7(),
            name: "w".to_owned(),
            namespaces: vec!["shop".to_owned()],
            callables: vec!["echo".to_owned()],
            slots: 8,
            lease_ms: 60_000,
        };
        workers::register(&pool, &registration).await.unwrap();
        sqlx::raw_sql(
            "INSERT INTO tasker.lanes (namespace, callable, priority, target)
             VALUES ('shop', 'echo', 0, ''), ('bank', 'echo', 0, ''), ('shop', 'http', 0, ''), ('shop', 'sleep', 0, '');
             INSERT INTO tasker.ready (lane, id, task_uuid, correlation_id, enqueued_at, step_no, attempt, tries, lost,
                                       template_id, shard, priority, sampled)
             SELECT lane, lane, gen_random_uuid(), gen_random_uuid(), now(), 1, 1, 0, 0, 1, 0, 0, false
               FROM tasker.lanes WHERE callable <> 'sleep'",
        )
        .execute(&target.unmeasured_pool(1))
        .await
        .unwrap();
        let unserved = |namespace: &str, callable: &str| Unserved {
            namespace: namespace.to_owned(),
            callable: callable.to_owned(),
        };
        assert_eq!(
            list_unserved(&pool).await.unwrap(),
            [unserved("bank", "echo"), unserved("shop", "http")]
        );
        let cluster = get_cluster(&pool).await.unwrap();
        assert_eq!((cluster.workers, cluster.slots, cluster.busy), (1, 8, 0));
    }
}
