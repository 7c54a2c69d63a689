//! Controls: what a person asks of a task, from the asking (any server) to the applying (the owner of the
//! task's shard) and back to the answer.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sqlx::{Connection, PgConnection, PgPool};
use tasker_shared::db::controls;
use tasker_shared::db::wake::{Topic, Wakes};
use tasker_shared::document::Document;
use tasker_shared::plan::intervene::{self, Refused};
use tasker_shared::plan::{Message, Route};
use tasker_shared::{db, state::step::StepState};
use uuid::Uuid;

/// What is asked of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    Cancel,
    Retry,
    ResetStep {
        step_no: i32,
        reason: String,
        by: String,
    },
    ResolveStep {
        step_no: i32,
        reason: String,
        by: String,
    },
    CompleteStep {
        step_no: i32,
        /// JSON text.
        result: String,
        /// JSON text.
        metadata: Option<String>,
        reason: String,
        by: String,
    },
}

/// Why what was asked did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no such task")]
    NotFound,
    #[error("{0}")]
    NotAllowed(String),
    #[error("{pointer}: {message}")]
    Invalid { pointer: String, message: String },
    #[error("no server has taken it up yet; it stays asked and will be done when one does")]
    TimedOut,
    #[error("the database is not available")]
    Unavailable(#[source] db::Error),
    #[error("the database failed")]
    Database(#[source] db::Error),
}

impl From<db::Error> for Error {
    fn from(error: db::Error) -> Error {
        if error.is_unavailable() {
            Error::Unavailable(error)
        } else {
            Error::Database(error)
        }
    }
}

/// The asking side. Clones share it.
#[derive(Debug, Clone)]
pub struct Controls {
    pool: PgPool,
    wakes: Wakes,
    timeout: Duration,
    max_result_bytes: usize,
}

/// The answer that the applying side leaves.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    /// Why it was refused; absent where it was done.
    refused: Option<String>,
}

impl Controls {
    /// Waits up to `timeout` for answers.
    pub fn new(pool: PgPool, wakes: Wakes, timeout: Duration, max_result_bytes: usize) -> Controls {
        Controls {
            pool,
            wakes,
            timeout,
            max_result_bytes,
        }
    }

    /// Asks, and returns when it has been applied or refused.
    pub async fn apply(&self, task_uuid: Uuid, action: Action) -> Result<(), Error> {
        self.check(&action)?;
        let control = Uuid::now_v7();
        let text = serde_json::to_string(&action).map_err(|error| Error::Invalid {
            pointer: String::new(),
            message: error.to_string(),
        })?;
        if !controls::ask(&self.pool, control, task_uuid, &text).await? {
            return Err(Error::NotFound);
        }
        let until = Instant::now() + self.timeout;
        let mut patience = Duration::from_millis(5);
        loop {
            if let Some(answer) = controls::find_answer(&self.pool, control).await? {
                return read_answer(&answer);
            }
            if Instant::now() >= until {
                return Err(Error::TimedOut);
            }
            self.wakes.wait(Topic::Controls, patience).await;
            patience = (patience * 2).min(Duration::from_millis(200));
        }
    }

    fn check(&self, action: &Action) -> Result<(), Error> {
        let Action::CompleteStep {
            result, metadata, ..
        } = action
        else {
            return Ok(());
        };
        let check = |text: &str, pointer: &str| {
            Document::parse(text, self.max_result_bytes, "limits.max_result_bytes")
                .map(drop)
                .map_err(|error| Error::Invalid {
                    pointer: format!("{pointer}{}", error.pointer()),
                    message: error.to_string(),
                })
        };
        check(result, "/completion_data/result")?;
        metadata
            .as_ref()
            .map_or(Ok(()), |text| check(text, "/completion_data/metadata"))
    }
}

fn read_answer(text: &str) -> Result<(), Error> {
    match serde_json::from_str::<Answer>(text) {
        Ok(Answer { refused: None }) => Ok(()),
        Ok(Answer { refused: Some(why) }) => Err(Error::NotAllowed(why)),
        Err(error) => Err(Error::NotAllowed(error.to_string())),
    }
}

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
    let failed = |source| db::Error::new("apply_control", source);
    let Some(control) = message.control else {
        return Ok(Applied::Done);
    };
    let mut transaction = connection.begin().await.map_err(failed)?;
    if controls::is_spreading(&mut transaction, message).await? {
        transaction.rollback().await.map_err(failed)?;
        return Ok(Applied::Deferred);
    }
    if !controls::take(&mut transaction, server, message).await? {
        transaction.rollback().await.map_err(failed)?;
        return Ok(Applied::Done);
    }
    if let Some(action) = controls::find_action(&mut transaction, control).await? {
        let refused = change(&mut transaction, message, route, &action).await?;
        let answer = serde_json::json!({ "refused": refused }).to_string();
        controls::answer(&mut transaction, control, &answer).await?;
    }
    transaction.commit().await.map_err(failed)?;
    Ok(Applied::Done)
}

/// Changes the task; returns why it was refused, where it was.
async fn change(
    connection: &mut PgConnection,
    message: &Message,
    route: &Route,
    action: &str,
) -> db::Result<Option<String>> {
    let action: Action = match serde_json::from_str(action) {
        Ok(action) => action,
        Err(error) => {
            return Ok(Some(format!(
                "this server does not understand the action: {error}"
            )));
        }
    };
    let snapshot = controls::lock(connection, message.task_uuid).await?;
    let plan = match intervene::plan(&snapshot, &route.blueprint, &planned(&action)) {
        Ok(plan) => plan,
        Err(refused) => return Ok(Some(explain(&refused))),
    };
    if let Some((step_no, result, note)) = manual_attempt(&action) {
        controls::insert_manual_attempt(connection, message.task_uuid, step_no, result, &note)
            .await?;
    }
    controls::intervene(connection, message.task_uuid, &snapshot, &plan, route).await?;
    tracing::info!(task_uuid = %message.task_uuid, action = name(&action), steps = plan.steps.len(), "task changed by hand");
    Ok(None)
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
        Action::Retry => intervene::Action::Retry,
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
        Action::Cancel | Action::Retry | Action::ResetStep { .. } => None,
    }
}

fn name(action: &Action) -> &'static str {
    match action {
        Action::Cancel => "cancel",
        Action::Retry => "retry",
        Action::ResetStep { .. } => "reset_step",
        Action::ResolveStep { .. } => "resolve_step",
        Action::CompleteStep { .. } => "complete_step",
    }
}
