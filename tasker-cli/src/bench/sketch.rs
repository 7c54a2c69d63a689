//! The least that steps can cost PostgreSQL, in the same database: driven by two connections at once, or by a worker and
//! a server that wake each other for one task at a time.

use std::convert::Infallible;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tasker_shared::db::sketch::{self, Driver, STEPS};
use tasker_shared::db::wake::{self, Topic, Wakes};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

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
    let mut driver = asked(Driver::connect(&ground.target).await)?;
    // A task is accepted for every one that can end meanwhile.
    let at_once = BATCH / STEPS;
    while work.to_end.load(Ordering::Relaxed) > 0 {
        let left = work.to_accept.fetch_sub(at_once, Ordering::Relaxed);
        if left > 0 {
            let tasks = i32::try_from(left.min(at_once)).unwrap_or(i32::MAX);
            asked(driver.accept(tasks, false).await)?;
        }
        let ids = asked(driver.claim(BATCH).await)?;
        if !ids.is_empty() {
            asked(driver.submit(&ids, false).await)?;
        }
        let advanced = driver.advance(BATCH, false).await;
        let (steps, ended) = asked(advanced)?;
        work.steps
            .fetch_add(steps.unsigned_abs(), Ordering::Relaxed);
        work.to_end.fetch_sub(ended, Ordering::Relaxed);
    }
    Ok(())
}

/// How long tasks take, in milliseconds, one at a time, when a worker and a server do nothing but claim, load, submit
/// and advance, each told by the other's notification. Between two there is as much time as `pause`.
pub(super) async fn alone(
    bench: &mut Bench,
    tasks: u64,
    pause: Duration,
) -> Result<Vec<f64>, Failure> {
    bench.progress.begin("running the sketch");
    let ground = &bench.ground;
    asked(sketch::create(&ground.pool).await)?;
    let listening = CancellationToken::new();
    let _until_the_end = listening.clone().drop_guard();
    let (tell, ended) = watch::channel(0);
    let worker = Hop::begin(ground, &[Topic::Steps], &listening).await?;
    let server = Hop::begin(ground, &[Topic::Results], &listening).await?;
    tokio::select! {
        took = ask(ground, tasks, pause, ended) => took,
        Err(failed) = worker.work() => asked(Err(failed)),
        Err(failed) = server.serve(tell) => asked(Err(failed)),
    }
}

/// Asks for one task after the other.
async fn ask(
    ground: &Ground,
    tasks: u64,
    pause: Duration,
    mut ended: watch::Receiver<u64>,
) -> Result<Vec<f64>, Failure> {
    let mut driver = asked(Driver::connect(&ground.target).await)?;
    for task in 1..=tasks {
        asked(driver.accept(1, true).await)?;
        tokio::time::sleep(pause).await;
        // The server tells as long as it is asked.
        let _ = ended.wait_for(|ended| *ended >= task).await;
    }
    asked(sketch::took(&ground.pool).await)
}

/// A worker or a server of the sketch.
struct Hop {
    driver: Driver,
    wakes: Wakes,
    topic: Topic,
}

impl Hop {
    /// How long it waits to be told before it looks by itself.
    const PATIENCE: Duration = Duration::from_secs(1);

    async fn begin(
        ground: &Ground,
        topics: &'static [Topic; 1],
        listening: &CancellationToken,
    ) -> Result<Hop, Failure> {
        let wakes = Wakes::default();
        let target = ground.target.clone();
        let listen = wake::listen(target, topics, wakes.clone(), |_| {}, listening.clone());
        tokio::spawn(listen);
        Ok(Hop {
            driver: asked(Driver::connect(&ground.target).await)?,
            wakes,
            topic: topics[0],
        })
    }

    /// Works for ever, or until it fails.
    async fn work(mut self) -> tasker_shared::db::Result<Infallible> {
        loop {
            self.wakes.wait(self.topic, Hop::PATIENCE).await;
            let ids = self.driver.claim(BATCH).await?;
            if !ids.is_empty() {
                self.driver.load(&ids).await?;
                self.driver.submit(&ids, true).await?;
            }
        }
    }

    /// Serves for ever, or until it fails.
    async fn serve(mut self, tell: watch::Sender<u64>) -> tasker_shared::db::Result<Infallible> {
        loop {
            self.wakes.wait(self.topic, Hop::PATIENCE).await;
            let advanced = self.driver.advance(BATCH, true).await;
            let (_, tasks) = advanced?;
            tell.send_modify(|ended| *ended += tasks.unsigned_abs());
        }
    }
}
