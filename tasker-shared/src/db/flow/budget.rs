//! What a step costs in rows written and bytes of the write-ahead log: numbers that do not depend on how fast anything
//! is, so that a change of a statement or an index shows.

use super::*;
use crate::db::sketch;

const LINEAR: &str = "  - {name: a, handler: {callable: echo}}
  - {name: b, handler: {callable: echo}, dependencies: [a]}
  - {name: c, handler: {callable: echo}, dependencies: [b]}
  - {name: d, handler: {callable: echo}, dependencies: [c]}\n";

/// A way of running linear tasks of four, and what all their steps together may cost.
struct Case {
    /// Tasks that go through every statement together.
    tasks: usize,
    /// A task's own row, four steps and the first message: 6. Each of four steps: claimed, its message gone, an attempt
    /// and a result written; the result gone, the step ended, and its child lowered and a message written: 8, or for the
    /// last one the task's end: 7. Besides one change of the number of tasks when they begin and one when they end.
    rows: i64,
    /// Generous: a page's first change after a checkpoint is written whole.
    wal_bytes_a_step: i64,
}

const CASES: [Case; 2] = [
    Case {
        tasks: 1,
        rows: 37 + 2,
        wal_bytes_a_step: 9_000,
    },
    Case {
        tasks: 100,
        rows: 3_700 + 2,
        wal_bytes_a_step: 3_500,
    },
];

/// A number that has stayed the same for so many looks is all there is.
const LOOKS: usize = 5;
const PAUSE: Duration = Duration::from_millis(300);

/// Rows of the tables on a step's way that were written; leases and registrations are not.
const ROWS: &str = "SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::int8 FROM pg_stat_user_tables
    WHERE schemaname = 'tasker' AND relname ~ '^(tasks|steps|attempts)_|^(ready|results|delayed|task_counts|requests)$'";
/// Claims that had to make an entry of their own in the index.
const MOVED: &str = "SELECT (n_tup_upd - n_tup_hot_upd)::int8 FROM pg_stat_user_tables WHERE relid = 'tasker.ready'::regclass";
const WAL: &str = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::int8";

impl World {
    /// Rows written by everything before, which PostgreSQL says only some time later.
    async fn rows_written(&mut self) -> i64 {
        // A connection that ends tells at once what it has counted.
        let fresh = self.target.batches().connect().await.unwrap();
        let used = std::mem::replace(&mut self.connection, fresh);
        sqlx::Connection::close(used).await.unwrap();
        let (mut rows, mut the_same) = (self.number(ROWS).await, 0);
        while the_same < LOOKS {
            tokio::time::sleep(PAUSE).await;
            let now = self.number(ROWS).await;
            the_same = if now == rows { the_same + 1 } else { 0 };
            rows = now;
        }
        rows
    }

    async fn number(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    /// Ends all these steps together.
    async fn end_all(&mut self, claimed: &[Claimed]) -> usize {
        let now = Utc::now();
        let ended: Vec<Ended> = claimed
            .iter()
            .map(|step| Ended {
                lane: step.lane,
                id: step.id,
                attempt: step.attempt,
                enqueued_at: step.enqueued_at,
                correlation: step.correlation(),
                outcome: Outcome::Success,
                started_at: Some(now),
                finished_at: now,
                result: Some(r#"{"context":{"n":1},"attempt":1}"#.into()),
                error: None,
                retry_after_ms: None,
            })
            .collect();
        let counted = submit::submit(&mut self.connection, self.worker, &ended, Notice::Wake).await;
        counted.unwrap().len()
    }
}

#[tokio::test]
async fn a_step_writes_as_many_rows_as_its_budget_says() {
    for case in CASES {
        let mut world = World::new().await;
        let blueprint = world.template("linear", LINEAR).await;
        // Makes lanes and plans.
        world.submit(&blueprint).await;
        world.drain(&[]).await;
        let tasks: Vec<NewTask> = (0..case.tasks)
            .map(|_| world.task(&blueprint, Begin::Now))
            .collect();
        let (rows, wal) = (world.rows_written().await, world.number(WAL).await);

        assert_eq!(world.accept(&tasks, &blueprint).await.len(), case.tasks);
        for _ in 0..sketch::STEPS {
            let worker = world.worker;
            let claimed = world.claim(worker, 5_000).await;
            assert_eq!(world.end_all(&claimed).await, case.tasks);
            let messages = world.messages().await;
            assert_eq!(messages.len(), case.tasks);
            world.apply(messages).await;
        }
        let wal = world.number(WAL).await - wal;
        let rows = world.rows_written().await - rows;
        assert!(world.messages().await.is_empty());
        let steps = i64::try_from(case.tasks).unwrap() * sketch::STEPS;
        assert_eq!(rows, case.rows, "{} tasks", case.tasks);
        assert_eq!(world.number(MOVED).await, 0, "{} tasks", case.tasks);
        let each = wal / steps;
        assert!(
            (1..=case.wal_bytes_a_step).contains(&each),
            "{} tasks: {each} bytes of log a step",
            case.tasks
        );
    }
}
