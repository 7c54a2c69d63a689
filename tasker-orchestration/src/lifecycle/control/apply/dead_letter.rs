//! What a change by hand means for the task's dead letter and for the limits of its life, in the same transaction.

use chrono::{DateTime, Utc};
use tasker_shared::db;
use tasker_shared::db::controls::Changed;
use tasker_shared::db::{Transaction, dead_letters, staleness};
use tasker_shared::plan::dead_letter::Resolution;
use tasker_shared::plan::{Blueprint, Message, stale};
use tasker_shared::state::task::TaskState;

use super::Action;

/// Resolves the entry that is pending of a task which goes on, or will never.
pub(super) async fn settle(
    transaction: &mut Transaction<'_>,
    message: &Message,
    action: &Action,
    became: Option<TaskState>,
) -> db::Result<()> {
    let resolution = match (action, became) {
        (_, Some(TaskState::Cancelled)) => Resolution::Cancelled,
        (Action::Retry { .. }, _) | (_, Some(_)) => Resolution::ManuallyResolved,
        // The task stays where it was: what is wrong with it is not mended.
        (_, None) => return Ok(()),
    };
    let (by, note) = said(action);
    dead_letters::resolve(transaction, message.task_uuid, resolution, by, note).await
}

/// Who acted, and why.
fn said(action: &Action) -> (Option<&str>, Option<&str>) {
    match action {
        Action::Cancel => (None, Some("the task was cancelled")),
        Action::Retry { by, note, .. } => (by.as_deref(), note.as_deref()),
        Action::ResetStep { reason, by, .. }
        | Action::ResolveStep { reason, by, .. }
        | Action::CompleteStep { reason, by, .. } => (Some(by), Some(reason)),
    }
}

/// A task that runs again has its whole time again.
pub(super) async fn begin_anew(
    transaction: &mut Transaction<'_>,
    message: &Message,
    blueprint: &Blueprint,
    changed: &Changed,
) -> db::Result<()> {
    if changed.task.map(|t| t.state) != Some(TaskState::StepsInProcess) {
        return Ok(());
    }
    let start: DateTime<Utc> = DateTime::UNIX_EPOCH;
    let Some(look_at) = stale::first_look(&blueprint.template.lifecycle, start) else {
        return Ok(());
    };
    let after_seconds = (look_at - start).num_seconds();
    let (task, template) = (message.task_uuid, blueprint.template_id);
    staleness::begin(transaction, task, template, after_seconds).await
}
