//! Acceptance: a batch of tasks with their steps and first messages, in one statement.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use rustc_hash::{FxHashMap, FxHashSet};
use sqlx::PgConnection;
use uuid::Uuid;

use super::transaction::{Moved, Transaction};
use super::{Result, statements};
use crate::metrics::Correlation;
use crate::metrics::messaging::{Operation, Queue};
use crate::state::task::TaskState;

/// How a task begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// Its roots are enqueued with it.
    Now,
    /// It has too many roots for that: its start is a message that enqueues them in slices.
    Spread,
    /// At a time to come.
    At(DateTime<Utc>),
    /// Never: it is in error from the first, for the reason in `NewTask::failure`.
    Failed,
}

/// A task to be stored.
#[derive(Debug, Clone)]
pub struct NewTask {
    pub task_uuid: Uuid,
    pub template_id: i32,
    pub namespace: String,
    pub name: String,
    pub priority: i16,
    pub sampled: bool,
    pub traced: bool,
    /// JSON text. Clones of the task share it.
    pub context: Arc<str>,
    pub correlation_id: Uuid,
    pub parent_correlation_id: Option<Uuid>,
    /// The caller's W3C trace context.
    pub traceparent: Option<String>,
    pub tracestate: Option<String>,
    pub initiator: Option<String>,
    pub source_system: Option<String>,
    pub reason: Option<String>,
    pub tags: Vec<String>,
    /// The key and the digest of what it stands for. Tasks whose key is recorded already (by
    /// `tasker.submit_task`) come without.
    pub key: Option<(String, Vec<u8>)>,
    /// The key to show with the task.
    pub idempotency_key: Option<String>,
    /// JSON text.
    pub options: Option<String>,
    pub run_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub begin: Begin,
    /// JSON text: why the task is in error.
    pub failure: Option<String>,
    /// When it is to be looked at, where its template limits its life.
    pub look_at: Option<DateTime<Utc>>,
}

/// The lane in which a template's root goes at a priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Root {
    pub template_id: i32,
    pub priority: i16,
    pub step_no: i32,
    pub lane: i32,
}

/// The first task of an idempotency key.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct FirstTask {
    pub namespace: String,
    pub name: String,
    pub key: String,
    pub task_uuid: Uuid,
    pub digest: Vec<u8>,
}

