//! A step's bare cycle: all that is durable about it (accept, claim under a lease, submit, advance, end the task) as
//! set-based statements on tables of their own, without lanes, retries or telemetry, and with a join behind every task.
//! `tasker bench throughput --sketch` and `tasker bench latency --sketch` run it in the same database, for Tasker's own
//! speed to be seen against it.

use sqlx::PgConnection;
use uuid::Uuid;

use super::pool::{Pool, Target};
use super::{Error, Result, statements};

/// Steps of each task, which follow each other; one nameless join more ends the task.
pub const STEPS: i64 = 4;

/// Claims and advances look behind the last one's lowest row less this, for rows that were committed late.
const MARGIN: i64 = 2_000;

const TABLES: &str = "
DROP SCHEMA IF EXISTS tasker_sketch CASCADE;
CREATE SCHEMA tasker_sketch;
CREATE TABLE tasker_sketch.tasks (task_id uuid PRIMARY KEY, namespace text, name text, state smallint NOT NULL DEFAULT 0, context jsonb,
    correlation_id uuid, created_at timestamptz DEFAULT now(), completed_at timestamptz) WITH (fillfactor = 80);
CREATE TABLE tasker_sketch.steps (task_id uuid, step_no smallint, name text, state smallint NOT NULL DEFAULT 0, waiting_on smallint NOT NULL,
    children smallint[] NOT NULL, attempts smallint NOT NULL DEFAULT 0, enqueued_at timestamptz, finished_at timestamptz,
    PRIMARY KEY (task_id, step_no)) WITH (fillfactor = 60);
CREATE TABLE tasker_sketch.attempts (task_id uuid, step_no smallint, attempt smallint, worker uuid, enqueued_at timestamptz, claimed_at timestamptz,
    finished_at timestamptz, outcome smallint, result jsonb, PRIMARY KEY (task_id, step_no, attempt));
CREATE TABLE tasker_sketch.ready (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, task_id uuid, step_no smallint,
    priority smallint NOT NULL DEFAULT 0, visible_at timestamptz NOT NULL DEFAULT now(), attempt smallint NOT NULL DEFAULT 0, lease uuid,
    enqueued_at timestamptz DEFAULT now(), leased_at timestamptz) WITH (fillfactor = 70);
CREATE TABLE tasker_sketch.results (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, task_id uuid, step_no smallint, attempt smallint,
    outcome smallint);";

