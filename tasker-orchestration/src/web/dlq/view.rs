//! Dead letters as they are shown: what is stored, with the names of steps that only the template has.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use tasker_shared::db::dead_letter_views::Entry;
use tasker_shared::plan::{Blueprint, Outcome};
use tasker_shared::state::step::StepState;
use tasker_shared::wire::{DlqEntry, DlqReason, DlqStep, RawJson, SummaryDlq};
use uuid::Uuid;

use super::super::App;
use super::super::error::ApiError;
use super::super::step_audit;
use super::super::view::step::raw;

/// Failed steps that an entry names in short.
const MOST_STEPS: usize = 20;
/// Characters of a message that is shown in short.
const MOST_CHARACTERS: usize = 500;

/// A snapshot as it is stored.
#[derive(Debug, Deserialize)]
struct Stored {
    task: RawJson,
    steps: Vec<StoredStep>,
}

#[derive(Debug, Deserialize)]
struct StoredStep {
    step_no: i32,
    state: i16,
    attempts: i32,
    lost_leases: i32,
    changed_at: RawJson,
    outcome: Option<i16>,
    worker: Option<Uuid>,
    finished_at: Option<RawJson>,
    error: Option<RawJson>,
}

/// A snapshot as it is shown.
#[derive(Debug, Serialize)]
struct Shown<'s> {
    task: &'s RawValue,
    steps: Vec<ShownStep<'s>>,
}

#[derive(Debug, Serialize)]
struct ShownStep<'s> {
    name: String,
    step_no: i32,
    state: &'static str,
    attempts: i32,
    lost_leases: i32,
    changed_at: &'s RawValue,
    outcome: Option<&'static str>,
    worker: Option<Uuid>,
    finished_at: Option<&'s RawValue>,
    error: Option<&'s RawValue>,
}

impl StoredStep {
    fn state(&self) -> Option<StepState> {
        StepState::from_i16(self.state)
    }

    fn outcome(&self) -> Option<&'static str> {
        let outcome = self.outcome.and_then(Outcome::from_i16)?;
        Some(step_audit::name(outcome))
    }

    fn name(&self, blueprint: Option<&Blueprint>) -> String {
        let name = blueprint.and_then(|blueprint| blueprint.step_name(self.step_no));
        name.map_or_else(
            || format!("step {}", self.step_no),
            |name| name.as_str().to_owned(),
        )
    }

    fn shown(&self, blueprint: Option<&Blueprint>) -> ShownStep<'_> {
        ShownStep {
            name: self.name(blueprint),
            step_no: self.step_no,
            state: self.state().map_or("unknown", StepState::as_str),
            attempts: self.attempts,
            lost_leases: self.lost_leases,
            changed_at: &self.changed_at,
            outcome: self.outcome(),
            worker: self.worker,
            finished_at: self.finished_at.as_deref(),
            error: self.error.as_deref(),
        }
    }

    fn in_short(&self, blueprint: Option<&Blueprint>) -> DlqStep {
        DlqStep {
            name: self.name(blueprint),
            attempts: self.attempts,
            lost_leases: self.lost_leases,
            outcome: self.outcome().map(str::to_owned),
            message: self.error.as_deref().map(message),
        }
    }
}

/// What an error says, as far as it can be read.
fn message(error: &RawValue) -> String {
    #[derive(Deserialize)]
    struct Told {
        message: Option<String>,
        /// The beginning of an error that was too long to be kept.
        shortened: Option<String>,
    }
    let told = serde_json::from_str::<Told>(error.get()).ok();
    let text = told.and_then(|told| told.message.or(told.shortened));
    let text = text.unwrap_or_else(|| error.get().to_owned());
    text.chars().take(MOST_CHARACTERS).collect()
}

impl App {
    /// Entries as they are shown.
    pub(super) async fn shown(&self, entries: Vec<Entry>) -> Result<Vec<DlqEntry>, ApiError> {
        let ids: Vec<i32> = entries.iter().map(|entry| entry.template_id).collect();
        let blueprints = self.blueprints.get(ids).await?;
        let shown = entries
            .into_iter()
            .map(|entry| show(blueprints.get(&entry.template_id), entry));
        shown.collect()
    }

    /// An entry as it is shown.
    pub(super) async fn shown_one(&self, entry: Entry) -> Result<DlqEntry, ApiError> {
        let id = entry.template_id;
        let blueprint = self.blueprints.get([id]).await?.remove(&id);
        show(blueprint.as_ref(), entry)
    }
}

fn show(blueprint: Option<&Arc<Blueprint>>, entry: Entry) -> Result<DlqEntry, ApiError> {
    let blueprint = blueprint.map(Arc::as_ref);
    let unreadable =
        |error: serde_json::Error| ApiError::internal("a dead letter cannot be read", &error);
    let stored: Stored = serde_json::from_str(&entry.snapshot).map_err(unreadable)?;
    let steps = stored.steps.iter();
    let failed = steps.filter(|step| step.state() == Some(StepState::Error));
    let failed_steps = failed.take(MOST_STEPS);
    let snapshot = Shown {
        task: &stored.task,
        steps: stored.steps.iter().map(|s| s.shown(blueprint)).collect(),
    };
    Ok(DlqEntry {
        dlq_entry_uuid: entry.entry,
        task_uuid: entry.task_uuid,
        original_state: entry.original_state.as_str().to_owned(),
        dlq_reason: entry.reason.into(),
        dlq_timestamp: entry.buried_at,
        resolution_status: entry.resolution.into(),
        resolution_timestamp: entry.resolved_at,
        resolution_notes: entry.notes,
        resolved_by: entry.resolved_by,
        task_snapshot: to_raw_value(&snapshot).map_err(unreadable)?,
        metadata: entry.metadata.and_then(raw),
        created_at: entry.buried_at,
        updated_at: entry.updated_at,
        reason: entry.reason.as_str().to_owned(),
        namespace: entry.namespace,
        task_name: entry.name,
        failed_steps: failed_steps.map(|s| s.in_short(blueprint)).collect(),
    })
}

/// What a task's summary says of its newest entry.
pub(in crate::web) fn in_summary(newest: Option<&Entry>) -> SummaryDlq {
    use tasker_shared::plan::dead_letter::Resolution;
    use tasker_shared::wire::DlqResolution;
    SummaryDlq {
        in_dlq: newest.is_some_and(|entry| entry.resolution == Resolution::Pending),
        dlq_reason: newest.map(|entry| DlqReason::from(entry.reason).as_snake().to_owned()),
        resolution_status: newest
            .map(|entry| DlqResolution::from(entry.resolution).as_snake().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_error_is_told_in_short_whatever_it_is() {
        let table = [
            (r#"{"message": "no", "retryable": false}"#, "no"),
            (
                r#"{"shortened": "{\"message\": \"lon"}"#,
                r#"{"message": "lon"#,
            ),
            (r#""a text""#, r#""a text""#),
            ("7", "7"),
        ];
        for (error, expected) in table {
            let error = RawValue::from_string(error.to_owned()).unwrap();
            assert_eq!(message(&error), expected);
        }
        let long = format!(r#"{{"message": "{}"}}"#, "ü".repeat(1_000));
        let long = RawValue::from_string(long).unwrap();
        assert_eq!(message(&long).chars().count(), MOST_CHARACTERS);
    }
}
