//! `tasker task …`: which of its commands, and what several of them share.

use clap::{Args, Subcommand, ValueEnum};
use tasker_shared::wire::TaskResponse;
use uuid::Uuid;

use super::{print, print_body, print_line, task_control, task_list, task_show, task_submit};
use crate::cli::Remote;
use crate::client::Client;
use crate::failure::Failure;
use crate::follow::show::{self, Manner};
use crate::follow::{Follow, Picture};
use crate::output::palette::Palette;
use crate::output::terminal;

#[derive(Debug, Args)]
pub(crate) struct Task {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ask for a task to be run
    Submit(task_submit::Submit),
    /// List tasks, the newest first
    List(task_list::List),
    /// Show a task and its steps
    Show(task_show::Show),
    /// Watch a task until it is final
    Watch(Watch),
    /// Draw a task's graph with the states of its steps
    Graph(Graph),
    /// Cancel a task; handlers that run are told
    Cancel(task_control::Cancel),
    /// Put every failed step of a task back and let it go on
    Retry(task_control::Retry),
}

impl Task {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Submit(command) => command.run().await,
            Command::List(command) => command.run().await,
            Command::Show(command) => command.run().await,
            Command::Watch(command) => command.run().await,
            Command::Graph(command) => command.run().await,
            Command::Cancel(command) => command.run().await,
            Command::Retry(command) => command.run().await,
        }
    }

    pub(crate) fn wants_json(&self) -> bool {
        match &self.command {
            Command::Submit(command) => command.remote.json,
            Command::List(command) => command.remote.json,
            Command::Show(command) => command.remote.json,
            Command::Watch(command) => command.remote.json,
            Command::Graph(command) => command.wants_json(),
            Command::Cancel(command) => command.remote.json,
            Command::Retry(command) => command.remote.json,
        }
    }
}

#[derive(Debug, Args)]
struct Watch {
    /// The task
    #[arg(value_name = "TASK")]
    task: Uuid,
    #[command(flatten)]
    remote: Remote,
}

impl Watch {
    async fn run(self) -> Result<(), Failure> {
        wait(&self.remote.client()?, self.task, self.remote.json).await
    }
}

#[derive(Debug, Args)]
struct Graph {
    /// The task
    #[arg(value_name = "TASK")]
    task: Uuid,
    /// How to draw it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    remote: Remote,
}

/// How a graph is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Svg,
    Mermaid,
    Json,
}

impl Graph {
    fn wants_json(&self) -> bool {
        self.remote.json || self.format == Format::Json
    }

    async fn run(self) -> Result<(), Failure> {
        let client = self.remote.client()?;
        let path = format!("/v1/tasks/{}/graph", self.task);
        let format = if self.remote.json {
            Format::Json
        } else {
            self.format
        };
        let accept = match format {
            Format::Svg => "image/svg+xml",
            Format::Mermaid => "text/vnd.mermaid",
            Format::Json => "application/json",
            Format::Text => {
                let picture = Follow::start(client, self.task).await?.picture().clone();
                return print(&drawing(&picture));
            }
        };
        print_body(&client.get_as(&path, accept).await?.body)
    }
}

/// The graph of a task in the colours of its steps' states.
pub(super) fn drawing(picture: &Picture) -> String {
    let palette = Palette::of_stdout();
    let lines = picture.diagram().at_rest().draw(terminal::size().columns);
    let lines = lines.iter().map(|line| line.paint(palette) + "\n");
    lines.collect()
}

/// Follows a task until it has settled and shows it, or then prints it as JSON; a [`Failure`] where it did
/// not end as it was meant to.
pub(super) async fn wait(client: &Client, task: Uuid, json: bool) -> Result<(), Failure> {
    let follow = Follow::start(client.clone(), task).await?;
    let manner = if json { Manner::Silent } else { Manner::Shown };
    let picture = show::until_settled(follow, manner).await?;
    if json {
        let answer = client.get(&format!("/v1/tasks/{task}"), &[]).await?;
        print_body(&answer.body)?;
    } else if !terminal::is_live() {
        print_line(&format!("{}  {}", picture.task_uuid, picture.status))?;
    }
    verdict(&picture)
}

/// Whether the task ended as it was meant to.
pub(super) fn verdict(picture: &Picture) -> Result<(), Failure> {
    if picture.has_succeeded() {
        return Ok(());
    }
    let task = picture.task_uuid;
    let mut text = format!("the task ended as {}", picture.status);
    let failed = picture.steps.iter().filter(|step| step.state == "error");
    for step in failed.take(5) {
        let error = step.error.as_deref().unwrap_or("no reason given");
        let first = error.lines().next().unwrap_or_default();
        text.push_str(&format!("\n  {}: {first}", step.name));
    }
    text.push_str(&match picture.status.as_str() {
        "cancelled" => String::new(),
        _ => format!(
            "\n  look at it with `tasker task show {task}`; let it go on with `tasker task retry {task}`"
        ),
    });
    Err(Failure::Verdict(text))
}

/// One line about a task that was just changed.
pub(super) fn line_about(task: &TaskResponse) -> String {
    format!(
        "{}  {}/{} {}  {}",
        task.task_uuid, task.namespace, task.name, task.version, task.status
    )
}
