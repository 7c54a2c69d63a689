//! What a person asks of a task: cancel it, retry it, end or reset one of its steps. The change is made to
//! a snapshot of the whole task and every count is worked out anew from the graph, so that raising counts,
//! un-skipping and enqueuing again follow one rule.

use super::Blueprint;
use crate::state::step::{StepEvent, StepState};
use crate::state::task::{TaskEvent, TaskState};

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// End the task now; a running handler is told.
    Cancel,
    /// Put every failed step back.
    Retry,
    /// Put one failed step back.
    Reset { step_no: i32 },
    /// Declare a step done, without a result.
    Resolve { step_no: i32 },
    /// Declare a step done, with a result that is written apart.
    Complete { step_no: i32 },
}

/// A step as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepRow {
    pub state: StepState,
    pub waiting_on: i32,
    pub failed: i32,
    pub tries: i32,
    pub lost: i32,
}

/// A task with all its steps, by number from 1 on; the last is its join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub task: TaskState,
    pub steps: Vec<StepRow>,
}

/// What is to be written: the steps that change, by number, and the task's state where it changes. A join that is not
/// stored may be among the steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intervention {
    pub task: Option<TaskState>,
    pub steps: Vec<(i32, StepRow)>,
}

/// Why an action is not possible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The task's state does not allow it.
    #[error("the task is {0}: {1}")]
    Task(&'static str, &'static str),
    /// The step's state does not allow it.
    #[error("step {name}: {source}")]
    Step {
        name: String,
        source: crate::state::Illegal,
    },
    /// Steps above it still have to end, and the task would end without them.
    #[error("step {0}: steps that it depends on have not ended; resolve or complete those first")]
    Early(String),
    /// The task has no such step.
    #[error("the task has no step with number {0}")]
    NoStep(i32),
}

impl Snapshot {
    /// The snapshot of a task of `blueprint` by the rows of its steps. A join that is not stored is what follows from the
    /// last step.
    pub fn new(task: TaskState, mut steps: Vec<StepRow>, blueprint: &Blueprint) -> Snapshot {
        if let Some(leaf) = blueprint.last {
            let (waiting_on, failed) = count(&steps, &[leaf]);
            steps.push(StepRow {
                state: match row(&steps, leaf).map(|leaf| leaf.state) {
                    Some(StepState::Cancelled) => StepState::Cancelled,
                    Some(state) if state.ended_badly() => StepState::Skipped,
                    Some(state) if state.has_ended() => StepState::Complete,
                    _ => StepState::Pending,
                },
                waiting_on,
                failed,
                tries: 0,
                lost: 0,
            });
        }
        Snapshot { task, steps }
    }
}

/// Plans `action` on `snapshot`, a task of `blueprint`.
pub fn plan(
    snapshot: &Snapshot,
    blueprint: &Blueprint,
    action: &Action,
) -> Result<Intervention, Refused> {
    let mut steps = snapshot.steps.clone();
    match action {
        Action::Cancel => return cancel(snapshot),
        Action::Retry => retry_all(snapshot.task, &mut steps)?,
        Action::Reset { step_no } => change(
            snapshot.task,
            &mut steps,
            blueprint,
            *step_no,
            StepEvent::Reset,
        )?,
        Action::Resolve { step_no } => change(
            snapshot.task,
            &mut steps,
            blueprint,
            *step_no,
            StepEvent::Resolve,
        )?,
        Action::Complete { step_no } => change(
            snapshot.task,
            &mut steps,
            blueprint,
            *step_no,
            StepEvent::Complete,
        )?,
    }
    recount(&mut steps, &snapshot.steps, blueprint);
    let task = task_after(snapshot.task, &steps, blueprint, action)?;
    Ok(difference(snapshot, steps, task))
}

fn cancel(snapshot: &Snapshot) -> Result<Intervention, Refused> {
    let task = snapshot.task.on(TaskEvent::Cancel).map_err(|illegal| {
        Refused::Task(illegal.state, "it has ended and can no longer be cancelled")
    })?;
    let mut steps = snapshot.steps.clone();
    for step in &mut steps {
        step.state = step.state.on(StepEvent::Cancel).unwrap_or(step.state);
    }
    Ok(difference(snapshot, steps, task))
}

fn retry_all(task: TaskState, steps: &mut [StepRow]) -> Result<(), Refused> {
    if task == TaskState::Cancelled {
        return Err(Refused::Task(task.as_str(), "submit it anew instead"));
    }
    let mut any = false;
    for step in steps {
        if let Ok(state) = step.state.on(StepEvent::Reset) {
            (step.state, step.tries, step.lost) = (state, 0, 0);
            any = true;
        }
    }
    if any {
        Ok(())
    } else {
        Err(Refused::Task(
            task.as_str(),
            "no step of it has failed, so there is nothing to retry",
        ))
    }
}

