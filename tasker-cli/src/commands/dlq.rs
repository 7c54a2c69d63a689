//! `tasker dlq …`: which of its commands, and those that only look.

use clap::{Args, Subcommand};
use tasker_shared::wire::{
    DlqEntry, DlqInvestigationQueueEntry, DlqStats, DlqStep, StalenessHealth, StalenessMonitoring,
};
use uuid::Uuid;

use super::task_show::short;
use super::{dlq_act, print, print_body};
use crate::cli::Remote;
use crate::client::{Answer, Client};
use crate::failure::Failure;
use crate::output::palette::{Ink, Palette};
use crate::output::{table::Rows, time};

#[derive(Debug, Args)]
pub(crate) struct Dlq {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List dead letters, the newest first
    List(List),
    /// Show a dead letter with everything that is kept of its task
    Show(Show),
    /// Count dead letters by reason
    Stats(Stats),
    /// List what waits for somebody, the most urgent first
    Queue(Queue),
    /// List live tasks by how close they are to being stale
    Stale(Stale),
    /// Let tasks go on: by entry, by task, or all that fit a filter
    Requeue(dlq_act::Requeue),
    /// Close a dead letter without letting its task go on
    Resolve(dlq_act::Resolve),
    /// Put a task among the dead letters for somebody's attention
    Add(dlq_act::Add),
}

impl Dlq {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::List(command) => command.run().await,
            Command::Show(command) => command.run().await,
            Command::Stats(command) => command.run().await,
            Command::Queue(command) => command.run().await,
            Command::Stale(command) => command.run().await,
            Command::Requeue(command) => command.run().await,
            Command::Resolve(command) => command.run().await,
            Command::Add(command) => command.run().await,
        }
    }

    pub(crate) fn wants_json(&self) -> bool {
        match &self.command {
            Command::List(command) => command.remote.json,
            Command::Show(command) => command.remote.json,
            Command::Stats(command) => command.remote.json,
            Command::Queue(command) => command.remote.json,
            Command::Stale(command) => command.remote.json,
            Command::Requeue(command) => command.remote.json,
            Command::Resolve(command) => command.remote.json,
            Command::Add(command) => command.remote.json,
        }
    }
}

#[derive(Debug, Args)]
struct List {
    /// pending, manually_resolved, permanently_failed or cancelled
    #[arg(long)]
    status: Option<String>,
    /// exhausted, permanent, poison, stale, unroutable, invalid_input or manual
    #[arg(long)]
    reason: Option<String>,
    #[arg(long, value_name = "NS")]
    namespace: Option<String>,
    /// The template's name
    #[arg(long)]
    name: Option<String>,
    /// Entries to show
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
    /// Entries to leave out before those
    #[arg(long, default_value_t = 0, value_name = "N")]
    offset: u32,
    #[command(flatten)]
    remote: Remote,
}

impl List {
    async fn run(self) -> Result<(), Failure> {
        let filters = [
            ("resolution_status", self.status),
            ("reason", self.reason),
            ("namespace", self.namespace),
            ("name", self.name),
            ("limit", Some(self.limit.to_string())),
            ("offset", Some(self.offset.to_string())),
        ];
        let query: Vec<(&str, String)> = filters
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)))
            .collect();
        let answer = self.remote.client()?.get("/v1/dlq", &query).await?;
        if self.remote.json {
            return print_body(&answer.body);
        }
        let entries: Vec<DlqEntry> = answer.read()?;
        let more = entries.len() >= self.limit as usize;
        let mut text = listed(&entries);
        if more {
            let next = u64::from(self.offset) + u64::from(self.limit);
            text.push_str(&format!("there may be more; go on with --offset {next}\n"));
        }
        print(&text)
    }
}

