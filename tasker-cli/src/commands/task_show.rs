//! `tasker task show`.

use clap::Args;
use tasker_shared::wire::{StepResponse, TaskResponse};
use uuid::Uuid;

use super::{print, print_body};
use crate::cli::Remote;
use crate::failure::Failure;
use crate::output::palette::{Ink, Palette};
use crate::output::{look, table::Rows, time};

#[derive(Debug, Args)]
pub(super) struct Show {
    /// The task
    #[arg(value_name = "TASK")]
    task: Uuid,
    #[command(flatten)]
    pub(super) remote: Remote,
}

impl Show {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let client = self.remote.client()?;
        let path = format!("/v1/tasks/{}", self.task);
        let answer = client.get(&path, &[]).await?;
        if self.remote.json {
            return print_body(&answer.body);
        }
        let task: TaskResponse = answer.read()?;
        let steps: Vec<StepResponse> = client.read(&format!("{path}/workflow_steps")).await?;
        let palette = Palette::of_stdout();
        print(&format!("{}\n{}", head(&task, palette), table(&steps)))?;
        let errors = errors(&steps);
        if errors.is_empty() {
            return Ok(());
        }
        print(&format!("\n{errors}"))
    }
}

/// What the task is, a fact a line.
fn head(task: &TaskResponse, palette: Palette) -> String {
    let look = look::of_task(&task.status);
    let mut text = format!(
        "{} {}  {}\n",
        palette.paint(look.ink, &look.sign.to_string()),
        palette.paint(
            Ink::Strong,
            &format!("{}/{} {}", task.namespace, task.name, task.version)
        ),
        palette.paint(look.ink, &task.status),
    );
    let took = task
        .completed_at
        .map(|end| time::took((end - task.created_at).num_milliseconds()));
    let facts = [
        ("task", Some(task.task_uuid.to_string())),
        ("correlation", Some(task.correlation_id.to_string())),
        ("key", task.idempotency_key.clone()),
        ("created", Some(time::full(task.created_at))),
        ("to start at", task.run_at.map(time::full)),
        ("took", took),
        (
            "priority",
            task.priority.filter(|&p| p != 0).map(|p| p.to_string()),
        ),
        (
            "tags",
            task.tags
                .as_ref()
                .filter(|tags| !tags.is_empty())
                .map(|tags| tags.join(", ")),
        ),
        (
            "asked by",
            Some(format!("{} via {}", task.initiator, task.source_system)),
        ),
        ("context", Some(short(task.context.get(), 200))),
        (
            "failure",
            task.failure
                .as_ref()
                .map(|failure| failure.get().to_owned()),
        ),
    ];
    for (name, value) in facts {
        if let Some(value) = value {
            text.push_str(&format!("  {name:<12} {value}\n"));
        }
    }
    text
}

/// Every step with its state, attempts, how long its last attempt took and what it returned.
pub(super) fn table(steps: &[StepResponse]) -> String {
    let mut rows = Rows::under(&["STEP", "STATE", ">ATTEMPTS", ">TOOK", "RESULT"]);
    for step in steps {
        let look = look::of_step(&step.current_state);
        let took = step
            .last_attempted_at
            .zip(step.completed_at)
            .map(|(begin, end)| time::took((end - begin).num_milliseconds()));
        let result = step.results.as_ref().map(|result| result.get());
        rows.add(vec![
            step.name.clone(),
            format!("{} {}", look.sign, step.current_state),
            format!("{}/{}", step.attempts, step.max_attempts),
            took.unwrap_or_default(),
            short(result.unwrap_or_default(), 60),
        ]);
    }
    rows.text()
}

/// Why steps failed, and why others do not run.
fn errors(steps: &[StepResponse]) -> String {
    let mut text = String::new();
    for step in steps {
        if let Some(error) = &step.last_error {
            text.push_str(&format!("{}: {}\n", step.name, error.message.trim_end()));
        }
    }
    text
}

/// Some names, and how many more there are.
pub(super) fn few(names: &[String]) -> String {
    const FEW: usize = 6;
    match names.len() {
        ..=FEW => names.join(", "),
        all => format!("{} and {} more", names[..FEW].join(", "), all - FEW),
    }
}

/// The text on one line, cut where it is longer than `columns`.
pub(super) fn short(text: &str, columns: usize) -> String {
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if one_line.chars().count() <= columns {
        return one_line;
    }
    let kept: String = one_line.chars().take(columns.saturating_sub(1)).collect();
    kept + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_names_a_few_are_told() {
        let names = |count: usize| -> Vec<String> { (0..count).map(|n| format!("s{n}")).collect() };
        assert_eq!(few(&names(0)), "");
        assert_eq!(few(&names(6)), "s0, s1, s2, s3, s4, s5");
        assert_eq!(few(&names(9)), "s0, s1, s2, s3, s4, s5 and 3 more");
    }

    #[test]
    fn long_texts_are_cut_visibly() {
        assert_eq!(short("{ \"a\":\n  1 }", 60), "{ \"a\": 1 }");
        assert_eq!(short("abcdef", 6), "abcdef");
        assert_eq!(short("abcdefg", 6), "abcde…");
    }
}
