//! Trace context: what a request brings in its `traceparent` and `tracestate` and what is passed on, as W3C has it.
//! A task's trace has its correlation id for an id, and the ids of its spans follow from what they are of, so
//! that processes need not tell each other. The spans themselves are in `spans`.

use std::fmt;
use std::hash::BuildHasher;

use rustc_hash::FxBuildHasher;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::tracestate::TraceState;

/// A span's id within its trace; never all zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId([u8; 8]);

impl SpanId {
    /// The id with this number, or with one for zero, which is none by the standard.
    fn of(number: u64) -> Self {
        Self(number.max(1).to_be_bytes())
    }

    /// As it stands in messages.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 8] {
        self.0
    }
}

/// The spans of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    TaskInitialize,
    StepEnqueue,
    StepExecute,
    StepResultProcess,
    TaskFinalize,
}

impl Kind {
    /// The name of such spans.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TaskInitialize => "task.initialize",
            Self::StepEnqueue => "step.enqueue",
            Self::StepExecute => "step.execute",
            Self::StepResultProcess => "step_result.process",
            Self::TaskFinalize => "task.finalize",
        }
    }
}

/// The attempt by which the `step_result.process` that ended its step is known, so that the steps below find it
/// without knowing how often theirs was tried.
pub const ENDED: i32 = 0;

/// The id of a span: the same in every process and version. Spans of a task have step number and attempt 0.
#[must_use]
pub fn span_id(kind: Kind, task_uuid: Uuid, step_no: i32, attempt: i32) -> SpanId {
    let digest = Sha256::new()
        .chain_update(kind.name())
        .chain_update(task_uuid)
        .chain_update(step_no.to_be_bytes())
        .chain_update(attempt.to_be_bytes())
        .finalize();
    SpanId::of(first_eight(&digest))
}

/// The id of an execution whose span does not leave: as stable within a version, at a fraction of the cost.
fn unsent_span_id(task_uuid: Uuid, step_no: i32, attempt: i32) -> SpanId {
    SpanId::of(FxBuildHasher.hash_one((task_uuid, step_no, attempt)))
}

/// Whether the spans of a task leave, at a `rate` from 0 to 1: by its correlation id, so that all who ask agree.
#[must_use]
pub fn should_trace(correlation_id: Uuid, rate: f64) -> bool {
    if rate >= 1.0 {
        return true;
    }
    // Ids that people make up are not random; their digests are.
    let digest = Sha256::digest(correlation_id);
    let drawn = first_eight(&digest);
    (drawn as f64) < rate * (u64::MAX as f64)
}

/// The first eight bytes of a digest as a number.
fn first_eight(digest: &[u8]) -> u64 {
    digest
        .iter()
        .take(8)
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// A place in a trace: where a request comes from, or where a handler runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    pub trace_id: Uuid,
    pub span_id: SpanId,
    /// Whether whoever is there has its spans leave.
    pub sampled: bool,
    /// What systems on the way have added.
    pub state: TraceState,
}

/// A `traceparent` that is none; by the standard it is taken as absent then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the traceparent is malformed")]
pub struct Malformed;

const SAMPLED: u8 = 0x01;
const KNOWN_LENGTH: usize = 55;

impl TraceContext {
    /// Where a step's handler runs: the span `step.execute` of this attempt, where it is traced.
    #[must_use]
    pub fn of_step(
        correlation_id: Uuid,
        task_uuid: Uuid,
        step_no: i32,
        attempt: i32,
        traced: bool,
    ) -> Self {
        Self {
            trace_id: correlation_id,
            span_id: match traced {
                true => span_id(Kind::StepExecute, task_uuid, step_no, attempt),
                false => unsent_span_id(task_uuid, step_no, attempt),
            },
            sampled: traced,
            state: TraceState::default(),
        }
    }

    /// The same with what systems on the way have added, as it was stored with the task.
    #[must_use]
    pub fn with_state(mut self, tracestate: Option<&str>) -> Self {
        self.state = tracestate.map(TraceState::parse).unwrap_or_default();
        self
    }

    /// Reads the two headers; several `tracestate` headers are joined by commas before. A `tracestate` that is
    /// malformed counts as none.
    ///
    /// # Errors
    /// The `traceparent` breaks the standard: nothing of it may be used then.
    pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Result<Self, Malformed> {
        let text = traceparent.trim_matches([' ', '\t']).as_bytes();
        let (known, rest) = text.split_at_checked(KNOWN_LENGTH).ok_or(Malformed)?;
        let version = u8::try_from(hex(&known[..2])?).map_err(|_| Malformed)?;
        let may_go_on = match version {
            0 => rest.is_empty(),
            0xff => false,
            // Later versions may add fields behind those known.
            _ => rest.first().is_none_or(|next| *next == b'-'),
        };
        if !may_go_on || [2, 35, 52].iter().any(|at| known[*at] != b'-') {
            return Err(Malformed);
        }
        let trace_id = hex(&known[3..35])?;
        let span_id = u64::try_from(hex(&known[36..52])?).map_err(|_| Malformed)?;
        let flags = u8::try_from(hex(&known[53..])?).map_err(|_| Malformed)?;
        if trace_id == 0 || span_id == 0 {
            return Err(Malformed);
        }
        let context = Self {
            trace_id: Uuid::from_u128(trace_id),
            span_id: SpanId(span_id.to_be_bytes()),
            sampled: flags & SAMPLED != 0,
            state: TraceState::default(),
        };
        Ok(context.with_state(tracestate))
    }

    /// The header `traceparent` that passes this on.
    #[must_use]
    pub fn traceparent(&self) -> String {
        self.to_string()
    }

    /// The header `tracestate` that goes with it, where there is anything to say.
    #[must_use]
    pub fn tracestate(&self) -> Option<&str> {
        self.state.as_str()
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = if self.sampled { SAMPLED } else { 0 };
        let span_id = u64::from_be_bytes(self.span_id.0);
        write!(
            f,
            "00-{}-{span_id:016x}-{flags:02x}",
            self.trace_id.simple()
        )
    }
}

/// The number that lowercase hexadecimal digits stand for; at most 32 of them.
fn hex(digits: &[u8]) -> Result<u128, Malformed> {
    digits.iter().try_fold(0, |number: u128, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return Err(Malformed),
        };
        Ok(number << 4 | u128::from(digit))
    })
}

#[cfg(test)]
mod tests;
