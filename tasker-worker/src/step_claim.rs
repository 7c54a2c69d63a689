//! Claiming: takes ready steps from the lanes that this worker can serve, never more than it can run, and
//! hands them to the executor.

mod lanes;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tasker_shared::clock::Clock;
use tasker_shared::db;
use tasker_shared::db::claim::{self, Claimed, Take};
use tasker_shared::db::lanes::list;
use tasker_shared::db::pool::{Pinned, Pool};
use tasker_shared::db::wake::{Found, Pace, Patience, Topic, Wakes};
use tasker_shared::db::workers;
use tasker_shared::metrics::worker::{self as metrics, ClaimMethod};
use tasker_shared::name::Name;
use tasker_shared::resilience::breaker::Breaker;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::circuits::{Circuits, Verdict};
use crate::held::{Held, Unheard};
use crate::running::Running;
use crate::step_executor::Executor;
use crate::web::Progress;

pub(crate) use lanes::Lanes;

/// How often the lanes are looked up without being told of a new one.
const LANES: Duration = Duration::from_secs(2);
/// The same while one would be told of, and none is parked.
const LANES_HEARING: Duration = Duration::from_secs(10);
/// Steps handed back at once that were claimed unheard: what one claim can bring.
const MOST_UNHEARD: i64 = 100_000;
/// How often a worker with no free slot says that it is well.
const BUSY: Duration = Duration::from_secs(1);
/// How long a claim that failed is waited with before the next one.
const PAUSE: Duration = Duration::from_millis(200);

/// The claim loop.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) connection: Pinned,
    pub(crate) pool: Pool,
    pub(crate) callables: Vec<String>,
    pub(crate) namespaces: Vec<String>,
    /// The id under which the worker holds its lease now.
    pub(crate) worker: watch::Receiver<Uuid>,
    pub(crate) running: Running,
    pub(crate) executor: Arc<Executor>,
    pub(crate) circuits: Circuits,
    /// What this worker knows to be its own.
    pub(crate) held: Held,
    pub(crate) unheard: Unheard,
    pub(crate) wakes: Wakes,
    pub(crate) patience: Patience,
    pub(crate) pace: Pace,
    pub(crate) progress: Arc<Progress>,
    pub(crate) clock: Clock,
    pub(crate) lanes: Lanes,
    /// What began the run of claims that goes on now.
    pub(crate) method: ClaimMethod,
    pub(crate) breaker: Breaker,
}

