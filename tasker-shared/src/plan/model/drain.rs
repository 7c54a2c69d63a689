//! The end of a scenario: everything that is left runs and succeeds, and every task must come to its end; then what
//! failed is retried, and must come home.

use super::super::{Kind, Outcome};
use super::Act;
use super::scenario::{Event, Scenario, Wish};
use super::world::{Broken, World};
use crate::state::step::StepState as S;
use crate::state::task::TaskState as T;

/// More rounds than any scenario needs.
const ROUNDS: usize = 2_000;

/// Lets a scenario happen under all rules; returns the world after it, or which rule it broke.
pub(crate) fn play(scenario: &Scenario, broken: Option<Broken>) -> Result<World, String> {
    let mut world = World::new(scenario, broken);
    world.check()?;
    for event in &scenario.events {
        world.happen_checked(*event)?;
    }
    Ok(world)
}

impl World {
    /// Lets an event happen and looks whether all is well after it.
    pub(crate) fn happen_checked(&mut self, event: Event) -> Result<Vec<Act>, String> {
        let before = self.tasks.clone();
        let acts = self
            .happen(event)
            .map_err(|what| format!("{event:?}: {what}"))?;
        // A pass looks after each of its statements itself.
        let change = match event {
            Event::Pass { .. } | Event::Apply { .. } => Ok(()),
            _ => self.check_change(&before, false),
        };
        change
            .and_then(|()| self.check())
            .map_err(|what| format!("after {event:?}: {what}"))?;
        Ok(acts)
    }

    /// Runs everything to its end, all of it successfully.
    pub(crate) fn drain(&mut self) -> Result<(), String> {
        for _ in 0..ROUNDS {
            self.happen_checked(Event::Apply { server: 0 })?;
            self.happen_checked(Event::Apply { server: 1 })?;
            self.happen_checked(Event::Rescue)?;
            for server in [0, 1] {
                self.happen_checked(Event::Pass {
                    server,
                    pick: 0,
                    most: 8,
                })?;
                // A wish that waits for its task's counts does not keep others waiting.
                self.happen_checked(Event::Pass {
                    server,
                    pick: 1,
                    most: u8::MAX,
                })?;
            }
            self.happen_checked(Event::Promote { pick: 0 })?;
            self.happen_checked(Event::Claim { worker: 0, pick: 0 })?;
            self.happen_checked(Event::End {
                pick: 0,
                outcome: Outcome::Success,
                late: false,
            })?;
            if self.ready.is_empty() && self.delayed.is_empty() && self.results.is_empty() {
                return self.check_end();
            }
        }
        Err(format!("there is no end: {:?}", self.tasks))
    }

    /// Every task has come to an end that its steps account for.
    fn check_end(&self) -> Result<(), String> {
        for (number, task) in self.tasks.iter().enumerate() {
            let failed = task.steps.iter().any(|s| s.state == S::Error);
            let ok = match task.state {
                T::Complete | T::ResolvedManually => !failed,
                T::Error | T::BlockedByFailures => failed && task.buried,
                T::Cancelled => true,
                _ => false,
            };
            if !ok {
                return Err(format!("task {number} was left as {task:?}"));
            }
            for (step_no, step) in (1..).zip(&task.steps[..task.steps.len() - 1]) {
                let good = self.attempts.iter().filter(|(d, o)| {
                    (d.task, d.step_no) == (number, step_no)
                        && matches!(o, Outcome::Success | Outcome::Manual)
                });
                let good = good.count();
                if step.state.satisfies() != (good == 1) && task.state != T::Cancelled {
                    return Err(format!(
                        "step {step_no} of task {number} is {:?} with {good} results",
                        step.state
                    ));
                }
            }
        }
        Ok(())
    }

    /// Asks for a retry of every task that failed.
    pub(crate) fn retry_all(&mut self) -> Result<usize, String> {
        let stuck = |t: &T| matches!(t, T::Error | T::BlockedByFailures);
        let failed: Vec<usize> = (0..self.tasks.len())
            .filter(|t| stuck(&self.tasks[*t].state))
            .collect();
        for task in &failed {
            self.ask(*task, Wish::Retry);
        }
        debug_assert!(self.results.values().all(|m| m.kind == Kind::Control));
        Ok(failed.len())
    }
}
