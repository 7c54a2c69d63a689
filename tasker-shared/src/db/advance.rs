//! Advancing graphs: reading the messages of the shards that a server owns, and applying the plan made
//! from them in one statement.

mod line;
mod part;
mod plain;

use std::collections::BTreeMap;

use sqlx::PgConnection;
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::effects::Effects;
use super::weekly::Week;
use super::{Error, Result, statements};
use crate::cursor::Span;
use crate::metrics::Correlation;
use crate::metrics::messaging::{self, Queue};
use crate::plan::advance::{Advance, Move};
use crate::plan::{Kind, Message};

use part::Part;

/// The shorter texts of `APPLY`, which have its name.
#[cfg(test)]
pub(super) fn shorter() -> [&'static super::Statement; 2] {
    [&*plain::PLAIN, &line::LINE]
}

/// How much to read of a shard, of which ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    pub shard: i16,
    pub span: Span,
    pub most: i64,
}

/// What was read of some shards.
#[derive(Debug, Clone, Default)]
pub struct Listed {
    pub messages: Vec<Message>,
    /// Shard and id of messages of a kind that this version does not know: a newer one's, which stay for it.
    pub unknown: Vec<(i16, i64)>,
}

statements! {
    READ, "list_messages", [Receive Results] =
        "SELECT r.shard, r.id, r.kind, r.task_uuid, r.correlation_id, r.step_no, r.attempt, r.tries, r.lost, r.template_id,
                r.priority, r.sampled, r.traced, r.progress, r.retry_after_ms, r.control
           FROM unnest($1::int2[], $2::int8[], $3::int8[], $4::int8[]) AS s(shard, behind, until, most),
                LATERAL (SELECT * FROM tasker.results WHERE shard = s.shard AND id > s.behind AND id <= s.until ORDER BY id LIMIT s.most) r";
    // What stands in `/*<*/ … /*|>*/` is for what is not plain, see `PLAIN`. What is plain may have come by a wake instead
    // of being read, so it is held against what is stored.
    APPLY, "advance_graphs", [Delete Results, Send Steps] =
        "WITH
         -- the messages, each applied by whoever deletes it; only of shards that are still this server's
         gone AS (DELETE FROM tasker.results r
                   USING unnest($2::int2[], $3::int8[], $4::int4[], $5::int4[], $6::int4[], $7::bool[],
                             /*<*/$11::int2[], $12::int2[], $13::int4[], $14::int4[], $15::int8[], $16::bool[], $17::int4[]/*|$11::int4[], $12::int2[]>*/)
                         AS m(shard, id, /*<*/to_tries/*|step_no>*/, lo, hi, blocks,
                              /*<*/expected, becomes, to_lost, to_lane, delay_ms, bad, next/*|template_id, priority>*/)
                   WHERE r.shard = ANY (ARRAY[m.shard]) AND r.id = m.id
                     /*<*//*|AND r.kind IN (0, 8) AND r.step_no = m.step_no AND r.template_id = m.template_id AND r.priority = m.priority>*/
                     AND m.shard = ANY (ARRAY (SELECT shard FROM tasker.shards WHERE owner = $1 AND until > now()))
                  RETURNING r.shard, r.id, r.task_uuid, r.correlation_id, r.step_no, r.attempt, r.template_id, r.priority, r.sampled, r.traced,
                            /*<*/m.to_tries/*|r.tries + 1 AS to_tries>*/, m.lo, m.hi, m.blocks/*<*/, m.expected, m.becomes, m.to_lost, m.to_lane, m.delay_ms, m.bad, m.next/*|>*/),
         -- the steps they are about, where the delivery is the current one; a step that is enqueued again gets a new one
         ended AS (UPDATE tasker.steps s
                      SET tries = g.to_tries, changed_at = now(), state = /*<*/g.becomes, lost = g.to_lost,
                          attempt = s.attempt + CASE WHEN g.becomes = 1 THEN 1 ELSE 0 END,
                          lane = CASE WHEN g.becomes = 1 THEN g.to_lane ELSE s.lane END,
                          message_id = CASE WHEN g.becomes = 1 THEN nextval('tasker.message_ids') ELSE s.message_id END,
                          due_at = now() + g.delay_ms * interval '1 ms'/*|6>*/
                     FROM gone g
                    WHERE /*<*/g.becomes IS NOT NULL AND/*|>*/ s.task_uuid = ANY (ARRAY[g.task_uuid]) AND s.step_no = g.step_no
                      AND s.attempt = g.attempt AND s.state = /*<*/g.expected/*|1>*/
                   RETURNING g.id, g.task_uuid, g.step_no, g.correlation_id, g.template_id, g.priority, g.sampled, g.traced, g.shard, g.lo, g.hi, g.blocks
                             /*<*/, s.state, s.attempt, s.message_id, s.due_at, s.tries, s.lost, g.to_lane, g.bad, g.next/*|>*/),
         -- parents whose children are told now
         fired AS (SELECT task_uuid, step_no, correlation_id, template_id, priority, sampled, traced, shard, lo, hi, blocks/*<*/, bad, next/*|>*/ FROM ended WHERE hi >= lo
                   /*<*/UNION ALL
                   SELECT task_uuid, step_no, correlation_id, template_id, priority, sampled, traced, shard, lo, hi, blocks, bad, next FROM gone WHERE becomes IS NULL/*|>*/),
         -- each child once, however many of its parents ended and whatever versions carried their flags; the start is nobody's parent
         lowered AS (SELECT f.task_uuid, c.number, c.lane, count(*) FILTER (WHERE f.step_no > 0) AS n, /*<*/count(*) FILTER (WHERE f.bad)/*|0>*/ AS bad,
                            f.correlation_id, f.template_id, f.priority, bool_or(f.sampled) AS sampled, bool_or(f.traced) AS traced, f.shard, f.blocks
                       FROM fired f, LATERAL unnest(($8::int4[])[f.lo:f.hi], ($9::int4[])[f.lo:f.hi]) AS c(number, lane)
                      GROUP BY f.task_uuid, c.number, c.lane, f.correlation_id, f.template_id, f.priority, f.shard, f.blocks),
         -- a child at zero is enqueued, or skipped where a parent failed; the join, which has no lane, ends its task, and where
         -- none is stored 0 stands for it (`plan::advance::END`)
         moved AS (UPDATE tasker.steps s
                      SET waiting_on = s.waiting_on - l.n, failed = s.failed + l.bad,
                          state = CASE WHEN s.state <> 0 OR s.waiting_on <> l.n THEN s.state
                                       WHEN s.failed + l.bad > 0 THEN 10 WHEN l.lane IS NULL THEN 6 ELSE 1 END,
                          attempt = s.attempt + CASE WHEN s.state = 0 AND s.waiting_on = l.n AND s.failed + l.bad = 0 AND l.lane IS NOT NULL THEN 1 ELSE 0 END,
                          lane = l.lane,
                          message_id = CASE WHEN s.state = 0 AND s.waiting_on = l.n AND s.failed + l.bad = 0 AND l.lane IS NOT NULL
                                            THEN nextval('tasker.message_ids') END,
                          changed_at = CASE WHEN s.state = 0 AND s.waiting_on = l.n THEN now() ELSE s.changed_at END
                     FROM lowered l
                    -- the start enqueues what waits for it, and is nothing to a step that a person has moved on
                    WHERE l.number > 0 AND s.task_uuid = ANY (ARRAY[l.task_uuid]) AND s.step_no = l.number /*<*/AND (l.n > 0 OR s.state = 0)/*|>*/
                   RETURNING s.task_uuid, s.step_no, s.state, s.waiting_on, s.failed, s.attempt, s.tries, s.lost, s.lane, s.message_id,
                             l.correlation_id, l.template_id, l.priority, l.sampled, l.traced, l.shard, l.blocks),
         queued AS (INSERT INTO tasker.ready (lane, id, task_uuid, correlation_id, enqueued_at, step_no, attempt, tries, lost, template_id, shard, priority, sampled, traced)
                    SELECT lane, message_id, task_uuid, correlation_id, clock_timestamp(), step_no, attempt, tries, lost, template_id, shard, priority, sampled, traced
                      FROM moved WHERE state = 1
                    /*<*/UNION ALL
                    SELECT to_lane, message_id, task_uuid, correlation_id, clock_timestamp(), step_no, attempt, tries, lost, template_id, shard, priority, sampled, traced
                      FROM ended WHERE state = 1/*|>*/
                    RETURNING task_uuid, step_no, attempt),
         /*<*/later AS (INSERT INTO tasker.delayed (shard, due_at, task_uuid, correlation_id, step_no, attempt, tries, lost, template_id, priority, sampled, traced)
                   SELECT shard, due_at, task_uuid, correlation_id, step_no, attempt, tries, lost, template_id, priority, sampled, traced
                     FROM ended WHERE state = 5),
         started AS (UPDATE tasker.tasks t SET state = 3, updated_at = now()
                      WHERE t.task_uuid = ANY (ARRAY (SELECT task_uuid FROM fired WHERE step_no = 0)) AND t.state = 0
                     RETURNING t.task_uuid, t.state, t.created_at),/*|>*/
         finished AS (UPDATE tasker.tasks t
                         SET state = CASE WHEN m.failed = 0 THEN 8 WHEN m.blocks THEN 7 ELSE 9 END, updated_at = now(),
                             completed_at = CASE WHEN m.failed > 0 AND m.blocks THEN NULL ELSE now() END, unwell = t.unwell OR m.failed > 0
                        FROM (SELECT task_uuid, failed, shard, correlation_id, template_id, priority, sampled, traced, blocks
                                FROM moved WHERE lane IS NULL AND waiting_on = 0 AND state IN (6, 10)
                              UNION ALL
                              SELECT task_uuid, bad, shard, correlation_id, template_id, priority, sampled, traced, blocks FROM lowered WHERE number = 0) m
                       WHERE t.task_uuid = ANY (ARRAY[m.task_uuid]) AND t.state = 3
                      RETURNING t.task_uuid, t.state, t.created_at, m.shard, m.correlation_id, m.template_id, m.priority, m.sampled, m.traced),
         -- the rest of a wide fan-out, what a skipped step's children are to be told, and tasks that become dead letters
         again AS (INSERT INTO tasker.results (shard, kind, task_uuid, correlation_id, sent_at, step_no, attempt, tries, lost, template_id, progress, priority, sampled, traced)
                   /*<*/SELECT shard, CASE WHEN bad THEN 21 ELSE 20 END, task_uuid, correlation_id, clock_timestamp(), step_no, 0, 0, 0, template_id, next, priority, sampled, traced
                     FROM fired WHERE next IS NOT NULL
                   UNION ALL/*|>*/
                   SELECT shard, 21, task_uuid, correlation_id, clock_timestamp(), step_no, 0, 0, 0, template_id, 0, priority, sampled, traced
                     FROM moved WHERE state = 10 AND lane IS NOT NULL AND waiting_on = 0
                   UNION ALL
                   SELECT shard, 24, task_uuid, correlation_id, clock_timestamp(), 0, 0, 0, 0, template_id, 0, priority, sampled, traced
                     FROM finished WHERE state <> 8
                   RETURNING 1),
         counted AS (INSERT INTO tasker.task_counts (state, change)
                     SELECT c.state, c.change
                       FROM (SELECT /*<*/(SELECT count(*) FROM started)/*|0>*/ AS n) b,
                            (SELECT count(*) AS n, count(*) FILTER (WHERE state = 7) AS stuck FROM finished) e,
                            LATERAL (VALUES (0, -b.n), (3, b.n - e.n), (7, e.stuck)) AS c(state, change)
                      WHERE c.change <> 0),
         woken AS (SELECT pg_notify('tasker_steps', '') WHERE $10 AND EXISTS (SELECT 1 FROM queued)),
         -- the end of a task is flushed; what a crash loses of the rest follows from its messages once more
         lazily AS (SELECT set_config('synchronous_commit', 'off', true) WHERE NOT EXISTS (SELECT 1 FROM finished))
         -- one row, which costs least: the messages that are gone, those of them that changed their step, the steps enqueued and,
         -- as attempt 0, skipped, the tasks that changed; what nobody reads is not run: this reads the notification and the setting
         SELECT g.gone, e.changed, c.step_tasks, c.step_numbers, c.attempts, t.tasks, t.states, t.ages_ms, a.again
           FROM (SELECT array_agg(id) AS gone FROM gone) g, (SELECT array_agg(id) AS changed FROM ended) e,
                (SELECT array_agg(task_uuid) AS step_tasks, array_agg(step_no) AS step_numbers, array_agg(attempt) AS attempts
                   FROM (SELECT * FROM queued
                         UNION ALL SELECT task_uuid, step_no, 0 FROM moved WHERE state = 10 AND lane IS NOT NULL AND waiting_on = 0) s) c,
                (SELECT array_agg(task_uuid) AS tasks, array_agg(state) AS states,
                        array_agg((extract(epoch FROM clock_timestamp() - created_at) * 1000)::float8) AS ages_ms
                   FROM (/*<*/SELECT * FROM started UNION ALL/*|>*/ SELECT task_uuid, state, created_at FROM finished) s) t,
                (SELECT count(*) AS again FROM again) a,
                (SELECT count(*) AS n FROM woken) w, (SELECT count(*) AS n FROM lazily) l
          WHERE w.n >= 0 AND l.n >= 0";
}

