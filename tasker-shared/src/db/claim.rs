//! Claiming: ready steps become a worker's, with everything their handlers need, in one statement that is
//! committed asynchronously (losing it means that the steps are claimed again).

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Row};
use uuid::Uuid;

use super::pool::Pool;
use super::weekly::Week;
use super::{Result, Statement, statements};
use crate::cursor::Span;
use crate::metrics::Correlation;
use crate::metrics::messaging::{self, Queue};

/// Steps with more parents than this come without their parents' results, which are read apart.
pub const PARENTS_WITH_CLAIM: i32 = 64;

/// How much to claim from a lane, of which ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Take {
    pub lane: i32,
    pub span: Span,
    pub most: i64,
}

/// A claimed step with its input.
#[derive(Debug, Clone)]
pub struct Claimed {
    pub lane: i32,
    pub id: i64,
    pub task_uuid: Uuid,
    pub correlation_id: Uuid,
    pub step_no: i32,
    pub attempt: i32,
    pub tries: i32,
    pub template_id: i32,
    pub sampled: bool,
    pub traced: bool,
    pub enqueued_at: DateTime<Utc>,
    pub claimed_at: DateTime<Utc>,
    /// JSON text.
    pub context: String,
    /// What the caller's W3C trace context said beside the trace.
    pub tracestate: Option<String>,
    /// The results of its parents in the template's order, as JSON text; none where it has no parents, or too many.
    pub results: Option<Vec<Option<String>>>,
}

/// By the places of the columns: looking them up by name costs a tenth of what a worker spends on a step.
impl FromRow<'_, PgRow> for Claimed {
    fn from_row(row: &PgRow) -> sqlx::Result<Claimed> {
        Ok(Claimed {
            lane: row.try_get(0)?,
            id: row.try_get(1)?,
            task_uuid: row.try_get(2)?,
            correlation_id: row.try_get(3)?,
            step_no: row.try_get(4)?,
            attempt: row.try_get(5)?,
            tries: row.try_get(6)?,
            template_id: row.try_get(7)?,
            sampled: row.try_get(8)?,
            traced: row.try_get(9)?,
            enqueued_at: row.try_get(10)?,
            claimed_at: row.try_get(11)?,
            context: row.try_get(12)?,
            tracestate: row.try_get(13)?,
            results: row.try_get(14)?,
        })
    }
}

impl Claimed {
    /// The task's correlation id as metrics take it.
    pub fn correlation(&self) -> Correlation {
        Correlation {
            id: self.correlation_id,
            sampled: self.sampled,
        }
    }
}

statements! {
    CLAIM, "claim_steps", [Receive Steps] =
        // inputs come from the partitions of one week; steps of tasks of another come without
        "WITH
         -- losing a claim in a crash is a redelivery, not a loss
         lazily AS (SELECT set_config('synchronous_commit', 'off', true)),
         -- only a worker whose lease has not run out may claim
         me AS (SELECT worker FROM tasker.workers, lazily WHERE worker = $1 AND stopped_at IS NULL AND lease_until > now()),
         claimed AS (UPDATE tasker.ready SET worker = $1, claimed_at = clock_timestamp()
                      WHERE ctid = ANY (ARRAY (
                          SELECT r.ctid FROM me, unnest($2::int4[], $3::int8[], $4::int8[], $7::int8[]) AS t(lane, behind, until, most),
                              LATERAL (SELECT ctid FROM tasker.ready
                                        WHERE lane = t.lane AND id > t.behind AND id <= t.until AND worker IS NULL
                                        ORDER BY id LIMIT t.most FOR UPDATE SKIP LOCKED) r LIMIT $6))
                     RETURNING lane, id, task_uuid, correlation_id, step_no, attempt, tries, template_id, sampled, traced, enqueued_at, claimed_at)
         SELECT c.*, coalesce(t.context::text, '') AS context, t.tracestate,
                -- the last result of each parent; most steps have one, and a scan of its own for each costs less than gathering them
                CASE WHEN s.waiting_on = 1
                     THEN ARRAY[(SELECT result::text FROM tasker.attempts WHERE task_uuid = c.task_uuid AND step_no = s.parents[1] AND outcome IN (0, 8)
                                  ORDER BY attempt DESC LIMIT 1)]
                     WHEN s.waiting_on BETWEEN 2 AND $5
                     THEN ARRAY (SELECT (SELECT result::text FROM tasker.attempts WHERE task_uuid = c.task_uuid AND step_no = parent AND outcome IN (0, 8)
                                          ORDER BY attempt DESC LIMIT 1) FROM unnest(s.parents) AS parent)
                END AS results
           FROM claimed c
           -- by key whatever the planner takes the table to hold, which is next to nothing when it looks
           LEFT JOIN LATERAL (SELECT context, tracestate FROM tasker.tasks WHERE task_uuid = c.task_uuid OFFSET 0) t ON true
           JOIN tasker.template_steps s ON s.template_id = c.template_id AND s.step_no = c.step_no";
    INPUTS, "list_inputs" =
        "SELECT w.place, coalesce(t.context::text, '') AS context, t.tracestate,
                CASE WHEN s.waiting_on BETWEEN 1 AND $4
                     THEN ARRAY (SELECT (SELECT result::text FROM tasker.attempts WHERE task_uuid = w.task_uuid AND step_no = parent AND outcome IN (0, 8)
                                          ORDER BY attempt DESC LIMIT 1) FROM unnest(s.parents) AS parent)
                END AS results
           FROM unnest($1::uuid[], $2::int4[], $3::int4[]) WITH ORDINALITY AS w(task_uuid, step_no, template_id, place)
           LEFT JOIN LATERAL (SELECT context, tracestate FROM tasker.tasks WHERE task_uuid = w.task_uuid OFFSET 0) t ON true
           JOIN tasker.template_steps s ON s.template_id = w.template_id AND s.step_no = w.step_no";
    RESULT_SIZES, "sum_result_bytes" =
        "SELECT coalesce(sum(octet_length(result::text)), 0)::int8 FROM tasker.attempts
          WHERE task_uuid = $1 AND step_no = ANY ($2) AND outcome IN (0, 8)";
    RESULTS, "list_results" =
        "SELECT step_no, result::text FROM tasker.attempts
          WHERE task_uuid = $1 AND step_no = ANY ($2) AND outcome IN (0, 8)";
}

