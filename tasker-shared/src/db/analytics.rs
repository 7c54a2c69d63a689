//! How tasks and steps have gone, from the statistics, and how many there are now. The cost depends on how many steps
//! templates have and for how long, never on how many tasks there were.

use chrono::{DateTime, Utc};

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::QueryAs;
use sqlx::{FromRow, PgConnection, Postgres};

use super::pool::Pool;
use super::{Error, Result, Statement, Transaction, statements};
use crate::state::step::StepState;
use crate::state::task::TaskState;

/// Rows of a table that are counted one by one; what is more is estimated.
pub const COUNTED: i64 = 10_000;
/// Of a few namespaces, the newest tasks of each template are counted, so many of them.
pub const NEWEST: i64 = 1_000;

/// How it has gone since a time.
#[derive(Debug, Clone, Default, PartialEq, sqlx::FromRow)]
pub struct Performance {
    pub since: Option<DateTime<Utc>>,
    /// The first period that says something; `None` where none does.
    pub first: Option<DateTime<Utc>>,
    pub completed: i64,
    pub failed: i64,
    pub cancelled: i64,
    pub resolved: i64,
    /// Of tasks that completed or failed.
    pub task_ms: f64,
    pub executions: i64,
    pub errors: i64,
    pub step_ms: f64,
    /// Tasks that have not ended, now.
    pub active: i64,
    /// Those of them that wait for a person.
    pub blocked: i64,
}

/// How a step has gone, or where `step_no` is 0 a task.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct Slow {
    pub template_id: i32,
    pub step_no: i32,
    pub executions: i64,
    pub errors: i64,
    pub mean_ms: f64,
    pub max_ms: f64,
    pub last_at: DateTime<Utc>,
}

/// How many tasks and steps there are in each state: exact to [`COUNTED`], then estimated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    tasks: [i64; 12],
    steps: [i64; 11],
}

impl Census {
    /// Tasks in a state.
    #[must_use]
    pub fn tasks(&self, state: TaskState) -> i64 {
        self.tasks.get(state as usize).copied().unwrap_or_default()
    }

    /// Steps in a state, those that are derived too.
    #[must_use]
    pub fn steps(&self, state: StepState) -> i64 {
        self.steps.get(state as usize).copied().unwrap_or_default()
    }

    /// All tasks, and all steps.
    #[must_use]
    pub fn totals(&self) -> (i64, i64) {
        (self.tasks.iter().sum(), self.steps.iter().sum())
    }
}

