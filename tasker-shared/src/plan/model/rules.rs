//! What must hold whatever happens, told of the whole world after each thing that happened in it.

use super::super::Kind;
use super::world::{Step, Task, World};
use crate::state::step::{StepEvent, StepState as S};
use crate::state::task::{TaskEvent, TaskState as T};

/// Fails with `text` unless `holds`.
macro_rules! must {
    ($holds:expr, $($text:tt)*) => {
        if !$holds {
            return Err(format!($($text)*));
        }
    };
}

impl World {
    /// Every rule, for every task.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (number, task) in self.tasks.iter().enumerate() {
            let wrong = |what: String| format!("task {number}: {what}");
            self.check_task(number, task).map_err(wrong)?;
            for step_no in 1..=self.blueprint.graph.join() {
                let step = &task.steps[step_no as usize - 1];
                let checked = self
                    .check_messages(number, step_no, step)
                    .and_then(|()| self.check_counts(number, task, step_no, step))
                    .and_then(|()| self.check_step(number, step_no, step));
                checked
                    .map_err(|what| format!("task {number}, step {step_no}, {step:?}: {what}"))?;
            }
        }
        self.check_lanes()
    }

    /// One message that can move the step on where there must be one, and none otherwise.
    fn check_messages(&self, task: usize, step_no: i32, step: &Step) -> Result<(), String> {
        let of = |kind: fn(Kind) -> bool| {
            let current = self.results.iter().filter(|(id, m)| {
                kind(m.kind)
                    && self.task_of(m) == task
                    && m.step_no == step_no
                    && m.attempt == step.attempt
                    && !self.copies.contains(id)
            });
            current.count()
        };
        let here = |d: &super::Delivery| {
            d.task == task && d.step_no == step_no && d.attempt == step.attempt
        };
        let ready = self.ready.values().filter(|r| here(&r.delivery)).count();
        let delayed = self.delayed.values().filter(|d| here(&d.delivery)).count();
        let runs = ready + of(|kind| matches!(kind, Kind::Ended(_)));
        let waits = delayed + of(|kind| kind == Kind::Due);
        match step.state {
            S::Enqueued => must!(runs == 1, "{runs} deliveries of it are under way"),
            S::WaitingForRetry => must!(waits == 1, "{waits} retries of it are under way"),
            _ => {}
        }
        must!(
            runs <= 1 && waits <= 1,
            "{runs} deliveries and {waits} retries under way"
        );
        if step.state == S::Enqueued && ready == 1 {
            let row = step.message.and_then(|id| self.ready.get(&id));
            must!(
                row.is_some_and(|r| here(&r.delivery)),
                "it does not know its place in the queue"
            );
        }
        Ok(())
    }

    /// What the counts say is what the parents say that have told it.
    fn check_counts(
        &self,
        number: usize,
        task: &Task,
        step_no: i32,
        step: &Step,
    ) -> Result<(), String> {
        if task.state == T::Cancelled {
            return Ok(());
        }
        let (mut waiting_on, mut failed) = (0, 0);
        for &parent in self.blueprint.graph.parents(step_no) {
            let state = task.steps[parent as usize - 1].state;
            if !state.has_ended() || self.is_untold(number, parent, step_no) {
                waiting_on += 1;
            } else if state.ended_badly() {
                failed += 1;
            }
        }
        must!(
            (step.waiting_on, step.failed) == (waiting_on, failed),
            "it waits for {waiting_on}, and {failed} above it failed"
        );
        Ok(())
    }

    /// Whether a message says that the child is still to be told of its parent; the start is everybody's parent that has none.
    fn is_untold(&self, task: usize, parent: i32, child: i32) -> bool {
        let place = self
            .blueprint
            .graph
            .children(parent)
            .iter()
            .position(|c| *c == child);
        self.results.values().any(|m| {
            matches!(m.kind, Kind::SpreadWell | Kind::SpreadBadly)
                && self.task_of(m) == task
                && m.step_no == parent
                && place.is_some_and(|place| m.progress as usize <= place)
        })
    }

    /// Whether the task is still to begin, as far as this step is concerned.
    fn is_unstarted(&self, task: usize, step_no: i32) -> bool {
        let later = self
            .delayed
            .values()
            .any(|d| d.delivery.task == task && d.delivery.step_no == 0);
        later || self.is_untold(task, 0, step_no)
    }

    /// The step is where its counts put it.
    fn check_step(&self, task: usize, step_no: i32, step: &Step) -> Result<(), String> {
        let is_root = self.blueprint.graph.parents(step_no).is_empty();
        let free = step.waiting_on == 0;
        match step.state {
            S::Pending => must!(
                !free || is_root && self.is_unstarted(task, step_no),
                "nothing will move it on"
            ),
            S::Enqueued | S::WaitingForRetry => {
                must!(
                    step.failed == 0 || self.is_stale(task, step_no, step),
                    "it runs below a failure"
                );
                must!(
                    free || self.is_stale(task, step_no, step),
                    "it runs before its parents ended"
                );
            }
            S::Skipped => must!(free && step.failed > 0, "it was skipped for nothing"),
            S::Complete | S::ResolvedManually => must!(free, "it ended before its parents"),
            S::Error => must!(
                free || self.is_stale(task, step_no, step),
                "it failed before its parents ended"
            ),
            S::Cancelled => must!(
                self.tasks[task].state == T::Cancelled,
                "nobody cancelled its task"
            ),
            other => return Err(format!("{other:?} is never stored")),
        }
        Ok(())
    }

    /// Whether it has been ended because its task was stale.
    fn is_stale(&self, task: usize, step_no: i32, step: &Step) -> bool {
        let delivery = super::Delivery {
            task,
            step_no,
            attempt: step.attempt,
        };
        self.attempts.get(&delivery) == Some(&super::Outcome::Stale)
    }

    /// The task's state is what its steps say, and a task that is stuck is a dead letter or about to become one.
    fn check_task(&self, number: usize, task: &Task) -> Result<(), String> {
        let (join, steps) = task.steps.split_last().unwrap();
        let states: Vec<S> = steps.iter().map(|s| s.state).collect();
        let blocks = self.blueprint.blocks_on_failure();
        let ended = states.iter().all(|s| s.has_ended());
        match task.state {
            T::Pending => {
                must!(
                    self.is_unstarted(number, self.blueprint.graph.children(0)[0]),
                    "it will never begin"
                );
                must!(
                    !states.contains(&S::Enqueued),
                    "a step runs before the task has begun: {states:?}"
                );
            }
            T::StepsInProcess => must!(
                !join.state.has_ended(),
                "all its steps have ended: {states:?}"
            ),
            T::Complete | T::ResolvedManually => must!(
                states.iter().all(|s| s.satisfies()),
                "it ended well with {states:?}"
            ),
            T::Error => must!(
                !blocks && ended && join.state == S::Skipped,
                "it ended badly with {states:?}"
            ),
            T::BlockedByFailures => must!(
                blocks && ended && join.state == S::Skipped,
                "it is stuck with {states:?}"
            ),
            T::Cancelled => must!(ended, "it was cancelled with {states:?}"),
            other => return Err(format!("{other:?} is never stored")),
        }
        let stuck = matches!(task.state, T::Error | T::BlockedByFailures);
        let coming = self
            .results
            .values()
            .any(|m| m.kind == Kind::Bury && self.task_of(m) == number);
        must!(
            !stuck || task.buried || coming,
            "it is {:?} and will never be a dead letter",
            task.state
        );
        must!(
            stuck || !task.buried,
            "it is {:?} and a dead letter",
            task.state
        );
        Ok(())
    }

    /// What can be claimed is wanted.
    fn check_lanes(&self) -> Result<(), String> {
        for row in self.ready.values().filter(|r| r.worker.is_none()) {
            let step = &self.tasks[row.delivery.task].steps[row.delivery.step_no as usize - 1];
            let wanted = step.state == S::Enqueued && step.attempt == row.delivery.attempt;
            must!(
                wanted,
                "{:?} can be claimed, and its step is {step:?}",
                row.delivery
            );
        }
        Ok(())
    }

    /// From one moment to the next, states change by their own rules. `by_hand`: a person may have had a hand in it.
    pub(super) fn check_change(&self, before: &[Task], by_hand: bool) -> Result<(), String> {
        for (number, (was, is)) in before.iter().zip(&self.tasks).enumerate() {
            must!(
                task_may(was.state, is.state, by_hand),
                "task {number} went from {:?} to {:?}",
                was.state,
                is.state
            );
            for (step_no, (was, is)) in (1..).zip(was.steps.iter().zip(&is.steps)) {
                let join = step_no == self.blueprint.graph.join();
                let may = step_may(was.state, is.state, join, by_hand);
                must!(
                    may,
                    "step {step_no} of task {number} went from {:?} to {:?}",
                    was.state,
                    is.state
                );
                must!(
                    is.attempt >= was.attempt,
                    "step {step_no} of task {number} went back from attempt {} to {}",
                    was.attempt,
                    is.attempt
                );
            }
        }
        Ok(())
    }
}