statements! {
    ACCEPT, "sketch_accept" =
        "WITH /* tasker bench */
         made AS (INSERT INTO tasker_sketch.tasks (task_id, namespace, name, context, correlation_id)
                  SELECT gen_random_uuid(), 'bench', 'linear', '{}', gen_random_uuid() FROM generate_series(1, $1) RETURNING task_id),
         graph AS (INSERT INTO tasker_sketch.steps (task_id, step_no, name, state, waiting_on, children)
                   SELECT task_id, n, CASE WHEN n <= $2 THEN 'step' ELSE '' END, CASE n WHEN 1 THEN 1 ELSE 0 END, CASE n WHEN 1 THEN 0 ELSE 1 END,
                          CASE WHEN n <= $2 THEN ARRAY[n + 1] ELSE '{}' END
                     FROM made, generate_series(1, $2 + 1) AS n),
         first AS (INSERT INTO tasker_sketch.ready (task_id, step_no) SELECT task_id, 1 FROM made)
         SELECT count(pg_notify('tasker_steps', '')) FROM generate_series(1, 1) WHERE $3";
    CLAIM, "sketch_claim" =
        "WITH /* tasker bench */
         -- losing a claim in a crash is a redelivery, not a loss
         lazily AS (SELECT set_config('synchronous_commit', 'off', true)),
         taken AS (UPDATE tasker_sketch.ready SET lease = $1, leased_at = clock_timestamp(), visible_at = now() + interval '15 s', attempt = attempt + 1
                    WHERE id = ANY (ARRAY (SELECT id FROM tasker_sketch.ready, lazily WHERE id > $2 AND visible_at <= now()
                                            ORDER BY id LIMIT $3 FOR UPDATE OF ready SKIP LOCKED)) RETURNING id)
         SELECT id FROM taken";
    LOAD, "sketch_load" =
        "SELECT /* tasker bench */ t.context::text FROM tasker_sketch.ready r JOIN tasker_sketch.tasks t USING (task_id) WHERE r.id = ANY ($1)";
    SUBMIT, "sketch_submit" =
        "WITH /* tasker bench */
         done AS (DELETE FROM tasker_sketch.ready WHERE id = ANY ($1) AND lease = $2 RETURNING *),
         history AS (INSERT INTO tasker_sketch.attempts
                     SELECT task_id, step_no, attempt, $2, enqueued_at, leased_at, clock_timestamp(), 1, '{}' FROM done),
         sent AS (INSERT INTO tasker_sketch.results (task_id, step_no, attempt, outcome) SELECT task_id, step_no, attempt, 1 FROM done)
         SELECT count(pg_notify('tasker_results', '')) FROM generate_series(1, 1) WHERE $3";
    ADVANCE, "sketch_advance" =
        "WITH /* tasker bench */
         taken AS (DELETE FROM tasker_sketch.results WHERE id = ANY (ARRAY (
                       SELECT id FROM tasker_sketch.results WHERE id > $2 ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED)) RETURNING *),
         ended AS (UPDATE tasker_sketch.steps s SET state = 5, attempts = t.attempt, finished_at = clock_timestamp() FROM taken t
                    WHERE s.task_id = t.task_id AND s.step_no = t.step_no RETURNING s.task_id, s.children),
         lowered AS (SELECT task_id, unnest(children) AS step_no, count(*)::smallint AS n FROM ended GROUP BY 1, 2),
         moved AS (UPDATE tasker_sketch.steps s
                      SET waiting_on = s.waiting_on - l.n, state = CASE WHEN s.waiting_on = l.n THEN 1 ELSE 0 END, enqueued_at = clock_timestamp()
                     FROM lowered l WHERE s.task_id = l.task_id AND s.step_no = l.step_no RETURNING s.task_id, s.step_no, s.waiting_on, s.name),
         enqueued AS (INSERT INTO tasker_sketch.ready (task_id, step_no) SELECT task_id, step_no FROM moved WHERE waiting_on = 0 AND name <> ''),
         finished AS (UPDATE tasker_sketch.tasks t SET state = 9, completed_at = clock_timestamp() FROM moved m
                       WHERE m.waiting_on = 0 AND m.name = '' AND t.task_id = m.task_id RETURNING 1)
         SELECT (SELECT count(*) FROM taken), (SELECT count(*) FROM finished), (SELECT min(id) FROM taken)
           FROM (SELECT count(pg_notify('tasker_steps', '')) AS n FROM generate_series(1, 1) WHERE $3) w WHERE w.n >= 0";
    TOOK, "sketch_took" =
        "SELECT /* tasker bench */ (extract(epoch FROM completed_at - created_at) * 1000)::float8 FROM tasker_sketch.tasks WHERE state = 9";
}

/// Makes its tables, empty.
pub async fn create(pool: &Pool) -> Result<()> {
    let made = sqlx::raw_sql(TABLES).execute(pool).await;
    made.map(drop)
        .map_err(|source| Error::new("create_sketch", source))
}

/// One of those that drive the sketch, server and worker in one, on a connection of its own.
#[derive(Debug)]
pub struct Driver {
    connection: PgConnection,
    worker: Uuid,
    /// Nothing below is claimable any more, as far as is known.
    low: i64,
    /// The same of results.
    low_result: i64,
}

impl Driver {
    /// A driver with a connection to the database.
    pub async fn connect(target: &Target) -> Result<Driver> {
        Ok(Driver {
            connection: target.batches().connect().await?,
            worker: Uuid::now_v7(),
            low: 0,
            low_result: 0,
        })
    }

