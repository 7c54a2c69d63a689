//! The pure core under every interleaving: a world in memory that does what the statements of `db` do, driven by the
//! real plans, and the rules that must hold after each thing that happens in it. `db::flow::differential` holds the
//! world against PostgreSQL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod advancing;
mod drain;
mod hands;
mod happen;
mod queues;
mod rules;
pub(crate) mod scenario;
mod tests;
pub(crate) mod world;

use uuid::Uuid;

use super::intervene::Action;
use super::{Kind, Outcome};

/// Something that was done, by what it was done to, so that it can be done elsewhere again. Tasks, workers and servers
/// are numbers from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    /// A worker claimed a delivery.
    Claim { worker: usize, delivery: Delivery },
    /// A worker handed in the end of a delivery that it once had.
    End {
        worker: usize,
        delivery: Delivery,
        outcome: Outcome,
    },
    /// A worker's lease ran out; another one takes its place.
    Stop { worker: usize },
    /// What stopped workers had was taken back.
    Rescue,
    /// A worker handed back what it had claimed without hearing of it.
    GiveBack {
        worker: usize,
        unheard: Vec<Delivery>,
    },
    /// These delayed things were due; the start of a task is step 0.
    Promote { due: Vec<Delivery> },
    /// A message came once more.
    Copy { message: Key, tries: i32, lost: i32 },
    /// A server read messages and made a plan of them, which it keeps.
    Plan { server: usize, messages: Vec<Key> },
    /// A server applied the plan that it kept.
    Apply { server: usize },
    /// A task's shard went to another server.
    Give { task: usize, server: usize },
    /// A person asked something of a task.
    Ask {
        task: usize,
        control: Uuid,
        action: Action,
    },
    /// What nobody had claimed was given up.
    Unroute,
    /// A task went past a limit of its life.
    Age { task: usize },
}

impl Act {
    /// Every name.
    pub(crate) const NAMES: [&str; 13] = [
        "claim",
        "end",
        "stop",
        "rescue",
        "give back",
        "promote",
        "copy",
        "plan",
        "apply",
        "give",
        "ask",
        "unroute",
        "age",
    ];

    /// What kind of thing it is.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Act::Claim { .. } => "claim",
            Act::End { .. } => "end",
            Act::Stop { .. } => "stop",
            Act::Rescue => "rescue",
            Act::GiveBack { .. } => "give back",
            Act::Promote { .. } => "promote",
            Act::Copy { .. } => "copy",
            Act::Plan { .. } => "plan",
            Act::Apply { .. } => "apply",
            Act::Give { .. } => "give",
            Act::Ask { .. } => "ask",
            Act::Unroute => "unroute",
            Act::Age { .. } => "age",
        }
    }
}

/// One delivery of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Delivery {
    pub(crate) task: usize,
    pub(crate) step_no: i32,
    pub(crate) attempt: i32,
}

/// A message by what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) task: usize,
    pub(crate) step_no: i32,
    pub(crate) attempt: i32,
    /// As stored.
    pub(crate) kind: i16,
    pub(crate) progress: i32,
    pub(crate) control: Option<Uuid>,
}

/// A kind as stored.
pub(crate) fn stored(kind: Kind) -> i16 {
    match kind {
        Kind::Ended(outcome) => outcome as i16,
        Kind::SpreadWell => super::SPREAD_WELL,
        Kind::SpreadBadly => super::SPREAD_BADLY,
        Kind::Due => super::DUE,
        Kind::Control => super::CONTROL,
        Kind::Bury => super::BURY,
    }
}
