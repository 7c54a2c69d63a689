//! Dead letters as they are written: made of tasks that ended badly or were put there by hand, resolved when the
//! task goes on, annotated by people. What is read of them is in `dead_letter_views`.

use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::dead_letter_views::{Entry, columns};
use super::pool::Pool;
use super::transaction::{Moved, Transaction};
use super::{Error, Result, statements};
use crate::metrics::messaging::{Operation, Queue};
use crate::plan::Message;
use crate::plan::dead_letter::{Reason, Resolution};

/// Steps that are copied into an entry, the failed ones first.
const MOST_STEPS: i64 = 50;
/// A context above this is not copied: the task's row has it.
const MOST_CONTEXT_BYTES: i32 = 16 * 1024;
/// An error above this is copied as the beginning of its text.
const MOST_ERROR_BYTES: i32 = 4 * 1024;

/// A dead letter that was made, or one put there by a person that is told anew since its task failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buried {
    pub entry: Uuid,
    pub task_uuid: Uuid,
    pub namespace: String,
    pub reason: Reason,
}

/// What a person changes of an entry; what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct Change {
    pub resolution: Option<Resolution>,
    pub notes: Option<String>,
    pub by: Option<String>,
    /// JSON text.
    pub metadata: Option<String>,
}

/// Everything that is needed to understand a task `d` with its template `p`: the steps that did not end well, each
/// with its last attempt, and the task. The arguments are the parameters of the constants above.
macro_rules! snapshot {
    ($steps:literal, $context:literal, $error:literal) => {
        concat!(
            "json_build_object(
                 'task', json_build_object(
                     'task_uuid', d.task_uuid, 'namespace', p.namespace, 'name', p.name, 'version', p.version, 'priority', d.priority,
                     'correlation_id', d.correlation_id, 'parent_correlation_id', d.parent_correlation_id, 'initiator', d.initiator,
                     'source_system', d.source_system, 'reason', d.reason, 'tags', d.tags, 'idempotency_key', d.idempotency_key,
                     'created_at', d.created_at, 'run_at', d.run_at, 'completed_at', d.completed_at, 'failure', d.failure,
                     'context', CASE WHEN octet_length(d.context::text) <= ", $context, " THEN d.context END,
                     'context_bytes', octet_length(d.context::text)),
                 'steps', (SELECT coalesce(json_agg(json_build_object(
                               'step_no', s.step_no, 'state', s.state, 'attempts', s.tries, 'lost_leases', s.lost, 'changed_at', s.changed_at,
                               'outcome', a.outcome, 'worker', a.worker, 'finished_at', a.finished_at,
                               -- no part of an error is read here: a NUL in one would fail the statement
                               'error', CASE WHEN octet_length(a.error::text) <= ", $error, " THEN a.error
                                             ELSE json_build_object('shortened', left(a.error::text, ", $error, "))::json END)
                               ORDER BY s.step_no), '[]')
                             FROM (SELECT * FROM tasker.steps s WHERE s.task_uuid = d.task_uuid AND s.step_no <= p.step_count AND s.state NOT IN (6, 9)
                                    ORDER BY s.state <> 7, s.step_no LIMIT ", $steps, ") s
                             LEFT JOIN LATERAL (SELECT a.outcome, a.worker, a.finished_at, a.error FROM tasker.attempts a
                                                 WHERE a.task_uuid = d.task_uuid AND a.step_no = s.step_no ORDER BY a.attempt DESC LIMIT 1) a ON true))"
        )
    };
}

