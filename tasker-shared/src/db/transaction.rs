//! Explicit transactions: begun, ended and measured here. Messages that statements move inside one are told
//! to the metrics when it is committed, and only then.

use std::ops::{Deref, DerefMut};
use std::time::Instant;

use sqlx::{Connection, PgConnection, Postgres};
use uuid::Uuid;

use super::door::answered;
use super::{Error, Result};
use crate::metrics::Correlation;
use crate::metrics::database::{self, End};
use crate::metrics::messaging::{self, Operation, Queue};

/// A transaction; one that is dropped is rolled back. Statements run on the connection that it leads to.
#[derive(Debug)]
pub struct Transaction<'c> {
    operation: &'static str,
    inner: sqlx::Transaction<'c, Postgres>,
    moved: Vec<Moved>,
    timer: Timer,
}

/// Messages that a statement moved.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moved {
    pub(super) operation: Operation,
    pub(super) queue: Queue,
    pub(super) messages: usize,
    /// One of them.
    pub(super) recent: Option<Correlation>,
}

impl Moved {
    /// Counts them.
    pub(super) fn record(self) {
        let messages = self.messages as u64;
        match self.operation {
            Operation::Send => messaging::sent(self.queue, messages, self.recent),
            Operation::Receive => messaging::received(self.queue, messages, self.recent),
            Operation::Delete => messaging::deleted(self.queue, messages, self.recent),
            Operation::Extend => {}
        }
    }
}

/// A correlation id that a statement returned as an example.
pub(super) fn recent(id: Option<Uuid>, sampled: Option<bool>) -> Option<Correlation> {
    Some(Correlation {
        id: id?,
        sampled: sampled?,
    })
}

/// Records how a transaction ended, whichever way it does.
#[derive(Debug)]
struct Timer {
    began: Instant,
    end: End,
}

impl Drop for Timer {
    fn drop(&mut self) {
        database::transaction(self.end, self.began.elapsed());
    }
}

impl<'c> Transaction<'c> {
    /// Begins a transaction; errors of its beginning and end name `operation`.
    pub async fn begin(
        connection: &'c mut PgConnection,
        operation: &'static str,
    ) -> Result<Transaction<'c>> {
        let began = Instant::now();
        let inner = answered(connection.begin())
            .await
            .map_err(|source| Error::new(operation, source))?;
        Ok(Transaction {
            operation,
            inner,
            moved: Vec::new(),
            timer: Timer {
                began,
                end: End::Rollback,
            },
        })
    }

    /// Makes everything lasting. Where this fails because the connection broke, it may have been done.
    pub async fn commit(mut self) -> Result<()> {
        let operation = self.operation;
        answered(self.inner.commit())
            .await
            .map_err(|source| Error::new(operation, source))?;
        self.timer.end = End::Commit;
        self.moved.into_iter().for_each(Moved::record);
        Ok(())
    }

    /// Undoes everything.
    pub async fn rollback(self) -> Result<()> {
        let operation = self.operation;
        answered(self.inner.rollback())
            .await
            .map_err(|source| Error::new(operation, source))
    }

    /// Counts these messages once the transaction is committed.
    pub(super) fn moved(&mut self, moved: Moved) {
        self.moved.push(moved);
    }
}

impl Deref for Transaction<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.inner
    }
}

impl DerefMut for Transaction<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.inner
    }
}
