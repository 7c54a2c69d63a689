//! Where a storm takes place: the stack, the load on it and the small disk, and how one strike is done, ended and
//! got over.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use sqlx::PgPool;

use super::Options;
use super::disk::SmallDisk;
use super::kind::Kind;
use super::load::{Acceptances, Load};
use super::plan::{Fault, Strike};
use super::recovery::{self, Held};
use super::report::Recovery;
use super::{shapes, tables};
use crate::process::Process;
use crate::proxy::Line;
use crate::{Setup, Stack};

use rustix::process::Signal;

/// How long a killed process's file system in memory may get: attempts are some kilobytes a task.
const DISK_BYTES: u64 = 64 << 20;
const DISK_BYTES_A_FAULT: u64 = 2 << 20;
/// How long a server holds its shards, and the time that others take to notice that it does not.
const SHARDS_TIME: Duration = Duration::from_secs(7);
/// The same for a worker behind the end of its lease.
const RESCUE: Duration = Duration::from_secs(2);
/// How long a full disk is waited for to be noticed.
const NOTICED: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);

/// A storm's surroundings. The disk goes after the database that is on it.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) stack: Stack,
    pub(super) load: Load,
    pub(super) probes: Acceptances,
    pub(super) runs: PathBuf,
    /// Or why there is none.
    pub(super) disk: Result<SmallDisk, String>,
    lease: Duration,
    strikes: usize,
}

/// Which process.
#[derive(Debug, Clone, Copy)]
enum Who {
    Worker(usize),
    Server(usize),
}

/// A fault that lasts, or has left something to be put right.
#[derive(Debug)]
enum Begun {
    Nothing,
    Killed { who: Who, at: Instant, held: Held },
    Frozen { who: Who, until: Instant },
    Ending(Who),
    DatabaseGone,
    Lines(Vec<String>),
    Clocks(Vec<String>),
    Disk { refused_before: usize },
}

impl Scene {
    pub(super) async fn set(options: &Options) -> Scene {
        let shapes = shapes::all();
        let mut setup = Setup {
            servers: 0,
            workers: 0,
            templates: shapes.iter().map(shapes::Shape::yaml).collect(),
            durable: true,
            meddled: true,
            ..Setup::default()
        }
        .configure("limits.max_lost_leases", 1_000)
        .configure("worker.concurrency", 64);
        let mut lease_ms = 12_000;
        if options.short_leases {
            lease_ms = 3_000;
            setup = setup
                .configure("worker.lease_ms", lease_ms)
                .configure("worker.heartbeat_interval_ms", 1_000);
        }
        let mut stack = setup.start().await;
        let runs = stack.directory("runs");
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
            disk,
            lease: Duration::from_millis(lease_ms),
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
        let faults: Vec<Fault> = [Some(strike.first), strike.second]
            .into_iter()
            .flatten()
            .collect();
        let (mut begun, mut evidence) = (Vec::new(), Vec::new());
        for fault in &faults {
            let (fault, count) = self.begin(fault).await;
            begun.push(fault);
            evidence.push(count);
        }
        let hold = faults.iter().map(|fault| fault.hold).max();
        tokio::time::sleep(hold.unwrap_or_default()).await;
        for (fault, count) in begun.iter().zip(&mut evidence) {
            *count += self.end(fault).await;
        }
        let (probes, recovered) = recovery::probe(self.stack.sql(), self.strikes).await;
        self.probes.extend(probes);
        let mut taken_over = None;
        for fault in &begun {
            if let Begun::Killed {
                who: Who::Worker(_),
                at,
                held,
            } = fault
            {
                recovery::taken_over(self.stack.sql(), held).await;
                taken_over = Some((at.elapsed(), held.len()));
            }
        }
        for fault in begun {
            self.put_right(fault).await;
        }
        Recovery {
            kinds: faults
                .iter()
                .map(|fault| fault.kind)
                .zip(evidence)
                .collect(),
            recovered,
            taken_over,
        }
    }

    /// Begins a fault; answers also what it struck, as a number, where that can be counted.
    async fn begin(&mut self, fault: &Fault) -> (Begun, usize) {
        let chance = usize::try_from(fault.chance % (1 << 31)).unwrap_or(0);
        let worker = Who::Worker(chance % self.stack.workers().len());
        let server = Who::Server(chance % self.stack.servers().len());
        match fault.kind {
            Kind::WorkerKilled => self.kill(worker).await,
            Kind::ServerKilled => self.kill(server).await,
            Kind::WorkerFrozen => (self.freeze(worker, self.lease + RESCUE), 0),
            Kind::ServerFrozen => (self.freeze(server, SHARDS_TIME), 0),
            Kind::WorkerTerminated => (self.terminate(worker), 0),
            Kind::ServerTerminated => (self.terminate(server), 0),
            Kind::DatabaseCrashed => {
                self.stack.postgres().kill_now().await.unwrap();
                (Begun::DatabaseGone, 0)
            }
            Kind::DatabaseKilled => {
                self.stack.kill_postgres_9().await;
                (Begun::DatabaseGone, 0)
            }
            Kind::ConnectionsCut => {
                let names = self.some_processes(chance);
                names.iter().for_each(|name| self.stack.line(name).cut());
                (Begun::Nothing, names.len())
            }
            Kind::ConnectionsSilent => {
                let names = self.some_processes(chance);
                names
                    .iter()
                    .for_each(|name| self.stack.line(name).silence());
                (Begun::Nothing, names.len())
            }
            Kind::ConnectionsStalled => self.set_lines(chance, Line::Stalled),
            Kind::ConnectionsRefused => self.set_lines(chance, Line::Refusing),
            Kind::ConnectionsSlowed => {
                let ms = 10 + u64::try_from(chance / 7 % 190).unwrap_or(0);
                let slow = Line::Slowed {
                    latency: Duration::from_millis(ms),
                    bytes_per_second: 64 * 1024,
                };
                self.set_lines(chance, slow)
            }
            Kind::ClockForward => self.step_clocks(chance, 1),
            Kind::ClockBack => self.step_clocks(chance, -1),
            Kind::DiskFull => self.fill_disk().await,
            Kind::StatementCancelled | Kind::SessionTerminated => {
                let struck = tables::break_statements(self.stack.sql(), fault.kind).await;
                (Begun::Nothing, struck)
            }
            Kind::LateResults => {
                let url = self.stack.database_url();
                (Begun::Nothing, tables::hand_in_late_results(url).await)
            }
        }
    }

