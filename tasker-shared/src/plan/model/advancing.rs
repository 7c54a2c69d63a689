//! `list_messages`, `advance_graphs` and `bury_tasks` in memory. Every part of a statement sees the rows as they were
//! before it, as in PostgreSQL, and none of them twice.

use std::collections::{BTreeMap, BTreeSet};

use super::super::advance::{Advance, END, Move, plan};
use super::super::{Kind, Message};
use super::Delivery;
use super::world::{Broken, Task, Waiting, World};
use crate::state::step::StepState as S;
use crate::state::task::TaskState as T;

/// What a child is told by all its parents that end in one statement.
#[derive(Debug, Default)]
struct Told {
    lane: Option<i32>,
    parents: i32,
    bad: i32,
    blocks: bool,
}

impl World {
    /// The messages that `server` may read, the one picked first.
    pub(super) fn readable(&self, server: usize, pick: u8, most: u8) -> Vec<Message> {
        let mine = |m: &&Message| self.owners[self.task_of(m)] == server;
        let mut messages: Vec<Message> = self.results.values().filter(mine).cloned().collect();
        messages.sort_by_key(|m| (self.key(m), m.id));
        let first = usize::from(pick) % messages.len().max(1);
        messages.rotate_left(first);
        messages.truncate(most.into());
        messages
    }

    pub(super) fn planned(&self, messages: Vec<Message>) -> Advance {
        plan(messages, &self.rules, |_| Some(&self.route), || 0.5)
    }

    /// A pass of `server` with a plan: moves, burials, then controls, one after the other.
    pub(super) fn apply(&mut self, server: usize, plan: &Advance) -> Result<(), String> {
        let before = self.tasks.clone();
        self.advance(server, plan)?;
        self.check_change(&before, false)?;
        for message in &plan.burials {
            self.bury(server, message);
        }
        for message in &plan.controls {
            let before = self.tasks.clone();
            self.control(server, message)?;
            self.check_change(&before, true)?;
        }
        Ok(())
    }

    fn advance(&mut self, server: usize, plan: &Advance) -> Result<(), String> {
        let before = self.tasks.clone();
        let moves = plan.moves.iter();
        let gone: Vec<&Move> = moves.filter(|m| self.gone(server, &m.message)).collect();
        let (ended, fired) = self.end_steps(&before, &gone)?;
        let told = self.gather(&fired, plan);
        let moved = self.tell(&before, &told, &ended)?;
        for step in &fired {
            let task = self.task_of(&step.message);
            if step.message.step_no == 0 && before[task].state == T::Pending {
                self.tasks[task].state = T::StepsInProcess;
            }
        }
        self.finish(&before, &told, &moved);
        self.tell_on(&fired, &told, &moved);
        Ok(())
    }

    fn gone(&mut self, server: usize, message: &Message) -> bool {
        let mine = self.owners[self.task_of(message)] == server;
        mine && (self.take(message.id).is_some() || self.breaks(Broken::Taken))
    }

    /// The steps that messages are about, where the delivery is the current one, and the moves that tell children.
    fn end_steps<'a>(
        &mut self,
        before: &[Task],
        gone: &[&'a Move],
    ) -> Result<(BTreeSet<Delivery>, Vec<&'a Move>), String> {
        let mut changed = BTreeSet::new();
        let mut fired = Vec::new();
        for step in gone {
            let message = &step.message;
            let task = self.task_of(message);
            let Some((expected, becomes)) = step.step else {
                fired.push(*step);
                continue;
            };
            let was = &before[task].steps[message.step_no as usize - 1];
            let current = was.attempt == message.attempt || self.breaks(Broken::Attempt);
            let as_expected = was.state == expected || self.breaks(Broken::State);
            let key = Delivery {
                task,
                step_no: message.step_no,
                attempt: 0,
            };
            if !current || !as_expected || !changed.insert(key) {
                continue;
            }
            self.end_step(task, step, becomes)?;
            if !step.children.is_empty() {
                fired.push(*step);
            }
        }
        Ok((changed, fired))
    }

    fn end_step(&mut self, task: usize, step: &Move, becomes: S) -> Result<(), String> {
        let message = &step.message;
        let delivery = Delivery {
            task,
            step_no: message.step_no,
            attempt: message.attempt,
        };
        if matches!(message.kind, Kind::Ended(_)) {
            let times = self.applied.entry(delivery).or_default();
            *times += 1;
            if *times > 1 {
                return Err(format!("{delivery:?} was applied {times} times"));
            }
        }
        let row = self.step(task, message.step_no);
        (row.state, row.tries, row.lost) = (becomes, step.tries, step.lost);
        let (attempt, tries, lost) = (row.attempt, row.tries, row.lost);
        match becomes {
            S::Enqueued if step.lane.is_none() => return Err(format!("{delivery:?} has no lane")),
            S::Enqueued => self.enqueue(task, message.step_no),
            S::WaitingForRetry => {
                let id = self.next_id();
                let delivery = Delivery {
                    attempt,
                    ..delivery
                };
                self.delayed.insert(
                    id,
                    Waiting {
                        delivery,
                        tries,
                        lost,
                        worker: None,
                    },
                );
            }
            _ => {}
        }
        Ok(())
    }

