//! `tasker task submit`.

use chrono::{DateTime, Utc};
use clap::Args;
use reqwest::Method;
use std::time::Duration;
use tasker_shared::wire::{TaskRequest, TaskResponse};
use uuid::Uuid;

use super::{print_body, print_line, task};
use crate::cli::Remote;
use crate::failure::Failure;
use crate::parse;

#[derive(Debug, Args)]
pub(super) struct Submit {
    /// The template's name
    name: String,
    /// The template's namespace
    #[arg(long, value_name = "NS")]
    namespace: String,
    /// The template's version [default: the highest]
    #[arg(long = "version", id = "template_version", value_name = "V")]
    version: Option<String>,
    /// What the task is about: JSON, @FILE, or - for standard input
    #[arg(long, default_value = "{}", value_name = "JSON|@FILE|-")]
    context: String,
    /// Idempotency key: submitted twice, the task is made once
    #[arg(long, value_name = "K")]
    key: Option<String>,
    /// -100 to 100, higher first [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true,
          value_parser = clap::value_parser!(i32).range(-100..=100))]
    priority: Option<i32>,
    /// Not to be started before this time, as in 2025-01-02T03:04:05Z
    #[arg(long, value_name = "TIME", value_parser = parse::time, conflicts_with = "after")]
    at: Option<DateTime<Utc>>,
    /// Not to be started before this much time has passed, as in 250ms, 30s, 5m, 2h
    #[arg(long = "in", id = "after", value_name = "DURATION", value_parser = parse::duration)]
    after: Option<Duration>,
    /// A word to find the task by; may be given several times
    #[arg(long = "tag", value_name = "T")]
    tags: Vec<String>,
    /// Ties the task to what else belongs to the same matter [default: made up]
    #[arg(long, value_name = "UUID")]
    correlation_id: Option<Uuid>,
    /// Watch the task until it is final; exit status 1 unless it completes
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    pub(super) remote: Remote,
}

impl Submit {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let client = self.remote.client()?;
        let request = self.request()?;
        let answer = client
            .send_json(Method::POST, "/v1/tasks", &request)
            .await?;
        let task: TaskResponse = answer.read()?;
        let replayed = answer.headers.contains_key("idempotency-replayed");
        if self.wait {
            if !self.remote.json {
                print_line(&told(&task, replayed))?;
            }
            return task::wait(&client, task.task_uuid, self.remote.json).await;
        }
        match self.remote.json {
            true => print_body(&answer.body),
            false => print_line(&told(&task, replayed)),
        }
    }

    fn request(&self) -> Result<TaskRequest, Failure> {
        let run_at = match self.after {
            Some(ahead) => Some(parse::moment_in(ahead)?),
            None => self.at,
        };
        Ok(TaskRequest {
            name: self.name.clone(),
            namespace: self.namespace.clone(),
            version: self.version.clone(),
            context: parse::context(&self.context)?,
            initiator: Some("tasker-cli".to_owned()),
            source_system: Some("cli".to_owned()),
            reason: Some("submitted on the command line".to_owned()),
            tags: self.tags.clone(),
            priority: self.priority,
            correlation_id: self.correlation_id,
            parent_correlation_id: None,
            idempotency_key: self.key.clone(),
            run_at,
            requested_at: None,
            options: None,
        })
    }
}

/// One line for people, beginning with the task's uuid.
fn told(task: &TaskResponse, replayed: bool) -> String {
    let mut text = task::line_about(task);
    if replayed {
        text.push_str("  (submitted before with the same key)");
    }
    text
}
