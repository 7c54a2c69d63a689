//! `tasker step …`.

use clap::{Args, Subcommand};
use reqwest::Method;
use tasker_shared::wire::{StepAuditResponse, StepManualAction, StepResponse};
use uuid::Uuid;

use super::task_show::{few, short};
use super::{print, print_body, print_line};
use crate::cli::Remote;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::palette::{Ink, Palette};
use crate::output::{look, table::Rows, time};

#[derive(Debug, Args)]
pub(crate) struct Step {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show a step and every attempt at it
    Show(Show),
    /// Put a failed step back, with all its attempts ahead of it
    Retry(Retry),
}

impl Step {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Show(command) => command.run().await,
            Command::Retry(command) => command.run().await,
        }
    }

    pub(crate) fn wants_json(&self) -> bool {
        match &self.command {
            Command::Show(command) => command.remote.json,
            Command::Retry(command) => command.remote.json,
        }
    }
}

/// Which step of which task.
#[derive(Debug, Args)]
struct Which {
    /// The task
    #[arg(value_name = "TASK")]
    task: Uuid,
    /// The step's name or uuid
    #[arg(value_name = "STEP")]
    step: String,
}

impl Which {
    /// The path of the step. A name is looked up.
    async fn path(&self, client: &Client) -> Result<String, Failure> {
        let steps = format!("/v1/tasks/{}/workflow_steps", self.task);
        if let Ok(uuid) = self.step.parse::<Uuid>() {
            return Ok(format!("{steps}/{uuid}"));
        }
        let found: Vec<StepResponse> = client.read(&steps).await?;
        if let Some(step) = found.iter().find(|step| step.name == self.step) {
            return Ok(format!("{steps}/{}", step.step_uuid));
        }
        let names: Vec<&str> = found
            .iter()
            .map(|step| step.name.as_str())
            .take(20)
            .collect();
        Err(Failure::Verdict(match names.is_empty() {
            true => format!("there is no task {}", self.task),
            false => format!(
                "the task has no step {:?}; it has {}",
                self.step,
                names.join(", ")
            ),
        }))
    }
}

#[derive(Debug, Args)]
struct Show {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    remote: Remote,
}

impl Show {
    async fn run(self) -> Result<(), Failure> {
        let client = self.remote.client()?;
        let path = self.which.path(&client).await?;
        let answer = client.get(&path, &[]).await?;
        if self.remote.json {
            return print_body(&answer.body);
        }
        let step: StepResponse = answer.read()?;
        let audit: Vec<StepAuditResponse> = client.read(&format!("{path}/audit")).await?;
        print(&head(&step, Palette::of_stdout()))?;
        match audit.is_empty() {
            true => Ok(()),
            false => print(&format!("\n{}", attempts(&audit))),
        }
    }
}

/// What the step is, a fact a line.
fn head(step: &StepResponse, palette: Palette) -> String {
    let look = look::of_step(&step.current_state);
    let mut text = format!(
        "{} {}  {}\n",
        palette.paint(look.ink, &look.sign.to_string()),
        palette.paint(Ink::Strong, &step.name),
        palette.paint(look.ink, &step.current_state),
    );
    let blocked = step.blocked_by.as_ref().map(|blocked| {
        let detail = serde_json::to_string(&blocked.detail).unwrap_or_default();
        let since = time::full(blocked.since);
        format!("{} {detail} since {since}", blocked.kind.as_str())
    });
    let facts = [
        ("step", Some(step.step_uuid.to_string())),
        ("task", Some(step.task_uuid.to_string())),
        ("handler", Some(step.handler.clone())),
        (
            "waits for",
            Some(few(&step.dependencies)).filter(|names| !names.is_empty()),
        ),
        (
            "attempts",
            Some(format!("{} of {}", step.attempts, step.max_attempts)),
        ),
        ("next attempt", step.next_retry_at.map(time::full)),
        ("not running", blocked),
        (
            "error",
            step.last_error.as_ref().map(|error| error.message.clone()),
        ),
        (
            "result",
            step.results.as_ref().map(|result| result.get().to_owned()),
        ),
    ];
    for (name, value) in facts {
        if let Some(value) = value {
            text.push_str(&format!("  {name:<12} {value}\n"));
        }
    }
    text
}

/// Every attempt, the newest first.
fn attempts(audit: &[StepAuditResponse]) -> String {
    let mut rows = Rows::under(&[">ATTEMPT", "ENDED", "OUTCOME", ">TOOK", "WORKER", "ERROR"]);
    for attempt in audit {
        let error = attempt.error.as_ref().map(|error| message_of(error.get()));
        rows.add(vec![
            attempt.attempt.to_string(),
            time::full(attempt.recorded_at),
            attempt.outcome.clone(),
            attempt
                .execution_time_ms
                .map(time::took)
                .unwrap_or_default(),
            attempt
                .worker_uuid
                .map(|worker| worker.to_string())
                .unwrap_or_default(),
            short(&error.unwrap_or_default(), 80),
        ]);
    }
    rows.text()
}

/// The message inside an error as a worker reports it.
fn message_of(error: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Told {
        message: String,
    }
    serde_json::from_str::<Told>(error).map_or_else(|_| error.to_owned(), |told| told.message)
}

#[derive(Debug, Args)]
struct Retry {
    #[command(flatten)]
    which: Which,
    /// Why; kept with the step
    #[arg(long, default_value = "retried on the command line")]
    reason: String,
    #[command(flatten)]
    remote: Remote,
}

impl Retry {
    async fn run(self) -> Result<(), Failure> {
        let client = self.remote.client()?;
        let path = self.which.path(&client).await?;
        let action = StepManualAction::ResetForRetry {
            reason: self.reason,
            reset_by: somebody(),
        };
        let answer = client.send_json(Method::PATCH, &path, &action).await?;
        if self.remote.json {
            return print_body(&answer.body);
        }
        let step: StepResponse = answer.read()?;
        print_line(&format!(
            "{}  {}  {}",
            step.step_uuid, step.name, step.current_state
        ))
    }
}

/// Who sits at this terminal.
pub(super) fn somebody() -> String {
    let names = ["SUDO_USER", "USER", "LOGNAME"].map(|key| std::env::var(key).ok());
    let name = names.into_iter().flatten().find(|name| !name.is_empty());
    name.unwrap_or_else(|| "unknown".to_owned())
}
