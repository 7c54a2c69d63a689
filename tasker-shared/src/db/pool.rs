//! Connections: the pool for occasional statements, and pinned connections for the loops that always
//! have one in use.

use std::str::FromStr;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection};

use super::{Error, Result};

mod measured;
pub(super) mod silence;
#[cfg(test)]
mod tls;

pub(super) use measured::apart_from_waiting;
pub use measured::{Acquires, Pool};

/// A connection unused for so long may have died meanwhile: a database takes longer than that to restart.
const REST: Duration = Duration::from_secs(1);

/// When PostgreSQL ends a transaction whose process says nothing: the host of that process may be gone, and what
/// the transaction holds would be held until the network gives up, which by default takes two hours.
const ABANDONED: &str = "60s";

/// Connections for the duties of a server.
const DUTIES: u32 = 2;

/// How to reach the database, from its URL.
#[derive(Debug, Clone)]
pub struct Target {
    options: PgConnectOptions,
    connect_timeout: Duration,
    /// Without any setting of a session.
    plain: PgConnectOptions,
    /// A pooler stands between, which refuses settings of sessions: the role has them (`pooler`).
    is_pooled: bool,
}

/// A URL that names no database, or not one of PostgreSQL.
#[derive(Debug, thiserror::Error)]
#[error(
    "the database URL is not usable: {source}; give postgres://user:password@host:port/database"
)]
pub struct BadUrl {
    source: sqlx::Error,
}

impl Target {
    /// Reads `url`. Every connection says its `application`; it is spared notices of what was to be expected,
    /// and plans that are compiled, which takes longer than running any statement here; its transactions do not
    /// outlive its process for long.
    pub fn parse(
        url: &str,
        application: &str,
        connect_timeout: Duration,
    ) -> std::result::Result<Target, BadUrl> {
        let plain = PgConnectOptions::from_str(url)
            .map_err(|source| BadUrl { source })?
            .application_name(application)
            .disable_statement_logging();
        let options = plain.clone().options([
            ("client_min_messages", "warning"),
            ("jit", "off"),
            ("idle_in_transaction_session_timeout", ABANDONED),
        ]);
        Ok(Target {
            options,
            connect_timeout,
            plain,
            is_pooled: false,
        })
    }

    /// The same through a pooler that gives out connections for a transaction, where `is_pooled`.
    #[must_use]
    pub fn behind_pooler(self, is_pooled: bool) -> Target {
        if !is_pooled {
            return self;
        }
        Target {
            // Sent by the library unasked, and unknown to poolers; it is about numbers as text.
            options: self.plain.clone().extra_float_digits(None),
            is_pooled,
            ..self
        }
    }

    /// Whether a pooler stands between.
    #[must_use]
    pub fn is_pooled(&self) -> bool {
        self.is_pooled
    }

    /// The same for statements that reach rows by key: one plan serves every call. It may have been made when a table
    /// that grows had a page or two, which is quickest read whole; a minute later it has thousands, so none is.
    pub fn by_key(&self) -> Target {
        self.with(&[
            ("plan_cache_mode", "force_generic_plan"),
            ("enable_seqscan", "off"),
        ])
    }

    /// The same for statements on batches that come as arrays. The planner cannot see how long an array
    /// is, and hot tables are empty whenever it looks: left alone it plans each call anew, or scans and
    /// hashes whole tables, or gathers and sorts all that waits for the few that are taken. So plans are made once,
    /// and reach every row by its key, in its order. The whole index of an empty table would be another way, so joins
    /// compare the first column of a key as `lane = ANY (ARRAY[e.lane])`, by which no index is read from its beginning.
    pub fn batches(&self) -> Target {
        self.by_key().with(&[
            ("enable_bitmapscan", "off"),
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
        ])
    }

    /// The same for acceptance, which joins what it inserts with what it was given: by hash, not by loops.
    pub fn acceptance(&self) -> Target {
        self.by_key().with(&[("enable_mergejoin", "off")])
    }

    fn with(&self, settings: &[(&str, &str)]) -> Target {
        if self.is_pooled {
            return self.clone();
        }
        Target {
            options: self.options.clone().options(settings.iter().copied()),
            ..self.clone()
        }
    }