    /// Each child once, however many of its parents ended.
    fn gather(&self, fired: &[&Move], plan: &Advance) -> BTreeMap<(usize, i32), Told> {
        let mut told: BTreeMap<(usize, i32), Told> = BTreeMap::new();
        for step in fired {
            let task = self.task_of(&step.message);
            for child in &plan.children[step.children.clone()] {
                // Every task has a join here.
                let number = match child.number {
                    END => self.blueprint.graph.join(),
                    number => number,
                };
                let told = told.entry((task, number)).or_default();
                told.lane = child.lane;
                told.parents += i32::from(step.message.step_no > 0);
                told.bad += i32::from(step.bad);
                told.blocks = step.blocks;
            }
        }
        told
    }

    /// Lowers the children; returns those that were, with whether they are at zero.
    fn tell(
        &mut self,
        before: &[Task],
        told: &BTreeMap<(usize, i32), Told>,
        ended: &BTreeSet<Delivery>,
    ) -> Result<Vec<(usize, i32)>, String> {
        let mut moved = Vec::new();
        for (&(task, step_no), told) in told {
            let was = &before[task].steps[step_no as usize - 1];
            if told.parents == 0 && was.state != S::Pending {
                continue;
            }
            moved.push((task, step_no));
            if ended.contains(&Delivery {
                task,
                step_no,
                attempt: 0,
            }) {
                return Err(format!(
                    "one statement changes step {step_no} of task {task} twice, which PostgreSQL does once"
                ));
            }
            let now_free = was.state == S::Pending && was.waiting_on == told.parents;
            let failed = was.failed + told.bad;
            let row = self.step(task, step_no);
            row.waiting_on -= told.parents;
            row.failed = failed;
            match (now_free, failed > 0, told.lane) {
                (false, ..) => {}
                (true, true, _) => row.state = S::Skipped,
                (true, false, None) => row.state = S::Complete,
                (true, false, Some(_)) => self.enqueue(task, step_no),
            }
        }
        Ok(moved)
    }

    fn finish(
        &mut self,
        before: &[Task],
        told: &BTreeMap<(usize, i32), Told>,
        moved: &[(usize, i32)],
    ) {
        for &(task, step_no) in moved {
            let step = self.tasks[task].steps[step_no as usize - 1].clone();
            let told = &told[&(task, step_no)];
            let is_end = told.lane.is_none()
                && step.waiting_on == 0
                && matches!(step.state, S::Complete | S::Skipped);
            if !is_end || before[task].state != T::StepsInProcess {
                continue;
            }
            self.tasks[task].state = match (step.failed, told.blocks) {
                (0, _) => T::Complete,
                (_, true) => T::BlockedByFailures,
                (_, false) => T::Error,
            };
            if step.failed > 0 && !self.breaks(Broken::Buried) {
                self.send(task, Kind::Bury, 0, 0);
            }
        }
    }

    /// The rest of wide fan-outs, and what the children of skipped steps are to be told.
    fn tell_on(
        &mut self,
        fired: &[&Move],
        told: &BTreeMap<(usize, i32), Told>,
        moved: &[(usize, i32)],
    ) {
        for step in fired {
            let kind = if step.bad {
                Kind::SpreadBadly
            } else {
                Kind::SpreadWell
            };
            if let Some(next) = step.next.filter(|_| !self.breaks(Broken::Rest)) {
                self.send(
                    self.task_of(&step.message),
                    kind,
                    step.message.step_no,
                    next,
                );
            }
        }
        for &(task, step_no) in moved {
            let step = self.step(task, step_no);
            let skipped = step.state == S::Skipped && step.waiting_on == 0;
            if skipped && told[&(task, step_no)].lane.is_some() && !self.breaks(Broken::Skipped) {
                self.send(task, Kind::SpreadBadly, step_no, 0);
            }
        }
    }

    fn bury(&mut self, server: usize, message: &Message) {
        let task = self.task_of(message);
        if self.owners[task] != server || self.take(message.id).is_none() {
            return;
        }
        if matches!(self.tasks[task].state, T::BlockedByFailures | T::Error) {
            self.tasks[task].buried = true;
        }
    }
}
