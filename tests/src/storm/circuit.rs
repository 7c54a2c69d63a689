//! What the tables say of the circuit of a storm's target: whether it is open, what waits for it, and whether that
//! costs attempts.

use std::time::Duration;

use sqlx::PgPool;
use uuid::Uuid;

use crate::until;

/// Longer than anything may take here.
const PATIENCE: Duration = Duration::from_secs(90);

/// Steps that wait for a target: task, number, and how often they were tried.
pub(super) type Parked = Vec<(Uuid, i32, i32)>;

/// Waits until `probes` probes have failed since the circuit opened, and steps wait. Answers those, and how many
/// probes have failed now.
///
/// # Panics
/// When that does not come about.
pub(super) async fn parked(pool: &PgPool, target: &str, probes: i32) -> (Parked, i32) {
    let sql = "SELECT s.task_uuid, s.step_no, s.tries
                 FROM tasker.lanes AS l JOIN tasker.ready AS r USING (lane) JOIN tasker.steps AS s USING (task_uuid, step_no)
                WHERE l.target = $1 AND r.worker IS NULL";
    until(PATIENCE, async || {
        let said = |error: sqlx::Error| error.to_string();
        let failed = sqlx::query_scalar("SELECT failures FROM tasker.circuits WHERE target = $1");
        let failed: Option<i32> = failed
            .bind(target)
            .fetch_optional(pool)
            .await
            .map_err(said)?;
        let steps = sqlx::query_as(sql).bind(target).fetch_all(pool);
        let steps: Parked = steps.await.map_err(said)?;
        match failed {
            Some(failed) if failed >= probes && !steps.is_empty() => Ok((steps, failed)),
            _ => Err(format!(
                "{failed:?} probes failed, {} steps wait",
                steps.len()
            )),
        }
    })
    .await
}

/// How many of these have been tried since.
pub(super) async fn tried_since(pool: &PgPool, parked: &Parked) -> usize {
    let tasks: Vec<Uuid> = parked.iter().map(|(task, ..)| *task).collect();
    let steps: Vec<i32> = parked.iter().map(|(_, step, _)| *step).collect();
    let tries: Vec<i32> = parked.iter().map(|(.., tries)| *tries).collect();
    let tried = sqlx::query_scalar(
        "SELECT count(*) FROM unnest($1::uuid[], $2::int[], $3::int[]) AS p(task_uuid, step_no, tries)
           JOIN tasker.steps AS s USING (task_uuid, step_no) WHERE s.tries > p.tries",
    );
    let tried = tried.bind(&tasks).bind(&steps).bind(&tries);
    let tried: i64 = tried.fetch_one(pool).await.unwrap();
    usize::try_from(tried).unwrap_or(usize::MAX)
}

/// Waits until the circuit is closed.
///
/// # Panics
/// When it does not close.
pub(super) async fn closed(pool: &PgPool, target: &str) {
    let open = "SELECT count(*) FROM tasker.circuits WHERE target = $1";
    until(PATIENCE, async || {
        let open = sqlx::query_scalar(open).bind(target).fetch_one(pool).await;
        match open {
            Ok(0_i64) => Ok(()),
            other => Err(format!("the circuit of {target} is open: {other:?}")),
        }
    })
    .await;
}