/// Claims for `worker` from lanes in the order given, `most` altogether.
pub async fn claim(
    connection: &mut PgConnection,
    worker: Uuid,
    takes: &[Take],
    most: i64,
) -> Result<Vec<Claimed>> {
    // Most steps are of tasks that were accepted lately.
    let week = Week::at(Utc::now());
    let mut claimed = take(connection, CLAIM.in_week(week), worker, takes, most).await;
    if week.is_missing(&claimed) {
        claimed = take(connection, CLAIM, worker, takes, most).await;
    }
    let mut claimed = claimed?;
    let recent = claimed.last().map(Claimed::correlation);
    let again = claimed.iter().filter(|step| step.attempt > 1).count();
    messaging::received(Queue::Steps, claimed.len() as u64, recent);
    messaging::redelivered(Queue::Steps, again as u64, recent);
    if claimed.iter().any(|step| step.context.is_empty()) {
        complete(connection, &mut claimed).await?;
    }
    Ok(claimed)
}

async fn take(
    connection: &mut PgConnection,
    statement: Statement,
    worker: Uuid,
    takes: &[Take],
    most: i64,
) -> Result<Vec<Claimed>> {
    let query = sqlx::query_as(statement.sql)
        .bind(worker)
        .bind(takes.iter().map(|t| t.lane).collect::<Vec<_>>())
        .bind(takes.iter().map(|t| t.span.behind).collect::<Vec<_>>())
        .bind(takes.iter().map(|t| t.span.until).collect::<Vec<_>>())
        .bind(PARENTS_WITH_CLAIM)
        .bind(most)
        .bind(takes.iter().map(|t| t.most).collect::<Vec<_>>());
    statement.run(query.fetch_all(connection)).await
}

/// The input of a step: place, context, tracestate, its parents' results.
type Input = (i64, String, Option<String>, Option<Vec<Option<String>>>);

/// Reads the inputs of steps that came without: those of tasks that were accepted in another week.
async fn complete(connection: &mut PgConnection, claimed: &mut Vec<Claimed>) -> Result<()> {
    let mut weeks: BTreeMap<Week, Vec<&mut Claimed>> = BTreeMap::new();
    for step in claimed.iter_mut().filter(|step| step.context.is_empty()) {
        let week = Week::of(step.task_uuid);
        weeks.entry(week).or_default().push(step);
    }
    for (week, mut steps) in weeks {
        let mut found = inputs(connection, INPUTS.in_week(week), &steps).await;
        if week.is_missing(&found) {
            found = inputs(connection, INPUTS, &steps).await;
        }
        for (place, context, tracestate, results) in found? {
            let place = usize::try_from(place - 1).unwrap_or(usize::MAX);
            if let Some(step) = steps.get_mut(place) {
                step.context = context;
                (step.tracestate, step.results) = (tracestate, results);
            }
        }
    }
    claimed.retain(|step| {
        let whole = !step.context.is_empty();
        if !whole {
            tracing::error!(task_uuid = %step.task_uuid, step_no = step.step_no, "a ready step has no task; it is left alone");
        }
        whole
    });
    Ok(())
}

async fn inputs(
    connection: &mut PgConnection,
    statement: Statement,
    steps: &[&mut Claimed],
) -> Result<Vec<Input>> {
    let query = sqlx::query_as(statement.sql)
        .bind(steps.iter().map(|s| s.task_uuid).collect::<Vec<_>>())
        .bind(steps.iter().map(|s| s.step_no).collect::<Vec<_>>())
        .bind(steps.iter().map(|s| s.template_id).collect::<Vec<_>>())
        .bind(PARENTS_WITH_CLAIM);
    statement.run(query.fetch_all(connection)).await
}

/// The successful results of some steps of a task, by number, as JSON text. `Err(bytes)` where together
/// they are larger than `limit_bytes`; nothing is read then.
pub async fn results(
    pool: &Pool,
    task_uuid: Uuid,
    numbers: &[i32],
    limit_bytes: usize,
) -> Result<std::result::Result<Vec<(i32, Option<String>)>, usize>> {
    let sizes = sqlx::query_scalar::<_, i64>(RESULT_SIZES.sql)
        .bind(task_uuid)
        .bind(numbers);
    let bytes = RESULT_SIZES.run(sizes.fetch_one(pool)).await?;
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    if bytes > limit_bytes {
        return Ok(Err(bytes));
    }
    let rows = sqlx::query_as(RESULTS.sql).bind(task_uuid).bind(numbers);
    RESULTS.run(rows.fetch_all(pool)).await.map(Ok)
}