statements! {
    PERFORMANCE, "read_performance" =
        "WITH since AS (SELECT CASE WHEN $1 < 48 THEN date_bin('5 minutes', now() - $1 * interval '1 hour', timestamptz 'epoch')
                                    ELSE date_trunc('hour', now() - $1 * interval '1 hour', 'UTC') END AS since)
         SELECT since.since, least(t.first, s.first) AS first, t.completed, t.failed, t.cancelled, t.resolved, t.task_ms,
                s.executions, s.errors, s.step_ms, a.active, a.blocked
           FROM since,
                LATERAL (SELECT coalesce(sum(completed), 0)::int8 AS completed, coalesce(sum(failed), 0)::int8 AS failed,
                                coalesce(sum(cancelled), 0)::int8 AS cancelled, coalesce(sum(resolved), 0)::int8 AS resolved,
                                coalesce(sum(total_ms), 0)::float8 AS task_ms, min(period) AS first
                           FROM tasker.task_stats
                          WHERE period >= since.since AND ($2::text[] IS NULL OR template_id IN (SELECT template_id FROM tasker.templates WHERE namespace = ANY ($2)))) t,
                LATERAL (SELECT coalesce(sum(executions), 0)::int8 AS executions, coalesce(sum(errors), 0)::int8 AS errors,
                                coalesce(sum(total_ms), 0)::float8 AS step_ms, min(period) AS first
                           FROM tasker.step_stats
                          WHERE period >= since.since AND ($2::text[] IS NULL OR template_id IN (SELECT template_id FROM tasker.templates WHERE namespace = ANY ($2)))) s,
                (SELECT coalesce(sum(c.change), 0)::int8 AS active, coalesce(sum(c.change) FILTER (WHERE c.state = 7), 0)::int8 AS blocked
                   FROM (SELECT state, change FROM tasker.task_counts WHERE $2::text[] IS NULL
                         UNION ALL
                         SELECT n.state, 1
                           FROM tasker.templates p,
                                LATERAL (SELECT state FROM tasker.tasks t WHERE t.template_id = p.template_id ORDER BY t.task_uuid DESC LIMIT $3) n
                          WHERE p.namespace = ANY ($2) AND n.state < 8) c) a";
    SLOW_STEPS, "list_slow_steps" =
        "SELECT template_id, step_no, sum(executions)::int8 AS executions, sum(errors)::int8 AS errors,
                (sum(total_ms) / sum(executions))::float8 AS mean_ms, max(max_ms)::float8 AS max_ms, max(last_at) AS last_at
           FROM tasker.step_stats
          WHERE period >= now() - $1 * interval '1 hour' AND executions > 0
            AND ($4::text[] IS NULL OR template_id IN (SELECT template_id FROM tasker.templates WHERE namespace = ANY ($4)))
          GROUP BY template_id, step_no HAVING sum(executions) >= $2
          ORDER BY mean_ms DESC, template_id, step_no LIMIT $3";
    SLOW_TASKS, "list_slow_tasks" =
        "SELECT template_id, 0 AS step_no, sum(completed + failed)::int8 AS executions, sum(failed)::int8 AS errors,
                (sum(total_ms) / sum(completed + failed))::float8 AS mean_ms, max(max_ms)::float8 AS max_ms, max(last_at) AS last_at
           FROM tasker.task_stats
          WHERE period >= now() - $1 * interval '1 hour' AND completed + failed > 0
            AND ($4::text[] IS NULL OR template_id IN (SELECT template_id FROM tasker.templates WHERE namespace = ANY ($4)))
          GROUP BY template_id HAVING sum(completed + failed) >= $2
          ORDER BY mean_ms DESC, template_id LIMIT $3";
    LIVE, "count_what_waits" =
        // what was counted, of how many looked at; a table with more is as large as it was when it was last analysed
        "SELECT 0 AS what, state::int4 AS part, sum(change)::int8 AS counted, 0::int8 AS looked, 0::int8 AS rows FROM tasker.task_counts GROUP BY state
         UNION ALL
         SELECT 1, r.claimed, count(*), (sum(count(*)) OVER ())::int8, (SELECT greatest(reltuples, 0)::int8 FROM pg_class WHERE oid = 'tasker.ready'::regclass)
           FROM (SELECT (worker IS NOT NULL)::int4 AS claimed FROM tasker.ready LIMIT $1) r GROUP BY r.claimed
         UNION ALL
         SELECT 2, m.ends, count(*), (sum(count(*)) OVER ())::int8, (SELECT greatest(reltuples, 0)::int8 FROM pg_class WHERE oid = 'tasker.results'::regclass)
           FROM (SELECT CASE WHEN kind IN (0, 8) THEN 0 WHEN kind BETWEEN 1 AND 10 THEN 1 ELSE 2 END AS ends FROM tasker.results LIMIT $1) m GROUP BY m.ends
         UNION ALL
         SELECT 3, d.retries, count(*), (sum(count(*)) OVER ())::int8, (SELECT greatest(reltuples, 0)::int8 FROM pg_class WHERE oid = 'tasker.delayed'::regclass)
           FROM (SELECT (step_no > 0)::int4 AS retries FROM tasker.delayed LIMIT $1) d GROUP BY d.retries";
    OF_FEW, "count_newest_of_namespaces" =
        // the namespaces' templates, with the newest tasks of each
        "WITH reached AS (SELECT template_id, step_count FROM tasker.templates WHERE namespace = ANY ($1)),
              newest AS (SELECT n.task_uuid, n.state, p.step_count
                           FROM reached p,
                                LATERAL (SELECT t.task_uuid, t.state FROM tasker.tasks t WHERE t.template_id = p.template_id ORDER BY t.task_uuid DESC LIMIT $2) n)
         SELECT 0 AS what, state::int4 AS part, count(*) AS counted, 0::int8 AS looked, 0::int8 AS rows FROM newest GROUP BY state
         UNION ALL
         SELECT 4, s.state::int4, count(*), 0, 0
           FROM newest n JOIN tasker.steps s ON s.task_uuid = ANY (ARRAY[n.task_uuid]) AND s.step_no <= n.step_count GROUP BY s.state
         UNION ALL
         SELECT 1, r.claimed, count(*), 0, 0
           FROM (SELECT lane, (worker IS NOT NULL)::int4 AS claimed FROM tasker.ready LIMIT $3) r JOIN tasker.lanes l USING (lane)
          WHERE l.namespace = ANY ($1) GROUP BY r.claimed
         UNION ALL
         SELECT 2, m.ends, count(*), 0, 0
           FROM (SELECT template_id, CASE WHEN kind IN (0, 8) THEN 0 WHEN kind BETWEEN 1 AND 10 THEN 1 ELSE 2 END AS ends FROM tasker.results LIMIT $3) m
           JOIN reached USING (template_id) GROUP BY m.ends
         UNION ALL
         SELECT 3, d.retries, count(*), 0, 0
           FROM (SELECT template_id, (step_no > 0)::int4 AS retries FROM tasker.delayed LIMIT $3) d
           JOIN reached USING (template_id) GROUP BY d.retries";
    STORED, "count_newest_by_state" =
        "SELECT 0 AS what, t.state::int4 AS part, count(*) AS counted, count(*) AS looked, 0::int8 AS rows
           FROM (SELECT state FROM tasker.tasks ORDER BY task_uuid DESC LIMIT $1) t GROUP BY t.state
         UNION ALL
         -- the joins behind all leaves are no steps
         SELECT 1, s.state::int4, count(*) FILTER (WHERE s.step_no <= p.step_count), count(*), 0
           FROM (SELECT task_uuid, step_no, state FROM tasker.steps ORDER BY task_uuid DESC, step_no DESC LIMIT $1) s
           JOIN tasker.tasks t USING (task_uuid)
           JOIN tasker.templates p USING (template_id)
          GROUP BY s.state";
    ESTIMATED, "estimate_by_state" =
        // as the statistics of the planner last saw the partitions
        "SELECT (split_part(c.relname, '_', 1) = 'steps')::int4 AS what, v.state::int4 AS part, sum(greatest(c.reltuples, 0) * v.share)::int8 AS counted,
                0::int8 AS looked, 0::int8 AS rows
           FROM pg_class c
           JOIN pg_stats s ON s.schemaname = 'tasker' AND s.tablename = c.relname AND s.attname = 'state'
          CROSS JOIN LATERAL unnest(s.most_common_vals::text::int2[], s.most_common_freqs) AS v(state, share)
          WHERE c.relnamespace = 'tasker'::regnamespace AND c.relname ~ '^(tasks|steps)_[0-9]{8}$'
          GROUP BY 1, 2";
}

