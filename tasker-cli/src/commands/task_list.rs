//! `tasker task list`.

use chrono::{DateTime, Utc};
use clap::Args;
use tasker_shared::wire::{Pagination, TaskListResponse, TaskResponse};
use uuid::Uuid;

use super::{print, print_body};
use crate::cli::Remote;
use crate::failure::Failure;
use crate::output::{look, table::Rows, time};
use crate::parse;

#[derive(Debug, Args)]
pub(super) struct List {
    #[arg(long, value_name = "NS")]
    namespace: Option<String>,
    /// The template's name
    #[arg(long)]
    name: Option<String>,
    /// As in complete, error, steps_in_process
    #[arg(long)]
    status: Option<String>,
    #[arg(long, value_name = "UUID")]
    correlation_id: Option<Uuid>,
    #[arg(long, value_name = "T")]
    tag: Option<String>,
    #[arg(long)]
    initiator: Option<String>,
    #[arg(long)]
    source_system: Option<String>,
    /// As in 2025-01-02T03:04:05Z
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    created_after: Option<DateTime<Utc>>,
    /// As in 2025-01-02T03:04:05Z
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    created_before: Option<DateTime<Utc>>,
    /// Tasks on a page
    #[arg(long, default_value_t = 25, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=100))]
    limit: u32,
    /// Which page
    #[arg(long, default_value_t = 1, value_name = "N", conflicts_with = "cursor",
          value_parser = clap::value_parser!(u32).range(1..))]
    page: u32,
    /// The page behind the one that named this cursor, however deep
    #[arg(long)]
    cursor: Option<String>,
    #[command(flatten)]
    pub(super) remote: Remote,
}

impl List {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let client = self.remote.client()?;
        let answer = client.get("/v1/tasks", &self.query()).await?;
        if self.remote.json {
            return print_body(&answer.body);
        }
        let list: TaskListResponse = answer.read()?;
        print(&told(&list))
    }

    fn query(&self) -> Vec<(&'static str, String)> {
        let time = |at: &DateTime<Utc>| at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
        let filters = [
            ("namespace", self.namespace.clone()),
            ("name", self.name.clone()),
            ("status", self.status.clone()),
            (
                "correlation_id",
                self.correlation_id.map(|id| id.to_string()),
            ),
            ("tag", self.tag.clone()),
            ("initiator", self.initiator.clone()),
            ("source_system", self.source_system.clone()),
            ("created_after", self.created_after.as_ref().map(time)),
            ("created_before", self.created_before.as_ref().map(time)),
            ("per_page", Some(self.limit.to_string())),
            ("page", self.cursor.is_none().then(|| self.page.to_string())),
            ("cursor", self.cursor.clone()),
        ];
        let given = filters.into_iter();
        given
            .filter_map(|(key, value)| Some((key, value?)))
            .collect()
    }
}

fn told(list: &TaskListResponse) -> String {
    if list.tasks.is_empty() {
        return "no tasks\n".to_owned();
    }
    let mut rows = Rows::under(&[
        "TASK",
        "NAMESPACE",
        "NAME",
        "VERSION",
        "STATUS",
        ">DONE",
        ">FAILED",
        "CREATED",
        ">TOOK",
    ]);
    for task in &list.tasks {
        rows.add(row(task));
    }
    rows.text() + &below(list.tasks.len(), &list.pagination)
}

fn row(task: &TaskResponse) -> Vec<String> {
    let took = task
        .completed_at
        .map(|end| time::took((end - task.created_at).num_milliseconds()));
    vec![
        task.task_uuid.to_string(),
        task.namespace.clone(),
        task.name.clone(),
        task.version.clone(),
        format!("{} {}", look::of_task(&task.status).sign, task.status),
        format!("{}/{}", task.completed_steps, task.total_steps),
        task.failed_steps.to_string(),
        time::full(task.created_at),
        took.unwrap_or_default(),
    ]
}

fn below(shown: usize, pagination: &Pagination) -> String {
    let about = if pagination.total_count_estimated {
        "about "
    } else {
        ""
    };
    let mut text = format!("{shown} of {about}{} tasks", pagination.total_count);
    if pagination.has_next {
        match &pagination.next_cursor {
            Some(cursor) => text.push_str(&format!("; go on with --cursor {cursor}")),
            None => text.push_str(&format!("; go on with --page {}", pagination.page + 1)),
        }
    }
    text + "\n"
}
