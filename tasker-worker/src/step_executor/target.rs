//! What steps have to do with the circuits of what they talk to: which are handed back unbegun, which find out
//! whether their target answers, and what their ends say of it.

use std::sync::Arc;

use tasker_shared::db::claim::Claimed;
use tasker_shared::metrics::worker::ErrorType;
use tasker_shared::name::Name;
use tasker_shared::plan::{Blueprint, Outcome};

use super::{End, Executor};
use crate::StepError;
use crate::circuits::{Probing, Verdict};
use crate::running::Slot;

/// The end of a step that was claimed before its target was found to be in trouble, and has not begun.
pub(super) fn parked(target: Name) -> End {
    let error = StepError::retryable(format!("the circuit of {target} is open"));
    End::Failure(
        Outcome::Released,
        error.with_type("circuit_open"),
        ErrorType::Cancelled,
    )
}

impl Executor {
    /// The target that keeps a step from beginning.
    pub(super) fn parked(
        &self,
        step: &Claimed,
        blueprint: Option<&Blueprint>,
        probing: Option<&Probing>,
    ) -> Option<Name> {
        let target = blueprint?.target(step.step_no)?;
        (probing.is_none() && self.circuits.is_open(target)).then_some(target)
    }

    /// An attempt that tells its circuit how its target fares.
    pub(super) async fn guarded(
        &self,
        step: &Claimed,
        slot: &Slot,
        blueprint: &Arc<Blueprint>,
        probing: Option<Probing>,
    ) -> End {
        if let Some(probing) = probing {
            return Box::pin(self.probe(step, slot, blueprint, probing)).await;
        }
        let end = self.attempt(step, slot, blueprint).await;
        if let Some(target) = blueprint.target(step.step_no) {
            Box::pin(self.circuits.hear(target, &end.verdict())).await;
        }
        end
    }

    /// The attempt that finds out whether a target answers. Where it still does not, it cost the step no try.
    async fn probe(
        &self,
        step: &Claimed,
        slot: &Slot,
        blueprint: &Arc<Blueprint>,
        probing: Probing,
    ) -> End {
        let timeout = self.timeout(blueprint, step.step_no);
        let probing = self.circuits.extend(probing, timeout).await;
        let end = self.attempt(step, slot, blueprint).await;
        let verdict = match blueprint.target(step.step_no) == Some(probing.target) {
            true => end.verdict(),
            false => Verdict::Nothing,
        };
        let in_trouble = matches!(verdict, Verdict::Troubled { .. });
        self.circuits.settle(probing, verdict).await;
        match end {
            End::Failure(_, error, kind) if in_trouble && self.circuits.spares(step) => {
                End::Failure(Outcome::Released, error, kind)
            }
            end => end,
        }
    }
}
