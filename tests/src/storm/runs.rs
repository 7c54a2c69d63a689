//! What handlers write down of their runs, so that whoever audits need not believe the database: a line for each,
//! `task step span`. The span's id tells the delivery, since it is made of task, step and attempt.

use std::collections::HashMap;
use std::path::Path;

use tasker_shared::ids::split_step_uuid;
use tasker_shared::telemetry::trace::{Kind, SpanId, TraceContext, span_id};
use uuid::Uuid;

/// The line of a run of a step at its place in the trace.
#[must_use]
pub fn line(step_uuid: Uuid, place: &TraceContext) -> String {
    let (task, step_no) = split_step_uuid(step_uuid);
    format!("{task} {step_no} {:016x}\n", number(place.span_id))
}

fn number(span: SpanId) -> u64 {
    u64::from_be_bytes(span.to_bytes())
}

/// How often each delivery ran.
#[derive(Debug, Default)]
pub(super) struct Runs(HashMap<(Uuid, i32, u64), usize>);

impl Runs {
    /// All that all files of the directory say.
    ///
    /// # Panics
    /// Where a line is none.
    pub(super) fn read(directory: &Path) -> Runs {
        let mut runs = Runs::default();
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            for line in text.lines() {
                let key = read(line).unwrap_or_else(|| panic!("{}: {line}", path.display()));
                *runs.0.entry(key).or_default() += 1;
            }
        }
        runs
    }

    /// Takes out how often a delivery ran.
    pub(super) fn take(&mut self, task: Uuid, step_no: i32, attempt: i32) -> usize {
        let span = span_id(Kind::StepExecute, task, step_no, attempt);
        let key = (task, step_no, number(span));
        self.0.remove(&key).unwrap_or_default()
    }

    pub(super) fn count(&self) -> usize {
        self.0.values().sum()
    }

    /// The steps whose runs are still here, each once a delivery.
    pub(super) fn steps(&self) -> impl Iterator<Item = (Uuid, i32)> {
        self.0.keys().map(|(task, step_no, _)| (*task, *step_no))
    }
}

fn read(line: &str) -> Option<(Uuid, i32, u64)> {
    let mut words = line.split(' ');
    let task = words.next()?.parse().ok()?;
    let step_no = words.next()?.parse().ok()?;
    let span = u64::from_str_radix(words.next()?, 16).ok()?;
    words.next().is_none().then_some((task, step_no, span))
}

#[cfg(test)]
mod tests {
    use tasker_shared::ids::step_uuid;

    use super::*;

    #[test]
    fn a_run_is_found_by_its_delivery_and_by_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let task = tasker_shared::ids::new_task_uuid(chrono::Utc::now());
        let place = TraceContext::of_step(Uuid::now_v7(), task, 3, 2, true);
        let text = line(step_uuid(task, 3), &place);
        std::fs::write(directory.path().join("1.runs"), text.repeat(2)).unwrap();
        let mut runs = Runs::read(directory.path());
        assert_eq!(runs.count(), 2);
        assert_eq!(runs.take(task, 3, 1), 0);
        assert_eq!(runs.take(task, 3, 2), 2);
        assert_eq!(runs.count(), 0);
    }
}