/// The query of a statement that is planned each time it runs: a plan made while tables were small would read all of
/// them when they are large. Such a query has no name, so behind a pooler it needs a transaction around it.
fn fresh<T: for<'r> FromRow<'r, PgRow>>(
    statement: &Statement,
) -> QueryAs<'static, Postgres, T, PgArguments> {
    sqlx::query_as(statement.sql).persistent(false)
}

/// How it has gone in the last `hours`, in these namespaces; `None` for all. Of a few, tasks that have not ended are
/// counted among the [`NEWEST`] of each template.
pub async fn performance(
    pool: &Pool,
    hours: i32,
    namespaces: Option<&[String]>,
) -> Result<Performance> {
    let mut connection = acquire(pool).await?;
    let mut transaction = Transaction::begin(&mut connection, ANALYTICS).await?;
    let query = fresh(&PERFORMANCE)
        .bind(hours)
        .bind(namespaces.map(<[String]>::to_vec))
        .bind(NEWEST);
    let found = PERFORMANCE.run(query.fetch_one(&mut *transaction)).await?;
    transaction.commit().await?;
    Ok(found)
}

/// What takes longest, and how much there is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bottlenecks {
    /// The steps that took longest on average.
    pub steps: Vec<Slow>,
    /// The templates whose tasks did.
    pub tasks: Vec<Slow>,
    pub census: Census,
}

/// What took longest in the last `hours`, at most `most` of each and of those that ran `least` times or more, in these
/// namespaces; `None` for all.
pub async fn bottlenecks(
    pool: &Pool,
    hours: i32,
    least: i64,
    most: i64,
    namespaces: Option<&[String]>,
) -> Result<Bottlenecks> {
    let mut connection = acquire(pool).await?;
    let mut transaction = Transaction::begin(&mut connection, ANALYTICS).await?;
    let slow = |statement: &Statement| {
        let query = fresh(statement).bind(hours).bind(least).bind(most);
        query.bind(namespaces.map(<[String]>::to_vec))
    };
    let steps = slow(&SLOW_STEPS).fetch_all(&mut *transaction);
    let steps = SLOW_STEPS.run(steps).await?;
    let tasks = slow(&SLOW_TASKS).fetch_all(&mut *transaction);
    let tasks = SLOW_TASKS.run(tasks).await?;
    let census = match namespaces {
        Some(namespaces) => census_of(&mut transaction, namespaces).await?,
        None => census(&mut transaction).await?,
    };
    transaction.commit().await?;
    Ok(Bottlenecks {
        steps,
        tasks,
        census,
    })
}

