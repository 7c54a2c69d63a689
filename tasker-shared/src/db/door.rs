//! The door of the database: how a statement is declared, run, measured and named in errors.

use std::future::Future;
use std::time::{Duration, Instant};

use super::pool;
use crate::metrics::messaging::{Operation, Queue};
use crate::metrics::{database, messaging};
use crate::resilience::breaker::Breaker;

/// How long an answer is waited for. No statement of the project takes as long where the database is there; a
/// connection that has fallen silent without an end, as when its host is gone, would be waited for without one.
const ANSWER: Duration = Duration::from_secs(20);
/// The same for what goes through all data.
const AT_LENGTH: Duration = Duration::from_secs(24 * 60 * 60);

/// A statement of the project: its text and the name of what it does, a closed set.
#[derive(Debug, Clone, Copy)]
pub struct Statement {
    /// The name of the function that runs it.
    pub name: &'static str,
    /// Its text, parameters as `$1`.
    pub sql: &'static str,
    /// What it does to queues.
    pub calls: &'static [(Operation, Queue)],
}

/// A statement that failed, with the operation that ran it.
#[derive(Debug, thiserror::Error)]
#[error("{operation}: {source}")]
pub struct Error {
    operation: &'static str,
    source: sqlx::Error,
}

/// What a database function returns.
pub type Result<T> = std::result::Result<T, Error>;

impl Statement {
    /// Runs `query`, which must be this statement's, and names the operation where it fails. How long the
    /// pool took to give a connection is not the statement's time.
    pub async fn run<T>(
        &self,
        query: impl Future<Output = std::result::Result<T, sqlx::Error>>,
    ) -> Result<T> {
        self.run_within(ANSWER, query).await
    }

    /// The same for a statement that rightly takes as long as there is data.
    pub async fn run_at_length<T>(
        &self,
        query: impl Future<Output = std::result::Result<T, sqlx::Error>>,
    ) -> Result<T> {
        self.run_within(AT_LENGTH, query).await
    }

    async fn run_within<T>(
        &self,
        limit: Duration,
        query: impl Future<Output = std::result::Result<T, sqlx::Error>>,
    ) -> Result<T> {
        let began = Instant::now();
        let (result, waited) = pool::apart_from_waiting(limit, query).await;
        self.record(result.is_ok(), began.elapsed().saturating_sub(waited));
        result.map_err(|source| Error::new(self.name, source))
    }

    fn record(&self, ok: bool, took: Duration) {
        database::query(self.name, ok, took);
        for &(operation, queue) in self.calls {
            if ok {
                messaging::call_took(queue, operation, took);
            } else {
                messaging::failed(queue, operation);
            }
        }
    }
}

impl Error {
    /// An error of `operation`.
    pub fn new(operation: &'static str, source: sqlx::Error) -> Error {
        Error { operation, source }
    }

    /// Whether the database could not be reached or is not serving, so that the same call may succeed
    /// when it is back: the connection is gone, or SQLSTATE class 08, 53, 57P.
    pub fn is_unavailable(&self) -> bool {
        match &self.source {
            sqlx::Error::Io(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::Protocol(_)
            | sqlx::Error::Tls(_) => true,
            sqlx::Error::Database(e) => e.code().is_some_and(|code| {
                code.starts_with("08") || code.starts_with("53") || code.starts_with("57P")
            }),
            _ => false,
        }
    }

    /// Whether the statement lost a race with another transaction (a deadlock or serialization failure)
    /// and may simply run again.
    pub fn is_conflict(&self) -> bool {
        matches!(&self.source, sqlx::Error::Database(e)
            if e.code().is_some_and(|code| code == "40P01" || code == "40001"))
    }

    /// Whether a table with `part` in its name is not there.
    pub(super) fn is_missing(&self, part: &str) -> bool {
        matches!(&self.source, sqlx::Error::Database(e)
            if e.code().is_some_and(|code| code == "42P01") && e.message().contains(part))
    }

    /// Whether there was no partition for a row.
    pub fn is_missing_partition(&self) -> bool {
        // A check violation that names no constraint is that.
        matches!(&self.source, sqlx::Error::Database(e)
            if e.code().is_some_and(|code| code == "23514") && e.constraint().is_none())
    }

    /// Whether what was sent is at fault, so that sending it again brings the same error: it is no valid value,
    /// breaks a constraint or is too large, SQLSTATE class 22, 23 or 54, or it could not be sent at all. A partition
    /// that is not there is nobody's fault.
    pub fn blames_data(&self) -> bool {
        match &self.source {
            sqlx::Error::Encode(_) => true,
            _ if self.is_missing_partition() => false,
            _ => self
                .sqlstate()
                .is_some_and(|code| ["22", "23", "54"].contains(&code.get(..2).unwrap_or(""))),
        }
    }

    /// The server's SQLSTATE, where it answered with one.
    pub fn sqlstate(&self) -> Option<String> {
        match &self.source {
            sqlx::Error::Database(e) => e.code().map(|code| code.into_owned()),
            _ => None,
        }
    }
}

/// The database's answer, or that there was none in time: then the connection is not to be used any more.
pub(super) async fn answered<T>(
    query: impl Future<Output = std::result::Result<T, sqlx::Error>>,
) -> std::result::Result<T, sqlx::Error> {
    pool::silence::within(ANSWER, query).await
}

/// Passes `result` on, and tells the breaker whether the database was reached: one that answers with an error was.
pub fn tell<T>(breaker: &Breaker, result: Result<T>) -> Result<T> {
    match &result {
        Err(error) if error.is_unavailable() => breaker.failed(),
        _ => breaker.succeeded(),
    }
    result
}

/// Declares the statements of a room: constants, and `STATEMENTS` with all of them. What a statement does to
/// queues stands behind its name, as `[Delete Steps, Send Results]`.
macro_rules! statements {
    ($($(#[$doc:meta])* $constant:ident, $name:literal $(, [$($operation:ident $queue:ident),+])? = $sql:expr;)+) => {
        $($(#[$doc])* const $constant: $crate::db::Statement =
            $crate::db::Statement {
                name: $name,
                sql: $sql,
                calls: &[$($((
                    $crate::metrics::messaging::Operation::$operation,
                    $crate::metrics::messaging::Queue::$queue,
                )),+)?],
            };)+
        #[cfg(test)]
        pub(in crate::db) const STATEMENTS: &[&$crate::db::Statement] = &[$(&$constant),+];
    };
}
pub(in crate::db) use statements;
