//! The states of a step: the ten strings of the published client and `skipped`. `in_progress` and the
//! two `enqueued_*_for_orchestration` are what a reader derives from the queues: a claim and a
//! submitted result never write the step's row.

use super::Illegal;

/// State of a step. The discriminants are what the database stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i16)]
pub enum StepState {
    Pending = 0,
    Enqueued = 1,
    InProgress = 2,
    EnqueuedForOrchestration = 3,
    EnqueuedAsErrorForOrchestration = 4,
    WaitingForRetry = 5,
    Complete = 6,
    Error = 7,
    Cancelled = 8,
    ResolvedManually = 9,
    Skipped = 10,
}

/// What happens to a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepEvent {
    /// Its last parent ended and all ended well, or its retry came due.
    Enqueue,
    Succeed,
    /// An attempt failed and another one is due.
    Retry,
    /// An attempt failed for good.
    Fail,
    /// Its last parent ended and one of them badly.
    Skip,
    Cancel,
    /// A person puts a failed step back.
    Reset,
    /// A person declares it done without a result.
    Resolve,
    /// A person supplies its result.
    Complete,
}

const ALL: [StepState; 11] = [
    StepState::Pending,
    StepState::Enqueued,
    StepState::InProgress,
    StepState::EnqueuedForOrchestration,
    StepState::EnqueuedAsErrorForOrchestration,
    StepState::WaitingForRetry,
    StepState::Complete,
    StepState::Error,
    StepState::Cancelled,
    StepState::ResolvedManually,
    StepState::Skipped,
];

impl StepState {
    /// Every state, in the order of its number.
    pub const ALL: [StepState; 11] = ALL;

    /// The state behind a stored number; `None` for a number that is no state.
    pub fn from_i16(number: i16) -> Option<StepState> {
        usize::try_from(number)
            .ok()
            .and_then(|i| ALL.get(i).copied())
    }

    /// The client's string.
    pub fn as_str(self) -> &'static str {
        match self {
            StepState::Pending => "pending",
            StepState::Enqueued => "enqueued",
            StepState::InProgress => "in_progress",
            StepState::EnqueuedForOrchestration => "enqueued_for_orchestration",
            StepState::EnqueuedAsErrorForOrchestration => "enqueued_as_error_for_orchestration",
            StepState::WaitingForRetry => "waiting_for_retry",
            StepState::Complete => "complete",
            StepState::Error => "error",
            StepState::Cancelled => "cancelled",
            StepState::ResolvedManually => "resolved_manually",
            StepState::Skipped => "skipped",
        }
    }

    /// Whether the step has ended, so that its children count it as such.
    pub fn has_ended(self) -> bool {
        self >= StepState::Complete
    }

    /// Whether it ended in a way that lets its children run.
    pub fn satisfies(self) -> bool {
        matches!(self, StepState::Complete | StepState::ResolvedManually)
    }

    /// Whether it ended in a way that keeps its children from running.
    pub fn ended_badly(self) -> bool {
        self.has_ended() && !self.satisfies()
    }

    /// Whether a message of it is on its way between the queues.
    pub fn is_in_flight(self) -> bool {
        matches!(
            self,
            StepState::Enqueued
                | StepState::InProgress
                | StepState::EnqueuedForOrchestration
                | StepState::EnqueuedAsErrorForOrchestration
        )
    }

    /// The state after `event`, or why the event is not possible. A person may resolve or complete a
    /// step only while no handler can be running it.
    pub fn on(self, event: StepEvent) -> Result<StepState, Illegal> {
        use StepEvent as E;
        use StepState as S;
        match (self, event) {
            (S::Pending | S::WaitingForRetry, E::Enqueue) => Ok(S::Enqueued),
            (s, E::Succeed) if s.is_in_flight() => Ok(S::Complete),
            (s, E::Retry) if s.is_in_flight() => Ok(S::WaitingForRetry),
            (s, E::Fail) if s.is_in_flight() => Ok(S::Error),
            (S::Pending, E::Skip) => Ok(S::Skipped),
            (s, E::Cancel) if !s.has_ended() => Ok(S::Cancelled),
            (S::Error, E::Reset) => Ok(S::Pending),
            (S::Pending | S::WaitingForRetry | S::Error, E::Resolve) => Ok(S::ResolvedManually),
            (S::Pending | S::WaitingForRetry | S::Error, E::Complete) => Ok(S::Complete),
            _ => Err(Illegal {
                state: self.as_str(),
                event: event.name(),
            }),
        }
    }
}

impl StepEvent {
    fn name(self) -> &'static str {
        match self {
            StepEvent::Enqueue => "enqueuing",
            StepEvent::Succeed => "succeeding",
            StepEvent::Retry => "retrying",
            StepEvent::Fail => "failing",
            StepEvent::Skip => "skipping",
            StepEvent::Cancel => "cancelling",
            StepEvent::Reset => "reset_for_retry",
            StepEvent::Resolve => "resolve_manually",
            StepEvent::Complete => "complete_manually",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use StepEvent as E;
    use StepState as S;

    #[test]
    fn numbers_lead_back_to_the_state() {
        for (number, state) in S::ALL.into_iter().enumerate() {
            assert_eq!(S::from_i16(number as i16), Some(state));
        }
        assert_eq!(S::from_i16(11), None);
    }

    #[test]
    fn every_event_is_possible_exactly_where_the_table_says() {
        let in_flight = [
            S::Enqueued,
            S::InProgress,
            S::EnqueuedForOrchestration,
            S::EnqueuedAsErrorForOrchestration,
        ];
        let live = S::ALL.into_iter().filter(|s| !s.has_ended());
        let manual = vec![S::Pending, S::WaitingForRetry, S::Error];
        let table: [(E, Vec<S>); 9] = [
            (E::Enqueue, vec![S::Pending, S::WaitingForRetry]),
            (E::Succeed, in_flight.to_vec()),
            (E::Retry, in_flight.to_vec()),
            (E::Fail, in_flight.to_vec()),
            (E::Skip, vec![S::Pending]),
            (E::Cancel, live.collect()),
            (E::Reset, vec![S::Error]),
            (E::Resolve, manual.clone()),
            (E::Complete, manual),
        ];
        for (event, from) in table {
            for state in S::ALL {
                assert_eq!(
                    state.on(event).is_ok(),
                    from.contains(&state),
                    "{state:?} {event:?}"
                );
            }
        }
    }

    #[test]
    fn a_skipped_or_cancelled_parent_keeps_its_children_from_running() {
        for state in S::ALL {
            let well = matches!(state, S::Complete | S::ResolvedManually);
            assert_eq!(state.satisfies(), well);
            assert_eq!(state.ended_badly(), state.has_ended() && !well);
        }
    }
}
