//! The applying side of controls: the owner of a task's shard changes it as was asked, in one transaction, and
//! tells of it when that is committed.

use std::time::{Duration, SystemTime};

use sqlx::PgConnection;
use tasker_shared::db;
use tasker_shared::db::Transaction;
use tasker_shared::db::controls::{self, Changed};
use tasker_shared::db::dead_letters;
use tasker_shared::metrics::orchestration::{self as metrics, TaskEnd};
use tasker_shared::plan::intervene::{self, Refused};
use tasker_shared::plan::{Message, Route};
use tasker_shared::state::step::StepState;
use tasker_shared::stats;
use tasker_shared::telemetry::spans::{self, Cause, Step, Task, Time};
use uuid::Uuid;

use super::Action;

mod dead_letter;

/// Why a dead letter is not requeued.
const RESOLVED: &str = "the entry has been resolved since; look at the task's newest one";

/// What became of a control's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// Applied, refused, or somebody else's.
    Done,
    /// The task's counts are not settled yet; the message stays for the next pass.
    Deferred,
}

/// Applies a control's message for `server`, in one transaction.
pub async fn apply(
    connection: &mut PgConnection,
    server: Uuid,
    message: &Message,
    route: &Route,
) -> db::Result<Applied> {
    let Some(control) = message.control else {
        return Ok(Applied::Done);
    };
    let mut transaction = Transaction::begin(connection, "apply_control").await?;
    if controls::is_spreading(&mut transaction, message).await? {
        transaction.rollback().await?;
        return Ok(Applied::Deferred);
    }
    if !controls::take(&mut transaction, server, message).await? {
        transaction.rollback().await?;
        return Ok(Applied::Done);
    }
    let mut done = None;
    if let Some(action) = controls::find_action(&mut transaction, control).await? {
        let changed = change(&mut transaction, message, route, &action).await?;
        let refused = changed.as_ref().err();
        let answer = serde_json::json!({ "refused": refused }).to_string();
        let waited = controls::answer(&mut transaction, control, &answer).await?;
        done = changed.ok().map(|changed| (changed, waited));
    }
    transaction.commit().await?;
    if let Some((changed, waited)) = done {
        record(message, route, &changed, waited);
    }
    Ok(Applied::Done)
}

/// Records what was changed, `waited` after it was asked for.
fn record(message: &Message, route: &Route, changed: &Changed, waited: Duration) {
    let blueprint = &route.blueprint;
    for step in &changed.enqueued {
        if let Some(name) = blueprint.step_name(step.step_no) {
            metrics::step_enqueued(message.into(), blueprint.namespace, name);
        }
    }
    if let Some(change) = &changed.task {
        let end = TaskEnd {
            namespace: blueprint.namespace,
            task_type: blueprint.task_type,
            state: change.state,
            finalization: waited,
            whole: change.age,
        };
        metrics::task_ended(message.into(), &end);
        stats::task_ended(message.template_id, change.state, change.age);
    }
    if spans::wanted(message.traced) {
        tell(message, route, changed, waited);
    }
}

/// The spans of what was changed.
fn tell(message: &Message, route: &Route, changed: &Changed, waited: Duration) {
    let blueprint = &route.blueprint;
    let task = Task {
        uuid: message.task_uuid,
        correlation_id: message.correlation_id,
        namespace: blueprint.namespace,
        name: blueprint.task_type,
    };
    let now = SystemTime::now();
    let time = Time::new(now.checked_sub(waited).unwrap_or(now), now);
    for enqueued in &changed.enqueued {
        if let Some(name) = blueprint.step_name(enqueued.step_no) {
            let step = Step {
                number: enqueued.step_no,
                name,
                attempt: enqueued.attempt,
            };
            spans::step_enqueued(&task, &step, Cause::Request, time);
        }
    }
    if let Some(change) = changed.task.filter(|change| change.state.is_final()) {
        spans::task_finalized(&task, None, change.state.as_str(), time, None);
    }
}

/// Changes the task; says why not, where it is refused.
async fn change(
    transaction: &mut Transaction<'_>,
    message: &Message,
    route: &Route,
    action: &str,
) -> db::Result<Result<Changed, String>> {
    let action: Action = match serde_json::from_str(action) {
        Ok(action) => action,
        Err(error) => {
            return Ok(Err(format!(
                "this server does not understand the action: {error}"
            )));
        }
    };
    let snapshot = controls::lock(transaction, message.task_uuid, &route.blueprint).await?;
    if let Action::Retry {
        entry: Some(entry), ..
    } = action
        && dead_letters::lock_pending(transaction, message.task_uuid).await? != Some(entry)
    {
        return Ok(Err(RESOLVED.to_owned()));
    }
    let plan = match intervene::plan(&snapshot, &route.blueprint, &planned(&action)) {
        Ok(plan) => plan,
        Err(refused) => return Ok(Err(explain(&refused))),
    };
    if let Some((step_no, result, note)) = manual_attempt(&action) {
        controls::insert_manual_attempt(transaction, message.task_uuid, step_no, result, &note)
            .await?;
    }
    let changed = controls::intervene(transaction, message, &snapshot, &plan, route).await?;
    dead_letter::settle(transaction, message, &action, changed.task.map(|t| t.state)).await?;
    dead_letter::begin_anew(transaction, message, &route.blueprint, &changed).await?;
    tracing::info!(task_uuid = %message.task_uuid, action = name(&action), steps = plan.steps.len(), "task changed by hand");
    Ok(Ok(changed))
}

fn explain(refused: &Refused) -> String {
    match refused {
        Refused::Step { source, .. } if source.state == StepState::Enqueued.as_str() => {
            format!(
                "{refused}: a worker may be running it; cancel the task or wait for the attempt to end"
            )
        }
        _ => refused.to_string(),
    }
}

fn planned(action: &Action) -> intervene::Action {
    match action {
        Action::Cancel => intervene::Action::Cancel,
        Action::Retry { .. } => intervene::Action::Retry,
        Action::ResetStep { step_no, .. } => intervene::Action::Reset { step_no: *step_no },
        Action::ResolveStep { step_no, .. } => intervene::Action::Resolve { step_no: *step_no },
        Action::CompleteStep { step_no, .. } => intervene::Action::Complete { step_no: *step_no },
    }
}

/// The attempt that is written for a step that a person ended: its result and who, why.
fn manual_attempt(action: &Action) -> Option<(i32, &str, String)> {
    let note = |kind: &str, reason: &str, by: &str, metadata: &Option<String>| {
        let metadata = metadata
            .as_ref()
            .and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
        serde_json::json!({"manual": kind, "reason": reason, "by": by, "metadata": metadata})
            .to_string()
    };
    match action {
        Action::CompleteStep {
            step_no,
            result,
            metadata,
            reason,
            by,
        } => Some((*step_no, result, note("completed", reason, by, metadata))),
        Action::ResolveStep {
            step_no,
            reason,
            by,
        } => Some((*step_no, "null", note("resolved", reason, by, &None))),
        Action::Cancel | Action::Retry { .. } | Action::ResetStep { .. } => None,
    }
}

fn name(action: &Action) -> &'static str {
    match action {
        Action::Cancel => "cancel",
        Action::Retry { .. } => "retry",
        Action::ResetStep { .. } => "reset_step",
        Action::ResolveStep { .. } => "resolve_step",
        Action::CompleteStep { .. } => "complete_step",
    }
}
