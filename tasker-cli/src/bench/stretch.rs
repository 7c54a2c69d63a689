//! A stretch that is measured: warmed up, counted from one moment to another, and judged when its processes have ended.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tasker_shared::db::measure::calls::{self, Calls};
use tasker_shared::db::measure::verdict::{self, Verdict};
use tasker_shared::db::measure::{self, Counters};
use tasker_shared::ids;
use uuid::Uuid;

use super::Bench;
use super::ground::{Ground, asked};
use super::load::Load;
use super::machine;
use super::quantiles::rounded;
use super::report::{PerStep, Share};
use super::shape::Graph;
use super::stage::Stage;
use crate::failure::Failure;

/// Enough for connections, plans and caches to be there.
const WARM_UP_STEPS: u64 = 400;
/// PostgreSQL's statistics of a connection may lie about so long before they are added up.
const STATISTICS: Duration = Duration::from_millis(1_200);
const POLL: Duration = Duration::from_millis(20);
/// Tasks of which none ends for so long do not end any more.
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks at PostgreSQL's memory.
const LOOK: Duration = Duration::from_millis(500);

/// A stretch under way.
#[derive(Debug)]
pub(super) struct Stretch {
    graph: Graph,
    counters: Counters,
    calls: Option<Calls>,
    cpu: Share<f64>,
    handler_runs: Option<u64>,
    from: Uuid,
    since: DateTime<Utc>,
    /// Tasks that are under way and stay so.
    beside: u64,
    postgres_rss: tokio::task::JoinHandle<()>,
    postgres_peak: tokio::sync::watch::Receiver<Option<u64>>,
}

/// What a stretch has come to.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    pub(super) steps_per_s: Option<f64>,
    pub(super) tasks_per_s: Option<f64>,
    /// Statements run, where they are counted.
    pub(super) statements: Option<i64>,
    pub(super) per_step: Option<PerStep>,
    pub(super) cpu: Share<f64>,
    pub(super) rss: Share<u64>,
    pub(super) dead_tuples: i64,
    pub(super) judged: Judged,
}

/// What is wrong with the tasks of a stretch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    pub(super) faults: Vec<String>,
}

impl Stretch {
    /// Runs some tasks that do not count, and counts from now on.
    pub(super) async fn begin(
        bench: &mut Bench,
        stage: &mut Stage,
        graph: Graph,
    ) -> Result<Stretch, Failure> {
        bench.progress.begin("warming up");
        let tasks = (WARM_UP_STEPS / graph.shape.steps()).max(1);
        let load = Load::new(graph, tasks);
        let open = asked(measure::open(&bench.ground.pool).await)?;
        load.in_batches(stage, 1).await?;
        until_done(bench, stage, open.unsigned_abs(), tasks).await?;
        Stretch::begin_cold(bench, stage, graph).await
    }

    async fn begin_cold(bench: &Bench, stage: &Stage, graph: Graph) -> Result<Stretch, Failure> {
        tokio::time::sleep(STATISTICS).await;
        let ground = &bench.ground;
        let (tell, postgres_peak) = tokio::sync::watch::channel(None);
        let postgres_rss = tokio::spawn(watch_memory(ground.postmaster, tell));
        let counters = asked(measure::counters(&ground.pool).await)?;
        let calls = count_calls(ground).await?;
        let handler_runs = stage.handler_runs().await?;
        let cpu = cpu(ground, stage);
        let since = Utc::now();
        Ok(Stretch {
            graph,
            counters,
            calls,
            cpu,
            handler_runs,
            // Servers make the uuids, by a clock that may be another machine's.
            from: ids::lowest_uuid_at(since.min(ground.clock_at(since))),
            since,
            beside: asked(measure::open(&ground.pool).await)?.unsigned_abs(),
            postgres_rss,
            postgres_peak,
        })
    }

    /// Tasks that do not belong to the stretch and are under way all the time.
    pub(super) fn beside(&self) -> u64 {
        self.beside
    }