    /// Stores new tasks. `notify` wakes whoever claims.
    pub async fn accept(&mut self, tasks: i32, notify: bool) -> Result<()> {
        let steps = i32::try_from(STEPS).unwrap_or(i32::MAX);
        let query = sqlx::query(ACCEPT.sql).bind(tasks).bind(steps).bind(notify);
        ACCEPT
            .run(query.execute(&mut self.connection))
            .await
            .map(drop)
    }

    /// Claims up to `most` steps.
    pub async fn claim(&mut self, most: i64) -> Result<Vec<i64>> {
        let claim = sqlx::query_scalar(CLAIM.sql)
            .bind(self.worker)
            .bind(self.low)
            .bind(most);
        let ids: Vec<i64> = CLAIM.run(claim.fetch_all(&mut self.connection)).await?;
        self.low = low(ids.len() as u64, ids.iter().min().copied(), most);
        Ok(ids)
    }

    /// Reads the contexts of claimed steps.
    pub async fn load(&mut self, ids: &[i64]) -> Result<Vec<String>> {
        let query = sqlx::query_scalar(LOAD.sql).bind(ids);
        LOAD.run(query.fetch_all(&mut self.connection)).await
    }

    /// Submits claimed steps. `notify` wakes whoever advances.
    pub async fn submit(&mut self, ids: &[i64], notify: bool) -> Result<()> {
        let query = sqlx::query(SUBMIT.sql);
        let query = query.bind(ids).bind(self.worker).bind(notify);
        SUBMIT
            .run(query.execute(&mut self.connection))
            .await
            .map(drop)
    }

    /// Advances up to `most` steps; answers how many there were and how many tasks ended. `notify` wakes whoever claims.
    pub async fn advance(&mut self, most: i64, notify: bool) -> Result<(i64, i64)> {
        let query = sqlx::query_as(ADVANCE.sql);
        let query = query.bind(most).bind(self.low_result).bind(notify);
        let (steps, tasks, lowest): (i64, i64, Option<i64>) =
            ADVANCE.run(query.fetch_one(&mut self.connection)).await?;
        self.low_result = low(steps.unsigned_abs(), lowest, most);
        Ok((steps, tasks))
    }
}

/// How long each task took that has ended, from its acceptance, in milliseconds.
pub async fn took(pool: &Pool) -> Result<Vec<f64>> {
    TOOK.run(sqlx::query_scalar(TOOK.sql).fetch_all(pool)).await
}

/// From where the next look begins after one that found so many rows and the lowest of them. Where there were less
/// than there may be, something may lie further back.
fn low(found: u64, lowest: Option<i64>, most: i64) -> i64 {
    match lowest {
        Some(lowest) if found == most.unsigned_abs() => (lowest - MARGIN).max(0),
        _ => 0,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::embedded::Temporary;

    #[tokio::test]
    async fn every_step_of_the_sketch_is_run_once_and_every_task_ends() {
        let postgres = Temporary::start().await.unwrap();
        let target = Target::parse(postgres.url(), "test", Duration::from_secs(10)).unwrap();
        let pool = target.pool(1);
        create(&pool).await.unwrap();
        let mut driver = Driver::connect(&target).await.unwrap();
        driver.accept(5, false).await.unwrap();
        let (mut steps, mut tasks) = (0, 0);
        for _ in 0..20 {
            let ids = driver.claim(3).await.unwrap();
            let contexts = driver.load(&ids).await.unwrap();
            assert_eq!(contexts.len(), ids.len());
            driver.submit(&ids, false).await.unwrap();
            let advanced = driver.advance(3, false).await;
            let (advanced, ended) = advanced.unwrap();
            steps += advanced;
            tasks += ended;
        }
        assert_eq!((steps, tasks), (5 * STEPS, 5));
        let left = "SELECT (SELECT count(*) FROM tasker_sketch.ready) + (SELECT count(*) FROM tasker_sketch.results)
                         + (SELECT count(*) FROM tasker_sketch.tasks WHERE state <> 9)";
        let left: i64 = sqlx::query_scalar(left).fetch_one(&pool).await.unwrap();
        assert_eq!(left, 0);
        assert_eq!(took(&pool).await.unwrap().len(), 5);
        assert_eq!(STATEMENTS.len(), 6);
    }
}
