//! What is derived from a task's stored state and the counts of its steps: the state that is shown, and the
//! client's `execution_status`, `recommended_action` and `health_status`. Pure; the first rule that fits wins.

use crate::state::step::StepState;
use crate::state::task::TaskState;

/// How many steps of a task are in each state; the join is not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StepCounts {
    by_state: [i64; StepState::ALL.len()],
    /// Steps that could be enqueued at once: nothing above them is left to wait for, and no time either.
    pub ready: i64,
}

impl StepCounts {
    /// Counts `count` steps more in `state`.
    pub fn add(&mut self, state: StepState, count: i64) {
        if let Some(slot) = usize::try_from(state as i16)
            .ok()
            .and_then(|i| self.by_state.get_mut(i))
        {
            *slot += count;
        }
    }

    /// Steps in `state`.
    pub fn of(&self, state: StepState) -> i64 {
        usize::try_from(state as i16)
            .ok()
            .and_then(|i| self.by_state.get(i))
            .copied()
            .unwrap_or_default()
    }

    /// All steps.
    pub fn total(&self) -> i64 {
        self.by_state.iter().sum()
    }

    /// Steps in `complete` or `resolved_manually`.
    pub fn completed(&self) -> i64 {
        self.of(StepState::Complete) + self.of(StepState::ResolvedManually)
    }

    /// Steps that are enqueued, in progress, or with their result on the way.
    pub fn in_flight(&self) -> i64 {
        StepState::ALL
            .into_iter()
            .filter(|state| state.is_in_flight())
            .map(|state| self.of(state))
            .sum()
    }

    /// 0 to 100; 0 for no steps.
    pub fn completion_percentage(&self) -> f64 {
        match self.total() {
            0 => 0.0,
            // Counts of steps are far below the integers that a float holds exactly.
            total => 100.0 * self.completed() as f64 / total as f64,
        }
    }
}

/// The state to show for a task stored as `stored`.
pub fn task_state(stored: TaskState, counts: &StepCounts) -> TaskState {
    if stored != TaskState::StepsInProcess || counts.in_flight() > 0 {
        stored
    } else if counts.of(StepState::WaitingForRetry) > 0 {
        TaskState::WaitingForRetry
    } else if counts.of(StepState::Pending) > 0 {
        TaskState::WaitingForDependencies
    } else {
        TaskState::EvaluatingResults
    }
}

/// How a task stands, in the client's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub execution_status: &'static str,
    pub recommended_action: &'static str,
    pub health_status: &'static str,
}

const BLOCKED: Standing = Standing {
    execution_status: "blocked_by_failures",
    recommended_action: "handle_failures",
    health_status: "blocked",
};
const READY: Standing = Standing {
    execution_status: "has_ready_steps",
    recommended_action: "execute_ready_steps",
    health_status: "healthy",
};
const PROCESSING: Standing = Standing {
    execution_status: "processing",
    recommended_action: "wait_for_completion",
    health_status: "healthy",
};
const ALL_COMPLETE: Standing = Standing {
    execution_status: "all_complete",
    recommended_action: "finalize_task",
    health_status: "healthy",
};
const WAITING: Standing = Standing {
    execution_status: "waiting_for_dependencies",
    recommended_action: "wait_for_dependencies",
    health_status: "healthy",
};
/// Programs poll until they read `all_complete` with a final state, or `blocked_by_failures`.
const CANCELLED: Standing = Standing {
    execution_status: "all_complete",
    recommended_action: "none",
    health_status: "unknown",
};