impl Claim {
    /// Works until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.progress.came_round();
            if let Err(open) = self.breaker.admit() {
                tokio::select! {
                    () = tokio::time::sleep(open.retry_after) => {}
                    () = stop.cancelled() => {}
                }
                continue;
            }
            let passed = self.pass().await;
            match db::tell(&self.breaker, passed) {
                // The next one shows whether the database is back for good.
                Ok(Found::Nothing) if !self.breaker.is_closed() => {}
                Ok(found) => {
                    if self.patience.found(found) {
                        self.pace.rest().await;
                        self.wait(&stop).await;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "claiming failed; trying again");
                    metrics::claim_failed();
                    // Whatever failed, a connection may have broken with the answer to a claim on it.
                    self.unheard.missed(Instant::now());
                    if error.is_unavailable() {
                        self.lanes.start_over();
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
            while self.free() == 0 && !stop.is_cancelled() {
                // A worker whose handlers take long is busy, not stuck.
                self.progress.claimed(self.clock.now());
                self.progress.came_round();
                tokio::select! {
                    () = self.running.freed() => {}
                    () = self.executor.results.eased() => {}
                    () = tokio::time::sleep(BUSY) => {}
                    () = stop.cancelled() => {}
                }
            }
        }
    }

    async fn wait(&mut self, stop: &CancellationToken) {
        let patience = self.patience.wait(self.wakes.hears());
        let patience = self.circuits.patience(patience, Instant::now());
        let woken = tokio::select! {
            woken = self.wakes.wait(Topic::Steps, patience) => woken,
            true = self.wakes.wait(Topic::Lanes, patience) => {
                self.lanes.outdated();
                true
            }
            () = stop.cancelled() => false,
        };
        self.method = if woken {
            ClaimMethod::Event
        } else {
            ClaimMethod::Poll
        };
    }

    /// Claims once; says whether there may be more.
    async fn pass(&mut self) -> db::Result<Found> {
        let now = Instant::now();
        if self.lanes.are_older_than(self.lanes_interval(), now) {
            let asked = self.circuits.ask();
            let lanes = list(&self.pool, &self.callables, &self.namespaces).await?;
            let heard = self.circuits.listed(&lanes, asked, now);
            self.lanes.replace(lanes, now);
            if !heard {
                self.lanes.outdated();
            }
        }
        let worker = *self.worker.borrow();
        self.give_back_unheard(worker).await?;
        let probed = self.probe(worker).await?;
        let free = self.free();
        // Whatever came before is no part of how long the lanes' looks take.
        let takes = self
            .lanes
            .takes(free, Instant::now(), |target| self.circuits.is_open(target));
        if takes.is_empty() {
            self.progress.claimed(self.clock.now());
            return Ok(match probed {
                true => Found::Part,
                false => Found::Nothing,
            });
        }
        let (claimed, found) = self.claim(worker, &takes, free).await?;
        self.executor.start(worker, claimed, None).await;
        Ok(match probed {
            true => Found::Part,
            false => found,
        })
    }

    /// How many more steps may be claimed: none while results are not stored as fast as they come.
    fn free(&self) -> usize {
        match self.executor.results.are_behind(self.running.concurrency()) {
            true => 0,
            false => self.running.free(),
        }
    }

    fn lanes_interval(&self) -> Duration {
        match self.wakes.hears() && !self.circuits.any_open() {
            true => LANES_HEARING,
            false => LANES,
        }
    }

    /// Claims `most` steps at most; says whether there may be more.
    async fn claim(
        &mut self,
        worker: Uuid,
        takes: &[Take],
        most: usize,
    ) -> db::Result<(Vec<Claimed>, Found)> {
        let connection = self.connection.get().await?;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let began = Instant::now();
        let result = claim::claim(connection, worker, takes, most).await;
        let claimed = self.connection.check(result)?;
        self.progress.claimed(self.clock.now());
        let found = self.lanes.claimed(&claimed, takes, most, Instant::now());
        let took = began.elapsed();
        self.record(&claimed, took);
        self.pace.carried(claimed.len(), took);
        Ok((claimed, found))
    }

    /// Hands back what was claimed by a claim whose answer did not come, as far as it is time to look for such.
    async fn give_back_unheard(&mut self, worker: Uuid) -> db::Result<()> {
        let began = Instant::now();
        let Some(within) = self.unheard.due_span(began) else {
            return Ok(());
        };
        let lanes: Vec<i32> = self.lanes.numbers().collect();
        let (pool, knows) = (&self.pool, self.held.all());
        let given_back =
            workers::give_back_unheard(pool, worker, &knows, &lanes, within, MOST_UNHEARD).await?;
        if given_back.steps > 0 {
            tracing::warn!(
                steps = given_back.steps,
                "steps were claimed by a claim whose answer never came; handed back"
            );
        }
        self.unheard
            .looked(given_back.newest, began.elapsed(), Instant::now());
        Ok(())
    }

    /// Sends one step of a parked target to see whether it answers, where that is due; says whether it did.
    async fn probe(&mut self, worker: Uuid) -> db::Result<bool> {
        let now = Instant::now();
        let targets = self.lanes.targets();
        let Some(target) = self.circuits.due(targets, now) else {
            return Ok(false);
        };
        if self.free() == 0 {
            return Ok(false);
        }
        let takes = self.circuits.in_turn(self.lanes.of_target(target, now));
        let lanes: Vec<i32> = takes.iter().map(|take| take.lane).collect();
        let begun = self
            .circuits
            .begin_probe(target, worker, &lanes, now + LANES);
        let Some(probing) = begun.await? else {
            return Ok(false);
        };
        let claimed = self.claim(worker, &takes, 1).await;
        let claimed = claimed.map(|(claimed, _)| claimed);
        match claimed.as_deref() {
            Ok([step, ..]) => self.circuits.had_its_turn(step.lane),
            _ => self.circuits.settle(probing, Verdict::Nothing).await,
        }
        let claimed = claimed?;
        let any = !claimed.is_empty();
        self.executor.start(worker, claimed, Some(probing)).await;
        Ok(any)
    }

    /// Records what a claim brought, by namespace, and how long each step had waited for it.
    fn record(&self, claimed: &[Claimed], took: Duration) {
        let mut brought: Vec<(Name, u64)> = Vec::new();
        for step in claimed {
            let namespace = self.lanes.namespace(step.lane);
            let waited = (step.claimed_at - step.enqueued_at)
                .to_std()
                .unwrap_or_default();
            metrics::step_waited(step.correlation(), namespace, waited);
            match brought.iter_mut().find(|(known, _)| *known == namespace) {
                Some((_, steps)) => *steps += 1,
                None => brought.push((namespace, 1)),
            }
        }
        for (namespace, steps) in brought {
            metrics::steps_claimed(namespace, self.method, steps, took);
        }
    }
}
