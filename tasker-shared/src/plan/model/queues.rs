//! The statements that touch one delivery at a time: claiming, handing in, rescue, what is due, what nobody runs.

use super::super::{Kind, Outcome};
use super::Delivery;
use super::world::{Broken, World};

impl World {
    /// Writes an attempt, of which there can be one only.
    pub(super) fn attempted(&mut self, delivery: Delivery, outcome: Outcome) -> Result<(), String> {
        match self.attempts.insert(delivery, outcome) {
            None => Ok(()),
            Some(first) => Err(format!(
                "{delivery:?} ended twice: {first:?} and {outcome:?}"
            )),
        }
    }

    /// `claim_steps`.
    pub(super) fn claim(&mut self, worker: usize, id: i64) {
        let row = self.ready.get_mut(&id).unwrap();
        row.worker = Some(worker);
        self.claimed.push((id, worker, row.delivery));
    }

    /// `submit_results`.
    pub(super) fn submit(
        &mut self,
        id: i64,
        worker: usize,
        delivery: Delivery,
        outcome: Outcome,
    ) -> Result<(), String> {
        let ours = self.ready.get(&id);
        let Some(row) = ours
            .filter(|r| r.worker == Some(worker) && r.delivery == delivery)
            .cloned()
        else {
            return Ok(());
        };
        if !self.breaks(Broken::Submitted) {
            self.ready.remove(&id);
        }
        self.attempted(delivery, outcome)?;
        self.send_of(&row, Kind::Ended(outcome), 0);
        Ok(())
    }

    /// `rescue_steps`.
    pub(super) fn rescue(&mut self) {
        let stopped = |worker: Option<usize>, workers: &[bool]| worker.is_some_and(|w| !workers[w]);
        let lost: Vec<i64> = self
            .ready
            .iter()
            .filter(|(_, r)| stopped(r.worker, &self.workers))
            .map(|(id, _)| *id)
            .collect();
        for id in lost {
            let row = self.ready[&id].clone();
            if !self.breaks(Broken::Rescued) {
                self.ready.remove(&id);
            } else if let Some(row) = self.ready.get_mut(&id) {
                row.worker = Some(0);
            }
            self.attempts.entry(row.delivery).or_insert(Outcome::Lost);
            self.send_of(&row, Kind::Ended(Outcome::Lost), 0);
        }
    }

    /// `give_back_unheard`, where the worker knows of everything else that it has.
    pub(super) fn give_back(&mut self, unheard: &[i64]) {
        for id in unheard {
            if let Some(row) = self.ready.remove(id) {
                let released = self.attempts.entry(row.delivery);
                released.or_insert(Outcome::Released);
                self.send_of(&row, Kind::Ended(Outcome::Released), 0);
            }
        }
    }

    /// `promote_delayed`.
    pub(super) fn promote(&mut self, id: i64) {
        let row = self.delayed.remove(&id).unwrap();
        match row.delivery.step_no {
            0 => self.send(row.delivery.task, Kind::SpreadWell, 0, 0),
            _ => self.send_of(&row, Kind::Due, 0),
        };
    }

    /// `fail_unroutable_steps`.
    pub(super) fn unroute(&mut self) -> Result<(), String> {
        let waiting: Vec<i64> = self
            .ready
            .iter()
            .filter(|(_, r)| r.worker.is_none())
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            let row = self.ready.remove(&id).unwrap();
            self.attempted(row.delivery, Outcome::Unroutable)?;
            self.send_of(&row, Kind::Ended(Outcome::Unroutable), 0);
        }
        Ok(())
    }
}
