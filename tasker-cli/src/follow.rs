//! Following a task until it is final: a [`Picture`] of its graph, kept up to date by the server's event
//! stream, and by asking again where the stream breaks. Showing it is [`show`]'s.

mod live;
mod picture;
pub(crate) mod show;

use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::client::{Client, Events};
use crate::failure::Failure;

pub(crate) use picture::{Change, Picture, Step};

/// How long a server that does not answer is waited for: it may be restarting.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two attempts to reach it.
const PAUSE: Duration = Duration::from_millis(500);

/// A task being followed.
#[derive(Debug)]
pub(crate) struct Follow {
    client: Client,
    picture: Picture,
    events: Option<Events>,
}

impl Follow {
    /// Begins with the task as it is now.
    pub(crate) async fn start(client: Client, task: Uuid) -> Result<Follow, Failure> {
        let picture = Picture::of(&client.read(&summary_of(task)).await?);
        Ok(Follow {
            client,
            picture,
            events: None,
        })
    }

    /// The task as it was seen last.
    pub(crate) fn picture(&self) -> &Picture {
        &self.picture
    }

    /// Waits until something has changed and says what. Empty once the task is final, or stuck behind
    /// failures until somebody acts.
    pub(crate) async fn next(&mut self) -> Result<Vec<Change>, Failure> {
        while !self.picture.has_settled() {
            let changes = match self.event().await {
                Some(progress) => self.picture.advance(&progress),
                None => self.ask_again().await?,
            };
            if !changes.is_empty() {
                return Ok(changes);
            }
        }
        Ok(Vec::new())
    }

    async fn event(&mut self) -> Option<tasker_shared::wire::TaskProgress> {
        if self.events.is_none() {
            self.events = self.client.events(self.picture.task_uuid).await.ok();
        }
        let event = self.events.as_mut()?.next().await;
        if event.is_none() {
            self.events = None;
        }
        event
    }

    /// Asks for the whole task, and goes on asking while there is no answer.
    async fn ask_again(&mut self) -> Result<Vec<Change>, Failure> {
        let since = Instant::now();
        loop {
            tokio::time::sleep(PAUSE).await;
            match self.client.read(&summary_of(self.picture.task_uuid)).await {
                Ok(summary) => return Ok(self.picture.replace(Picture::of(&summary))),
                Err(failure) if may_pass(&failure) && since.elapsed() < PATIENCE => {}
                Err(failure) => return Err(failure),
            }
        }
    }
}

fn may_pass(failure: &Failure) -> bool {
    match failure {
        Failure::Unreachable { .. } => true,
        Failure::Refused { status, .. } => status.is_server_error(),
        _ => false,
    }
}

fn summary_of(task: Uuid) -> String {
    format!("/v1/tasks/{task}/summary")
}