    /// A pool of at most `connections`, opened as they are needed, not tested before each use but after a rest: when
    /// the database has been away, whoever asks next gets none of the dead ones. Its statements reach rows by
    /// key.
    pub fn pool(&self, connections: u32) -> Pool {
        Pool::new("general", self.by_key().unmeasured_pool(connections))
    }

    /// A small pool beside the general one, for the duties of a server that must not wait until that is free.
    pub fn duties(&self) -> Pool {
        Pool::new("duties", self.batches().unmeasured_pool(DUTIES))
    }

    /// The same as the library has it.
    pub(super) fn unmeasured_pool(&self, connections: u32) -> PgPool {
        PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(self.connect_timeout)
            .test_before_acquire(false)
            .before_acquire(|connection, rested| {
                Box::pin(async move {
                    let opened = Instant::now().checked_sub(rested.age);
                    if opened.is_some_and(silence::is_doubtful) {
                        return Err(silence::silent());
                    }
                    if rested.idle_for >= REST {
                        silence::ask(connection).await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(self.options.clone())
    }

    /// A connection of its own.
    pub async fn connect(&self) -> Result<PgConnection> {
        let connected = self.try_connect().await;
        connected.map_err(|source| Error::new("connect", source))
    }

    async fn try_connect(&self) -> std::result::Result<PgConnection, sqlx::Error> {
        let connected = PgConnection::connect_with(&self.options);
        let connected = tokio::time::timeout(self.connect_timeout, connected).await;
        connected.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }
}

/// A connection that one loop keeps, opened anew after it broke.
#[derive(Debug)]
pub struct Pinned {
    target: Target,
    connection: Option<Opened>,
    /// When the first of those was asked that were silent since one answered.
    silent_since: Option<Instant>,
}

#[derive(Debug)]
struct Opened {
    connection: PgConnection,
    at: Instant,
}

impl Pinned {
    /// Opens nothing yet.
    pub fn new(target: Target) -> Pinned {
        Pinned {
            target,
            connection: None,
            silent_since: None,
        }
    }

    /// The connection, opened where there is none, or none that is to be trusted.
    pub async fn get(&mut self) -> Result<&mut PgConnection> {
        let opened = self.open().await;
        opened.map_err(|source| Error::new("connect", source))
    }

    /// The same for a statement that has failed where there is no connection for it.
    pub(super) async fn open(&mut self) -> std::result::Result<&mut PgConnection, sqlx::Error> {
        let trusted = self
            .connection
            .take()
            .filter(|opened| !silence::is_doubtful(opened.at));
        let opened = match trusted {
            Some(opened) => opened,
            None => {
                let at = Instant::now();
                let connection = self.target.try_connect().await?;
                Opened { connection, at }
            }
        };
        Ok(&mut self.connection.insert(opened).connection)
    }

    /// Asks the connection whether it answers; where it has fallen silent and the next one does answer, the
    /// process does without all others that are as old. For loops that wait for nothing else.
    pub async fn test(&mut self) -> Result<()> {
        let asked = Instant::now();
        let answer = silence::ask(self.get().await?).await;
        match answer {
            Ok(()) => {
                let is_newer =
                    |since: &Instant| self.connection.as_ref().is_some_and(|c| c.at >= *since);
                if let Some(since) = self.silent_since.take().filter(is_newer) {
                    silence::found(since);
                }
                Ok(())
            }
            Err(error) => {
                if silence::is_silence(&error) {
                    self.silent_since.get_or_insert(asked);
                }
                self.connection = None;
                Err(Error::new("test_connection", error))
            }
        }
    }

    /// Closes the connection where there is one: the next is a new one.
    pub fn forget(&mut self) {
        self.connection = None;
    }

    /// Passes `result` on, and forgets the connection where it is an error that the connection may not
    /// have survived.
    pub fn check<T>(&mut self, result: Result<T>) -> Result<T> {
        if result.as_ref().is_err_and(Error::is_unavailable) {
            self.connection = None;
        }
        result
    }
}