statements! {
    ACCEPT, "accept_tasks", [Send Steps] =
        "WITH
         -- the tasks as they came
         given AS (SELECT * FROM unnest($1::uuid[], $2::int4[], $3::int2[], $4::int2[], $5::bool[], $6::text[], $7::uuid[], $8::uuid[],
                       $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::bytea[], $17::text[],
                       $18::text[], $19::timestamptz[], $20::timestamptz[], $21::text[], $22::int2[], $23::bool[], $24::text[], $25::text[])
                   AS g(task_uuid, template_id, state, priority, sampled, context, correlation_id, parent_correlation_id,
                       initiator, source_system, reason, tags, namespace, name, key, digest, idempotency_key,
                       options, run_at, created_at, failure, begin, traced, traceparent, tracestate)),
         -- keys not seen before; sorted, so that concurrent batches do not deadlock
         keyed AS (INSERT INTO tasker.idempotency_keys (namespace, name, key, task_uuid, digest, created_at)
                   SELECT namespace, name, key, task_uuid, digest, created_at FROM given WHERE key IS NOT NULL ORDER BY 1, 2, 3
                   ON CONFLICT DO NOTHING RETURNING task_uuid),
         fresh AS (SELECT * FROM given g WHERE g.key IS NULL OR g.task_uuid IN (SELECT task_uuid FROM keyed)),
         made AS (INSERT INTO tasker.tasks (task_uuid, template_id, state, priority, sampled, traced, context, correlation_id, parent_correlation_id,
                      initiator, source_system, reason, tags, idempotency_key, options, run_at, created_at, updated_at, completed_at, failure,
                      unwell, traceparent, tracestate)
                  SELECT task_uuid, template_id, state, priority, sampled, traced, context::json, correlation_id, parent_correlation_id,
                      initiator, source_system, reason, CASE WHEN tags = '[]' THEN '{}' ELSE ARRAY (SELECT json_array_elements_text(tags::json)) END, idempotency_key,
                      options::json, run_at, created_at, created_at, CASE WHEN begin = 3 THEN created_at END, failure::json,
                      begin = 3, traceparent, tracestate
                    FROM fresh),
         counted AS (INSERT INTO tasker.task_counts (state, change)
                     SELECT state, count(*) FROM fresh WHERE state < 8 GROUP BY state),
         -- where roots that are enqueued at once go
         roots AS (SELECT * FROM unnest($26::int4[], $27::int2[], $28::int4[], $29::int4[]) AS r(template_id, priority, step_no, lane)),
         -- every step, and the join where it is stored; those of a task that failed at once are cancelled
         graph AS (INSERT INTO tasker.steps (task_uuid, step_no, state, waiting_on, failed, attempt, tries, lost, lane, message_id, changed_at)
                   SELECT f.task_uuid, s.step_no, CASE WHEN f.begin = 3 THEN 8 WHEN r.lane IS NULL THEN 0 ELSE 1 END, s.waiting_on, 0,
                          CASE WHEN r.lane IS NULL THEN 0 ELSE 1 END, 0, 0, r.lane,
                          CASE WHEN r.lane IS NOT NULL THEN nextval('tasker.message_ids') END, f.created_at
                     FROM fresh f JOIN tasker.template_steps s USING (template_id)
                     LEFT JOIN roots r ON r.template_id = s.template_id AND r.priority = f.priority AND r.step_no = s.step_no AND f.begin = 0
                   RETURNING task_uuid, step_no, lane, message_id),
         queued AS (INSERT INTO tasker.ready (lane, id, task_uuid, correlation_id, enqueued_at, step_no, attempt, tries, lost, template_id, shard, priority, sampled, traced)
                    SELECT g.lane, g.message_id, g.task_uuid, f.correlation_id, clock_timestamp(), g.step_no, 1, 0, 0, f.template_id,
                           tasker.shard_of(g.task_uuid), f.priority, f.sampled, f.traced
                      FROM graph g JOIN fresh f USING (task_uuid) WHERE g.lane IS NOT NULL
                    RETURNING 1),
         -- starts that a server makes, now in slices or later; what failed at once becomes a dead letter
         spread AS (INSERT INTO tasker.results (shard, kind, task_uuid, correlation_id, sent_at, step_no, attempt, tries, lost, template_id, priority, sampled, traced)
                    SELECT tasker.shard_of(task_uuid), CASE WHEN begin = 3 THEN 24 ELSE 20 END, task_uuid, correlation_id, clock_timestamp(), 0, 0, 0, 0, template_id, priority, sampled, traced
                      FROM fresh WHERE begin IN (1, 3)
                    RETURNING 1),
         later AS (INSERT INTO tasker.delayed (shard, due_at, task_uuid, correlation_id, step_no, attempt, tries, lost, template_id, priority, sampled, traced)
                   SELECT tasker.shard_of(task_uuid), run_at, task_uuid, correlation_id, 0, 0, 0, 0, template_id, priority, sampled, traced
                     FROM fresh WHERE begin = 2),
         -- when those that must not last for ever are looked at
         limited AS (INSERT INTO tasker.deadlines (task_uuid, shard, due_at, since, template_id)
                     SELECT f.task_uuid, tasker.shard_of(f.task_uuid), d.due_at, greatest(f.run_at, f.created_at), f.template_id
                       FROM unnest($31::uuid[], $32::timestamptz[]) AS d(task_uuid, due_at) JOIN fresh f USING (task_uuid)),
         woken AS (SELECT pg_notify('tasker_steps', '') WHERE $30 AND EXISTS (SELECT 1 FROM queued)
                   UNION ALL SELECT pg_notify('tasker_results', '') WHERE EXISTS (SELECT 1 FROM spread)
                   UNION ALL SELECT pg_notify('tasker_delayed', '') WHERE EXISTS (SELECT 1 FROM fresh WHERE begin = 2))
         -- what nobody reads is not run: this reads the notification
         SELECT f.task_uuid FROM fresh f JOIN (SELECT count(*) AS n FROM woken) w ON w.n >= 0";
    STORED, "find_stored_tasks" = "SELECT task_uuid FROM tasker.tasks WHERE task_uuid = ANY ($1)";
    FIRST_TASKS, "find_first_tasks" =
        "SELECT k.namespace, k.name, k.key, k.task_uuid, k.digest
           FROM unnest($1::text[], $2::text[], $3::text[]) AS w(namespace, name, key)
           JOIN tasker.idempotency_keys k USING (namespace, name, key)";
}

