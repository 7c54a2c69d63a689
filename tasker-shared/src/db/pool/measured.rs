//! A pool that says how long it takes to get a connection from it, and how many it has. Queries run on it as
//! they do on the library's own.

use std::cell::Cell;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt, TryFutureExt, TryStreamExt};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgPool, PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Describe, Either, Error, Execute, Executor, Postgres, SqlStr};

use crate::metrics::database::{self, PoolUse};

/// A named pool of connections. Clones share it.
#[derive(Debug, Clone)]
pub struct Pool {
    name: &'static str,
    inner: Arc<PgPool>,
}

tokio::task_local! {
    /// How long the statement that is running waited for its connection.
    static WAITED: Cell<Duration>;
}

/// Runs a query, and says for how long it waited for a connection from a pool.
pub(in crate::db) async fn apart_from_waiting<F: Future>(query: F) -> (F::Output, Duration) {
    let apart = async { (query.await, WAITED.with(Cell::get)) };
    WAITED.scope(Cell::new(Duration::ZERO), apart).await
}

impl Pool {
    /// Shows how many connections it has for as long as it lives.
    pub(super) fn new(name: &'static str, inner: PgPool) -> Pool {
        let inner = Arc::new(inner);
        let weak = Arc::downgrade(&inner);
        database::watch_pool(name, move || {
            weak.upgrade()
                .map_or(PoolUse { active: 0, idle: 0 }, |pool| {
                    let idle = pool.num_idle() as u64;
                    PoolUse {
                        active: u64::from(pool.size()).saturating_sub(idle),
                        idle,
                    }
                })
        });
        Pool { name, inner }
    }

    /// Connections that it has open.
    pub fn size(&self) -> u32 {
        self.inner.size()
    }

    /// Those of them that nobody uses.
    pub fn num_idle(&self) -> usize {
        self.inner.num_idle()
    }

    /// A connection, opened where none is free and there may be another.
    pub async fn acquire(&self) -> Result<PoolConnection<Postgres>, Error> {
        let began = Instant::now();
        let acquired = self.inner.acquire().await;
        let took = began.elapsed();
        database::pool_waited(self.name, took);
        if acquired.is_ok() {
            // Outside a statement there is nobody to tell.
            let _ = WAITED.try_with(|waited| waited.set(waited.get() + took));
        }
        acquired
    }
}

impl<'p> Executor<'p> for &'p Pool {
    type Database = Postgres;

    fn execute<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<PgQueryResult, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        async move { self.acquire().await?.execute(query).await }.boxed()
    }

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        // All rows first: whoever streams holds its own connection.
        let rows = async move {
            let mut connection = self.acquire().await?;
            let rows: Vec<_> = connection.fetch_many(query).try_collect().await?;
            Ok(stream::iter(rows.into_iter().map(Ok)))
        };
        rows.try_flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        async move { self.acquire().await?.fetch_optional(query).await }.boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, Error>>
    where
        'p: 'e,
    {
        async move { self.acquire().await?.prepare_with(sql, parameters).await }.boxed()
    }

    // Required where the library's `offline` is on, which its macros switch on.
    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, Error>>
    where
        'p: 'e,
    {
        async move { self.acquire().await?.describe(sql).await }.boxed()
    }
}
