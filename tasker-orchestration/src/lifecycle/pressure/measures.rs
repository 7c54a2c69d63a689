//! What is measured of a server's load, and what follows from it: pure, told the time.

use std::time::{Duration, Instant};

use tasker_shared::config::Backpressure;
use tasker_shared::db::pressure::Waiting;
use tasker_shared::resilience::channel::Usage;

/// Over about this long the use of the pool is averaged: a burst of reads is no pressure.
const POOL_MEMORY: Duration = Duration::from_secs(1);
/// A sample of the database older than this says nothing any more.
const STALE: Duration = Duration::from_secs(5);
/// How far apart the throughput of submissions is measured at least.
const SPACING: Duration = Duration::from_millis(500);

/// What is over its line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cause {
    /// The channel of submissions.
    Submissions { used: usize, capacity: usize },
    /// What submissions hold together.
    Bytes { held: usize, most: usize },
    /// The general pool.
    Pool { percent: u32 },
    /// The oldest submission by SQL.
    Requests { oldest: Duration },
    /// Steps that wait or run.
    Queue { depth: u64, most: u32 },
}

impl Cause {
    /// For programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Submissions { .. } => "submissions",
            Cause::Bytes { .. } => "submission_bytes",
            Cause::Pool { .. } => "pool",
            Cause::Requests { .. } => "requests",
            Cause::Queue { .. } => "queue_depth",
        }
    }
}

/// How much of the pool is in use.
#[derive(Debug, Clone, Copy)]
struct Pool {
    /// When it was last looked at.
    at: Instant,
    /// The share in use, averaged.
    average: f64,
    /// Since when it has been over its line, where it is.
    over_since: Option<Instant>,
}

impl Pool {
    fn percent(self) -> u32 {
        // Averages come near to a whole, and never there.
        (100.0 * self.average).round() as u32
    }
}

/// What is measured.
#[derive(Debug, Default)]
pub(super) struct Measures {
    pool: Option<Pool>,
    /// What had been taken out of the channel of submissions, and when.
    taken: Option<(Instant, u64)>,
    /// Callers taken out of it in a second, while some waited; unknown before that.
    throughput: Option<f64>,
    /// The last samples of the database, the newest first.
    samples: [Option<(Instant, Waiting)>; 2],
}

impl Measures {
    /// Such a share of the pool is in use now; so many percent are its line.
    pub(super) fn pool(&mut self, now: Instant, share: f64, line: u32) {
        let average = self.pool.map_or(0.0, |pool| {
            let since = now.saturating_duration_since(pool.at).as_secs_f64();
            let kept = (-since / POOL_MEMORY.as_secs_f64()).exp();
            pool.average * kept + share * (1.0 - kept)
        });
        let before = self.pool.and_then(|pool| pool.over_since);
        let mut pool = Pool {
            at: now,
            average,
            over_since: None,
        };
        if pool.percent() >= line {
            pool.over_since = before.or(Some(now));
        }
        self.pool = Some(pool);
    }

    /// The channel of submissions stands so now.
    pub(super) fn submissions(&mut self, now: Instant, usage: &Usage) {
        if let Some((at, before)) = self.taken {
            let since = now.saturating_duration_since(at);
            if since < SPACING {
                return;
            }
            // While nobody waits it says how much comes, not how much could be done.
            if usage.used > 0 {
                let rate = usage.taken.saturating_sub(before) as f64 / since.as_secs_f64();
                self.throughput = Some(self.throughput.map_or(rate, |old| (old + rate) / 2.0));
            }
        }
        self.taken = Some((now, usage.taken));
    }

    /// So much waits in the database.
    pub(super) fn waiting(&mut self, now: Instant, waiting: Waiting) {
        self.samples = [Some((now, waiting)), self.samples[0]];
    }

    /// How long so many callers in the channel take; `None` where nothing moves.
    pub(super) fn drained_in(&self, callers: usize) -> Option<Duration> {
        match self.throughput {
            Some(rate) if callers > 0 => seconds(callers as f64, rate),
            _ => Some(Duration::ZERO),
        }
    }

    /// What is over its line, and for how long that is expected to last; `None` there where nothing says that it ends.
    pub(super) fn judge(
        &self,
        limits: &Backpressure,
        submissions: Option<&Usage>,
        now: Instant,
    ) -> Option<(Cause, Option<Duration>)> {
        // One that is full refuses by itself, and counts it.
        if let Some(usage) = submissions
            && usage.used < usage.capacity
            && usage.percent() >= f64::from(limits.channel_percent)
        {
            let (used, capacity) = (usage.used, usage.capacity);
            let cause = Cause::Submissions { used, capacity };
            return Some((cause, self.drained_in(used)));
        }
        if let Some(pool) = self.pool
            && let Some(since) = pool.over_since
        {
            let percent = pool.percent();
            // Nothing says when it ends. What has lasted for a while lasts about as long again.
            let lasted = now.saturating_duration_since(since);
            return Some((Cause::Pool { percent }, Some(lasted.max(POOL_MEMORY))));
        }
        let recent = self.recent(now)?;
        judge_requests(limits, recent).or_else(|| judge_queue(limits, recent))
    }

    /// The last two samples, where they are of now and follow one another: nothing is sampled while nobody submits.
    fn recent(&self, now: Instant) -> Option<Recent> {
        let [Some((at, last)), Some((before_at, before))] = self.samples else {
            return None;
        };
        let passed = at.saturating_duration_since(before_at);
        let is_recent = now.saturating_duration_since(at) < STALE && passed < STALE;
        is_recent.then_some(Recent {
            last,
            before,
            passed_s: passed.as_secs_f64().max(f64::EPSILON),
        })
    }
}

/// Two samples in a row, and how far they are apart.
#[derive(Debug, Clone, Copy)]
struct Recent {
    last: Waiting,
    before: Waiting,
    passed_s: f64,
}

/// Both samples are over the line: one alone may be of a long transaction that has just been committed.
fn judge_requests(limits: &Backpressure, recent: Recent) -> Option<(Cause, Option<Duration>)> {
    let line = f64::from(limits.oldest_request_seconds);
    let (age, age_before) = (
        recent.last.oldest_request_s?,
        recent.before.oldest_request_s?,
    );
    if age < line || age_before < line {
        return None;
    }
    // The oldest gets younger as fast as its successors come up faster than time passes.
    let wait = seconds(age - line, (age_before - age) / recent.passed_s);
    let oldest = Duration::try_from_secs_f64(age).unwrap_or_default();
    Some((Cause::Requests { oldest }, wait))
}

fn judge_queue(limits: &Backpressure, recent: Recent) -> Option<(Cause, Option<Duration>)> {
    let most = limits.max_queue_depth?;
    let depth = recent.last.steps?;
    if depth <= i64::from(most) {
        return None;
    }
    let before = recent.before.steps.unwrap_or(depth);
    let excess = (depth - i64::from(most)) as f64;
    let wait = seconds(excess, (before - depth) as f64 / recent.passed_s);
    let depth = depth.unsigned_abs();
    Some((Cause::Queue { depth, most }, wait))
}

/// How long so much takes at such a rate; `None` where nothing moves.
fn seconds(much: f64, per_second: f64) -> Option<Duration> {
    (per_second > 0.0)
        .then(|| Duration::try_from_secs_f64(much / per_second).ok())
        .flatten()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
