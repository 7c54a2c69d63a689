//! Controls: what a person asks of a task, from the asking (any server) to the applying (the owner of the
//! task's shard) and back to the answer.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tasker_shared::db;
use tasker_shared::db::controls;
use tasker_shared::db::pool::Pool;
use tasker_shared::db::wake::{Topic, Wakes};
use tasker_shared::document::Document;
use uuid::Uuid;

mod apply;

pub use apply::{Applied, apply};

/// What is asked of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    Cancel,
    Retry {
        #[serde(default)]
        by: Option<String>,
        #[serde(default)]
        note: Option<String>,
        /// The dead letter that this is about: it must be pending still.
        #[serde(default)]
        entry: Option<Uuid>,
    },
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
    pool: Pool,
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
    pub fn new(pool: Pool, wakes: Wakes, timeout: Duration, max_result_bytes: usize) -> Controls {
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