    /// Counts until now, ends the processes, and judges this many tasks.
    pub(super) async fn finish(
        self,
        bench: &mut Bench,
        stage: Stage,
        tasks: u64,
    ) -> Result<Measured, Failure> {
        let ground = &bench.ground;
        let cpu = cpu(ground, &stage).less(self.cpu);
        let runs = stage.handler_runs().await?;
        let calls = count_calls(ground).await?;
        let wal_bytes = asked(measure::counters(&ground.pool).await)?.wal_bytes;
        self.postgres_rss.abort();
        let rss = rss(&stage, *self.postgres_peak.borrow());
        bench.progress.begin("checking every result");
        // Connections that end pass on what they have counted.
        stage.stop().await?;
        tokio::time::sleep(STATISTICS).await;
        asked(measure::clock(&ground.pool).await)?;
        let counters = asked(measure::counters(&ground.pool).await)?;
        let own = own_commits(ground, self.calls).await?;

        let name = self.graph.name();
        let template = (self.graph.namespace, name.as_str());
        let verdict = asked(verdict::judge(&ground.pool, template, self.from).await)?;
        let left = asked(verdict::messages_left(&ground.pool).await)?;
        let left = if self.beside > 0 { 0 } else { left };
        let steps = tasks * self.graph.shape.steps();
        let runs = runs
            .zip(self.handler_runs)
            .map(|(now, before)| now - before.min(now));
        let judged = judge(&verdict, tasks, steps, runs, left);

        let began = ground.clock_at(self.since);
        let took = verdict.last_end.unwrap_or(began) - began;
        let seconds = took.num_microseconds().unwrap_or(i64::MAX).max(1) as f64 / 1e6;
        let statements = calls.zip(self.calls);
        let statements = statements.map(|(now, before)| now.measured - before.measured);
        let each = |count: i64| rounded(count as f64 / steps.max(1) as f64);
        Ok(Measured {
            steps_per_s: Some(rounded(steps as f64 / seconds)),
            tasks_per_s: Some(rounded(tasks as f64 / seconds)),
            statements,
            per_step: Some(PerStep {
                statements: statements.map(each),
                commits: each((counters.commits - self.counters.commits - own).max(0)),
                wal_bytes: each(wal_bytes - self.counters.wal_bytes),
                row_writes: each(counters.row_writes - self.counters.row_writes),
            }),
            cpu,
            rss,
            dead_tuples: counters.dead_tuples,
            judged,
        })
    }
}

/// Waits until no more than `beside` tasks are under way, of which these are `tasks`.
pub(super) async fn until_done(
    bench: &mut Bench,
    stage: &mut Stage,
    beside: u64,
    tasks: u64,
) -> Result<(), Failure> {
    let mut least = u64::MAX;
    let mut moved = tokio::time::Instant::now();
    loop {
        let open = asked(measure::open(&bench.ground.pool).await)?.unsigned_abs();
        if open <= beside {
            return Ok(());
        }
        if open < least {
            least = open;
            moved = tokio::time::Instant::now();
        }
        stage.check()?;
        if moved.elapsed() > PATIENCE {
            return Err(Failure::Verdict(format!(
                "{} tasks do not end: none has in {} s\n{}",
                open - beside,
                PATIENCE.as_secs(),
                stage.last_words()
            )));
        }
        bench
            .progress
            .at(tasks.saturating_sub(open - beside), tasks);
        tokio::time::sleep(POLL).await;
    }
}

/// What is wrong with tasks of which so many were to run.
pub(super) fn judge(
    found: &Verdict,
    tasks: u64,
    steps: u64,
    handler_runs: Option<u64>,
    messages_left: i64,
) -> Judged {
    let n = |count: i64| count.unsigned_abs();
    let mut faults = Vec::new();
    let mut say = |count: u64, what: &str| {
        if count > 0 {
            faults.push(format!("{count} {what}"));
        }
    };
    let missing = tasks.saturating_sub(n(found.tasks));
    let surplus = n(found.tasks).saturating_sub(tasks);
    say(missing, "tasks were accepted and are not there");
    say(surplus, "tasks are there that nobody asked for");
    say(n(found.unfinished), "tasks are not complete");
    say(n(found.without_result), "steps have no result");
    say(n(found.wrong_results), "steps have a wrong result");
    say(
        n(found.out_of_order),
        "steps began before a step they depend on had ended",
    );
    say(
        n(found.extra_attempts),
        "attempts were made beyond the one a step needs",
    );
    say(n(messages_left), "messages are left over");
    // Runs whose results did not count leave no trace but this.
    let runs = handler_runs.unwrap_or(steps);
    say(steps.saturating_sub(runs), "handlers were not called");
    say(
        runs.saturating_sub(steps),
        "calls of handlers were one too many",
    );
    Judged {
        lost: missing + n(found.unfinished) + n(found.without_result) + steps.saturating_sub(runs),
        duplicated: surplus + n(found.extra_attempts).max(runs.saturating_sub(steps)),
        faults,
    }
}

