//! The states of a task: the twelve strings of the published client. Stored are `pending`,
//! `steps_in_process`, `blocked_by_failures` and the final ones; the other non-final ones are what a
//! reader derives from the steps, so that a step's progress never writes the task's row.

use super::Illegal;

/// State of a task. The discriminants are what the database stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i16)]
pub enum TaskState {
    Pending = 0,
    Initializing = 1,
    EnqueuingSteps = 2,
    StepsInProcess = 3,
    EvaluatingResults = 4,
    WaitingForDependencies = 5,
    WaitingForRetry = 6,
    BlockedByFailures = 7,
    Complete = 8,
    Error = 9,
    Cancelled = 10,
    ResolvedManually = 11,
}

/// What happens to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskEvent {
    /// Its first steps were enqueued (or its `run_at` came).
    Start,
    /// Its last step ended, every step well.
    EndWell,
    /// Its last step ended, at least one badly; `blocks` where the template says `on_failure: block`.
    EndBadly {
        blocks: bool,
    },
    Cancel,
    /// A failed step was put back or resolved, so that something can run again.
    Revive,
    /// Every failed step was resolved by a person and nothing is left to run.
    ResolveManually,
}

const ALL: [TaskState; 12] = [
    TaskState::Pending,
    TaskState::Initializing,
    TaskState::EnqueuingSteps,
    TaskState::StepsInProcess,
    TaskState::EvaluatingResults,
    TaskState::WaitingForDependencies,
    TaskState::WaitingForRetry,
    TaskState::BlockedByFailures,
    TaskState::Complete,
    TaskState::Error,
    TaskState::Cancelled,
    TaskState::ResolvedManually,
];

impl TaskState {
    /// Every state, in the order of its number.
    pub const ALL: [TaskState; 12] = ALL;

    /// The state behind a stored number; `None` for a number that is no state.
    pub fn from_i16(number: i16) -> Option<TaskState> {
        usize::try_from(number)
            .ok()
            .and_then(|i| ALL.get(i).copied())
    }

    /// The state by the client's string. `completed`, which an older server used, is `complete`.
    pub fn parse(name: &str) -> Option<TaskState> {
        if name == "completed" {
            return Some(TaskState::Complete);
        }
        ALL.into_iter().find(|s| s.as_str() == name)
    }

    /// The client's string.
    pub fn as_str(self) -> &'static str {
        match self {
            TaskState::Pending => "pending",
            TaskState::Initializing => "initializing",
            TaskState::EnqueuingSteps => "enqueuing_steps",
            TaskState::StepsInProcess => "steps_in_process",
            TaskState::EvaluatingResults => "evaluating_results",
            TaskState::WaitingForDependencies => "waiting_for_dependencies",
            TaskState::WaitingForRetry => "waiting_for_retry",
            TaskState::BlockedByFailures => "blocked_by_failures",
            TaskState::Complete => "complete",
            TaskState::Error => "error",
            TaskState::Cancelled => "cancelled",
            TaskState::ResolvedManually => "resolved_manually",
        }
    }

    /// Whether nothing more happens to the task by itself.
    pub fn is_final(self) -> bool {
        self >= TaskState::Complete
    }

    /// Whether it is one that a task ends in, or is blocked in, when not every step ended well.
    pub fn is_unwell(self) -> bool {
        use TaskState as S;
        matches!(
            self,
            S::BlockedByFailures | S::Error | S::Cancelled | S::ResolvedManually
        )
    }

    /// The state after `event`, or why the event is not possible.
    pub fn on(self, event: TaskEvent) -> Result<TaskState, Illegal> {
        use TaskEvent as E;
        use TaskState as S;
        let live = !self.is_final();
        match (self, event) {
            (S::Pending, E::Start) => Ok(S::StepsInProcess),
            (_, E::EndWell) if live => Ok(S::Complete),
            (_, E::EndBadly { blocks: true }) if live => Ok(S::BlockedByFailures),
            (_, E::EndBadly { blocks: false }) if live => Ok(S::Error),
            (_, E::Cancel) if live => Ok(S::Cancelled),
            (S::BlockedByFailures | S::Error, E::Revive) => Ok(S::StepsInProcess),
            (_, E::Revive) if live => Ok(self),
            (S::BlockedByFailures | S::Error, E::ResolveManually) => Ok(S::ResolvedManually),
            (_, E::ResolveManually) if live => Ok(S::ResolvedManually),
            _ => Err(Illegal {
                state: self.as_str(),
                event: event.name(),
            }),
        }
    }
}

impl TaskEvent {
    fn name(self) -> &'static str {
        match self {
            TaskEvent::Start => "starting",
            TaskEvent::EndWell => "completing",
            TaskEvent::EndBadly { .. } => "failing",
            TaskEvent::Cancel => "cancelling",
            TaskEvent::Revive => "retrying",
            TaskEvent::ResolveManually => "resolving",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TaskEvent as E;
    use TaskState as S;

    #[test]
    fn numbers_and_names_lead_back_to_the_state() {
        for (number, state) in S::ALL.into_iter().enumerate() {
            assert_eq!(S::from_i16(number as i16), Some(state));
            assert_eq!(S::parse(state.as_str()), Some(state));
        }
        assert_eq!(S::from_i16(12), None);
        assert_eq!(S::from_i16(-1), None);
        assert_eq!(S::parse("completed"), Some(S::Complete));
    }

    #[test]
    fn a_final_state_is_left_only_by_reviving_a_failure() {
        let events = [
            E::Start,
            E::EndWell,
            E::EndBadly { blocks: false },
            E::EndBadly { blocks: true },
            E::Cancel,
            E::Revive,
            E::ResolveManually,
        ];
        for state in S::ALL.into_iter().filter(|s| s.is_final()) {
            for event in events {
                let allowed = state == S::Error && matches!(event, E::Revive | E::ResolveManually);
                assert_eq!(state.on(event).is_ok(), allowed, "{state:?} {event:?}");
            }
        }
    }

    #[test]
    fn a_failed_task_ends_or_blocks_as_its_template_says() {
        assert_eq!(
            S::StepsInProcess.on(E::EndBadly { blocks: false }),
            Ok(S::Error)
        );
        assert_eq!(
            S::StepsInProcess.on(E::EndBadly { blocks: true }),
            Ok(S::BlockedByFailures)
        );
        assert!(!S::BlockedByFailures.is_final());
    }
}