/// The message of a row, whose columns are read by their places; `None` where its kind is not known.
fn read(row: &PgRow) -> sqlx::Result<Option<Message>> {
    let Some(kind) = Kind::from_i16(row.try_get(2)?) else {
        return Ok(None);
    };
    Ok(Some(Message {
        shard: row.try_get(0)?,
        id: row.try_get(1)?,
        kind,
        task_uuid: row.try_get(3)?,
        correlation_id: row.try_get(4)?,
        step_no: row.try_get(5)?,
        attempt: row.try_get(6)?,
        tries: row.try_get(7)?,
        lost: row.try_get(8)?,
        template_id: row.try_get(9)?,
        priority: row.try_get(10)?,
        sampled: row.try_get(11)?,
        traced: row.try_get(12)?,
        progress: row.try_get(13)?,
        retry_after_ms: row.try_get(14)?,
        control: row.try_get(15)?,
    }))
}

/// The messages of some shards, each shard's in their order. They count as received when they are applied: until then
/// the same ones may be read again.
pub async fn list_messages(connection: &mut PgConnection, asks: &[Ask]) -> Result<Listed> {
    let query = sqlx::query(READ.sql)
        .bind(asks.iter().map(|a| a.shard).collect::<Vec<_>>())
        .bind(asks.iter().map(|a| a.span.behind).collect::<Vec<_>>())
        .bind(asks.iter().map(|a| a.span.until).collect::<Vec<_>>())
        .bind(asks.iter().map(|a| a.most).collect::<Vec<_>>());
    let rows = READ.run(query.fetch_all(connection)).await?;
    let wrong = |source| Error::new(READ.name, source);
    let mut listed = Listed::default();
    for row in &rows {
        match read(row).map_err(wrong)? {
            Some(message) => listed.messages.push(message),
            None => {
                let at = |row: &PgRow| Ok((row.try_get(0)?, row.try_get(1)?));
                listed.unknown.push(at(row).map_err(wrong)?);
            }
        }
    }
    if !listed.unknown.is_empty() {
        tracing::warn!(
            messages = listed.unknown.len(),
            "messages of a kind that this version does not know: a newer server has to take them"
        );
    }
    Ok(listed)
}

