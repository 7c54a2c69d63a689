//! The faults of a storm: how each is begun, what ends it, and what it is seen to have struck. A beginning never takes
//! long, so that a second fault comes while the first lasts.

use std::time::{Duration, Instant};

use chrono::Utc;
use rustix::process::Signal;
use tokio::task::JoinHandle;

use super::kind::Kind;
use super::plan::Fault;
use super::recovery::{self, Held, Owners};
use super::scene::Scene;
use super::{circuit, tables};
use crate::process::Process;
use crate::proxy::Line;

/// How long a fault is waited for to strike something; what it has not struck then counts as nothing. A process whose
/// connections fell silent a moment ago does nothing for some twenty seconds, now and then twice that.
const NOTICED: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
const SECOND_LOOK: Duration = Duration::from_millis(100);
/// The bytes a second of a line that is slowed.
const SLOW: u32 = 64 * 1024;

/// Which process.
#[derive(Debug, Clone, Copy)]
pub(super) enum Who {
    Worker(usize),
    Server(usize),
}

/// What a process had when it was struck.
#[derive(Debug)]
pub(super) enum Had {
    Steps(Held),
    /// One of these servers is it.
    Shards(Owners),
}

/// A fault that lasts, or has left something to be put right.
#[derive(Debug)]
pub(super) enum Begun {
    Killed {
        who: Who,
        at: Instant,
        had: Had,
    },
    Frozen {
        who: Who,
        at: Instant,
        had: Had,
        taken_over: Option<Duration>,
    },
    Ending(Who),
    DatabaseGone,
    Lines {
        names: Vec<String>,
        struck_before: usize,
    },
    Clocks {
        names: Vec<String>,
        wrong_before: usize,
    },
    Disk {
        refused_before: usize,
    },
    /// Something that is done to the tables, until it has struck something.
    Tables(Option<JoinHandle<usize>>),
    TargetAway,
}

impl Begun {
    /// The processes that it strikes, by name; nobody where it strikes all alike.
    pub(super) fn whom(&self) -> String {
        match self {
            Begun::Lines { names, .. } | Begun::Clocks { names, .. } => names.join(" "),
            _ => self.stopped().unwrap_or_default(),
        }
    }

    /// The process that does nothing while it lasts.
    pub(super) fn stopped(&self) -> Option<String> {
        match self {
            Begun::Killed { who, .. } | Begun::Frozen { who, .. } | Begun::Ending(who) => {
                Some(match who {
                    Who::Worker(index) => format!("worker-{}", index + 1),
                    Who::Server(index) => format!("server-{}", index + 1),
                })
            }
            _ => None,
        }
    }
}

impl Scene {
    /// Begins it. It leaves out the processes that another has stopped: one that is dead has no connections to be cut.
    pub(super) async fn begin(&mut self, fault: &Fault, stopped: &[String]) -> Begun {
        let chance = usize::try_from(fault.chance % (1 << 31)).unwrap_or(0);
        let worker = Who::Worker(chance % self.stack.workers().len());
        let server = Who::Server(chance % self.stack.servers().len());
        match fault.kind {
            Kind::WorkerKilled => self.kill(worker).await,
            Kind::ServerKilled => self.kill(server).await,
            Kind::WorkerFrozen => self.freeze(worker).await,
            Kind::ServerFrozen => self.freeze(server).await,
            Kind::WorkerTerminated => self.terminate(worker),
            Kind::ServerTerminated => self.terminate(server),
            Kind::DatabaseCrashed => {
                self.stack.postgres().kill_now().await.unwrap();
                self.crashes.push(Utc::now());
                Begun::DatabaseGone
            }
            Kind::DatabaseKilled => {
                self.stack.kill_postgres_9().await;
                self.crashes.push(Utc::now());
                Begun::DatabaseGone
            }
            Kind::ConnectionsCut
            | Kind::ConnectionsSilent
            | Kind::ConnectionsStalled
            | Kind::ConnectionsRefused
            | Kind::ConnectionsSlowed => {
                let names = self.some_processes(chance, stopped);
                self.worsen_lines(fault.kind, names, chance)
            }
            Kind::ClockForward | Kind::ClockBack => {
                let names = self.some_processes(chance, stopped);
                let sign = if fault.kind == Kind::ClockBack { -1 } else { 1 };
                self.step_clocks(names, chance, sign).await
            }
            Kind::DiskFull => {
                let refused_before = self.writes_refused();
                if let Ok(disk) = &self.disk {
                    disk.fill();
                }
                Begun::Disk { refused_before }
            }
            Kind::StatementCancelled | Kind::SessionTerminated => {
                let (pool, kind) = (self.stack.sql().clone(), fault.kind);
                let strikes = async move { tables::break_statements(&pool, kind).await };
                Begun::Tables(Some(tokio::spawn(strikes)))
            }
            Kind::LateResults => {
                let url = self.stack.database_url().to_owned();
                let hand_in = async move { tables::hand_in_late_results(&url).await };
                Begun::Tables(Some(tokio::spawn(hand_in)))
            }
            Kind::TargetAway => {
                self.target.go();
                Begun::TargetAway
            }
        }
    }

