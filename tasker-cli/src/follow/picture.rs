//! A task as a watcher sees it: its graph, the state of every step, and what changed between two looks.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use tasker_shared::state::task::TaskState;
use tasker_shared::wire::{TaskProgress, TaskSummaryResponse};
use uuid::Uuid;

use crate::output::diagram::{Diagram, Node};
use crate::output::look;

/// Columns for `×10` behind a step's name.
const ATTEMPTS_ROOM: usize = 3;

/// A task and its steps.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Picture {
    pub(crate) task_uuid: Uuid,
    pub(crate) title: String,
    pub(crate) status: String,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) completed_at: Option<DateTime<Utc>>,
    pub(crate) steps: Vec<Step>,
}

/// A step and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) uuid: Option<Uuid>,
    pub(crate) parents: Vec<usize>,
    pub(crate) state: String,
    pub(crate) attempts: i32,
    pub(crate) max_attempts: i32,
    pub(crate) error: Option<String>,
}

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Step {
        name: String,
        from: String,
        to: String,
        attempts: i32,
        error: Option<String>,
    },
    Task {
        from: String,
        to: String,
    },
}

impl Picture {
    /// What a summary shows.
    pub(crate) fn of(summary: &TaskSummaryResponse) -> Picture {
        let template = &summary.template.steps;
        let at: HashMap<&str, usize> = template
            .iter()
            .enumerate()
            .map(|(at, step)| (step.name.as_str(), at))
            .collect();
        let of_task: HashMap<&str, _> = summary
            .steps
            .iter()
            .map(|step| (step.name.as_str(), step))
            .collect();
        let steps = template.iter().map(|step| {
            let parents = step.dependencies.iter();
            let state = of_task.get(step.name.as_str());
            Step {
                name: step.name.clone(),
                uuid: state.map(|state| state.step_uuid),
                parents: parents
                    .filter_map(|name| at.get(name.as_str()).copied())
                    .collect(),
                state: state
                    .map_or_else(|| "pending".to_owned(), |state| state.current_state.clone()),
                attempts: state.map_or(0, |state| state.attempts),
                max_attempts: state.map_or(0, |state| state.max_attempts),
                error: state.and_then(|state| state.error.as_ref().map(|e| e.message.clone())),
            }
        });
        let task = &summary.task;
        Picture {
            task_uuid: task.task_uuid,
            title: format!("{}/{} {}", task.namespace, task.name, task.version),
            status: task.status.clone(),
            created_at: task.created_at,
            completed_at: task.completed_at,
            steps: steps.collect(),
        }
    }

    /// Takes in an event; what it changed.
    pub(crate) fn advance(&mut self, progress: &TaskProgress) -> Vec<Change> {
        let mut next = self.clone();
        next.status.clone_from(&progress.status);
        next.completed_at = progress.completed_at;
        let at: HashMap<&str, usize> = self
            .steps
            .iter()
            .enumerate()
            .map(|(at, step)| (step.name.as_str(), at))
            .collect();
        for told in &progress.steps {
            let Some(step) = at.get(told.name.as_str()).map(|&at| &mut next.steps[at]) else {
                continue;
            };
            step.uuid = Some(told.step_uuid);
            step.state.clone_from(&told.current_state);
            step.attempts = told.attempts;
            step.max_attempts = told.max_attempts;
            step.error = told.last_error.as_ref().map(|error| error.message.clone());
        }
        self.replace(next)
    }

    /// Becomes `next`; what that changed.
    pub(crate) fn replace(&mut self, next: Picture) -> Vec<Change> {
        let mut changes: Vec<Change> = self
            .steps
            .iter()
            .zip(&next.steps)
            .filter(|(old, new)| old.state != new.state || old.attempts != new.attempts)
            .map(|(old, new)| Change::Step {
                name: new.name.clone(),
                from: old.state.clone(),
                to: new.state.clone(),
                attempts: new.attempts,
                error: new.error.clone(),
            })
            .collect();
        if self.status != next.status {
            changes.push(Change::Task {
                from: self.status.clone(),
                to: next.status.clone(),
            });
        }
        *self = next;
        changes
    }

    /// Whether nothing more happens by itself.
    pub(crate) fn has_settled(&self) -> bool {
        let state = TaskState::parse(&self.status);
        state.is_some_and(|state| state.is_final() || state == TaskState::BlockedByFailures)
    }

    /// Whether it has ended as it was meant to.
    pub(crate) fn has_succeeded(&self) -> bool {
        matches!(
            TaskState::parse(&self.status),
            Some(TaskState::Complete | TaskState::ResolvedManually)
        )
    }