/// Applies a plan for `server`, as far as the shards are still its own and the deliveries current, and
/// returns what came of it. `notify` wakes the workers. Tasks of one week share a statement.
pub async fn apply(
    connection: &mut PgConnection,
    server: Uuid,
    plan: &Advance,
    notify: bool,
) -> Result<Effects> {
    let mut weeks: BTreeMap<Week, Vec<&Move>> = BTreeMap::new();
    for step in &plan.moves {
        let week = Week::of(step.message.task_uuid);
        weeks.entry(week).or_default().push(step);
    }
    let mut effects = Effects::default();
    for (week, moves) in weeks {
        let part = Part::of(&moves, &plan.children);
        let answer = part.apply(connection, server, notify, week).await?;
        effects.add(APPLY.name, plan, answer)?;
    }
    record(plan, &effects);
    Ok(effects)
}

/// Counts the messages that an advance moved.
fn record(plan: &Advance, effects: &Effects) {
    let recent = plan.moves.last().map(|m| Correlation::from(&m.message));
    let taken = effects.taken.len() as u64;
    messaging::received(Queue::Results, taken, recent);
    messaging::deleted(Queue::Results, taken, recent);
    messaging::sent(Queue::Results, effects.again, recent);
    messaging::sent(Queue::Steps, effects.enqueued.len() as u64, recent);
}