    /// Ends what lasts, once it has struck something; answers how much, where that can be counted by now.
    pub(super) async fn end(&mut self, fault: &mut Begun) -> usize {
        match fault {
            Begun::Killed { .. } => 0,
            Begun::Frozen {
                who,
                at,
                had,
                taken_over,
            } => {
                let pool = self.stack.sql();
                if let Had::Steps(held) = had {
                    recovery::expired(pool, held).await;
                }
                let count = others_have(pool, had).await;
                *taken_over = Some(at.elapsed());
                self.process(*who).signal(Signal::CONT);
                count
            }
            Begun::Ending(who) => {
                let status = self.process(*who).ended().await;
                let process = self.process(*who);
                assert!(status.success(), "{status}: {}", process.log_tail());
                process.restart().await;
                self.servers_moved();
                0
            }
            Begun::DatabaseGone => {
                self.stack.postgres().restart().await.unwrap();
                0
            }
            Begun::Lines {
                names,
                struck_before,
            } => {
                let struck = grown(*struck_before, async || self.lines_struck()).await;
                for name in names {
                    self.stack.line(name).set(Line::Passing);
                }
                struck
            }
            Begun::Clocks {
                names,
                wrong_before,
            } => {
                let pool = self.stack.sql();
                let wrong = grown(*wrong_before, async || tables::wrong_times(pool).await).await;
                for name in names {
                    self.stack.step_clock(name, 0);
                }
                wrong
            }
            Begun::Disk { refused_before } => {
                let refused = grown(*refused_before, async || self.writes_refused()).await;
                if let Ok(disk) = &self.disk {
                    disk.clear();
                }
                refused
            }
            Begun::Tables(strikes) => match strikes.take() {
                Some(strikes) => strikes.await.unwrap(),
                None => 0,
            },
            Begun::TargetAway => self.end_target_away().await,
        }
    }

    /// Waits until others have what was killed held, and starts it again. Answers how much that was, and how long a
    /// worker's steps took, from the moment that it was struck.
    pub(super) async fn settle(&mut self, fault: Begun) -> (usize, Option<Duration>) {
        match fault {
            Begun::Killed { who, at, had } => {
                let count = others_have(self.stack.sql(), &had).await;
                let time = at.elapsed();
                self.process(who).restart().await;
                self.servers_moved();
                (count, of_worker(who, count, Some(time)))
            }
            Begun::Frozen {
                who,
                had,
                taken_over,
                ..
            } => (0, of_worker(who, size(&had), taken_over)),
            _ => (0, None),
        }
    }

    async fn kill(&mut self, who: Who) -> Begun {
        let had = self.stop(who).await;
        self.process(who).kill_9().await;
        let at = Instant::now();
        Begun::Killed { who, at, had }
    }

    async fn freeze(&mut self, who: Who) -> Begun {
        let had = self.stop(who).await;
        Begun::Frozen {
            who,
            at: Instant::now(),
            had,
            taken_over: None,
        }
    }

    fn terminate(&mut self, who: Who) -> Begun {
        self.process(who).signal(Signal::TERM);
        Begun::Ending(who)
    }

