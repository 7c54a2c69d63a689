//! From an event of a scenario to what it does in the world as it is then.

use uuid::Uuid;

use super::super::intervene::Action;
use super::super::{Kind, Message};
use super::scenario::{Event, Wish};
use super::world::World;
use super::{Act, Delivery};

/// Messages that come once more are few, so that a scenario ends.
const MOST_COPIES: usize = 8;

/// The one of `count` that a number picks.
fn of(pick: u8, count: usize) -> Option<usize> {
    usize::from(pick).checked_rem(count)
}

impl World {
    /// Lets an event happen; returns what it did, where it could do anything.
    pub(crate) fn happen(&mut self, event: Event) -> Result<Vec<Act>, String> {
        let act = match event {
            Event::Claim { worker, pick } => self.claim_one(worker, pick),
            Event::End {
                pick,
                outcome,
                late,
            } => {
                let Some((id, worker, delivery)) = self.delivered(pick, late) else {
                    return Ok(vec![]);
                };
                self.submit(id, worker, delivery, outcome)?;
                Some(Act::End {
                    worker,
                    delivery,
                    outcome,
                })
            }
            Event::Pass { server, pick, most } => {
                let mut acts = self.happen(Event::Plan { server, pick, most })?;
                acts.extend(self.happen(Event::Apply { server })?);
                return Ok(acts);
            }
            Event::Plan { server, pick, most } => self.make_plan(server.into(), pick, most),
            Event::Apply { server } => {
                let server = usize::from(server);
                let Some(plan) = self.plans[server].take() else {
                    return Ok(vec![]);
                };
                self.apply(server, &plan)?;
                Some(Act::Apply { server })
            }
            Event::Promote { pick } => self.promote_one(pick),
            Event::Stop { worker } => self.stop_one(worker),
            Event::Rescue => {
                self.rescue();
                Some(Act::Rescue)
            }
            Event::GiveBack { worker, pick } => self.give_back_some(worker, pick),
            Event::Give { task, server } => of(task, self.tasks.len()).map(|task| {
                self.owners[task] = server.into();
                Act::Give {
                    task,
                    server: server.into(),
                }
            }),
            Event::Ask { task, wish } => {
                of(task, self.tasks.len()).map(|task| self.ask(task, wish))
            }
            Event::Copy { pick } => self.copy(pick),
            Event::Unroute => {
                self.unroute()?;
                Some(Act::Unroute)
            }
            Event::Age { task } => {
                let task = usize::from(task) % self.tasks.len();
                self.age(task)?;
                Some(Act::Age { task })
            }
        };
        Ok(act.into_iter().collect())
    }

    /// A worker that is alive claims what nobody has.
    fn claim_one(&mut self, worker: u8, pick: u8) -> Option<Act> {
        let alive: Vec<usize> = (0..self.workers.len())
            .filter(|w| self.workers[*w])
            .collect();
        let worker = alive[of(worker, alive.len())?];
        let mut free: Vec<(Delivery, i64)> = self
            .ready
            .iter()
            .filter(|(_, r)| r.worker.is_none())
            .map(|(id, r)| (r.delivery, *id))
            .collect();
        free.sort_unstable();
        let (delivery, id) = free[of(pick, free.len())?];
        self.claim(worker, id);
        Some(Act::Claim { worker, delivery })
    }

    fn delivered(&self, pick: u8, late: bool) -> Option<(i64, usize, Delivery)> {
        let open: Vec<_> = self
            .claimed
            .iter()
            .filter(|(id, ..)| late || self.ready.contains_key(id))
            .collect();
        of(pick, open.len()).map(|i| *open[i])
    }

    fn make_plan(&mut self, server: usize, pick: u8, most: u8) -> Option<Act> {
        let messages = self.readable(server, pick, most);
        if messages.is_empty() {
            return None;
        }
        let keys = messages.iter().map(|m| self.key(m)).collect();
        self.plans[server] = Some(self.planned(messages));
        Some(Act::Plan {
            server,
            messages: keys,
        })
    }

    fn promote_one(&mut self, pick: u8) -> Option<Act> {
        let mut due: Vec<(Delivery, i64)> = self
            .delayed
            .iter()
            .map(|(id, d)| (d.delivery, *id))
            .collect();
        due.sort_unstable();
        let (delivery, id) = due[of(pick, due.len())?];
        self.promote(id);
        Some(Act::Promote {
            due: vec![delivery],
        })
    }

    fn stop_one(&mut self, worker: u8) -> Option<Act> {
        let alive: Vec<usize> = (0..self.workers.len())
            .filter(|w| self.workers[*w])
            .collect();
        let worker = alive[of(worker, alive.len())?];
        self.workers[worker] = false;
        self.workers.push(true);
        Some(Act::Stop { worker })
    }

    /// A worker that is alive never heard that it has this one, nor of those behind it.
    fn give_back_some(&mut self, worker: u8, pick: u8) -> Option<Act> {
        let alive: Vec<usize> = (0..self.workers.len())
            .filter(|w| self.workers[*w])
            .collect();
        let worker = alive[of(worker, alive.len())?];
        let mut held: Vec<(Delivery, i64)> = self
            .ready
            .iter()
            .filter(|(_, r)| r.worker == Some(worker))
            .map(|(id, r)| (r.delivery, *id))
            .collect();
        held.sort_unstable();
        let first = of(pick, held.len())?;
        let (unheard, ids): (Vec<Delivery>, Vec<i64>) = held.split_off(first).into_iter().unzip();
        self.give_back(&ids);
        Some(Act::GiveBack { worker, unheard })
    }

    pub(super) fn ask(&mut self, task: usize, wish: Wish) -> Act {
        let count = self.blueprint.graph.len();
        let step = |pick: u8| (usize::from(pick) % count) as i32 + 1;
        let action = match wish {
            Wish::Cancel => Action::Cancel,
            Wish::Retry => Action::Retry,
            Wish::Reset(pick) => Action::Reset {
                step_no: step(pick),
            },
            Wish::Resolve(pick) => Action::Resolve {
                step_no: step(pick),
            },
            Wish::Complete(pick) => Action::Complete {
                step_no: step(pick),
            },
        };
        let id = self.send(task, Kind::Control, 0, 0);
        let control = Uuid::from_u128(id.unsigned_abs().into());
        self.results.get_mut(&id).unwrap().control = Some(control);
        self.wishes.insert(control, (task, action.clone()));
        Act::Ask {
            task,
            control,
            action,
        }
    }

    /// A message that was taken, or is still there, comes once more.
    fn copy(&mut self, pick: u8) -> Option<Act> {
        if self.copies.len() >= MOST_COPIES {
            return None;
        }
        let again = |m: &&Message| matches!(m.kind, Kind::Ended(_) | Kind::Due);
        let known: Vec<Message> = self
            .past
            .iter()
            .chain(self.results.values().filter(again))
            .cloned()
            .collect();
        let mut message = known[of(pick, known.len())?].clone();
        let key = self.key(&message);
        let copied = Act::Copy {
            message: key,
            tries: message.tries,
            lost: message.lost,
        };
        message.id = self.next_id();
        self.copies.insert(message.id);
        self.results.insert(message.id, message);
        Some(copied)
    }
}
