//! How much there is now: tasks by state, steps ready, messages waiting and since when. Reads a bounded number
//! of rows however many there are, by their keys: run it on a connection of `Target::batches`. What is more
//! than that is estimated. Counting begins where the last reading met something, see [`Marks`].

use std::collections::BTreeMap;
use std::time::Instant;

use sqlx::{PgConnection, PgExecutor};

use super::{Result, statements};
use crate::metrics::messaging::Queue;
use crate::name::Name;
use crate::state::task::TaskState;
pub use marks::Marks;

mod marks;

/// Steps of a lane, and requests, that are counted one by one.
const COUNTED: i64 = 10_000;
/// Messages of a shard that are counted one by one; there are sixteen shards.
const COUNTED_OF_SHARD: i64 = 1_000;
/// Changes of the number of tasks that are left to lie: folding writes.
const UNFOLDED: i64 = 50;

/// How much there is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gauges {
    /// Tasks in each state that is not final.
    pub tasks: Vec<(TaskState, u64)>,
    /// Steps that nobody has claimed, by namespace.
    pub ready: Vec<(Name, u64)>,
    /// Messages that wait, by queue and namespace.
    pub depths: Vec<(Queue, Name, u64)>,
    /// For how many seconds the oldest of them has; 0 where there is none.
    pub ages: Vec<(Queue, Name, f64)>,
}

/// The `what` of a row that tells the id that was given out last.
const NEWEST: i32 = 5;

/// A row of what was read.
#[derive(Debug, Clone, Default, sqlx::FromRow)]
struct Reading {
    what: i32,
    namespace: Option<String>,
    /// A task state's number; the lane or the shard.
    part: i32,
    counted: i64,
    /// The ids between which they were counted.
    first: Option<i64>,
    last: Option<i64>,
    /// The id of the newest of all, where not all were counted.
    newest: Option<i64>,
    age_s: Option<f64>,
}

