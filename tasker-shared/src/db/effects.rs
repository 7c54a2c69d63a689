//! What a statement did to graphs, for whoever tells of it.

use std::time::Duration;

use rustc_hash::FxHashSet;
use uuid::Uuid;

use super::{Error, Result};
use crate::plan::advance::Advance;
use crate::state::step::StepState;
use crate::state::task::TaskState;

/// What an advance did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// The moves whose messages are gone by this advance. Another's shard has moved on, or its message was
    /// gone already.
    pub taken: Vec<Taken>,
    /// Steps put on their lanes.
    pub enqueued: Vec<Enqueued>,
    /// Steps that ended: those that messages ended, and the skipped ones, the join left out.
    pub ended: Vec<StepEnd>,
    /// Tasks that began or came to their end, or got stuck.
    pub tasks: Vec<TaskChange>,
    /// Messages that it sent to the servers, untold: more for the one that advanced.
    pub again: u64,
}

/// A message that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The place of its move in `Advance::moves`.
    pub place: usize,
    pub id: i64,
    /// Whether it changed its graph; what comes too late does not.
    pub applied: bool,
}

/// A step that was put on its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enqueued {
    pub task_uuid: Uuid,
    pub step_no: i32,
    /// Which delivery this is.
    pub attempt: i32,
}

/// A step that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepEnd {
    pub task_uuid: Uuid,
    pub step_no: i32,
    pub state: StepState,
}

/// A task whose stored state changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskChange {
    pub task_uuid: Uuid,
    pub state: TaskState,
    /// Since it was created.
    pub age: Duration,
}

/// What an advance says of what it did, columns as arrays.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Answer {
    /// The messages that are gone, and those of them that changed their step.
    gone: Option<Vec<i64>>,
    changed: Option<Vec<i64>>,
    /// Steps that were enqueued and, with no attempt, skipped.
    step_tasks: Option<Vec<Uuid>>,
    step_numbers: Option<Vec<i32>>,
    attempts: Option<Vec<i32>>,
    /// Tasks that changed.
    tasks: Option<Vec<Uuid>>,
    states: Option<Vec<i16>>,
    ages_ms: Option<Vec<f64>>,
    /// Messages that were sent to the servers.
    again: i64,
}

impl Effects {
    /// Adds what `operation` did of its plan, or of a part of it.
    pub(super) fn add(
        &mut self,
        operation: &'static str,
        plan: &Advance,
        answer: Answer,
    ) -> Result<()> {
        let ids = |ids: Option<Vec<i64>>| ids.into_iter().flatten().collect::<FxHashSet<i64>>();
        take(self, plan, &ids(answer.gone), &ids(answer.changed));
        self.again += answer.again.unsigned_abs();
        let numbers = answer.step_numbers.into_iter().flatten();
        let steps = answer.step_tasks.into_iter().flatten().zip(numbers);
        for ((task_uuid, step_no), attempt) in steps.zip(answer.attempts.into_iter().flatten()) {
            match attempt {
                0 => self.ended.push(StepEnd {
                    task_uuid,
                    step_no,
                    state: StepState::Skipped,
                }),
                attempt => self.enqueued.push(Enqueued {
                    task_uuid,
                    step_no,
                    attempt,
                }),
            }
        }
        let states = answer.states.into_iter().flatten();
        let tasks = answer.tasks.into_iter().flatten().zip(states);
        for ((task_uuid, state), age_ms) in tasks.zip(answer.ages_ms.into_iter().flatten()) {
            self.tasks.push(TaskChange {
                task_uuid,
                state: task_state(operation, state)?,
                age: milliseconds(age_ms),
            });
        }
        Ok(())
    }
}

/// The moves whose messages are gone, and the steps that those ended which changed theirs.
fn take(effects: &mut Effects, plan: &Advance, gone: &FxHashSet<i64>, changed: &FxHashSet<i64>) {
    for (place, step) in plan.moves.iter().enumerate() {
        let message = &step.message;
        if !gone.contains(&message.id) {
            continue;
        }
        // A message that only tells children always does.
        let applied = step.step.is_none() || changed.contains(&message.id);
        effects.taken.push(Taken {
            place,
            id: message.id,
            applied,
        });
        if let Some((_, state)) = step.step.filter(|(_, to)| applied && to.has_ended()) {
            effects.ended.push(StepEnd {
                task_uuid: message.task_uuid,
                step_no: message.step_no,
                state,
            });
        }
    }
}

/// A task's state as `operation` read it.
pub(super) fn task_state(operation: &'static str, number: i16) -> Result<TaskState> {
    TaskState::from_i16(number).ok_or_else(|| unknown(operation))
}

/// The error of `operation` where it read a state that this version does not know.
pub(super) fn unknown(operation: &'static str) -> Error {
    let text = "a state that this version does not know";
    Error::new(operation, sqlx::Error::Decode(text.into()))
}

/// Milliseconds that a clock of another machine measured: none where they are negative.
pub(super) fn milliseconds(ms: f64) -> Duration {
    Duration::try_from_secs_f64(ms / 1_000.0).unwrap_or_default()
}