fn task_may(from: T, to: T, by_hand: bool) -> bool {
    let mut events = vec![
        TaskEvent::Start,
        TaskEvent::EndWell,
        TaskEvent::EndBadly { blocks: true },
        TaskEvent::EndBadly { blocks: false },
    ];
    if by_hand {
        events.extend([
            TaskEvent::Cancel,
            TaskEvent::Revive,
            TaskEvent::ResolveManually,
        ]);
    } else if matches!(from, T::Pending | T::BlockedByFailures) && to != T::StepsInProcess {
        return from == to;
    }
    from == to || events.into_iter().any(|event| from.on(event) == Ok(to))
}

fn step_may(from: S, to: S, join: bool, by_hand: bool) -> bool {
    use StepEvent as E;
    let by_itself = [E::Enqueue, E::Succeed, E::Retry, E::Fail, E::Skip];
    let by_itself = |from: S| by_itself.into_iter().any(|event| from.on(event) == Ok(to));
    let ended_join = join && from == S::Pending && to == S::Complete;
    if from == to || ended_join || by_itself(from) {
        return true;
    }
    let reopened = matches!(
        (from, to),
        (S::Error | S::Skipped, S::Pending | S::Enqueued)
    ) || join && (from, to) == (S::Skipped, S::Complete);
    let ended = matches!(
        (from, to),
        (
            S::Pending | S::WaitingForRetry | S::Error,
            S::ResolvedManually | S::Complete
        )
    );
    by_hand && (reopened || ended || !from.has_ended() && to == S::Cancelled)
}
