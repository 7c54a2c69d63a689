//! Where a storm takes place: the stack, the load on it, the small disk and whom steps ask; and the course of one
//! strike. The faults themselves are in `faults`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use super::Options;
use super::circuit;
use super::disk::SmallDisk;
use super::faults::Begun;
use super::kind::{Kind, Place};
use super::load::{Acceptances, Load};
use super::plan::{Fault, Strike};
use super::recovery;
use super::report::{Recovery, TakenOver};
use super::target::Target;
use super::{shapes, tables};
use crate::{Setup, Stack};

/// How large the file system in memory is: attempts are some kilobytes a task.
const DISK_BYTES: u64 = 64 << 20;
const DISK_BYTES_A_FAULT: u64 = 2 << 20;
const POLL: Duration = Duration::from_millis(50);

/// A storm's surroundings. The disk goes after the database that is on it.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) stack: Stack,
    pub(super) load: Load,
    pub(super) probes: Acceptances,
    pub(super) runs: PathBuf,
    pub(super) target: Target,
    /// Or why there is none.
    pub(super) disk: Result<SmallDisk, String>,
    /// When PostgreSQL had just crashed.
    pub(super) crashes: Vec<DateTime<Utc>>,
    /// What was seen to be wrong on the way.
    pub(super) wrong: Vec<String>,
    strikes: usize,
}

impl Scene {
    pub(super) async fn set(options: &Options) -> Scene {
        let shapes = shapes::all();
        let mut stack = setup(options).start().await;
        let runs = stack.directory("runs");
        let target = Target::start(&stack.directory("target"), &runs).await;
        // The servers load them when they start.
        let templates = stack.directory("templates");
        for shape in &shapes {
            let file = templates.join(format!("{}.yaml", shape.name));
            std::fs::write(file, shape.yaml(target.address())).unwrap();
        }
        stack.set_environment("RECORDER_DIRECTORY", &runs.display().to_string());
        for _ in 0..options.servers {
            stack.add_server().await;
        }
        let disk = small_disk(&stack, options.faults).await;
        for _ in 0..options.workers {
            stack.add_worker_of("recorder").await;
        }
        let load = Load::start(
            options.seed,
            shapes,
            server_urls(&mut stack),
            stack.database_url(),
            options.tasks_per_second,
        )
        .await;
        Scene {
            stack,
            load,
            probes: Acceptances::new(),
            runs,
            target,
            disk,
            crashes: Vec::new(),
            wrong: Vec::new(),
            strikes: 0,
        }
    }

    /// The kinds that are possible here, and why others are not.
    pub(super) fn kinds(&self) -> (Vec<Kind>, Vec<(Kind, String)>) {
        let mut skipped = Vec::new();
        if let Err(why) = &self.disk {
            skipped.push((Kind::DiskFull, why.clone()));
        }
        if !cfg!(debug_assertions) {
            let why = "a release build follows no clock but the machine's";
            skipped.extend([Kind::ClockForward, Kind::ClockBack].map(|k| (k, why.to_owned())));
        }
        let possible = |kind: &Kind| skipped.iter().all(|(skipped, _)| skipped != kind);
        (Kind::ALL.into_iter().filter(possible).collect(), skipped)
    }