impl Judged {
    /// Both together.
    pub(super) fn and(mut self, other: Judged) -> Judged {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.faults.extend(other.faults);
        self
    }
}

impl Share<f64> {
    fn less(self, before: Share<f64>) -> Share<f64> {
        let less = |now: Option<f64>, before: Option<f64>| Some(rounded(now? - before?));
        Share {
            server: less(self.server, before.server),
            worker: less(self.worker, before.worker),
            postgres: less(self.postgres, before.postgres),
            client: less(self.client, before.client),
        }
    }
}

/// Seconds used so far.
fn cpu(ground: &Ground, stage: &Stage) -> Share<f64> {
    Share {
        server: machine::cpu_seconds(stage.server()),
        worker: stage.workers().map(machine::cpu_seconds).sum(),
        postgres: ground.postmaster.and_then(machine::postgres_cpu_seconds),
        client: machine::cpu_seconds(std::process::id()),
    }
}

fn rss(stage: &Stage, postgres: Option<u64>) -> Share<u64> {
    Share {
        server: machine::peak_rss_bytes(stage.server()),
        worker: stage.workers().filter_map(machine::peak_rss_bytes).max(),
        postgres,
        client: machine::peak_rss_bytes(std::process::id()),
    }
}

async fn watch_memory(postmaster: Option<u32>, tell: tokio::sync::watch::Sender<Option<u64>>) {
    let Some(postmaster) = postmaster else { return };
    while !tell.is_closed() {
        let now = machine::postgres_rss_bytes(postmaster);
        tell.send_modify(|peak| *peak = now.max(*peak));
        tokio::time::sleep(LOOK).await;
    }
}

async fn count_calls(ground: &Ground) -> Result<Option<Calls>, Failure> {
    match ground.counts_statements {
        true => asked(calls::count(&ground.pool).await).map(Some),
        false => Ok(None),
    }
}

/// Commits that the measurement itself has made since, where that is known.
async fn own_commits(ground: &Ground, before: Option<Calls>) -> Result<i64, Failure> {
    let now = count_calls(ground).await?;
    Ok(now
        .zip(before)
        .map_or(0, |(now, before)| now.own - before.own))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Verdict = Verdict {
        tasks: 10,
        unfinished: 0,
        steps: 40,
        without_result: 0,
        extra_attempts: 0,
        wrong_results: 0,
        out_of_order: 0,
        last_end: None,
    };

    #[test]
    fn whatever_is_missing_wrong_or_too_much_is_a_fault() {
        let well = judge(&GOOD, 10, 40, Some(40), 0);
        assert_eq!(well, Judged::default());
        assert_eq!(judge(&GOOD, 10, 40, None, 0), Judged::default());
        let cases = [
            (
                Verdict { tasks: 9, ..GOOD },
                Some(40),
                0,
                (1, 0),
                "not there",
            ),
            (
                Verdict { tasks: 11, ..GOOD },
                Some(40),
                0,
                (0, 1),
                "nobody asked for",
            ),
            (
                Verdict {
                    unfinished: 2,
                    ..GOOD
                },
                Some(40),
                0,
                (2, 0),
                "not complete",
            ),
            (
                Verdict {
                    without_result: 3,
                    ..GOOD
                },
                Some(40),
                0,
                (3, 0),
                "no result",
            ),
            (
                Verdict {
                    wrong_results: 1,
                    ..GOOD
                },
                Some(40),
                0,
                (0, 0),
                "wrong result",
            ),
            (
                Verdict {
                    out_of_order: 1,
                    ..GOOD
                },
                Some(40),
                0,
                (0, 0),
                "depend on",
            ),
            (
                Verdict {
                    extra_attempts: 1,
                    ..GOOD
                },
                Some(41),
                0,
                (0, 1),
                "beyond the one",
            ),
            (GOOD, Some(39), 0, (1, 0), "not called"),
            (GOOD, Some(42), 0, (0, 2), "too many"),
            (GOOD, Some(40), 5, (0, 0), "left over"),
        ];
        for (verdict, runs, left, (lost, duplicated), words) in cases {
            let judged = judge(&verdict, 10, 40, runs, left);
            assert_eq!(
                (judged.lost, judged.duplicated),
                (lost, duplicated),
                "{words}"
            );
            assert!(
                judged.faults.iter().any(|fault| fault.contains(words)),
                "{:?}",
                judged.faults
            );
        }
    }
}
