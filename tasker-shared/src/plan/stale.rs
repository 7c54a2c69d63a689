//! Staleness: when a task has gone past a limit of its template's `lifecycle`, and when to look at it again. The
//! time in a state counts from the last change of any of the task's steps: what makes progress is not stale.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::state::task::TaskState;
use crate::template::{Lifecycle, StalenessAction};

/// Minutes that a task may be in a state where its template says nothing: of interest to people, acted on by nobody.
pub const DEFAULT_DEPENDENCIES_MINUTES: u32 = 60;
/// As [`DEFAULT_DEPENDENCIES_MINUTES`].
pub const DEFAULT_RETRY_MINUTES: u32 = 30;
/// As [`DEFAULT_DEPENDENCIES_MINUTES`].
pub const DEFAULT_IN_PROCESS_MINUTES: u32 = 30;

/// A limit of a template's `lifecycle`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    Duration,
    Dependencies,
    Retry,
    InProcess,
}

impl Limit {
    /// Its key in a template.
    pub fn key(self) -> &'static str {
        match self {
            Limit::Duration => "max_duration_minutes",
            Limit::Dependencies => "max_waiting_for_dependencies_minutes",
            Limit::Retry => "max_waiting_for_retry_minutes",
            Limit::InProcess => "max_steps_in_process_minutes",
        }
    }

    /// What a template says of it.
    pub fn minutes(self, lifecycle: &Lifecycle) -> Option<u32> {
        match self {
            Limit::Duration => lifecycle.max_duration_minutes,
            Limit::Dependencies => lifecycle.max_waiting_for_dependencies_minutes,
            Limit::Retry => lifecycle.max_waiting_for_retry_minutes,
            Limit::InProcess => lifecycle.max_steps_in_process_minutes,
        }
    }

    fn default_minutes(self) -> Option<u32> {
        match self {
            Limit::Duration => None,
            Limit::Dependencies => Some(DEFAULT_DEPENDENCIES_MINUTES),
            Limit::Retry => Some(DEFAULT_RETRY_MINUTES),
            Limit::InProcess => Some(DEFAULT_IN_PROCESS_MINUTES),
        }
    }

    /// The limit on the time in `state`; a task that has not begun has none.
    fn of_state(state: TaskState) -> Option<Limit> {
        match state {
            TaskState::WaitingForDependencies => Some(Limit::Dependencies),
            TaskState::WaitingForRetry => Some(Limit::Retry),
            TaskState::Initializing
            | TaskState::EnqueuingSteps
            | TaskState::StepsInProcess
            | TaskState::EvaluatingResults => Some(Limit::InProcess),
            _ => None,
        }
    }
}

const ALL: [Limit; 4] = [
    Limit::Duration,
    Limit::Dependencies,
    Limit::Retry,
    Limit::InProcess,
];

/// How far a task's life has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// As it is shown.
    pub state: TaskState,
    /// When it began: its `run_at` or its creation, or the last time it was put back by hand.
    pub since: DateTime<Utc>,
    /// When one of its steps last changed.
    pub changed_at: DateTime<Utc>,
    pub now: DateTime<Utc>,
}

impl Life {
    /// Since when what `limit` is about lasts.
    fn from(&self, limit: Limit) -> DateTime<Utc> {
        match limit {
            Limit::Duration => self.since,
            _ => self.changed_at.max(self.since),
        }
    }

    /// The limits that count in the task's state.
    fn limits(&self) -> impl Iterator<Item = Limit> {
        [Some(Limit::Duration), Limit::of_state(self.state)]
            .into_iter()
            .flatten()
    }
}

/// What is to be done about a task that has limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing any more: it has ended, or waits for a person.
    Over,
    /// Look again at this time: no limit can be passed before.
    LookAgain(DateTime<Utc>),
    /// It is past this limit.
    Stale(Limit),
}

/// What happens to a task of this lifecycle that goes stale.
pub fn action(lifecycle: &Lifecycle) -> StalenessAction {
    lifecycle.staleness_action.unwrap_or(StalenessAction::Dlq)
}

/// When a task that begins at `since` is first to be looked at; `None` where nothing would be done about it.
pub fn first_look(lifecycle: &Lifecycle, since: DateTime<Utc>) -> Option<DateTime<Utc>> {
    if action(lifecycle) == StalenessAction::None {
        return None;
    }
    let shortest = ALL
        .iter()
        .filter_map(|limit| limit.minutes(lifecycle))
        .min()?;
    after(since, shortest)
}

/// Judges a task by its template's lifecycle.
pub fn judge(lifecycle: &Lifecycle, life: &Life) -> Verdict {
    if life.state.is_final() || life.state == TaskState::BlockedByFailures {
        return Verdict::Over;
    }
    let mut again: Option<DateTime<Utc>> = None;
    let current: Vec<Limit> = life.limits().collect();
    for limit in ALL {
        let Some(minutes) = limit.minutes(lifecycle) else {
            continue;
        };
        let counts = current.contains(&limit);
        // Another state may begin now.
        let from = if counts { life.from(limit) } else { life.now };
        let Some(at) = after(from, minutes) else {
            continue;
        };
        if counts && at <= life.now {
            return Verdict::Stale(limit);
        }
        again = Some(again.map_or(at, |other| other.min(at)));
    }
    again.map_or(Verdict::Over, Verdict::LookAgain)
}

/// How close a task is to being stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    Healthy,
    /// From 80 % of the limit.
    Warning,
    Stale,
}

/// How a task stands towards the limit that it is closest to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    pub limit: Limit,
    pub threshold_minutes: u32,
    pub in_state: Duration,
    pub age: Duration,
    pub health: Health,
}

/// Measures a task by its template's limits, and by the default ones where it has none for its state; `None` where
/// nothing limits it.
pub fn measure(lifecycle: &Lifecycle, life: &Life) -> Option<Measured> {
    let lasted = |from: DateTime<Utc>| (life.now - from).to_std().unwrap_or_default();
    let (limit, minutes, share) = life
        .limits()
        .filter_map(|limit| {
            let minutes = limit
                .minutes(lifecycle)
                .or_else(|| limit.default_minutes())?;
            let share = lasted(life.from(limit)).as_secs_f64() / (60.0 * f64::from(minutes));
            Some((limit, minutes, share))
        })
        .max_by(|one, other| one.2.total_cmp(&other.2))?;
    Some(Measured {
        limit,
        threshold_minutes: minutes,
        in_state: lasted(life.from(Limit::InProcess)),
        age: lasted(life.since),
        health: match share {
            share if share >= 1.0 => Health::Stale,
            share if share >= 0.8 => Health::Warning,
            _ => Health::Healthy,
        },
    })
}

fn after(from: DateTime<Utc>, minutes: u32) -> Option<DateTime<Utc>> {
    from.checked_add_signed(chrono::TimeDelta::minutes(i64::from(minutes)))
}

#[cfg(test)]
mod tests;