impl NewTask {
    /// How much it holds, about.
    pub fn bytes(&self) -> usize {
        let options = self.options.as_ref().map_or(0, String::len);
        let tags: usize = self.tags.iter().map(String::len).sum();
        size_of::<NewTask>() + self.context.len() + options + tags
    }
}

impl Begin {
    /// How the statement tells the ways apart.
    fn code(&self) -> i16 {
        match self {
            Begin::Now => 0,
            Begin::Spread => 1,
            Begin::At(_) => 2,
            Begin::Failed => 3,
        }
    }

    /// The task's first state.
    pub fn task_state(&self) -> TaskState {
        match self {
            Begin::Now => TaskState::StepsInProcess,
            Begin::Spread | Begin::At(_) => TaskState::Pending,
            Begin::Failed => TaskState::Error,
        }
    }
}

/// Stores the tasks whose idempotency key is new, each with its steps and first messages, and returns
/// their uuids; a task that is not among them has a key that was seen before. `notify` wakes the workers.
/// `roots` has those of every template and priority among tasks that begin now.
pub async fn accept(
    connection: &mut PgConnection,
    tasks: &[NewTask],
    roots: &[Root],
    notify: bool,
) -> Result<Vec<Uuid>> {
    let stored = insert(connection, tasks, roots, notify).await?;
    sent(tasks, roots, &stored)
        .into_iter()
        .for_each(Moved::record);
    Ok(stored)
}

/// The same as part of a transaction.
pub async fn accept_within(
    transaction: &mut Transaction<'_>,
    tasks: &[NewTask],
    roots: &[Root],
    notify: bool,
) -> Result<Vec<Uuid>> {
    let stored = insert(transaction, tasks, roots, notify).await?;
    for moved in sent(tasks, roots, &stored) {
        transaction.moved(moved);
    }
    Ok(stored)
}

/// The first messages of the tasks that were stored.
fn sent(tasks: &[NewTask], roots: &[Root], stored: &[Uuid]) -> [Moved; 2] {
    let stored: FxHashSet<&Uuid> = stored.iter().collect();
    let mut width: FxHashMap<(i32, i16), usize> = FxHashMap::default();
    for root in roots {
        *width.entry((root.template_id, root.priority)).or_default() += 1;
    }
    let (mut steps, mut starts, mut recent) = (0, 0, None);
    for task in tasks.iter().filter(|task| stored.contains(&task.task_uuid)) {
        match task.begin {
            Begin::Now => {
                let key = (task.template_id, task.priority);
                steps += width.get(&key).copied().unwrap_or_default();
            }
            Begin::Spread | Begin::Failed => starts += 1,
            Begin::At(_) => continue,
        }
        recent = Some(Correlation {
            id: task.correlation_id,
            sampled: task.sampled,
        });
    }
    [(Queue::Steps, steps), (Queue::Results, starts)].map(|(queue, messages)| Moved {
        operation: Operation::Send,
        queue,
        messages,
        recent,
    })
}