const ANALYTICS: &str = "read_analytics";

async fn acquire(pool: &Pool) -> Result<PoolConnection<Postgres>> {
    pool.acquire()
        .await
        .map_err(|source| Error::new(ANALYTICS, source))
}

/// A line of what was counted.
#[derive(Debug, Clone, Copy, sqlx::FromRow)]
struct Count {
    what: i32,
    part: i32,
    counted: i64,
    looked: i64,
    rows: i64,
}

/// How many tasks and steps there are now.
async fn census(on: &mut PgConnection) -> Result<Census> {
    let live = fresh(&LIVE).bind(COUNTED + 1);
    let live: Vec<Count> = LIVE.run(live.fetch_all(&mut *on)).await?;
    let stored = fresh(&STORED).bind(COUNTED + 1);
    let stored: Vec<Count> = STORED.run(stored.fetch_all(&mut *on)).await?;
    let estimated = match has_more(&stored, 0) || has_more(&stored, 1) {
        true => {
            let estimated = fresh(&ESTIMATED);
            ESTIMATED.run(estimated.fetch_all(&mut *on)).await?
        }
        false => Vec::new(),
    };
    Ok(work_out(&live, &stored, &estimated))
}

/// How many there are in a few namespaces, among the newest tasks of each template and what lies first in the queues.
async fn census_of(on: &mut PgConnection, namespaces: &[String]) -> Result<Census> {
    let query = fresh(&OF_FEW)
        .bind(namespaces.to_vec())
        .bind(NEWEST)
        .bind(COUNTED);
    let counts: Vec<Count> = OF_FEW.run(query.fetch_all(&mut *on)).await?;
    let (steps, live): (Vec<Count>, Vec<Count>) = counts.into_iter().partition(|c| c.what == 4);
    let steps: Vec<Count> = steps.into_iter().map(|c| Count { what: 1, ..c }).collect();
    Ok(work_out(&live, &steps, &[]))
}

/// Whether there are more rows than were looked at.
fn has_more(stored: &[Count], what: i32) -> bool {
    let looked = stored.iter().filter(|c| c.what == what);
    looked.map(|c| c.looked).sum::<i64>() > COUNTED
}

fn work_out(live: &[Count], stored: &[Count], estimated: &[Count]) -> Census {
    let mut census = Census::default();
    for (what, counts) in [(0, &mut census.tasks[..]), (1, &mut census.steps[..])] {
        let from = match has_more(stored, what) {
            true => estimated,
            false => stored,
        };
        for count in from.iter().filter(|c| c.what == what) {
            put(counts, count.part, count.counted);
        }
    }
    // Tasks that have not ended are counted as they change, and steps on their way lie in queues.
    census.tasks[..TaskState::Complete as usize].fill(0);
    census.steps[StepState::Enqueued as usize..StepState::Complete as usize].fill(0);
    for count in live {
        let all = scaled(count);
        let state = match (count.what, count.part) {
            (0, part) => {
                put(&mut census.tasks, part, count.counted.max(0));
                continue;
            }
            (1, 0) => StepState::Enqueued,
            (1, _) => StepState::InProgress,
            (2, 0) => StepState::EnqueuedForOrchestration,
            (2, 1) => StepState::EnqueuedAsErrorForOrchestration,
            (3, 1) => StepState::WaitingForRetry,
            _ => continue,
        };
        census.steps[state as usize] = all;
    }
    census
}

fn put(counts: &mut [i64], state: i32, count: i64) {
    let place = usize::try_from(state)
        .ok()
        .and_then(|at| counts.get_mut(at));
    if let Some(place) = place {
        *place = count;
    }
}

/// What was counted, for the whole table where only a part was looked at.
fn scaled(count: &Count) -> i64 {
    if count.looked <= COUNTED || count.rows <= count.looked {
        return count.counted;
    }
    let share = count.counted as f64 / count.looked as f64;
    (share * count.rows as f64).round() as i64
}

#[cfg(test)]
mod tests;
