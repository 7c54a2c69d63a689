//! The sign and the colour of every state of a step or a task.

use super::palette::Ink;

/// One character and its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) sign: char,
    pub(crate) ink: Ink,
}

impl Look {
    /// A step of a template, which has no state.
    pub(crate) const PLAN: Look = Look {
        sign: '·',
        ink: Ink::Plain,
    };
}

/// How a step's state looks. A state this program does not know looks like a question.
pub(crate) fn of_step(state: &str) -> Look {
    let (sign, ink) = match state {
        "pending" => ('○', Ink::Dim),
        "enqueued" => ('◔', Ink::Active),
        "in_progress" => ('●', Ink::Active),
        "enqueued_for_orchestration" => ('◕', Ink::Active),
        "enqueued_as_error_for_orchestration" => ('◕', Ink::Warning),
        "waiting_for_retry" => ('↻', Ink::Warning),
        "complete" | "resolved_manually" => ('✓', Ink::Good),
        "error" => ('✗', Ink::Bad),
        "cancelled" => ('⊘', Ink::Warning),
        "skipped" => ('⊝', Ink::Dim),
        _ => ('?', Ink::Plain),
    };
    Look { sign, ink }
}

/// How a task's status looks.
pub(crate) fn of_task(status: &str) -> Look {
    let (sign, ink) = match status {
        "pending" => ('○', Ink::Dim),
        "waiting_for_retry" | "waiting_for_dependencies" => ('↻', Ink::Warning),
        "complete" | "resolved_manually" => ('✓', Ink::Good),
        "error" | "blocked_by_failures" => ('✗', Ink::Bad),
        "cancelled" => ('⊘', Ink::Warning),
        _ => ('●', Ink::Active),
    };
    Look { sign, ink }
}

/// How the state of a health check looks.
pub(crate) fn of_health(status: &str) -> Look {
    let (sign, ink) = match status {
        "healthy" | "alive" | "ready" => ('✓', Ink::Good),
        "degraded" => ('!', Ink::Warning),
        "unhealthy" | "not_ready" => ('✗', Ink::Bad),
        _ => ('?', Ink::Plain),
    };
    Look { sign, ink }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tasker_shared::state::{step::StepState, task::TaskState};

    #[test]
    fn every_state_has_a_look_of_its_own_kind() {
        for state in StepState::ALL {
            assert_ne!(of_step(state.as_str()).sign, '?', "{}", state.as_str());
        }
        assert_eq!(of_step("levitating").sign, '?');
    }

    #[test]
    fn a_task_looks_as_it_ended() {
        assert_eq!(of_task(TaskState::Complete.as_str()).ink, Ink::Good);
        assert_eq!(of_task(TaskState::Error.as_str()).ink, Ink::Bad);
        assert_eq!(of_task(TaskState::StepsInProcess.as_str()).ink, Ink::Active);
    }
}
