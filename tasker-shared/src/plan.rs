//! Planning: what a message means for its task's graph. Pure functions from what was read (messages, the
//! template's graph, a task's steps) to what shall be written; the database layer applies a plan in one
//! statement and checks again that what it starts from still holds.

pub mod advance;
pub mod dead_letter;
pub mod intervene;
#[cfg(test)]
pub(crate) mod model;
pub mod stale;

use std::sync::Arc;

use uuid::Uuid;

use crate::graph::Graph;
use crate::name::Name;
use crate::template::{OnFailure, Step, Template};

/// How an attempt ended. The discriminants are what the database stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum Outcome {
    Success = 0,
    /// The handler failed in a way that another attempt may mend.
    Retryable = 1,
    /// The handler failed in a way that no other attempt mends.
    Permanent = 2,
    Timeout = 3,
    Panic = 4,
    /// The handler was stopped because its task was cancelled.
    Cancelled = 5,
    /// The worker's lease ran out.
    Lost = 6,
    /// The worker handed the step back before it ended.
    Released = 7,
    /// A person supplied the result.
    Manual = 8,
    /// It waited for too long in a lane that no live worker serves.
    Unroutable = 9,
    /// Its task went past a limit of its template's `lifecycle`.
    Stale = 10,
}

impl Outcome {
    const ALL: [Outcome; 11] = [
        Outcome::Success,
        Outcome::Retryable,
        Outcome::Permanent,
        Outcome::Timeout,
        Outcome::Panic,
        Outcome::Cancelled,
        Outcome::Lost,
        Outcome::Released,
        Outcome::Manual,
        Outcome::Unroutable,
        Outcome::Stale,
    ];

    /// The outcome behind a stored number.
    pub fn from_i16(number: i16) -> Option<Outcome> {
        usize::try_from(number)
            .ok()
            .and_then(|i| Outcome::ALL.get(i).copied())
    }
}

/// What a message in `results` says. The numbers are what the database stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An attempt ended (0 to 10).
    Ended(Outcome),
    /// A step ended well and its children from `progress` on are still to be told; step 0 is the task's
    /// start, whose children are the roots.
    SpreadWell,
    /// A step ended badly and its children from `progress` on are still to be told.
    SpreadBadly,
    /// A retry's time has come.
    Due,
    /// A person asks something of the task.
    Control,
    /// The task ended in error, or is blocked: it becomes a dead letter.
    Bury,
}

/// `Kind::SpreadWell` as stored.
pub const SPREAD_WELL: i16 = 20;
/// `Kind::SpreadBadly` as stored.
pub const SPREAD_BADLY: i16 = 21;
/// `Kind::Due` as stored.
pub const DUE: i16 = 22;
/// `Kind::Control` as stored.
pub const CONTROL: i16 = 23;
/// `Kind::Bury` as stored.
pub const BURY: i16 = 24;

impl Kind {
    /// The kind behind a stored number.
    pub fn from_i16(number: i16) -> Option<Kind> {
        match number {
            SPREAD_WELL => Some(Kind::SpreadWell),
            SPREAD_BADLY => Some(Kind::SpreadBadly),
            DUE => Some(Kind::Due),
            CONTROL => Some(Kind::Control),
            BURY => Some(Kind::Bury),
            _ => Outcome::from_i16(number).map(Kind::Ended),
        }
    }
}

/// A message from `results`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub shard: i16,
    pub id: i64,
    pub kind: Kind,
    pub task_uuid: Uuid,
    pub correlation_id: Uuid,
    pub step_no: i32,
    /// The delivery this is about: the fence.
    pub attempt: i32,
    /// Attempts of the handler that counted before this one.
    pub tries: i32,
    /// Leases lost before this one.
    pub lost: i32,
    pub template_id: i32,
    pub priority: i16,
    pub sampled: bool,
    pub traced: bool,
    /// For the spreading kinds: how many children were told.
    pub progress: i32,
    /// The wait that the handler asked for.
    pub retry_after_ms: Option<i64>,
    /// For `Kind::Control`: which.
    pub control: Option<Uuid>,
}

impl Message {
    /// By what its route is found: template and priority.
    pub fn route_key(&self) -> (i32, i16) {
        (self.template_id, self.priority)
    }
}

/// A stored template in the form that planning uses; immutable, so it is cached for ever.
#[derive(Debug)]
pub struct Blueprint {
    pub template_id: i32,
    /// With this process's environment applied.
    pub template: Template,
    pub graph: Graph,
    /// The step whose end is the task's: the only leaf, where no join is stored behind it. Templates that were stored
    /// before an only leaf did without have one.
    pub last: Option<i32>,
    pub namespace: Name,
    /// The template's name.
    pub task_type: Name,
    steps: Vec<Name>,
    targets: Vec<Option<Name>>,
}

impl Blueprint {
    /// The blueprint of a stored template.
    pub fn new(template_id: i32, template: Template) -> Blueprint {
        let graph = Graph::of(&template);
        Blueprint {
            template_id,
            namespace: Name::of(&template.namespace_name),
            task_type: Name::of(&template.name),
            steps: template.steps.iter().map(|s| Name::of(&s.name)).collect(),
            targets: template.steps.iter().map(target).collect(),
            template,
            last: graph.only_leaf(),
            graph,
        }
    }

    /// The definition of step `number`; `None` for the start, the join and numbers beyond.
    pub fn step(&self, number: i32) -> Option<&Step> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        self.template.steps.get(index)
    }

    /// The name of step `number`; `None` for the start, the join and numbers beyond.
    pub fn step_name(&self, number: i32) -> Option<Name> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        self.steps.get(index).copied()
    }

    /// The outside thing that step `number` talks to, where that is known.
    pub fn target(&self, number: i32) -> Option<Name> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        self.targets.get(index).copied().flatten()
    }

    /// Whether a task with a failed step blocks instead of ending in error.
    pub fn blocks_on_failure(&self) -> bool {
        self.template.on_failure == OnFailure::Block
    }
}

fn target(step: &Step) -> Option<Name> {
    let target = step.target();
    (!target.is_empty()).then(|| Name::of(&target))
}

/// A blueprint with the lanes that its steps are enqueued in, at one priority.
#[derive(Debug, Clone)]
pub struct Route {
    pub blueprint: Arc<Blueprint>,
    lanes: Arc<[i32]>,
}

impl Route {
    /// `lanes` holds one lane a step, in the order of the steps' numbers.
    pub fn new(blueprint: Arc<Blueprint>, lanes: Arc<[i32]>) -> Route {
        Route { blueprint, lanes }
    }

    /// The lane of step `number`; `None` for the join, which is never enqueued.
    pub fn lane(&self, number: i32) -> Option<i32> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        self.lanes.get(index).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_kind_leads_back_to_what_it_says() {
        for number in 0..11 {
            assert!(matches!(Kind::from_i16(number), Some(Kind::Ended(o)) if o as i16 == number));
        }
        assert_eq!(Kind::from_i16(SPREAD_WELL), Some(Kind::SpreadWell));
        assert_eq!(Kind::from_i16(SPREAD_BADLY), Some(Kind::SpreadBadly));
        assert_eq!(Kind::from_i16(DUE), Some(Kind::Due));
        assert_eq!(Kind::from_i16(CONTROL), Some(Kind::Control));
        assert_eq!(Kind::from_i16(BURY), Some(Kind::Bury));
        assert_eq!(Kind::from_i16(11), None);
        assert_eq!(Kind::from_i16(-1), None);
    }
}