    /// Ends what lasts; answers what it struck, where only now that can be counted.
    async fn end(&mut self, fault: &Begun) -> usize {
        match fault {
            Begun::Nothing | Begun::Killed { .. } => {}
            Begun::Frozen { who, until } => {
                tokio::time::sleep_until((*until).into()).await;
                self.process(*who).signal(Signal::CONT);
            }
            Begun::Ending(who) => {
                let status = self.process(*who).ended().await;
                let process = self.process(*who);
                assert!(status.success(), "{status}: {}", process.log_tail());
                process.restart().await;
                self.servers_moved();
            }
            Begun::DatabaseGone => self.stack.postgres().restart().await.unwrap(),
            Begun::Lines(names) => {
                names
                    .iter()
                    .for_each(|name| self.stack.line(name).set(Line::Passing));
            }
            Begun::Clocks(names) => names.iter().for_each(|name| self.stack.step_clock(name, 0)),
            Begun::Disk { refused_before } => {
                if let Ok(disk) = &self.disk {
                    disk.clear();
                }
                return self.writes_refused() - refused_before;
            }
        }
        0
    }

    /// Starts what was killed again.
    async fn put_right(&mut self, fault: Begun) {
        if let Begun::Killed { who, .. } = fault {
            self.process(who).restart().await;
            self.servers_moved();
        }
    }

    async fn kill(&mut self, who: Who) -> (Begun, usize) {
        let process = self.process(who);
        process.kill_9().await;
        let at = Instant::now();
        let pool = self.stack.sql().clone();
        let held = recovery::held(&pool, self.process(who)).await;
        let count = held.len();
        (Begun::Killed { who, at, held }, count)
    }

    fn freeze(&mut self, who: Who, time: Duration) -> Begun {
        self.process(who).signal(Signal::STOP);
        let until = Instant::now() + time;
        Begun::Frozen { who, until }
    }

    fn terminate(&mut self, who: Who) -> Begun {
        self.process(who).signal(Signal::TERM);
        Begun::Ending(who)
    }

    fn set_lines(&mut self, chance: usize, line: Line) -> (Begun, usize) {
        let names = self.some_processes(chance);
        names
            .iter()
            .for_each(|name| self.stack.line(name).set(line));
        let count = names.len();
        (Begun::Lines(names), count)
    }

    /// By at least a minute and at most a day and a half, so that there are partitions for it.
    fn step_clocks(&mut self, chance: usize, sign: i64) -> (Begun, usize) {
        let names = self.some_processes(chance);
        let by_ms = 60_000 + i64::try_from(chance % 129_600_000).unwrap_or(0);
        names
            .iter()
            .for_each(|name| self.stack.step_clock(name, sign * by_ms));
        let count = names.len();
        (Begun::Clocks(names), count)
    }

    /// Fills the disk, and waits until PostgreSQL has found out.
    async fn fill_disk(&mut self) -> (Begun, usize) {
        let Ok(disk) = &self.disk else {
            return (Begun::Nothing, 0);
        };
        disk.fill();
        let refused_before = self.writes_refused();
        let until = Instant::now() + NOTICED;
        while self.writes_refused() == refused_before && Instant::now() < until {
            tokio::time::sleep(POLL).await;
        }
        (Begun::Disk { refused_before }, 0)
    }

    /// How often PostgreSQL has said since its start that there is no room.
    fn writes_refused(&mut self) -> usize {
        let text = std::fs::read(self.stack.postgres().log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        text.matches("No space left on device").count()
    }

    /// All processes in one of three cases, otherwise one.
    fn some_processes(&self, chance: usize) -> Vec<String> {
        let names: Vec<String> = self
            .stack
            .processes()
            .map(|(_, process)| process.name().to_owned())
            .collect();
        match chance % 3 {
            0 => names,
            _ => vec![names[chance / 3 % names.len()].clone()],
        }
    }

    fn process(&mut self, who: Who) -> &mut Process {
        match who {
            Who::Worker(index) => &mut self.stack.workers()[index],
            Who::Server(index) => &mut self.stack.servers()[index],
        }
    }

    fn servers_moved(&mut self) {
        let urls = server_urls(&mut self.stack);
        self.load.servers_are(urls);
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
