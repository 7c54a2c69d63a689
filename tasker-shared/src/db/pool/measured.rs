//! A pool that says how long it takes to get a connection from it, and how many it has. Queries run on it as
//! they do on the library's own.

use std::cell::Cell;
use std::future::{Future, pending};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt, TryFutureExt, TryStreamExt};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgPool, PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Connection, Describe, Either, Error, Execute, Executor, Postgres, SqlStr};
use tokio::runtime::Handle;

use self::acquired::Acquired;
use super::silence::{in_vain, silent, within, within_since};
use crate::metrics::database::{self, PoolUse};

mod acquired;

pub use acquired::Acquires;

/// How long a query is left to run that nobody waits for any more.
const LEFT: Duration = Duration::from_secs(20);

/// A named pool of connections. Clones share it.
#[derive(Debug, Clone)]
pub struct Pool {
    name: &'static str,
    inner: Arc<PgPool>,
    acquired: Arc<Acquired>,
}

tokio::task_local! {
    /// How long the statement that is running waited for a connection of a pool, where it has asked for one.
    static WAITED: Cell<Option<Duration>>;
    /// How long an answer to it is waited for.
    static LIMIT: Duration;
}

/// Runs a query whose answer may take up to `limit`, and says for how long it waited for a connection from a pool.
pub(in crate::db) async fn apart_from_waiting<T>(
    limit: Duration,
    query: impl Future<Output = Result<T, Error>>,
) -> (Result<T, Error>, Duration) {
    let began = Instant::now();
    // A pool gives up by itself and earlier, since only it knows which connection it is that does not answer.
    let given_up = async {
        in_vain(began).await;
        if WAITED.with(Cell::get).is_some() {
            pending().await
        }
    };
    let answered = async {
        tokio::select! {
            biased;
            answer = query => answer,
            () = given_up => Err(silent()),
            () = tokio::time::sleep(limit) => Err(silent()),
        }
    };
    let answered = LIMIT.scope(limit * 2 / 3, answered);
    let apart = async { (answered.await, WAITED.with(Cell::get).unwrap_or_default()) };
    WAITED.scope(Cell::new(None), apart).await
}

/// How long an answer is waited for on a connection of a pool: for ever outside a statement.
fn limit() -> Duration {
    LIMIT.try_with(|limit| *limit).unwrap_or(Duration::MAX)
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
        Pool {
            name,
            inner,
            acquired: Arc::default(),
        }
    }

    /// Connections that it has open.
    pub fn size(&self) -> u32 {
        self.inner.size()
    }

    /// Those of them that nobody uses.
    pub fn num_idle(&self) -> usize {
        self.inner.num_idle()
    }

    /// How connections have been got from it.
    pub fn acquires(&self) -> Acquires {
        self.acquired.sum()
    }

    /// A connection, opened where none is free and there may be another.
    pub async fn acquire(&self) -> Result<PoolConnection<Postgres>, Error> {
        let began = Instant::now();
        // Outside a statement there is nobody to tell.
        let waited = |took| {
            let _ = WAITED.try_with(|waited| {
                waited.set(Some(waited.get().unwrap_or_default() + took));
            });
        };
        waited(Duration::ZERO);
        let acquired = self.inner.acquire().await;
        let took = began.elapsed();
        database::pool_waited(self.name, took);
        self.acquired.add(took, acquired.is_ok());
        if acquired.is_ok() {
            waited(took);
        }
        acquired
    }
}

/// A connection with a query under way.
struct UnderWay {
    /// Gone when it is settled.
    connection: Option<PoolConnection<Postgres>>,
    began: Instant,
}

impl UnderWay {
    async fn begin(pool: &Pool) -> Result<UnderWay, Error> {
        let connection = pool.acquire().await?;
        Ok(UnderWay {
            connection: Some(connection),
            began: Instant::now(),
        })
    }

    fn connection(&mut self) -> Result<&mut PgConnection, Error> {
        self.connection.as_deref_mut().ok_or(Error::PoolClosed)
    }

    /// Gives the connection back; one that is broken or has fallen silent is closed instead, since whoever had it next
    /// would wait too.
    fn settle<T>(mut self, answer: Result<T, Error>) -> Result<T, Error> {
        if let Some(mut connection) = self.connection.take()
            && matches!(answer, Err(Error::Io(_)))
        {
            connection.close_on_drop();
        }
        answer
    }
}

impl Drop for UnderWay {
    /// Whoever waited for the answer has gone away. The connection keeps its place in the pool until it is free again, so
    /// that no more queries run than may; the library would wait for that for ever.
    fn drop(&mut self) {
        let (connection, began) = (self.connection.take(), self.began);
        let runtime = Handle::try_current();
        if let (Some(mut connection), Ok(runtime)) = (connection, runtime) {
            runtime.spawn(async move {
                let free = within_since(began, LEFT, connection.ping()).await;
                if free.is_err() {
                    connection.close_on_drop();
                }
            });
        }
    }
}

impl<'p> Executor<'p> for &'p Pool {
    type Database = Postgres;

    fn execute<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<PgQueryResult, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        async move {
            let mut way = UnderWay::begin(self).await?;
            let answer = within(limit(), way.connection()?.execute(query)).await;
            way.settle(answer)
        }
        .boxed()
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
            let mut way = UnderWay::begin(self).await?;
            let rows = way.connection()?.fetch_many(query).try_collect::<Vec<_>>();
            let answer = within(limit(), rows).await;
            let rows = way.settle(answer)?;
            Ok(stream::iter(rows.into_iter().map(Ok)))
        };
        rows.try_flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        async move {
            let mut way = UnderWay::begin(self).await?;
            let answer = within(limit(), way.connection()?.fetch_optional(query)).await;
            way.settle(answer)
        }
        .boxed()
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::db::pool::Target;
    use crate::embedded::Temporary;

    #[tokio::test]
    async fn a_connection_that_does_not_answer_is_given_up_and_another_takes_its_place() {
        let postgres = Temporary::start().await.unwrap();
        let target = Target::parse(postgres.url(), "test", Duration::from_secs(30)).unwrap();
        let pool = target.pool(1);
        let silent = sqlx::query("SELECT pg_sleep(3600)").execute(&pool);
        let (answer, _) = apart_from_waiting(Duration::from_millis(300), silent).await;
        let error = crate::db::Error::new("sleep", answer.unwrap_err());
        assert!(error.is_unavailable(), "{error}");
        // There is one at most, so this has to be another.
        let query = sqlx::query_scalar::<_, i32>("SELECT 1").fetch_one(&pool);
        let (answer, _) = apart_from_waiting(Duration::from_secs(30), query).await;
        assert_eq!(answer.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_silent_connection_that_nobody_waits_on_any_more_keeps_no_place_in_the_pool() {
        let postgres = Temporary::start().await.unwrap();
        let target = Target::parse(postgres.url(), "test", Duration::from_secs(30)).unwrap();
        let pool = target.pool(1);
        let slow = sqlx::query("SELECT pg_sleep(3600)").execute(&pool);
        let gone = tokio::time::timeout(Duration::from_millis(300), slow).await;
        assert!(gone.is_err());
        super::super::silence::found(Instant::now());
        let query = sqlx::query_scalar::<_, i32>("SELECT 1").fetch_one(&pool);
        assert_eq!(query.await.unwrap(), 1);
    }
}
