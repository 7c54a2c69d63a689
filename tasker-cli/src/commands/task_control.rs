//! `tasker task cancel` and `tasker task retry`.

use clap::Args;
use reqwest::Method;
use tasker_shared::wire::TaskResponse;
use uuid::Uuid;

use super::{print_body, print_line, task};
use crate::cli::Remote;
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(super) struct Cancel {
    /// The task
    #[arg(value_name = "TASK")]
    task: Uuid,
    #[command(flatten)]
    pub(super) remote: Remote,
}

impl Cancel {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let client = self.remote.client()?;
        let path = format!("/v1/tasks/{}", self.task);
        let answer = client.bare(Method::DELETE, &path).await?;
        if self.remote.json {
            return print_body(&answer.body);
        }
        let task: TaskResponse = answer.read()?;
        print_line(&task::line_about(&task))
    }
}

#[derive(Debug, Args)]
pub(super) struct Retry {
    /// The task
    #[arg(value_name = "TASK")]
    task: Uuid,
    /// Watch the task until it is final; exit status 1 unless it completes
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    pub(super) remote: Remote,
}

impl Retry {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let client = self.remote.client()?;
        let path = format!("/v1/tasks/{}/retry", self.task);
        let answer = client.bare(Method::POST, &path).await?;
        let task: TaskResponse = answer.read()?;
        if self.wait {
            return task::wait(&client, task.task_uuid, self.remote.json).await;
        }
        match self.remote.json {
            true => print_body(&answer.body),
            false => print_line(&task::line_about(&task)),
        }
    }
}