    /// Stops a process while it has something that others will have to take over, and answers what.
    async fn stop(&mut self, who: Who) -> Had {
        let pool = self.stack.sql().clone();
        if let Who::Server(_) = who {
            let owners = recovery::shared(&pool, self.stack.servers().len()).await;
            self.process(who).signal(Signal::STOP);
            return Had::Shards(owners);
        }
        let until = Instant::now() + NOTICED;
        loop {
            let process = self.process(who);
            process.signal(Signal::STOP);
            // What it has sent is still done: it has what is there at a second look too.
            tokio::time::sleep(SECOND_LOOK).await;
            let held = recovery::held(&pool, process).await.unwrap();
            if !held.steps.is_empty() || Instant::now() > until {
                return Had::Steps(held);
            }
            process.signal(Signal::CONT);
            tokio::time::sleep(POLL).await;
        }
    }

    fn worsen_lines(&mut self, kind: Kind, names: Vec<String>, chance: usize) -> Begun {
        let struck_before = self.lines_struck();
        for name in &names {
            let line = self.stack.line(name);
            match kind {
                Kind::ConnectionsCut => line.cut(),
                Kind::ConnectionsSilent => line.silence(),
                Kind::ConnectionsStalled => line.set(Line::Stalled),
                Kind::ConnectionsRefused => line.set(Line::Refusing),
                _ => line.set(Line::Slowed {
                    latency: Duration::from_millis(10 + chance as u64 / 7 % 190),
                    bytes_per_second: SLOW,
                }),
            }
        }
        Begun::Lines {
            names,
            struck_before,
        }
    }

    fn lines_struck(&self) -> usize {
        let names = self.stack.processes().map(|(_, process)| process.name());
        names.map(|name| self.stack.line(name).struck()).sum()
    }

    /// By at least a minute and at most a day and a half, so that there are partitions for it.
    async fn step_clocks(&mut self, names: Vec<String>, chance: usize, sign: i64) -> Begun {
        let by_ms = 60_000 + i64::try_from(chance % 129_600_000).unwrap_or(0);
        let wrong_before = tables::wrong_times(self.stack.sql()).await;
        for name in &names {
            self.stack.step_clock(name, sign * by_ms);
        }
        Begun::Clocks {
            names,
            wrong_before,
        }
    }

    /// How often PostgreSQL has said since its start that there is no room.
    fn writes_refused(&self) -> usize {
        let text = std::fs::read(self.stack.postgres_log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        text.matches("No space left on device").count()
    }

    /// Lets the target come back when its circuit has opened, steps have waited, and probes have found it away: then
    /// none of those steps may have spent an attempt. Answers how many waited.
    async fn end_target_away(&mut self) -> usize {
        let (pool, target) = (self.stack.sql(), self.target.address().to_string());
        // The first that fails goes out when every worker has heard that the circuit is open.
        let (parked, probes) = circuit::parked(pool, &target, 1).await;
        circuit::parked(pool, &target, probes + 1).await;
        let tried = circuit::tried_since(pool, &parked).await;
        if tried > 0 {
            let all = parked.len();
            self.wrong
                .push(format!("{tried} of {all} steps parked spent attempts"));
        }
        self.target.come_back();
        parked.len()
    }

    /// All processes but these in one of three cases, otherwise one of them.
    fn some_processes(&self, chance: usize, but: &[String]) -> Vec<String> {
        let names: Vec<String> = self
            .stack
            .processes()
            .map(|(_, process)| process.name().to_owned())
            .filter(|name| !but.contains(name))
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
}

/// Waits until others have what a process had, and answers how much that was.
async fn others_have(pool: &sqlx::PgPool, had: &Had) -> usize {
    match had {
        Had::Steps(held) => {
            recovery::taken_over(pool, held).await;
            held.steps.len()
        }
        Had::Shards(owners) => recovery::moved(pool, owners).await,
    }
}

fn size(had: &Had) -> usize {
    match had {
        Had::Steps(held) => held.steps.len(),
        Had::Shards(owners) => owners.len(),
    }
}

/// The time where it is a worker's that had something.
fn of_worker(who: Who, count: usize, time: Option<Duration>) -> Option<Duration> {
    time.filter(|_| matches!(who, Who::Worker(_)) && count > 0)
}

/// Waits until a number has become larger than `before`, and answers by how much; nothing where it does not.
async fn grown(before: usize, mut count: impl AsyncFnMut() -> usize) -> usize {
    let until = Instant::now() + NOTICED;
    loop {
        let now = count().await;
        if now > before || Instant::now() > until {
            return now.saturating_sub(before);
        }
        tokio::time::sleep(POLL).await;
    }
}