fn listed(entries: &[DlqEntry]) -> String {
    if entries.is_empty() {
        return "no dead letters\n".to_owned();
    }
    let heads = [
        "ENTRY",
        "TASK",
        "NAMESPACE",
        "NAME",
        "REASON",
        "STATUS",
        "SINCE",
        "FAILED",
    ];
    let mut rows = Rows::under(&heads);
    for entry in entries {
        rows.add(vec![
            entry.dlq_entry_uuid.to_string(),
            entry.task_uuid.to_string(),
            entry.namespace.clone(),
            entry.task_name.clone(),
            entry.reason.clone(),
            entry.resolution_status.as_snake().to_owned(),
            time::full(entry.dlq_timestamp),
            short(
                &entry.failed_steps.first().map(in_short).unwrap_or_default(),
                60,
            ),
        ]);
    }
    rows.text()
}

fn in_short(step: &DlqStep) -> String {
    match &step.message {
        Some(message) => format!("{}: {message}", step.name),
        None => step.name.clone(),
    }
}

#[derive(Debug, Args)]
struct Show {
    /// The entry, or the task
    #[arg(value_name = "ENTRY|TASK")]
    which: Uuid,
    #[command(flatten)]
    remote: Remote,
}

impl Show {
    async fn run(self) -> Result<(), Failure> {
        let answer = find(&self.remote.client()?, self.which).await?;
        if self.remote.json {
            return print_body(&answer.body);
        }
        print(&shown(&answer.read()?, Palette::of_stdout()))
    }
}

/// The entry of that uuid, or the newest one of the task of that uuid.
pub(super) async fn find(client: &Client, which: Uuid) -> Result<Answer, Failure> {
    let entry = client.get(&format!("/v1/dlq/entry/{which}"), &[]).await;
    match entry {
        Err(Failure::Refused { status, .. }) if status.as_u16() == 404 => {
            let of_task = client.get(&format!("/v1/dlq/task/{which}"), &[]).await;
            of_task.map_err(|error| match error {
                Failure::Refused { status, .. } if status.as_u16() == 404 => Failure::Verdict(
                    format!("{which} is neither a dead letter nor a task that ever was one"),
                ),
                other => other,
            })
        }
        found => found,
    }
}

/// What the entry is, a fact a line.
fn shown(entry: &DlqEntry, palette: Palette) -> String {
    let mut text = format!(
        "{}  {}\n",
        palette.paint(Ink::Strong, &entry.dlq_entry_uuid.to_string()),
        entry.resolution_status.as_snake(),
    );
    let facts = [
        ("task", Some(entry.task_uuid.to_string())),
        (
            "of",
            Some(format!("{}/{}", entry.namespace, entry.task_name)),
        ),
        ("reason", Some(entry.reason.clone())),
        ("state then", Some(entry.original_state.clone())),
        ("since", Some(time::full(entry.dlq_timestamp))),
        ("resolved", entry.resolution_timestamp.map(time::full)),
        ("resolved by", entry.resolved_by.clone()),
        ("notes", entry.resolution_notes.clone()),
        (
            "metadata",
            entry.metadata.as_ref().map(|json| json.get().to_owned()),
        ),
    ];
    for (name, value) in facts {
        if let Some(value) = value {
            text.push_str(&format!(
                "  {name:<12} {}\n",
                value.replace('\n', "\n               ")
            ));
        }
    }
    for step in &entry.failed_steps {
        let outcome = step.outcome.as_deref().unwrap_or("unknown");
        text.push_str(&format!(
            "  step {}: {outcome} after {} attempts",
            step.name, step.attempts
        ));
        if step.lost_leases > 0 {
            text.push_str(&format!(" and {} lost workers", step.lost_leases));
        }
        text.push('\n');
        if let Some(message) = &step.message {
            text.push_str(&format!("    {}\n", message.replace('\n', "\n    ")));
        }
    }
    let snapshot: Option<serde_json::Value> = serde_json::from_str(entry.task_snapshot.get()).ok();
    let failure = snapshot.and_then(|snapshot| snapshot.pointer("/task/failure/message").cloned());
    if let Some(failure) = failure.as_ref().and_then(|failure| failure.as_str()) {
        text.push_str(&format!("  refused: {failure}\n"));
    }
    text
}

#[derive(Debug, Args)]
struct Stats {
    #[command(flatten)]
    remote: Remote,
}

impl Stats {
    async fn run(self) -> Result<(), Failure> {
        let answer = self.remote.client()?.get("/v1/dlq/stats", &[]).await?;
        if self.remote.json {
            return print_body(&answer.body);
        }
        print(&counted(&answer.read::<Vec<DlqStats>>()?))
    }
}