    /// How many steps have ended, and how many there are.
    pub(crate) fn progress(&self) -> (usize, usize) {
        let ended = self.steps.iter().filter(|step| step.has_ended()).count();
        (ended, self.steps.len())
    }

    /// The graph to draw.
    pub(crate) fn diagram(&self) -> Diagram {
        let nodes = self.steps.iter().map(|step| Node {
            name: step.name.clone(),
            parents: step.parents.clone(),
            look: look::of_step(&step.state),
            note: match step.attempts {
                ..=1 => String::new(),
                attempts => format!("×{attempts}"),
            },
            note_room: ATTEMPTS_ROOM,
        });
        Diagram {
            nodes: nodes.collect(),
        }
    }
}

impl Step {
    /// Whether it will not run any more unless somebody acts.
    pub(crate) fn has_ended(&self) -> bool {
        use tasker_shared::state::step::StepState;
        let mut states = StepState::ALL.into_iter();
        states.any(|state| state.as_str() == self.state && state.has_ended())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn picture() -> Picture {
        let step = |name: &str, dependencies: &[&str]| {
            json!({"name": name, "step_type": "standard", "handler": "echo",
                   "dependencies": dependencies, "retryable": true, "max_attempts": 3})
        };
        let task = json!({
            "task": {"task_uuid": "0199c3e0-ccdb-7581-87ab-3f67dae00000", "name": "process_order",
                "namespace": "shop", "version": "1.0.0", "status": "steps_in_process",
                "created_at": "2025-01-02T03:04:05.678Z", "updated_at": "2025-01-02T03:04:05.678Z",
                "initiator": "", "source_system": "", "reason": "",
                "correlation_id": "0199c3e0-ccdb-7581-87ab-3f67daeaa4a6", "total_steps": 2,
                "pending_steps": 1, "in_progress_steps": 0, "completed_steps": 1, "failed_steps": 0,
                "completion_percentage": 50.0, "health_status": "healthy",
                "execution_status": "processing"},
            "template": {"steps": [step("charge", &["check"]), step("check", &[])]},
            "steps": [{"step_uuid": "0199c3e0-ccdb-7581-87ab-3f67dae00002", "name": "check",
                "current_state": "complete", "attempts": 1, "max_attempts": 3,
                "dependencies_satisfied": true, "retry_eligible": true}],
            "dlq": {"in_dlq": false},
            "links": {"task": "", "steps": "", "dlq": ""}
        });
        Picture::of(&serde_json::from_value(task).unwrap())
    }

    fn event(status: &str, state: &str, attempts: i32) -> TaskProgress {
        serde_json::from_value(json!({
            "task_uuid": "0199c3e0-ccdb-7581-87ab-3f67dae00000", "status": status, "final": false,
            "execution_status": "processing", "total_steps": 2, "pending_steps": 0,
            "in_progress_steps": 1, "completed_steps": 1, "failed_steps": 0, "ready_steps": 0,
            "completion_percentage": 50.0, "updated_at": "2025-01-02T03:04:06Z",
            "steps": [{"step_uuid": "0199c3e0-ccdb-7581-87ab-3f67dae00001", "name": "charge",
                "current_state": state, "attempts": attempts, "max_attempts": 3,
                "updated_at": "2025-01-02T03:04:06Z"}]
        }))
        .unwrap()
    }

    #[test]
    fn a_step_that_is_not_there_yet_is_pending() {
        let picture = picture();
        assert_eq!(picture.title, "shop/process_order 1.0.0");
        assert_eq!(picture.steps[0].state, "pending");
        assert_eq!(picture.steps[0].parents, [1]);
        assert_eq!(picture.steps[1].state, "complete");
        assert_eq!(picture.progress(), (1, 2));
        assert!(!picture.has_settled());
    }

    #[test]
    fn an_event_tells_what_it_changed() {
        let mut picture = picture();
        let changes = picture.advance(&event("steps_in_process", "in_progress", 2));
        assert_eq!(
            changes,
            [Change::Step {
                name: "charge".to_owned(),
                from: "pending".to_owned(),
                to: "in_progress".to_owned(),
                attempts: 2,
                error: None,
            }]
        );
        assert_eq!(picture.diagram().nodes[0].note, "×2");
        assert!(
            picture
                .advance(&event("steps_in_process", "in_progress", 2))
                .is_empty()
        );
        let changes = picture.advance(&event("complete", "complete", 2));
        assert_eq!(changes.len(), 2);
        assert!(picture.has_settled() && picture.has_succeeded());
    }

    #[test]
    fn a_blocked_task_has_settled_without_success() {
        let mut picture = picture();
        picture.advance(&event("blocked_by_failures", "error", 3));
        assert!(picture.has_settled() && !picture.has_succeeded());
    }
}