    /// Does a strike, ends it and waits until it has been got over.
    pub(super) async fn strike(&mut self, strike: &Strike) -> Recovery {
        tokio::time::sleep(strike.pause).await;
        self.strikes += 1;
        let mut faults: Vec<Fault> = [Some(strike.first), strike.second]
            .into_iter()
            .flatten()
            .collect();
        // Whom a process's fault strikes is looked up in the database, which may be what the other one takes away.
        faults.sort_by_key(|fault| fault.kind.place() != Place::Process);
        let mut begun: Vec<(Kind, Begun)> = Vec::new();
        for fault in &faults {
            let stopped: Vec<String> = begun
                .iter()
                .filter_map(|(_, other)| other.stopped())
                .collect();
            begun.push((fault.kind, self.begin(fault, &stopped).await));
        }
        let hold = faults.iter().map(|fault| fault.hold).max();
        tokio::time::sleep(hold.unwrap_or_default()).await;
        let (mut counts, mut taken_over) = (vec![0; begun.len()], None);
        let whom: Vec<String> = begun.iter().map(|(_, fault)| fault.whom()).collect();
        // A process that is to end ends by itself only when what is around it is well again.
        for (place, (kind, fault)) in begun.iter_mut().enumerate().rev() {
            counts[place] += self.end(fault).await;
            if counts[place] == 0 && kind.place() != Place::Process && kind.counted().is_some() {
                let runs = recovery::what_runs(self.stack.sql()).await;
                eprintln!(
                    "{kind} [{}] struck nothing; there runs:\n{runs}",
                    whom[place]
                );
            }
        }
        let recovered = self.recover(&faults).await;
        for (place, (kind, fault)) in begun.into_iter().enumerate() {
            let (count, time) = self.settle(fault).await;
            counts[place] += count;
            taken_over = time.map(|time| TakenOver { kind, time }).or(taken_over);
        }
        Recovery {
            kinds: faults.iter().map(|fault| fault.kind).zip(counts).collect(),
            whom,
            recovered,
            taken_over,
        }
    }

    /// Waits until what is asked for now is done, and work flows to the target again.
    async fn recover(&mut self, faults: &[Fault]) -> Duration {
        let began = Instant::now();
        let (probes, recovered) = recovery::probe(self.stack.sql(), self.strikes).await;
        self.probes.extend(probes);
        match faults.iter().any(|fault| fault.kind == Kind::TargetAway) {
            true => {
                circuit::closed(self.stack.sql(), &self.target.address().to_string()).await;
                began.elapsed()
            }
            false => recovered,
        }
    }

    pub(super) fn servers_moved(&mut self) {
        let urls = server_urls(&mut self.stack);
        self.load.servers_are(urls);
    }
}

/// A stack without processes.
fn setup(options: &Options) -> Setup {
    let setup = Setup {
        servers: 0,
        workers: 0,
        durable: true,
        meddled: true,
        ..Setup::default()
    }
    .configure("limits.max_lost_leases", 1_000)
    .configure("worker.concurrency", 64)
    // The target's circuit opens before a step can have spent its attempts, and is tried every two seconds, by
    // when every worker has heard that it is open.
    .configure("worker.circuits.failure_threshold", 2)
    .configure("worker.circuits.timeout_seconds", 2)
    .configure("worker.circuits.max_timeout_seconds", 2);
    match options.short_leases {
        true => setup
            .configure("worker.lease_ms", 3_000)
            .configure("worker.heartbeat_interval_ms", 1_000),
        false => setup,
    }
}

fn server_urls(stack: &mut Stack) -> Vec<String> {
    stack
        .servers()
        .iter()
        .map(|server| server.url(""))
        .collect()
}

/// A small disk with the tables on it that results are written to.
async fn small_disk(stack: &Stack, faults: usize) -> Result<SmallDisk, String> {
    let bytes = DISK_BYTES + DISK_BYTES_A_FAULT * u64::try_from(faults).unwrap_or(0);
    let disk = SmallDisk::mount(&stack.directory("stack"), bytes)?;
    let moved = tables::move_results_to(stack.sql(), disk.directory()).await;
    moved.map(|()| disk).map_err(|error| error.to_string())
}

/// Waits until no task is under way and nothing waits.
pub(super) async fn at_rest(pool: &PgPool, patience: Duration) {
    let began = Instant::now();
    loop {
        let busy = "SELECT (SELECT count(*) FROM tasker.tasks WHERE state NOT BETWEEN 7 AND 11) + (SELECT count(*) FROM tasker.requests)
                         + (SELECT count(*) FROM tasker.ready) + (SELECT count(*) FROM tasker.results) + (SELECT count(*) FROM tasker.delayed)";
        let busy: Result<i64, _> = sqlx::query_scalar(busy).fetch_one(pool).await;
        if matches!(busy, Ok(0)) {
            return;
        }
        // What does not come to rest is what the audit finds.
        if began.elapsed() > patience {
            eprintln!("after {patience:?} there is still something under way: {busy:?}");
            return;
        }
        tokio::time::sleep(POLL).await;
    }
}