fn change(
    task: TaskState,
    steps: &mut [StepRow],
    blueprint: &Blueprint,
    step_no: i32,
    event: StepEvent,
) -> Result<(), Refused> {
    if task.is_final() && task != TaskState::Error {
        return Err(Refused::Task(
            task.as_str(),
            "its steps can no longer change",
        ));
    }
    let index = usize::try_from(step_no).ok().and_then(|n| n.checked_sub(1));
    let step = index
        .filter(|_| step_no < blueprint.graph.join())
        .and_then(|i| steps.get_mut(i))
        .ok_or(Refused::NoStep(step_no))?;
    if step.state == StepState::Pending && step.waiting_on > 0 && event != StepEvent::Reset {
        return Err(Refused::Early(blueprint.graph.name(step_no).to_owned()));
    }
    step.state = step.state.on(event).map_err(|source| Refused::Step {
        name: blueprint.graph.name(step_no).to_owned(),
        source,
    })?;
    if event == StepEvent::Reset {
        (step.tries, step.lost) = (0, 0);
    }
    Ok(())
}

/// Works out every count from the states of the parents, parents first, and lets the steps follow: a
/// skipped one with nothing failed above it waits again, a waiting one with nothing above it left runs.
/// A root that waited `before` waits for its task's start, which is a message of its own.
fn recount(steps: &mut [StepRow], before: &[StepRow], blueprint: &Blueprint) {
    let graph = &blueprint.graph;
    for &number in graph.order().iter().chain([&graph.join()]) {
        let parents = graph.parents(number);
        let (waiting_on, failed) = count(steps, parents);
        let Some(step) = usize::try_from(number - 1)
            .ok()
            .and_then(|i| steps.get_mut(i))
        else {
            continue;
        };
        (step.waiting_on, step.failed) = (waiting_on, failed);
        let is_join = number == graph.join();
        let reopened = step.state == StepState::Skipped && (waiting_on > 0 || failed == 0)
            || is_join && step.state.has_ended() && waiting_on > 0;
        if reopened {
            step.state = StepState::Pending;
        }
        let unstarted = parents.is_empty()
            && row(before, number).is_some_and(|was| was.state == StepState::Pending);
        if step.state == StepState::Pending && waiting_on == 0 && !unstarted {
            step.state = match (failed > 0, is_join) {
                (true, _) => StepState::Skipped,
                (false, true) => StepState::Complete,
                (false, false) => StepState::Enqueued,
            };
        }
    }
}

/// How many of these have not ended, and how many ended badly.
fn count(steps: &[StepRow], parents: &[i32]) -> (i32, i32) {
    let (mut waiting_on, mut failed) = (0, 0);
    for &parent in parents {
        match row(steps, parent).map(|p| p.state) {
            Some(state) if state.ended_badly() => failed += 1,
            Some(state) if state.has_ended() => {}
            _ => waiting_on += 1,
        }
    }
    (waiting_on, failed)
}

fn row(steps: &[StepRow], number: i32) -> Option<&StepRow> {
    steps.get(usize::try_from(number).ok()?.checked_sub(1)?)
}

fn task_after(
    before: TaskState,
    steps: &[StepRow],
    blueprint: &Blueprint,
    action: &Action,
) -> Result<TaskState, Refused> {
    let by_hand = matches!(action, Action::Resolve { .. } | Action::Complete { .. });
    let was_stuck = matches!(before, TaskState::Error | TaskState::BlockedByFailures);
    let event = match row(steps, blueprint.graph.join()).map(|join| join.state) {
        Some(StepState::Complete) if by_hand && was_stuck => TaskEvent::ResolveManually,
        Some(StepState::Complete) => TaskEvent::EndWell,
        // Other failures remain: the task stays as it was stuck, or ends as its template says.
        Some(StepState::Skipped) if was_stuck => return Ok(before),
        Some(StepState::Skipped) => TaskEvent::EndBadly {
            blocks: blueprint.blocks_on_failure(),
        },
        _ => TaskEvent::Revive,
    };
    // A task that has not started yet starts only where a step runs now; its roots wait for the start's own message.
    let event = match (before, event) {
        (TaskState::Pending, TaskEvent::Revive) => {
            if steps.iter().all(|step| step.state != StepState::Enqueued) {
                return Ok(before);
            }
            TaskEvent::Start
        }
        (_, event) => event,
    };
    before
        .on(event)
        .map_err(|illegal| Refused::Task(illegal.state, "it has ended"))
}

fn difference(snapshot: &Snapshot, steps: Vec<StepRow>, task: TaskState) -> Intervention {
    Intervention {
        task: (task != snapshot.task).then_some(task),
        steps: (1..)
            .zip(steps)
            .zip(&snapshot.steps)
            .filter(|((_, after), before)| after != *before)
            .map(|(changed, _)| changed)
            .collect(),
    }
}

#[cfg(test)]
mod tests;
