//! Statistics of steps and tasks: what this process has seen end, added up in memory and added to the database's
//! every second or so. That costs a step nothing; a process that is killed takes its last second with it.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::db;
use crate::db::pool::Pool;
use crate::state::task::TaskState;

/// How often what was seen is added to the database, where there is anything.
const INTERVAL: Duration = Duration::from_secs(1);

static SEEN: LazyLock<Mutex<Tally>> = LazyLock::new(Mutex::default);

/// What has been seen and is not in the database.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    /// By template and number.
    pub steps: BTreeMap<(i32, i32), Steps>,
    /// By template.
    pub tasks: BTreeMap<i32, Tasks>,
}

/// Attempts of a step that ended.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Steps {
    pub executions: i64,
    pub errors: i64,
    pub times: Times,
}

/// Tasks of a template that ended.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Tasks {
    pub completed: i64,
    pub failed: i64,
    pub cancelled: i64,
    pub resolved: i64,
    pub times: Times,
}

/// How long they took, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Times {
    pub total_ms: f64,
    pub max_ms: f64,
}

impl Times {
    fn add(&mut self, took: Duration) {
        let ms = took.as_secs_f64() * 1000.0;
        self.total_ms += ms;
        self.max_ms = self.max_ms.max(ms);
    }

    fn join(&mut self, other: Times) {
        self.total_ms += other.total_ms;
        self.max_ms = self.max_ms.max(other.max_ms);
    }
}

impl Tally {
    fn step(&mut self, (template_id, step_no): (i32, i32), ok: bool, took: Duration) {
        let steps = self.steps.entry((template_id, step_no)).or_default();
        steps.executions += 1;
        steps.errors += i64::from(!ok);
        steps.times.add(took);
    }

    fn task(&mut self, template_id: i32, state: TaskState, age: Duration) {
        if !state.is_final() {
            return;
        }
        let tasks = self.tasks.entry(template_id).or_default();
        match state {
            TaskState::Complete => tasks.completed += 1,
            TaskState::Cancelled => tasks.cancelled += 1,
            TaskState::ResolvedManually => tasks.resolved += 1,
            _ => tasks.failed += 1,
        }
        if matches!(state, TaskState::Complete | TaskState::Error) {
            tasks.times.add(age);
        }
    }

    fn join(&mut self, other: Tally) {
        for (key, steps) in other.steps {
            let sum = self.steps.entry(key).or_default();
            sum.executions += steps.executions;
            sum.errors += steps.errors;
            sum.times.join(steps.times);
        }
        for (key, tasks) in other.tasks {
            let sum = self.tasks.entry(key).or_default();
            sum.completed += tasks.completed;
            sum.failed += tasks.failed;
            sum.cancelled += tasks.cancelled;
            sum.resolved += tasks.resolved;
            sum.times.join(tasks.times);
        }
    }
}

/// An attempt of step `step_no` ended and counted.
pub fn step_executed(template_id: i32, step_no: i32, ok: bool, took: Duration) {
    seen(|tally| tally.step((template_id, step_no), ok, took));
}

/// A task came into a state `age` after it was accepted; what is not final does not count.
pub fn task_ended(template_id: i32, state: TaskState, age: Duration) {
    seen(|tally| tally.task(template_id, state, age));
}

fn seen<T>(look: impl FnOnce(&mut Tally) -> T) -> T {
    look(&mut SEEN.lock().unwrap_or_else(PoisonError::into_inner))
}

/// What was taken to be added. What is left of it when it goes, because the database did not take it or the caller
/// does not wait any more, is seen again.
#[derive(Debug)]
struct Taken(Tally);

impl Taken {
    fn take() -> Taken {
        Taken(seen(std::mem::take))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let left = std::mem::take(&mut self.0);
        seen(|seen| seen.join(left));
    }
}

/// Adds what was seen to the database. What could not be added waits for the next time; where the connection broke
/// at just that moment, or the call was given up, it may count twice.
///
/// # Errors
/// The database did not take it.
pub async fn flush(pool: &Pool) -> db::Result<()> {
    let mut taken = Taken::take();
    add(pool, &mut taken.0).await
}

/// Adds and empties a tally part by part.
async fn add(pool: &Pool, tally: &mut Tally) -> db::Result<()> {
    if !tally.steps.is_empty() {
        db::stats::add_steps(pool, &tally.steps).await?;
        tally.steps.clear();
    }
    if !tally.tasks.is_empty() {
        db::stats::add_tasks(pool, &tally.tasks).await?;
        tally.tasks.clear();
    }
    Ok(())
}

/// Adds what is seen to the database until `stop`, and once more then.
pub async fn keep(pool: Pool, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = stop.cancelled() => {}
        }
        if let Err(error) = flush(&pool).await {
            tracing::debug!(%error, "adding statistics failed; trying again");
        }
        if stop.is_cancelled() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_adds_up_and_unfinished_tasks_do_not_count() {
        let ms = Duration::from_millis;
        let (mut one, mut two) = (Tally::default(), Tally::default());
        one.step((1, 2), true, ms(10));
        two.step((1, 2), false, ms(30));
        one.task(1, TaskState::Complete, ms(40));
        one.task(1, TaskState::StepsInProcess, ms(1));
        two.task(1, TaskState::Error, ms(60));
        two.task(1, TaskState::Cancelled, ms(500));
        two.task(1, TaskState::BlockedByFailures, ms(1));
        one.join(two);
        let steps = Steps {
            executions: 2,
            errors: 1,
            times: Times {
                total_ms: 40.0,
                max_ms: 30.0,
            },
        };
        let tasks = Tasks {
            completed: 1,
            failed: 1,
            cancelled: 1,
            resolved: 0,
            times: Times {
                total_ms: 100.0,
                max_ms: 60.0,
            },
        };
        assert_eq!(one.steps, BTreeMap::from([((1, 2), steps)]));
        assert_eq!(one.tasks, BTreeMap::from([(1, tasks)]));
    }
    #[test]
    fn what_was_taken_to_be_added_is_seen_again_where_that_is_given_up() {
        step_executed(1, 1, true, Duration::from_millis(5));
        let taken = Taken::take();
        assert_eq!(seen(|tally| tally.clone()), Tally::default());
        step_executed(1, 1, true, Duration::from_millis(7));
        drop(taken);
        let found = seen(|tally| tally.steps.get(&(1, 1)).copied());
        assert_eq!(found.map(|steps| steps.executions), Some(2));
    }
}