fn counted(stats: &[DlqStats]) -> String {
    if stats.is_empty() {
        return "no dead letters\n".to_owned();
    }
    let mut rows = Rows::under(&[
        "REASON",
        "EXACTLY",
        ">ALL",
        ">PENDING",
        ">RESOLVED",
        ">FAILED",
        ">CANCELLED",
        "OLDEST",
        ">TAKES",
    ]);
    for of in stats {
        let exact = of
            .reasons
            .iter()
            .map(|(reason, count)| format!("{reason} {count}"));
        let takes = of.avg_resolution_time_minutes;
        rows.add(vec![
            of.dlq_reason.as_snake().to_owned(),
            exact.collect::<Vec<_>>().join(", "),
            of.total_entries.to_string(),
            of.pending.to_string(),
            of.manually_resolved.to_string(),
            of.permanent_failures.to_string(),
            of.cancelled.to_string(),
            of.oldest_entry.map(time::full).unwrap_or_default(),
            takes
                .map(|minutes| time::took((minutes * 60_000.0) as i64))
                .unwrap_or_default(),
        ]);
    }
    rows.text()
}

#[derive(Debug, Args)]
struct Queue {
    /// Entries to show
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    #[command(flatten)]
    remote: Remote,
}

impl Queue {
    async fn run(self) -> Result<(), Failure> {
        let query = [("limit", self.limit.to_string())];
        let path = "/v1/dlq/investigation-queue";
        let answer = self.remote.client()?.get(path, &query).await?;
        if self.remote.json {
            return print_body(&answer.body);
        }
        let entries: Vec<DlqInvestigationQueueEntry> = answer.read()?;
        if entries.is_empty() {
            return print("nothing waits for anybody\n");
        }
        let mut rows = Rows::under(&[
            ">SCORE",
            "ENTRY",
            "TASK",
            "NAMESPACE",
            "NAME",
            "REASON",
            ">WAITS",
            "STATE NOW",
        ]);
        for entry in &entries {
            rows.add(vec![
                format!("{:.0}", entry.priority_score),
                entry.dlq_entry_uuid.to_string(),
                entry.task_uuid.to_string(),
                entry.namespace_name.clone().unwrap_or_default(),
                entry.task_name.clone().unwrap_or_default(),
                entry.reason.clone(),
                time::took((entry.minutes_in_dlq * 60_000.0) as i64),
                entry.current_state.clone().unwrap_or_default(),
            ]);
        }
        print(&rows.text())
    }
}

#[derive(Debug, Args)]
struct Stale {
    /// Tasks to show
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    #[command(flatten)]
    remote: Remote,
}

impl Stale {
    async fn run(self) -> Result<(), Failure> {
        let query = [("limit", self.limit.to_string())];
        let answer = self
            .remote
            .client()?
            .get("/v1/dlq/staleness", &query)
            .await?;
        if self.remote.json {
            return print_body(&answer.body);
        }
        let tasks: Vec<StalenessMonitoring> = answer.read()?;
        if tasks.is_empty() {
            return print("no task is at work\n");
        }
        let mut rows = Rows::under(&[
            "HEALTH",
            "TASK",
            "NAMESPACE",
            "NAME",
            "STATE",
            ">FOR MIN",
            ">LIMIT MIN",
            ">AGE MIN",
            "THEN",
        ]);
        for task in &tasks {
            let health = match task.health_status {
                StalenessHealth::Healthy => "healthy",
                StalenessHealth::Warning => "warning",
                StalenessHealth::Stale => "stale",
            };
            rows.add(vec![
                health.to_owned(),
                task.task_uuid.to_string(),
                task.namespace_name.clone().unwrap_or_default(),
                task.task_name.clone().unwrap_or_default(),
                task.current_state.clone(),
                task.time_in_state_minutes.to_string(),
                task.staleness_threshold_minutes.to_string(),
                task.task_age_minutes.to_string(),
                task.action.clone(),
            ]);
        }
        print(&rows.text())
    }
}