statements! {
    FOLD, "fold_task_counts" =
        // who meets a row that another folder deletes waits, and leaves it to the other; what is appended meanwhile stays
        "WITH gone AS (DELETE FROM tasker.task_counts WHERE (SELECT count(*) FROM tasker.task_counts) > $1 RETURNING state, change)
         INSERT INTO tasker.task_counts (state, change) SELECT state, sum(change) FROM gone GROUP BY state HAVING sum(change) <> 0";
    READ, "read_gauges" =
        "SELECT 0 AS what, NULL::text AS namespace, state::int4 AS part, sum(change)::int8 AS counted,
                NULL::int8 AS first, NULL::int8 AS last, NULL::int8 AS newest, NULL::float8 AS age_s
           FROM tasker.task_counts GROUP BY state
         -- tasks of which a step waits for its retry and none is enqueued: among what is due first, as retries are
         UNION ALL
         SELECT 1, NULL, 0, count(*), NULL, NULL, NULL, NULL
           FROM (SELECT DISTINCT d.task_uuid
                   FROM tasker.shards s,
                        LATERAL (SELECT task_uuid, step_no FROM tasker.delayed WHERE shard = s.shard ORDER BY due_at, id LIMIT $2) d
                        JOIN tasker.steps w ON w.task_uuid = ANY (ARRAY[d.task_uuid]) AND w.step_no = d.step_no
                  WHERE d.step_no > 0 AND w.state = 5) t
          WHERE (SELECT e.state FROM tasker.steps e WHERE e.task_uuid = t.task_uuid AND e.state = 1 LIMIT 1) IS NULL
         -- steps that nobody has claimed
         UNION ALL
         SELECT 2, l.namespace, l.lane, c.counted, c.first, c.last, n.id, c.age_s
           FROM tasker.lanes l
           LEFT JOIN unnest($3::int4[], $4::int4[], $5::int8[]) AS m(what, part, behind) ON m.what = 2 AND m.part = l.lane
          CROSS JOIN LATERAL (SELECT count(*) AS counted, min(r.id) AS first, max(r.id) AS last,
                                     extract(epoch FROM clock_timestamp() - min(r.enqueued_at))::float8 AS age_s
                                FROM (SELECT id, enqueued_at FROM tasker.ready
                                       WHERE lane = l.lane AND worker IS NULL AND id > coalesce(m.behind, $6) ORDER BY id LIMIT $1) r) c
           LEFT JOIN LATERAL (SELECT id FROM tasker.ready WHERE lane = l.lane AND worker IS NULL AND c.counted = $1 ORDER BY id DESC LIMIT 1) n ON true
         -- messages to the servers
         UNION ALL
         SELECT 3, t.namespace, s.shard, r.counted, r.first, r.last, n.id, r.age_s
           FROM tasker.shards s
           LEFT JOIN unnest($3::int4[], $4::int4[], $5::int8[]) AS m(what, part, behind) ON m.what = 3 AND m.part = s.shard
          CROSS JOIN LATERAL (SELECT c.template_id, c.looked, c.first, c.last, count(*) AS counted,
                                     extract(epoch FROM clock_timestamp() - min(c.sent_at))::float8 AS age_s
                                FROM (SELECT q.*, count(*) OVER () AS looked, min(q.id) OVER () AS first, max(q.id) OVER () AS last
                                        FROM (SELECT id, template_id, sent_at FROM tasker.results
                                               WHERE shard = s.shard AND id > coalesce(m.behind, $6) ORDER BY id LIMIT $2) q) c
                               GROUP BY c.template_id, c.looked, c.first, c.last) r
           LEFT JOIN LATERAL (SELECT id FROM tasker.results WHERE shard = s.shard AND r.looked = $2 ORDER BY id DESC LIMIT 1) n ON true
           JOIN tasker.templates t USING (template_id)
         -- submissions from users' transactions
         UNION ALL
         SELECT 4, c.namespace, 0, count(*), c.first, c.last, CASE WHEN c.looked = $1 THEN (SELECT id FROM tasker.requests ORDER BY id DESC LIMIT 1) END,
                extract(epoch FROM clock_timestamp() - min(c.requested_at))::float8
           FROM (SELECT q.*, count(*) OVER () AS looked, min(q.id) OVER () AS first, max(q.id) OVER () AS last
                   FROM (SELECT id, namespace, requested_at FROM tasker.requests
                          WHERE id > coalesce((SELECT m.behind FROM unnest($3::int4[], $5::int8[]) AS m(what, behind) WHERE m.what = 4), $6)
                          ORDER BY id LIMIT $1) q) c
          GROUP BY c.namespace, c.looked, c.first, c.last
         -- what comes from now on comes behind this
         UNION ALL
         SELECT 5, NULL, 0, last_value, NULL, NULL, NULL, NULL FROM tasker.message_ids";
    FIRSTS, "list_first_messages" =
        "SELECT 2 AS what, l.lane AS part, r.id
           FROM tasker.lanes l
          CROSS JOIN LATERAL (SELECT id FROM tasker.ready WHERE lane = l.lane AND worker IS NULL AND id > $1 AND id <= $2 ORDER BY id LIMIT 1) r
         UNION ALL
         SELECT 3, s.shard, r.id
           FROM tasker.shards s
          CROSS JOIN LATERAL (SELECT id FROM tasker.results WHERE shard = s.shard AND id > $1 AND id <= $2 ORDER BY id LIMIT 1) r
         UNION ALL
         (SELECT 4, 0, id FROM tasker.requests WHERE id > $1 AND id <= $2 ORDER BY id LIMIT 1)
         UNION ALL
         SELECT 5, 0, last_value FROM tasker.message_ids";
}

/// Adds up the changes of the numbers of tasks where there are many. Several may do so at once.
pub async fn fold<'c>(on: impl PgExecutor<'c>) -> Result<()> {
    let query = sqlx::query(FOLD.sql).bind(UNFOLDED);
    FOLD.run(query.execute(on)).await.map(drop)
}

