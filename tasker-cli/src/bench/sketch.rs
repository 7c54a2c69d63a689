//! The least that steps can cost PostgreSQL, driven by two connections at once in the same database.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Instant;

use tasker_shared::db::sketch::{self, Driver, STEPS};

use super::Bench;
use super::ground::{Ground, asked};
use super::quantiles::rounded;
use crate::failure::Failure;

/// More only wait for each other.
const CONNECTIONS: usize = 2;
/// Steps taken at once.
const BATCH: i64 = 200;

/// Steps a second over at least so many steps.
pub(super) async fn run(bench: &mut Bench, steps: u64) -> Result<f64, Failure> {
    let tasks = steps.div_ceil(STEPS.unsigned_abs()).cast_signed();
    bench.progress.begin("running the sketch");
    asked(sketch::create(&bench.ground.pool).await)?;
    let work = Work {
        to_accept: AtomicI64::new(tasks),
        to_end: AtomicI64::new(tasks),
        steps: AtomicU64::new(0),
    };
    let began = Instant::now();
    let drive = (0..CONNECTIONS).map(|_| drive(&bench.ground, &work));
    futures::future::try_join_all(drive).await?;
    let seconds = began.elapsed().as_secs_f64();
    Ok(rounded(work.steps.load(Ordering::Relaxed) as f64 / seconds))
}

/// What is left to do.
struct Work {
    to_accept: AtomicI64,
    to_end: AtomicI64,
    steps: AtomicU64,
}

async fn drive(ground: &Ground, work: &Work) -> Result<(), Failure> {
    let mut connection = asked(ground.target.batches().connect().await)?;
    let mut driver = Driver::default();
    // A task is accepted for every one that can end meanwhile.
    let at_once = BATCH / STEPS;
    while work.to_end.load(Ordering::Relaxed) > 0 {
        let left = work.to_accept.fetch_sub(at_once, Ordering::Relaxed);
        if left > 0 {
            let tasks = i32::try_from(left.min(at_once)).unwrap_or(i32::MAX);
            asked(driver.accept(&mut connection, tasks).await)?;
        }
        let (steps, ended) = asked(driver.turn(&mut connection, BATCH).await)?;
        work.steps
            .fetch_add(steps.unsigned_abs(), Ordering::Relaxed);
        work.to_end.fetch_sub(ended, Ordering::Relaxed);
    }
    Ok(())
}
