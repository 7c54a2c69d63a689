//! A stretch that is measured: warmed up, counted from one moment to another, and judged when its processes have ended.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tasker_shared::db::measure::calls::{self, Calls};
use tasker_shared::db::measure::verdict;
use tasker_shared::db::measure::{self, Counters};
use tasker_shared::ids;
use uuid::Uuid;

use super::Bench;
use super::ground::{Ground, asked};
use super::judged::{Judged, judge};
use super::load::{Load, Via};
use super::quantiles::rounded;
use super::report::{PerStep, Share};
use super::shape::Graph;
use super::stage::Stage;
use super::usage::{MemoryWatch, cpu};
use crate::failure::Failure;

/// Enough for connections, plans and caches to be there.
const WARM_UP_STEPS: u64 = 400;
/// PostgreSQL's statistics of a connection may lie about so long before they are added up.
const STATISTICS: Duration = Duration::from_millis(1_200);
/// Tasks sent together that make connections tell what they have counted.
const NUDGE: u64 = 4;
/// Looks at whether they have: more than the ten seconds take in which they tell of their own accord.
const LOOKS: u32 = 10;
const POLL: Duration = Duration::from_millis(20);
/// Tasks of which none ends for so long do not end any more.
const PATIENCE: Duration = Duration::from_secs(90);

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
    memory: MemoryWatch,
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
        let open = open.unsigned_abs();
        load.in_batches(stage, 1).await?;
        until_done(bench, stage, open, tasks).await?;
        settle(bench, stage, graph, open).await?;
        let ground = &bench.ground;
        let memory = MemoryWatch::begin(ground);
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
            memory,
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
        let rss = self.memory.peaks(&stage);
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

/// Waits until PostgreSQL has counted what was done so far. A connection that rests keeps its counts to itself for ten
/// seconds; a few tasks more make all of them speak sooner, where these are no more than the warm-up was.
async fn settle(
    bench: &mut Bench,
    stage: &mut Stage,
    graph: Graph,
    open: u64,
) -> Result<(), Failure> {
    let mut sent = WARM_UP_STEPS;
    let is_small = graph.shape.steps() * NUDGE <= WARM_UP_STEPS;
    for _ in 0..LOOKS {
        tokio::time::sleep(STATISTICS).await;
        if asked(measure::are_rows_counted(&bench.ground.pool).await)? {
            break;
        }
        if !is_small {
            continue;
        }
        let nudge = Load::new(graph, NUDGE).after(sent);
        sent += NUDGE;
        let connections = usize::try_from(NUDGE).unwrap_or(1);
        nudge
            .send(&bench.ground, stage, Via::Rest, connections)
            .await?;
        until_done(bench, stage, open, NUDGE).await?;
    }
    Ok(())
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