/// How a task in `state` stands.
pub fn standing(state: TaskState, counts: &StepCounts) -> Standing {
    match state {
        TaskState::Complete | TaskState::ResolvedManually => ALL_COMPLETE,
        TaskState::Cancelled => CANCELLED,
        TaskState::Error | TaskState::BlockedByFailures => BLOCKED,
        _ if counts.of(StepState::Error) > 0 => BLOCKED,
        _ if counts.ready > 0 => READY,
        _ if counts.in_flight() > 0 => PROCESSING,
        _ if counts.total() > 0 && counts.completed() == counts.total() => ALL_COMPLETE,
        _ => WAITING,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use StepState as S;
    use TaskState as T;

    fn counts(steps: &[(S, i64)], ready: i64) -> StepCounts {
        let mut counts = StepCounts {
            ready,
            ..StepCounts::default()
        };
        for (state, count) in steps {
            counts.add(*state, *count);
        }
        counts
    }

    #[test]
    fn a_running_task_shows_what_its_steps_are_doing() {
        let table = [
            (
                vec![(S::Enqueued, 1), (S::WaitingForRetry, 1)],
                T::StepsInProcess,
            ),
            (vec![(S::InProgress, 1)], T::StepsInProcess),
            (vec![(S::EnqueuedForOrchestration, 1)], T::StepsInProcess),
            (
                vec![(S::Complete, 1), (S::WaitingForRetry, 1), (S::Pending, 1)],
                T::WaitingForRetry,
            ),
            (
                vec![(S::Complete, 1), (S::Pending, 1)],
                T::WaitingForDependencies,
            ),
            (vec![(S::Complete, 2)], T::EvaluatingResults),
        ];
        for (steps, expected) in table {
            assert_eq!(
                task_state(T::StepsInProcess, &counts(&steps, 0)),
                expected,
                "{steps:?}"
            );
        }
    }

    #[test]
    fn a_task_that_does_not_run_shows_its_stored_state() {
        let waiting = counts(&[(S::WaitingForRetry, 1)], 0);
        for stored in T::ALL
            .into_iter()
            .filter(|state| *state != T::StepsInProcess)
        {
            assert_eq!(task_state(stored, &waiting), stored);
        }
    }

    #[test]
    fn the_first_rule_of_the_clients_table_wins() {
        let table = [
            (
                counts(&[(S::Error, 1), (S::Enqueued, 1)], 1),
                "blocked_by_failures",
                "handle_failures",
                "blocked",
            ),
            (
                counts(&[(S::Pending, 1), (S::Enqueued, 1)], 1),
                "has_ready_steps",
                "execute_ready_steps",
                "healthy",
            ),
            (
                counts(&[(S::Enqueued, 1)], 0),
                "processing",
                "wait_for_completion",
                "healthy",
            ),
            (
                counts(&[(S::InProgress, 1)], 0),
                "processing",
                "wait_for_completion",
                "healthy",
            ),
            (
                counts(&[(S::EnqueuedForOrchestration, 1)], 0),
                "processing",
                "wait_for_completion",
                "healthy",
            ),
            (
                counts(&[(S::EnqueuedAsErrorForOrchestration, 1)], 0),
                "processing",
                "wait_for_completion",
                "healthy",
            ),
            (
                counts(&[(S::Complete, 1), (S::ResolvedManually, 1)], 0),
                "all_complete",
                "finalize_task",
                "healthy",
            ),
            (
                counts(&[(S::Pending, 1)], 0),
                "waiting_for_dependencies",
                "wait_for_dependencies",
                "healthy",
            ),
            (
                counts(&[], 0),
                "waiting_for_dependencies",
                "wait_for_dependencies",
                "healthy",
            ),
        ];
        for (counts, execution, action, health) in table {
            let standing = standing(T::StepsInProcess, &counts);
            assert_eq!(standing.execution_status, execution, "{counts:?}");
            assert_eq!(standing.recommended_action, action, "{counts:?}");
            assert_eq!(standing.health_status, health, "{counts:?}");
        }
    }

    #[test]
    fn a_program_that_polls_stops_at_every_final_state() {
        let steps = [
            vec![],
            vec![(S::Pending, 1)],
            vec![(S::Error, 1), (S::Skipped, 2)],
            vec![(S::Enqueued, 1)],
        ];
        for state in T::ALL.into_iter().filter(|state| state.is_final()) {
            for steps in &steps {
                let expected = if state == T::Error {
                    "blocked_by_failures"
                } else {
                    "all_complete"
                };
                assert_eq!(
                    standing(state, &counts(steps, 1)).execution_status,
                    expected,
                    "{state:?}"
                );
            }
        }
        assert_eq!(standing(T::BlockedByFailures, &counts(&[], 0)), BLOCKED);
    }

    #[test]
    fn only_steps_that_ended_well_count_towards_the_percentage() {
        assert_eq!(counts(&[], 0).completion_percentage(), 0.0);
        let half = counts(
            &[
                (S::Complete, 1),
                (S::ResolvedManually, 1),
                (S::Skipped, 1),
                (S::Error, 1),
            ],
            0,
        );
        assert_eq!(half.completion_percentage(), 50.0);
        assert_eq!(half.total(), 4);
    }
}