/// How much there is now. Namespaces are those that have a lane, and any of which something waits.
pub async fn read(connection: &mut PgConnection, marks: &mut Marks) -> Result<Gauges> {
    let now = Instant::now();
    if let Some(span) = marks.due_span(now) {
        let query = sqlx::query_as(FIRSTS.sql)
            .bind(span.behind)
            .bind(span.until);
        let firsts = FIRSTS.run(query.fetch_all(&mut *connection)).await?;
        marks.looked_for(&firsts, now.elapsed(), Instant::now());
    }
    let begin = marks.begin();
    let query = sqlx::query_as(READ.sql)
        .bind(COUNTED)
        .bind(COUNTED_OF_SHARD)
        .bind(begin.whats)
        .bind(begin.parts)
        .bind(begin.behind)
        .bind(begin.behind_all);
    let readings: Vec<Reading> = READ.run(query.fetch_all(connection)).await?;
    let firsts = readings.iter().filter_map(|reading| match reading.what {
        NEWEST => Some((NEWEST, 0, reading.counted)),
        what => Some((what, reading.part, reading.first?)),
    });
    marks.read(firsts);
    Ok(work_out(&readings))
}

/// What waits in a queue for a namespace.
#[derive(Debug, Default, Clone, Copy)]
struct Waiting {
    messages: u64,
    oldest_s: f64,
}

const QUEUES: [Queue; 3] = [Queue::Steps, Queue::Results, Queue::Requests];

fn work_out(readings: &[Reading]) -> Gauges {
    let mut stored = BTreeMap::new();
    let mut retrying = 0;
    let mut waiting: BTreeMap<&str, [Waiting; 3]> = BTreeMap::new();
    for reading in readings {
        let namespace = reading.namespace.as_deref().unwrap_or_default();
        match (reading.what, usize::try_from(reading.what - 2)) {
            (0, _) => drop(stored.insert(reading.part, reading.counted)),
            (1, _) => retrying = reading.counted,
            (NEWEST, _) => {}
            (_, Ok(queue)) => {
                let queues = waiting.entry(namespace).or_default();
                if let Some(waiting) = queues.get_mut(queue) {
                    waiting.messages += estimate(reading);
                    let age_s = reading.age_s.unwrap_or_default();
                    waiting.oldest_s = waiting.oldest_s.max(age_s);
                }
            }
            (_, Err(_)) => {}
        }
    }
    let mut gauges = Gauges {
        tasks: by_state(&stored, retrying),
        ..Gauges::default()
    };
    for (namespace, queues) in waiting {
        let namespace = Name::of(namespace);
        for (queue, waiting) in QUEUES.into_iter().zip(queues) {
            if queue == Queue::Steps {
                gauges.ready.push((namespace, waiting.messages));
            }
            gauges.depths.push((queue, namespace, waiting.messages));
            gauges.ages.push((queue, namespace, waiting.oldest_s));
        }
    }
    gauges
}

/// Tasks in each state that is not final, from the numbers of those stored: of the tasks in process, those that
/// only wait for retries are shown apart; the states in between are not told apart.
fn by_state(stored: &BTreeMap<i32, i64>, retrying: i64) -> Vec<(TaskState, u64)> {
    let count = |state: TaskState| {
        let count = stored.get(&(state as i32)).copied().unwrap_or_default();
        u64::try_from(count).unwrap_or_default()
    };
    let process = count(TaskState::StepsInProcess);
    let retrying = process.min(retrying.unsigned_abs());
    let live = TaskState::ALL.into_iter().filter(|s| !s.is_final());
    live.map(|state| match state {
        TaskState::StepsInProcess => (state, process - retrying),
        TaskState::WaitingForRetry => (state, retrying),
        _ => (state, count(state)),
    })
    .collect()
}

/// How many there are where those with the lowest ids were counted. Every message gets its id from one sequence,
/// so those not counted lie about as dense between the last that was and the newest.
fn estimate(reading: &Reading) -> u64 {
    let counted = reading.counted.unsigned_abs();
    match (reading.first, reading.last, reading.newest) {
        (Some(first), Some(last), Some(newest)) if newest > last && last > first => {
            let share = (newest - first) as f64 / (last - first) as f64;
            (counted as f64 * share).round() as u64
        }
        _ => counted,
    }
}

#[cfg(test)]
mod tests;
