//! How long a fault takes to be got over: tasks asked for the moment it ends are complete, and what a killed worker
//! held is with another.

use std::time::{Duration, Instant};

use sqlx::PgPool;
use uuid::Uuid;

use super::load::Accepted;
use super::shapes::NAMESPACE;
use crate::Process;

/// So many are asked for that some belong to each server.
const PROBES: i64 = 24;
const POLL: Duration = Duration::from_millis(20);
/// Longer than anything may take here; what takes longer does not come at all.
const PATIENCE: Duration = Duration::from_secs(90);

/// Steps that a worker held when it was killed: task, number and delivery.
pub(super) type Held = Vec<(Uuid, i32, i32)>;

/// Asks for probes, and waits until they are complete. Answers them, and how long that took.
///
/// # Panics
/// When they do not become complete.
pub(super) async fn probe(pool: &PgPool, number: usize) -> (Vec<(String, Accepted)>, Duration) {
    let began = Instant::now();
    let probes = loop {
        if let Ok(probes) = ask(pool, number).await {
            break probes;
        }
        assert!(began.elapsed() < PATIENCE, "the database takes no probes");
        tokio::time::sleep(POLL).await;
    };
    let tasks: Vec<Uuid> = probes.iter().map(|(_, probe)| probe.task).collect();
    let open = "SELECT count(*) FROM unnest($1::uuid[]) AS p(task_uuid)
                 WHERE NOT EXISTS (SELECT 1 FROM tasker.tasks AS t WHERE t.task_uuid = p.task_uuid AND t.state = 8)";
    wait_for_none(pool, "probes complete", open, &tasks).await;
    (probes, began.elapsed())
}

/// All in one transaction, high in priority.
async fn ask(pool: &PgPool, number: usize) -> sqlx::Result<Vec<(String, Accepted)>> {
    let rows: Vec<(i64, Uuid)> = sqlx::query_as(
        "SELECT n, tasker.submit_task($1, 'probe', json_build_object('n', n), priority => 100, idempotency_key => $2 || n)
           FROM generate_series(1, $3) AS n",
    )
    .bind(NAMESPACE)
    .bind(format!("probe-{number}-"))
    .bind(PROBES)
    .fetch_all(pool)
    .await?;
    let accepted = rows.into_iter().map(|(n, task)| {
        let shape = "probe";
        (format!("probe-{number}-{n}"), Accepted { task, shape, n })
    });
    Ok(accepted.collect())
}

/// What a process that was just killed has claimed.
pub(super) async fn held(pool: &PgPool, process: &Process) -> Held {
    sqlx::query_as(
        "SELECT r.task_uuid, r.step_no, r.attempt FROM tasker.ready AS r JOIN tasker.workers AS w USING (worker)
          WHERE w.name = $1",
    )
    .bind(format!("{}@{}", process.pid(), process.address()))
    .fetch_all(pool)
    .await
    // The database is away too: then what was held is not measured.
    .unwrap_or_default()
}

/// Waits until what a worker held has been claimed again, or has ended.
///
/// # Panics
/// When it is not.
pub(super) async fn taken_over(pool: &PgPool, held: &Held) {
    let tasks: Vec<Uuid> = held.iter().map(|(task, ..)| *task).collect();
    let steps: Vec<i32> = held.iter().map(|(_, step, _)| *step).collect();
    let attempts: Vec<i32> = held.iter().map(|(.., attempt)| *attempt).collect();
    let open = "SELECT count(*) FROM unnest($1::uuid[], $2::int[], $3::int[]) AS h(task_uuid, step_no, attempt)
                  JOIN tasker.steps AS s USING (task_uuid, step_no)
                 WHERE s.state = 1 AND (s.attempt = h.attempt OR EXISTS (
                       SELECT 1 FROM tasker.ready AS r WHERE r.lane = s.lane AND r.id = s.message_id AND r.worker IS NULL))";
    let began = Instant::now();
    loop {
        let count = sqlx::query_scalar(open)
            .bind(&tasks)
            .bind(&steps)
            .bind(&attempts);
        let count: Result<i64, _> = count.fetch_one(pool).await;
        if matches!(count, Ok(0)) {
            return;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "held steps are not claimed again: {count:?}"
        );
        tokio::time::sleep(POLL).await;
    }
}

async fn wait_for_none(pool: &PgPool, what: &str, sql: &'static str, tasks: &[Uuid]) {
    let began = Instant::now();
    loop {
        let open: Result<i64, _> = sqlx::query_scalar(sql).bind(tasks).fetch_one(pool).await;
        if matches!(open, Ok(0)) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "not yet {what}: {open:?}");
        tokio::time::sleep(POLL).await;
    }
}