async fn insert(
    connection: &mut PgConnection,
    tasks: &[NewTask],
    roots: &[Root],
    notify: bool,
) -> Result<Vec<Uuid>> {
    let column = |pick: fn(&NewTask) -> Option<&str>| tasks.iter().map(pick).collect::<Vec<_>>();
    let tags: Vec<String> = tasks
        .iter()
        .map(|t| serde_json::json!(t.tags).to_string())
        .collect();
    let limited: Vec<(Uuid, DateTime<Utc>)> = tasks
        .iter()
        .filter_map(|t| Some((t.task_uuid, t.look_at?)))
        .collect();
    let query = sqlx::query_scalar(ACCEPT.sql)
        .bind(tasks.iter().map(|t| t.task_uuid).collect::<Vec<_>>())
        .bind(tasks.iter().map(|t| t.template_id).collect::<Vec<_>>())
        .bind(
            tasks
                .iter()
                .map(|t| t.begin.task_state() as i16)
                .collect::<Vec<_>>(),
        )
        .bind(tasks.iter().map(|t| t.priority).collect::<Vec<_>>())
        .bind(tasks.iter().map(|t| t.sampled).collect::<Vec<_>>())
        .bind(column(|t| Some(&t.context)))
        .bind(tasks.iter().map(|t| t.correlation_id).collect::<Vec<_>>())
        .bind(
            tasks
                .iter()
                .map(|t| t.parent_correlation_id)
                .collect::<Vec<_>>(),
        )
        .bind(column(|t| t.initiator.as_deref()))
        .bind(column(|t| t.source_system.as_deref()))
        .bind(column(|t| t.reason.as_deref()))
        .bind(tags)
        .bind(column(|t| Some(&t.namespace)))
        .bind(column(|t| Some(&t.name)))
        .bind(column(|t| t.key.as_ref().map(|k| k.0.as_str())))
        .bind(
            tasks
                .iter()
                .map(|t| t.key.as_ref().map(|k| k.1.as_slice()))
                .collect::<Vec<_>>(),
        )
        .bind(column(|t| t.idempotency_key.as_deref()))
        .bind(column(|t| t.options.as_deref()))
        .bind(tasks.iter().map(|t| t.run_at).collect::<Vec<_>>())
        .bind(tasks.iter().map(|t| t.created_at).collect::<Vec<_>>())
        .bind(column(|t| t.failure.as_deref()))
        .bind(tasks.iter().map(|t| t.begin.code()).collect::<Vec<_>>())
        .bind(tasks.iter().map(|t| t.traced).collect::<Vec<_>>())
        .bind(column(|t| t.traceparent.as_deref()))
        .bind(column(|t| t.tracestate.as_deref()))
        .bind(roots.iter().map(|r| r.template_id).collect::<Vec<_>>())
        .bind(roots.iter().map(|r| r.priority).collect::<Vec<_>>())
        .bind(roots.iter().map(|r| r.step_no).collect::<Vec<_>>())
        .bind(roots.iter().map(|r| r.lane).collect::<Vec<_>>())
        .bind(notify)
        .bind(limited.iter().map(|l| l.0).collect::<Vec<_>>())
        .bind(limited.iter().map(|l| l.1).collect::<Vec<_>>());
    ACCEPT.run(query.fetch_all(connection)).await
}

/// Which of these tasks are stored.
pub async fn find_stored(connection: &mut PgConnection, tasks: &[Uuid]) -> Result<Vec<Uuid>> {
    let query = sqlx::query_scalar(STORED.sql).bind(tasks);
    STORED.run(query.fetch_all(connection)).await
}

/// The first tasks of idempotency keys, (namespace, name, key) each.
pub async fn find_first_tasks(
    connection: &mut PgConnection,
    keys: &[(&str, &str, &str)],
) -> Result<Vec<FirstTask>> {
    let query = sqlx::query_as(FIRST_TASKS.sql)
        .bind(keys.iter().map(|k| k.0).collect::<Vec<_>>())
        .bind(keys.iter().map(|k| k.1).collect::<Vec<_>>())
        .bind(keys.iter().map(|k| k.2).collect::<Vec<_>>());
    FIRST_TASKS.run(query.fetch_all(connection)).await
}
