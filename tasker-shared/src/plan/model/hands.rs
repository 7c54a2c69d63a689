//! What people and limits do to a task as a whole: controls (`db::controls`, as the server applies them) and
//! `fail_stale_steps`.

use super::super::intervene::{self, Action, Snapshot, StepRow};
use super::super::{Kind, Message, Outcome};
use super::Delivery;
use super::world::{Broken, Step, World};
use crate::state::step::StepState as S;
use crate::state::task::TaskState as T;

impl World {
    /// Does what a control's message asks, unless its task's counts are not settled yet.
    pub(super) fn control(&mut self, server: usize, message: &Message) -> Result<(), String> {
        let task = self.task_of(message);
        let spreads = |m: &Message| {
            m.task_uuid == message.task_uuid
                && matches!(m.kind, Kind::SpreadWell | Kind::SpreadBadly)
        };
        if self.results.values().any(spreads) && !self.breaks(Broken::Spreading) {
            return Ok(());
        }
        if self.owners[task] != server || self.take(message.id).is_none() {
            return Ok(());
        }
        let Some((_, action)) = message.control.and_then(|c| self.wishes.remove(&c)) else {
            return Ok(());
        };
        let before = self.snapshot(task);
        let Ok(plan) = intervene::plan(&before, &self.blueprint.clone(), &action) else {
            return Ok(());
        };
        if let Action::Resolve { step_no } | Action::Complete { step_no } = action {
            let step = self.step(task, step_no);
            step.attempt += 1;
            let attempt = step.attempt;
            self.attempted(
                Delivery {
                    task,
                    step_no,
                    attempt,
                },
                Outcome::Manual,
            )?;
        }
        self.intervene(task, &before, &plan.steps);
        if let Some(state) = plan.task {
            self.tasks[task].state = state;
            if matches!(state, T::BlockedByFailures | T::Error) {
                self.send(task, Kind::Bury, 0, 0);
            }
        }
        if action == Action::Retry || plan.task.is_some() {
            self.tasks[task].buried = false;
        }
        Ok(())
    }

    fn snapshot(&self, task: usize) -> Snapshot {
        let steps = self.tasks[task].steps.iter().map(|s| StepRow {
            state: s.state,
            waiting_on: s.waiting_on,
            failed: s.failed,
            tries: s.tries,
            lost: s.lost,
        });
        // The join, too, where it is stored.
        let stored = self.blueprint.graph.rows().count();
        let steps = steps.take(stored).collect();
        Snapshot::new(self.tasks[task].state, steps, &self.blueprint)
    }

    /// `revoke_messages` and `change_steps`.
    fn intervene(&mut self, task: usize, before: &Snapshot, steps: &[(i32, StepRow)]) {
        for (step_no, row) in steps {
            let was = before.steps[*step_no as usize - 1].state;
            let step = self.step(task, *step_no);
            (step.waiting_on, step.failed) = (row.waiting_on, row.failed);
            (step.tries, step.lost) = (row.tries, row.lost);
            if row.state == S::Enqueued && was != S::Enqueued {
                self.enqueue(task, *step_no);
                continue;
            }
            step.state = row.state;
            let message = step.message;
            if was == S::Enqueued
                && row.state != S::Enqueued
                && !self.breaks(Broken::Revoked)
                && let Some(id) = message
                && self.ready.get(&id).is_some_and(|r| r.worker.is_none())
            {
                self.ready.remove(&id);
            }
        }
    }

    /// `fail_stale_steps` for one task.
    pub(super) fn age(&mut self, task: usize) -> Result<(), String> {
        if self.tasks[task].state != T::StepsInProcess {
            return Ok(());
        }
        let steps = self.tasks[task].steps.clone();
        let steps = &steps[..steps.len() - 1];
        let busy = steps
            .iter()
            .any(|s| matches!(s.state, S::Enqueued | S::WaitingForRetry));
        let uuid = self.tasks[task].uuid;
        let idle = !busy && !self.results.values().any(|m| m.task_uuid == uuid);
        for (step_no, step) in (1..).zip(steps) {
            let delivery = Delivery {
                task,
                step_no,
                attempt: step.attempt,
            };
            match step.state {
                S::Enqueued => self.age_queued(step.message)?,
                S::WaitingForRetry => {
                    let row = self
                        .delayed
                        .iter()
                        .find(|(_, d)| d.delivery == delivery)
                        .map(|(id, _)| *id);
                    if let Some(id) = row {
                        self.delayed.remove(&id);
                        self.age_raised(task, step_no)?;
                    }
                }
                S::Pending if idle && self.is_topmost(steps, step_no) => {
                    self.age_raised(task, step_no)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether none of the steps above it waits too.
    fn is_topmost(&self, steps: &[Step], step_no: i32) -> bool {
        let parents = self.blueprint.graph.parents(step_no);
        let waits = |parent: &i32| steps[*parent as usize - 1].state == S::Pending;
        !parents.iter().any(waits)
    }

    fn age_queued(&mut self, message: Option<i64>) -> Result<(), String> {
        let Some(row) = message.and_then(|id| self.ready.remove(&id)) else {
            return Ok(());
        };
        self.attempted(row.delivery, Outcome::Stale)?;
        self.send_of(&row, Kind::Ended(Outcome::Stale), 0);
        Ok(())
    }

    /// What nobody has had since its last attempt gets an attempt that can fail.
    fn age_raised(&mut self, task: usize, step_no: i32) -> Result<(), String> {
        let message = self.step(task, step_no).message;
        self.enqueue(task, step_no);
        let step = self.step(task, step_no);
        let id = step.message;
        step.message = message;
        self.age_queued(id)
    }
}