statements! {
    BURY, "bury_tasks", [Delete Results] =
        concat!("WITH
         -- the messages, each applied by whoever deletes it; only of shards that are still this server's
         gone AS (DELETE FROM tasker.results r USING unnest($2::int2[], $3::int8[], $4::bool[]) AS m(shard, id, stale_counts)
                   WHERE r.shard = ANY (ARRAY[m.shard]) AND r.id = m.id
                     AND m.shard = ANY (ARRAY (SELECT shard FROM tasker.shards WHERE owner = $1 AND until > now()))
                  RETURNING r.task_uuid, m.stale_counts),
         -- their tasks, each once, that have not gone on since
         dead AS (SELECT DISTINCT ON (g.task_uuid) t.*, g.stale_counts FROM gone g JOIN tasker.tasks t ON t.task_uuid = ANY (ARRAY[g.task_uuid]) AND t.state IN (7, 9)
                   ORDER BY g.task_uuid),
         -- why, by the last attempts of the steps that failed
         judged AS (SELECT d.task_uuid, r.reason
                      FROM dead d,
                           LATERAL (SELECT CASE WHEN d.failure IS NOT NULL THEN 5 WHEN bool_or(a.outcome = 10) THEN 3 WHEN bool_or(a.outcome = 9) THEN 4
                                                WHEN bool_or(a.outcome = 6) THEN 2 WHEN bool_or(a.outcome = 2) THEN 1 ELSE 0 END AS reason
                                      FROM tasker.steps s,
                                           LATERAL (SELECT a.outcome FROM tasker.attempts a WHERE a.task_uuid = d.task_uuid AND a.step_no = s.step_no
                                                     ORDER BY a.attempt DESC LIMIT 1) a
                                     WHERE s.task_uuid = d.task_uuid AND s.state = 7) r
                     WHERE r.reason <> 3 OR d.stale_counts),
         -- what a person has put there for other reasons is told anew
         made AS (INSERT INTO tasker.dead_letters AS l (task_uuid, template_id, namespace, name, reason, original_state, buried_at, updated_at, snapshot)
                  SELECT d.task_uuid, d.template_id, p.namespace, p.name, j.reason, d.state, now(), now(), ", snapshot!("$5", "$6", "$7"), "
                    FROM judged j JOIN dead d USING (task_uuid) JOIN tasker.templates p ON p.template_id = d.template_id
                  ON CONFLICT (task_uuid) WHERE resolution = 0
                  DO UPDATE SET reason = excluded.reason, original_state = excluded.original_state, snapshot = excluded.snapshot, updated_at = now()
                   WHERE l.reason = 6
                  RETURNING entry, task_uuid, namespace, reason)
         SELECT n.gone, m.entry, m.task_uuid, m.namespace, m.reason FROM (SELECT count(*) AS gone FROM gone) n LEFT JOIN made m ON true");
    ADD, "add_dead_letter" =
        concat!("INSERT INTO tasker.dead_letters (task_uuid, template_id, namespace, name, reason, original_state, buried_at, updated_at, notes, metadata, snapshot)
         SELECT d.task_uuid, d.template_id, p.namespace, p.name, 6, d.state, now(), now(), $2::text, CASE WHEN $3::text IS NOT NULL THEN json_build_object('added_by', $3::text) END, ",
                snapshot!("$4", "$5", "$6"), "
           FROM tasker.tasks d JOIN tasker.templates p USING (template_id) WHERE d.task_uuid = $1
         ON CONFLICT (task_uuid) WHERE resolution = 0 DO NOTHING
         RETURNING ", columns!());
    RESOLVE, "resolve_dead_letter" =
        "UPDATE tasker.dead_letters
            SET resolution = $2, resolved_at = now(), updated_at = now(), resolved_by = coalesce($3::text, resolved_by), notes = nullif(concat_ws(E'\n', notes, $4::text), '')
          WHERE task_uuid = $1 AND resolution = 0";
    PENDING, "find_pending_dead_letter" = "SELECT entry FROM tasker.dead_letters WHERE task_uuid = $1 AND resolution = 0 FOR UPDATE";
    UPDATE, "update_dead_letter" =
        concat!("UPDATE tasker.dead_letters
            SET resolution = coalesce($2::int2, resolution), updated_at = now(), notes = coalesce($3::text, notes), resolved_by = coalesce($4::text, resolved_by),
                metadata = coalesce($5::json, metadata),
                resolved_at = CASE WHEN $2::int2 IS NULL OR $2 = resolution THEN resolved_at WHEN $2 = 0 THEN NULL ELSE now() END
          WHERE entry = $1
         RETURNING ", columns!());
}

/// Makes dead letters of the tasks of these messages, for `server`, as far as their shards are still its own and
/// the tasks still where they ended; returns those made or told anew. Beside each message stands whether a task that failed for
/// being stale becomes one too.
pub async fn bury(
    transaction: &mut Transaction<'_>,
    server: Uuid,
    messages: &[(&Message, bool)],
) -> Result<Vec<Buried>> {
    let query = sqlx::query(BURY.sql)
        .bind(server)
        .bind(messages.iter().map(|m| m.0.shard).collect::<Vec<_>>())
        .bind(messages.iter().map(|m| m.0.id).collect::<Vec<_>>())
        .bind(messages.iter().map(|m| m.1).collect::<Vec<_>>())
        .bind(MOST_STEPS)
        .bind(MOST_CONTEXT_BYTES)
        .bind(MOST_ERROR_BYTES);
    let rows = BURY.run(query.fetch_all(&mut **transaction)).await?;
    let wrong = |source| Error::new(BURY.name, source);
    let mut gone = 0;
    let mut buried = Vec::new();
    for row in &rows {
        let taken: i64 = row.try_get("gone").map_err(wrong)?;
        gone = usize::try_from(taken).unwrap_or(0);
        let Some(entry) = row.try_get("entry").map_err(wrong)? else {
            continue;
        };
        let number: i32 = row.try_get::<i16, _>("reason").map_err(wrong)?.into();
        buried.push(Buried {
            entry,
            task_uuid: row.try_get("task_uuid").map_err(wrong)?,
            namespace: row.try_get("namespace").map_err(wrong)?,
            reason: reason(number).map_err(wrong)?,
        });
    }
    for operation in [Operation::Receive, Operation::Delete] {
        transaction.moved(Moved {
            operation,
            queue: Queue::Results,
            messages: gone,
            recent: messages.last().map(|m| m.0.into()),
        });
    }
    Ok(buried)
}

fn reason(number: i32) -> sqlx::Result<Reason> {
    let known = i16::try_from(number).ok().and_then(Reason::from_i16);
    known.ok_or_else(|| {
        sqlx::Error::Decode(
            format!("a dead letter has reason {number}, which this version does not know").into(),
        )
    })
}

/// Puts a task among the dead letters for a person's attention; `None` where there is no such task, or one of its
/// entries is pending already.
pub async fn add(
    pool: &Pool,
    task_uuid: Uuid,
    notes: Option<&str>,
    by: Option<&str>,
) -> Result<Option<Entry>> {
    let query = sqlx::query_as(ADD.sql)
        .bind(task_uuid)
        .bind(notes)
        .bind(by)
        .bind(MOST_STEPS)
        .bind(MOST_CONTEXT_BYTES)
        .bind(MOST_ERROR_BYTES);
    ADD.run(query.fetch_optional(pool)).await
}

/// The pending entry of a task, locked until the transaction ends.
pub async fn lock_pending(connection: &mut PgConnection, task_uuid: Uuid) -> Result<Option<Uuid>> {
    let query = sqlx::query_scalar(PENDING.sql).bind(task_uuid);
    PENDING.run(query.fetch_optional(connection)).await
}

/// Resolves the pending entry of a task, where there is one; the note is added to those it has.
pub async fn resolve(
    connection: &mut PgConnection,
    task_uuid: Uuid,
    resolution: Resolution,
    by: Option<&str>,
    note: Option<&str>,
) -> Result<()> {
    let query = sqlx::query(RESOLVE.sql)
        .bind(task_uuid)
        .bind(resolution as i16)
        .bind(by)
        .bind(note);
    RESOLVE.run(query.execute(connection)).await.map(drop)
}

/// Writes what a person found out; `None` where there is no such entry. Making an entry pending again fails with a
/// unique violation where its task has another one pending.
pub async fn update(pool: &Pool, entry: Uuid, change: &Change) -> Result<Option<Entry>> {
    let query = sqlx::query_as(UPDATE.sql)
        .bind(entry)
        .bind(change.resolution.map(|resolution| resolution as i16))
        .bind(change.notes.as_deref())
        .bind(change.by.as_deref())
        .bind(change.metadata.as_deref());
    UPDATE.run(query.fetch_optional(pool)).await
}
