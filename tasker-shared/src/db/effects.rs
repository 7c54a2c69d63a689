//! What a statement did to graphs, for whoever tells of it.

use std::time::Duration;

use rustc_hash::FxHashSet;
use sqlx::Row;
use sqlx::postgres::PgRow;
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

/// What the rows of an advance say of its plan, and how many messages it sent to servers.
pub(super) fn read(
    operation: &'static str,
    plan: &Advance,
    rows: &[PgRow],
) -> Result<(Effects, u64)> {
    let wrong = |source| Error::new(operation, source);
    let mut effects = Effects::default();
    let mut sent = 0;
    for row in rows {
        match row.try_get("what").map_err(wrong)? {
            0 => {
                let ids = |name: &str| -> Result<FxHashSet<i64>> {
                    let ids: Option<Vec<i64>> = row.try_get(name).map_err(wrong)?;
                    Ok(ids.unwrap_or_default().into_iter().collect())
                };
                take(&mut effects, plan, &ids("gone")?, &ids("changed")?);
                sent = row.try_get("told").map(i64::unsigned_abs).map_err(wrong)?;
            }
            1 => effects.enqueued.push(Enqueued {
                task_uuid: row.try_get("task_uuid").map_err(wrong)?,
                step_no: row.try_get("step_no").map_err(wrong)?,
                attempt: row.try_get("attempt").map_err(wrong)?,
            }),
            2 => effects.ended.push(StepEnd {
                task_uuid: row.try_get("task_uuid").map_err(wrong)?,
                step_no: row.try_get("step_no").map_err(wrong)?,
                state: StepState::Skipped,
            }),
            _ => effects.tasks.push(TaskChange {
                task_uuid: row.try_get("task_uuid").map_err(wrong)?,
                state: task_state(operation, row.try_get("state").map_err(wrong)?)?,
                age: milliseconds(row.try_get("age_ms").map_err(wrong)?),
            }),
        }
    }
    Ok((effects, sent))
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
