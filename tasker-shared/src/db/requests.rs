//! Submissions made by `tasker.submit_task` inside a user's own transaction, until their tasks are made.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::transaction::{Moved, Transaction};
use super::{Result, statements};
use crate::metrics::Correlation;
use crate::metrics::messaging::{Operation, Queue};

/// A submission. Its idempotency key, where it has one, is recorded already.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Request {
    pub id: i64,
    pub task_uuid: Uuid,
    pub namespace: String,
    pub name: String,
    pub version: Option<String>,
    pub context: String,
    pub priority: i16,
    pub correlation_id: Uuid,
    pub parent_correlation_id: Option<Uuid>,
    pub idempotency_key: Option<String>,
    pub initiator: Option<String>,
    pub source_system: Option<String>,
    pub reason: Option<String>,
    pub tags: Vec<String>,
    pub run_at: Option<DateTime<Utc>>,
    pub requested_at: DateTime<Utc>,
}

statements! {
    WANTED, "list_wanted" =
        "SELECT DISTINCT namespace, name, version, priority
           FROM (SELECT namespace, name, version, priority FROM tasker.requests WHERE id <> ALL ($1) ORDER BY id LIMIT $2) r";
    TAKE, "take_requests", [Receive Requests, Delete Requests] =
        "DELETE FROM tasker.requests
          WHERE id = ANY (ARRAY (SELECT id FROM tasker.requests WHERE id <> ALL ($1) ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED))
         RETURNING id, task_uuid, namespace, name, version, context::text AS context, priority, correlation_id, parent_correlation_id,
                   idempotency_key, initiator, source_system, reason, tags, run_at, requested_at";
}

/// The template that a submission asks for, and its priority.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Wanted {
    pub namespace: String,
    pub name: String,
    pub version: Option<String>,
    pub priority: i16,
}

/// What the submissions ask for that `take` would take now; nothing where none waits.
pub async fn list_wanted(
    connection: &mut PgConnection,
    without: &[i64],
    most: i64,
) -> Result<Vec<Wanted>> {
    let query = sqlx::query_as(WANTED.sql).bind(without).bind(most);
    WANTED.run(query.fetch_all(connection)).await
}

/// Takes up to `most` submissions, `without` some; they are gone when the transaction that this runs in commits,
/// which must therefore be the one that makes their tasks.
pub async fn take(
    transaction: &mut Transaction<'_>,
    without: &[i64],
    most: i64,
) -> Result<Vec<Request>> {
    let query = sqlx::query_as(TAKE.sql).bind(without).bind(most);
    let requests: Vec<Request> = TAKE.run(query.fetch_all(&mut **transaction)).await?;
    let recent = requests.last().map(|request| Correlation {
        id: request.correlation_id,
        sampled: false,
    });
    // Users' own transactions put them there; no process of ours sees them any earlier than this.
    for operation in [Operation::Send, Operation::Receive, Operation::Delete] {
        transaction.moved(Moved {
            operation,
            queue: Queue::Requests,
            messages: requests.len(),
            recent,
        });
    }
    Ok(requests)
}
