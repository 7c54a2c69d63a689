//! What the tables say, in PostgreSQL and in the model, as lines that can be compared.

use std::collections::HashSet;

use super::*;
use crate::state::step::StepState;

impl Beside<'_> {
    /// What one says and the other does not.
    pub(super) async fn compare(&mut self, model: &model::World) -> Result<(), String> {
        self.world.assert_counted().await;
        let stored = self.stored().await;
        let modelled = modelled(model);
        if stored == modelled {
            return Ok(());
        }
        let only = |these: &[String], others: &[String]| -> Vec<String> {
            let others: HashSet<&String> = others.iter().collect();
            these
                .iter()
                .filter(|l| !others.contains(l))
                .cloned()
                .collect()
        };
        Err(format!(
            "PostgreSQL says {:#?}, the model {:#?}",
            only(&stored, &modelled),
            only(&modelled, &stored)
        ))
    }

    /// All tables, a line a row, sorted.
    async fn stored(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        for sql in [
            "SELECT task_uuid, format('task: %s %s', state, EXISTS (SELECT 1 FROM tasker.dead_letters d WHERE d.task_uuid = t.task_uuid AND d.resolution = 0))
               FROM tasker.tasks t",
            "SELECT task_uuid, format('step %s: %s %s %s %s %s %s %s', step_no, state, waiting_on, failed, attempt, tries, lost,
                        state = 1 AND EXISTS (SELECT 1 FROM tasker.ready r WHERE r.lane = s.lane AND r.id = s.message_id))
               FROM tasker.steps s",
            "SELECT task_uuid, format('delayed: %s %s %s %s', step_no, attempt, tries, lost) FROM tasker.delayed",
            "SELECT task_uuid, format('result: %s %s %s %s %s %s %s', kind, step_no, attempt, tries, lost, progress, control) FROM tasker.results",
            "SELECT task_uuid, format('attempt: %s %s %s', step_no, attempt, outcome) FROM tasker.attempts",
        ] {
            let rows = sqlx::query_as(sql).fetch_all(&self.world.pool);
            let rows: Vec<(Uuid, String)> = rows.await.unwrap();
            lines.extend(rows.into_iter().map(|(task, line)| format!("{} {line}", self.number(task))));
        }
        let sql = "SELECT task_uuid, step_no, attempt, tries, lost, worker FROM tasker.ready";
        let rows = sqlx::query_as(sql).fetch_all(&self.world.pool);
        let rows: Vec<(Uuid, i32, i32, i32, i32, Option<Uuid>)> = rows.await.unwrap();
        for (task, step_no, attempt, tries, lost, worker) in rows {
            let worker = worker.map(|w| self.workers.iter().position(|known| *known == w).unwrap());
            let task = self.number(task);
            lines.push(format!(
                "{task} ready: {step_no} {attempt} {tries} {lost} {worker:?}"
            ));
        }
        lines.sort_unstable();
        lines
    }
}

fn flag(is: bool) -> &'static str {
    if is { "t" } else { "f" }
}

/// The same of the model.
fn modelled(world: &model::World) -> Vec<String> {
    let mut lines = Vec::new();
    for (number, task) in world.tasks.iter().enumerate() {
        lines.push(format!(
            "{number} task: {} {}",
            task.state as i16,
            flag(task.buried)
        ));
        for (step_no, s) in world.blueprint.graph.rows().zip(&task.steps) {
            let queued = s.state == StepState::Enqueued
                && s.message.is_some_and(|id| world.ready.contains_key(&id));
            lines.push(format!(
                "{number} step {step_no}: {} {} {} {} {} {} {}",
                s.state as i16,
                s.waiting_on,
                s.failed,
                s.attempt,
                s.tries,
                s.lost,
                flag(queued)
            ));
        }
    }
    let of = |d: &Delivery| format!("{} {}", d.step_no, d.attempt);
    for r in world.ready.values() {
        lines.push(format!(
            "{} ready: {} {} {} {:?}",
            r.delivery.task,
            of(&r.delivery),
            r.tries,
            r.lost,
            r.worker
        ));
    }
    for d in world.delayed.values() {
        lines.push(format!(
            "{} delayed: {} {} {}",
            d.delivery.task,
            of(&d.delivery),
            d.tries,
            d.lost
        ));
    }
    for m in world.results.values() {
        let key = world.key(m);
        let control = key.control.map(|c| c.to_string()).unwrap_or_default();
        lines.push(format!(
            "{} result: {} {} {} {} {} {} {control}",
            key.task, key.kind, m.step_no, m.attempt, m.tries, m.lost, m.progress
        ));
    }
    for (delivery, outcome) in &world.attempts {
        lines.push(format!(
            "{} attempt: {} {}",
            delivery.task,
            of(delivery),
            *outcome as i16
        ));
    }
    lines.sort_unstable();
    lines
}
