//! `tasker dlq requeue`, `resolve` and `add`.

use chrono::{DateTime, Utc};
use clap::{ArgGroup, Args, ValueEnum};
use reqwest::Method;
use tasker_shared::wire::{
    DlqAddRequest, DlqEntry, DlqInvestigationUpdate, DlqRequeueFilter, DlqRequeueRequest,
    DlqRequeued, DlqRequeuedMany, DlqResolution, DlqUpdated,
};
use uuid::Uuid;

use super::step::somebody;
use super::{dlq, print_body, print_line};
use crate::cli::Remote;
use crate::failure::Failure;
use crate::parse;

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(true).args(["which", "reason", "namespace", "name", "before", "all"]))]
pub(super) struct Requeue {
    /// Entries, or tasks
    #[arg(value_name = "ENTRY|TASK", conflicts_with_all = ["reason", "namespace", "name", "before", "all", "limit", "after"])]
    which: Vec<Uuid>,
    /// Those with this reason, such as exhausted
    #[arg(long)]
    reason: Option<String>,
    /// Those of this namespace
    #[arg(long, value_name = "NS")]
    namespace: Option<String>,
    /// Those of templates with this name
    #[arg(long)]
    name: Option<String>,
    /// Those that were there before, as in 2025-01-02T03:04:05Z
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    before: Option<DateTime<Utc>>,
    /// Everything that is pending
    #[arg(long)]
    all: bool,
    /// How many at most, the oldest first
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=1000))]
    limit: i64,
    /// Only those behind this entry, as the answer before said
    #[arg(long, value_name = "ENTRY")]
    after: Option<Uuid>,
    /// Why; kept with the entry
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    #[command(flatten)]
    pub(super) remote: Remote,
}

impl Requeue {
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self.which.is_empty() {
            true => self.fitting().await,
            false => self.named().await,
        }
    }

    async fn named(self) -> Result<(), Failure> {
        let client = self.remote.client()?;
        let mut bodies = Vec::new();
        for which in &self.which {
            let entry: DlqEntry = dlq::find(&client, *which).await?.read()?;
            let path = format!("/v1/dlq/entry/{}/requeue", entry.dlq_entry_uuid);
            let request = DlqRequeueRequest {
                requeued_by: Some(somebody()),
                note: self.note.clone(),
            };
            let answer = client.send_json(Method::POST, &path, &request).await?;
            if self.remote.json {
                bodies.push(answer.body.trim_end().to_owned());
                continue;
            }
            let done: DlqRequeued = answer.read()?;
            print_line(&format!(
                "{}  {}/{}  {}",
                done.task_uuid, entry.namespace, entry.task_name, done.status
            ))?;
        }
        match (self.remote.json, &bodies[..]) {
            (false, _) => Ok(()),
            (true, [one]) => print_body(one),
            (true, many) => print_body(&format!("[{}]", many.join(","))),
        }
    }

    async fn fitting(self) -> Result<(), Failure> {
        let request = DlqRequeueFilter {
            reason: self.reason,
            namespace: self.namespace,
            name: self.name,
            before: self.before,
            all: self.all.then_some(true),
            limit: Some(self.limit),
            after: self.after,
            requeued_by: Some(somebody()),
            note: self.note,
        };
        let client = self.remote.client()?;
        let answer = client
            .send_json(Method::POST, "/v1/dlq/requeue", &request)
            .await?;
        let done: DlqRequeuedMany = answer.read()?;
        if self.remote.json {
            print_body(&answer.body)?;
        } else {
            print_line(&told(&done))?;
        }
        match (done.refused.is_empty(), self.remote.json) {
            (true, _) => Ok(()),
            (false, true) => Err(Failure::Silent),
            (false, false) => {
                let refused = done.refused.iter().map(|refused| {
                    format!("\n  {}: {}", refused.dlq_entry_uuid, refused.error.message)
                });
                let refused: String = refused.collect();
                Err(Failure::Verdict(format!("these do not go on:{refused}")))
            }
        }
    }
}

fn told(done: &DlqRequeuedMany) -> String {
    let mut text = match done.requeued {
        1 => "1 task goes on".to_owned(),
        count => format!("{count} tasks go on"),
    };
    match done.after {
        Some(after) if done.more => {
            text.push_str(&format!(
                "; there may be more that fit: ask again with --after {after}"
            ));
        }
        _ => {}
    }
    text
}

/// What becomes of an entry that is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Status {
    /// Somebody has dealt with it
    ManuallyResolved,
    /// Nothing can be done
    PermanentlyFailed,
    /// It does not matter any more
    Cancelled,
}

impl From<Status> for DlqResolution {
    fn from(status: Status) -> DlqResolution {
        match status {
            Status::ManuallyResolved => DlqResolution::ManuallyResolved,
            Status::PermanentlyFailed => DlqResolution::PermanentlyFailed,
            Status::Cancelled => DlqResolution::Cancelled,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct Resolve {
    /// The entry, or the task
    #[arg(value_name = "ENTRY|TASK")]
    which: Uuid,
    /// What became of it
    #[arg(long, value_enum, default_value_t = Status::ManuallyResolved)]
    status: Status,
    /// What was found out; replaces the notes that are kept
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    #[command(flatten)]
    pub(super) remote: Remote,
}

impl Resolve {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let client = self.remote.client()?;
        let entry: DlqEntry = dlq::find(&client, self.which).await?.read()?;
        let path = format!("/v1/dlq/entry/{}", entry.dlq_entry_uuid);
        let update = DlqInvestigationUpdate {
            resolution_status: Some(self.status.into()),
            resolution_notes: self.note,
            resolved_by: Some(somebody()),
            metadata: None,
        };
        let answer = client.send_json(Method::PATCH, &path, &update).await?;
        if self.remote.json {
            return print_body(&answer.body);
        }
        let updated: DlqUpdated = answer.read()?;
        print_line(&format!(
            "{}  {}",
            updated.dlq_entry_uuid,
            updated.resolution_status.as_snake()
        ))
    }
}

#[derive(Debug, Args)]
pub(super) struct Add {
    /// The task
    #[arg(value_name = "TASK")]
    task: Uuid,
    /// What is to be looked at
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    #[command(flatten)]
    pub(super) remote: Remote,
}

impl Add {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let client = self.remote.client()?;
        let path = format!("/v1/dlq/task/{}", self.task);
        let request = DlqAddRequest {
            note: self.note,
            added_by: Some(somebody()),
        };
        let answer = client.send_json(Method::POST, &path, &request).await?;
        if self.remote.json {
            return print_body(&answer.body);
        }
        let entry: DlqEntry = answer.read()?;
        print_line(&format!(
            "{}  {}/{}  {}",
            entry.dlq_entry_uuid, entry.namespace, entry.task_name, entry.reason
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_requeued_is_told_in_a_line() {
        let done = |requeued, more| DlqRequeuedMany {
            requeued,
            refused: Vec::new(),
            more,
            after: Some(Uuid::nil()),
        };
        assert_eq!(told(&done(1, false)), "1 task goes on");
        assert_eq!(
            told(&done(100, true)),
            "100 tasks go on; there may be more that fit: ask again with --after 00000000-0000-0000-0000-000000000000"
        );
    }
}
