//! Servers and the shards they own. A server holds a shard for five seconds at a time and renews well
//! before; whoever finds one free may take it.

use sqlx::PgExecutor;
use uuid::Uuid;

use super::{Result, statements};

/// A shard as one server sees it.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Shard {
    pub shard: i16,
    pub epoch: i64,
    /// Held by the asking server.
    pub mine: bool,
    /// Held by nobody, or by a server whose time is over.
    pub free: bool,
    /// How many other servers are alive; the same for every shard.
    pub others: i64,
}

statements! {
    RENEW, "renew_server" =
        "WITH
         -- this server is alive
         alive AS (INSERT INTO tasker.servers (server, name, version, started_at, until)
                   VALUES ($1, $2, $3, now(), now() + interval '5 s')
                   ON CONFLICT (server) DO UPDATE SET until = excluded.until),
         -- and keeps what it still holds
         kept AS (UPDATE tasker.shards SET until = now() + interval '5 s'
                   WHERE owner = $1 AND until > now() RETURNING shard)
         SELECT s.shard, s.epoch, k.shard IS NOT NULL AS mine, k.shard IS NULL AND s.until <= now() AS free,
                (SELECT count(*) FROM tasker.servers WHERE until > now() AND server <> $1) AS others
           FROM tasker.shards s LEFT JOIN kept k USING (shard) ORDER BY s.shard";
    TAKE, "take_shards" =
        "UPDATE tasker.shards SET owner = $1, epoch = epoch + 1, until = now() + interval '5 s'
          WHERE shard = ANY (ARRAY (SELECT shard FROM tasker.shards
                                     WHERE until <= now() ORDER BY random() LIMIT $2 FOR UPDATE SKIP LOCKED))
         RETURNING shard, epoch, true AS mine, false AS free, 0::int8 AS others";
    RELEASE, "release_shards" =
        "UPDATE tasker.shards SET owner = NULL, until = '-infinity' WHERE owner = $1 AND shard = ANY ($2)";
    LEAVE, "delete_server" =
        "WITH freed AS (UPDATE tasker.shards SET owner = NULL, until = '-infinity' WHERE owner = $1)
         DELETE FROM tasker.servers WHERE server = $1 OR until < now() - interval '1 day'";
}

/// Says that `server` is alive, renews the shards it holds, and tells the state of all.
pub async fn renew<'c>(on: impl PgExecutor<'c>, server: Uuid, name: &str) -> Result<Vec<Shard>> {
    let query = sqlx::query_as(RENEW.sql)
        .bind(server)
        .bind(name)
        .bind(env!("CARGO_PKG_VERSION"));
    RENEW.run(query.fetch_all(on)).await
}

/// Takes up to `most` free shards.
pub async fn take<'c>(on: impl PgExecutor<'c>, server: Uuid, most: i64) -> Result<Vec<Shard>> {
    let query = sqlx::query_as(TAKE.sql).bind(server).bind(most);
    TAKE.run(query.fetch_all(on)).await
}

/// Gives shards back for others to take.
pub async fn release<'c>(on: impl PgExecutor<'c>, server: Uuid, shards: &[i16]) -> Result<()> {
    let query = sqlx::query(RELEASE.sql).bind(server).bind(shards);
    RELEASE.run(query.execute(on)).await.map(drop)
}

/// Gives back everything: the server stops.
pub async fn leave<'c>(on: impl PgExecutor<'c>, server: Uuid) -> Result<()> {
    LEAVE
        .run(sqlx::query(LEAVE.sql).bind(server).execute(on))
        .await
        .map(drop)
}
