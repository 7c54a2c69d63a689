//! A task's progress as server-sent events, until the task is final.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use chrono::{DateTime, Utc};
use futures::{Stream, stream};
use tasker_shared::state::step::StepState;
use tasker_shared::wire::{BlockedKind, ErrorResponse, TaskProgress};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use uuid::Uuid;

use super::App;
use super::error::ApiError;
use super::extract::TaskPath;
use super::view::step::StepView;
use super::view::{Results, TaskView};

/// How long to wait between two looks: while things change, and while nothing does.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// A look that takes long is waited for longer: so many times what it took.
const WAIT_FOR_LOOK: u32 = 10;

/// Follows a task. Events are named `progress`, and `end` when the task is final; the data of each is a
/// `TaskProgress`. The first and the last have every step, the others those that changed.
#[utoipa::path(
    get, operation_id = "follow_task", path = "/v1/tasks/{task_uuid}/events", tag = "tasks",
    params(("task_uuid" = uuid::Uuid, Path)),
    responses(
        (status = 200, body = TaskProgress, content_type = "text/event-stream"),
        (status = 404, body = ErrorResponse, description = "No such task"),
        (status = 503, body = ErrorResponse, description = "Too many streams"),
    )
)]
pub(super) async fn events(
    State(app): State<App>,
    TaskPath(task_uuid): TaskPath,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let permit = app.streams.clone().try_acquire_owned();
    let permit = permit.map_err(|_| {
        ApiError::busy("too many tasks are being followed; try again", LONGEST_WAIT)
    })?;
    let view = app.task_view(task_uuid, Results::Without).await?;
    let follower = Follower {
        app,
        task_uuid,
        seen: Seen::default(),
        look: Some(view),
        wait: SHORTEST_WAIT,
        sent: 0,
        ended: false,
        _permit: permit,
    };
    let events = stream::unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok(event), follower))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

/// Somebody who follows a task.
struct Follower {
    app: App,
    task_uuid: Uuid,
    seen: Seen,
    /// A look that was not told yet.
    look: Option<TaskView>,
    wait: Duration,
    sent: u64,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

impl Follower {
    /// The next event; `None` where there is none any more.
    async fn next(&mut self) -> Option<Event> {
        while !self.ended {
            let view = match self.look.take() {
                Some(view) => view,
                None => self.look_again().await?,
            };
            let Some(progress) = self.seen.changes(&view) else {
                self.wait = (self.wait * 2).min(LONGEST_WAIT);
                continue;
            };
            self.wait = SHORTEST_WAIT;
            self.ended = progress.is_final;
            self.sent += 1;
            let name = if self.ended { "end" } else { "progress" };
            let event = Event::default().event(name).id(self.sent.to_string());
            return event.json_data(progress).ok();
        }
        None
    }

    /// Waits and looks, again where the database is away; `None` where the server stops or the task is gone.
    async fn look_again(&mut self) -> Option<TaskView> {
        loop {
            tokio::select! {
                () = self.app.closing.cancelled() => return None,
                () = tokio::time::sleep(self.wait) => {}
            }
            let began = Instant::now();
            match self.app.task_view(self.task_uuid, Results::Without).await {
                Ok(view) => {
                    self.wait = self.wait.max(began.elapsed() * WAIT_FOR_LOOK);
                    return Some(view);
                }
                Err(error) if error.status().is_server_error() => self.wait = LONGEST_WAIT,
                Err(_) => return None,
            }
        }
    }
}

/// What of a step makes an event when it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    state: StepState,
    attempts: i32,
    updated_at: DateTime<Utc>,
    next_retry_at: Option<DateTime<Utc>>,
    blocked: Option<BlockedKind>,
}

/// What was told last.
#[derive(Debug, Default)]
struct Seen {
    status: Option<String>,
    steps: HashMap<i32, Mark>,
}

impl Seen {
    /// What there is to tell of `view`.
    fn changes(&mut self, view: &TaskView) -> Option<TaskProgress> {
        let mut progress = view.progress();
        let is_first = self.status.is_none();
        let mut changed = self.status.as_ref() != Some(&progress.status);
        let is_whole = is_first || progress.is_final;
        for step in &view.steps {
            let mark = mark(step);
            let is_new = self.steps.insert(step.number, mark) != Some(mark);
            changed |= is_new;
            if is_new || is_whole {
                progress.steps.push(step.progress());
            }
        }
        self.status = Some(progress.status.clone());
        (changed || progress.is_final).then_some(progress)
    }
}

fn mark(step: &StepView) -> Mark {
    Mark {
        state: step.state,
        attempts: step.attempts,
        updated_at: step.updated_at,
        next_retry_at: step.next_retry_at,
        blocked: step.blocked_by.as_ref().map(|blocked| blocked.kind),
    }
}
