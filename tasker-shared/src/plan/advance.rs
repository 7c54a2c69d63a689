//! From a batch of messages to one set-based advance of many graphs. A message ends, delays or re-enqueues
//! its step, or tells a slice of a step's children that their parent ended. What becomes of a child is
//! arithmetic that the database does on its row: it lowers `waiting_on`, raises `failed`, and a child at
//! zero is enqueued or skipped.

use std::collections::HashMap;
use std::time::Duration;

use super::{Blueprint, Kind, Message, Outcome, Route};
use crate::graph::START;
use crate::retry;
use crate::state::step::{StepEvent, StepState};

/// Bounds that planning keeps to.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Children told of one step's end in one go.
    pub slice: usize,
    /// Children told in one advance: what one transaction may move.
    pub children: usize,
    /// Leases a step may lose before it fails as poison.
    pub max_lost: i32,
}

/// What one message does.
#[derive(Debug, Clone, PartialEq)]
pub struct Move {
    pub message: Message,
    /// The step's state must be the first for it to become the second; `None` where the message only
    /// tells children.
    pub step: Option<(StepState, StepState)>,
    pub tries: i32,
    pub lost: i32,
    /// Where the step is enqueued again: the lane.
    pub lane: Option<i32>,
    /// Where the step waits for a retry: how long.
    pub delay: Option<Duration>,
    /// The step ended badly: its children count it in `failed`.
    pub bad: bool,
    /// The children told: a range of `Advance::children`.
    pub children: std::ops::Range<usize>,
    /// Where not all children were told: how many have been, for the next message.
    pub next: Option<i32>,
    /// What the task does when it comes to its end with failures.
    pub blocks: bool,
}

impl Move {
    /// Whether a step ends well by it and all its children are told: what nearly all messages are about.
    pub fn is_plain(&self) -> bool {
        self.step == Some((StepState::Enqueued, StepState::Complete))
            && self.next.is_none()
            && self.lost == self.message.lost
    }
}

/// The number in place of a join that is not stored: being told is the task's end. It is nobody's, since the start is
/// never told.
pub const END: i32 = START;

/// A child that is told, and the lane it goes to when it becomes ready; the join and the end have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Child {
    pub number: i32,
    pub lane: Option<i32>,
    /// Whether nothing else is to be told to it: it is a step with one parent, or the end.
    pub waits_for_one: bool,
}

/// The plan of a batch.
#[derive(Debug, Default, PartialEq)]
pub struct Advance {
    pub moves: Vec<Move>,
    /// The children that moves refer to; moves of the same step of one template share a range.
    pub children: Vec<Child>,
    /// Messages that need the whole task: one transaction each.
    pub controls: Vec<Message>,
    /// Tasks that become dead letters.
    pub burials: Vec<Message>,
    /// How many messages of the batch the plan covers; the rest wait for the next pass.
    pub taken: usize,
}

/// Plans `messages`. `route` gives the route of a message's template and priority, `jitter` a random number
/// in `0..1` for each delay. Stops early where the batch would tell more than `rules.children` children.
pub fn plan<'a>(
    messages: Vec<Message>,
    rules: &Rules,
    route: impl Fn(&Message) -> Option<&'a Route>,
    mut jitter: impl FnMut() -> f64,
) -> Advance {
    let mut advance = Advance::default();
    let mut shared = HashMap::new();
    let mut told = 0;
    for message in messages {
        let Some(route) = route(&message) else {
            advance.taken += 1;
            continue;
        };
        let apart = match message.kind {
            Kind::Control => Some(&mut advance.controls),
            Kind::Bury => Some(&mut advance.burials),
            _ => None,
        };
        if let Some(apart) = apart {
            apart.push(message);
            advance.taken += 1;
            continue;
        }
        let mut step = decide(message, route, rules, &mut jitter);
        if step.tells {
            let slice = tell(&mut step, route, rules, &mut advance.children, &mut shared);
            told += slice;
            if told > rules.children && !advance.moves.is_empty() {
                break;
            }
        }
        advance.moves.push(step.step);
        advance.taken += 1;
    }
    advance
}

/// A move before its children are known.
struct Decided {
    step: Move,
    tells: bool,
}

fn decide(
    message: Message,
    route: &Route,
    rules: &Rules,
    jitter: &mut impl FnMut() -> f64,
) -> Decided {
    let mut step = Move {
        step: None,
        tries: message.tries,
        lost: message.lost,
        lane: None,
        delay: None,
        bad: false,
        children: 0..0,
        next: None,
        blocks: route.blueprint.blocks_on_failure(),
        message,
    };
    let mut tells = false;
    match step.message.kind {
        Kind::SpreadWell | Kind::SpreadBadly => {
            step.bad = step.message.kind == Kind::SpreadBadly;
            tells = true;
        }
        Kind::Due => {
            step.step = Some((StepState::WaitingForRetry, StepState::Enqueued));
            step.lane = route.lane(step.message.step_no);
        }
        Kind::Ended(outcome) => {
            let event = judge(outcome, &mut step, route, rules, jitter);
            // An attempt's outcome is only ever about an enqueued step, so no event is illegal here.
            let to = match event {
                Some(event) => StepState::Enqueued.on(event).unwrap_or(StepState::Enqueued),
                None => StepState::Enqueued,
            };
            step.step = Some((StepState::Enqueued, to));
            if to == StepState::Enqueued {
                step.lane = route.lane(step.message.step_no);
            }
            tells = to.has_ended();
            step.bad = to.ended_badly();
        }
        Kind::Control | Kind::Bury => {}
    }
    Decided { step, tells }
}

/// What an outcome means for its step; `None` puts the step back on its lane.
fn judge(
    outcome: Outcome,
    step: &mut Move,
    route: &Route,
    rules: &Rules,
    jitter: &mut impl FnMut() -> f64,
) -> Option<StepEvent> {
    match outcome {
        Outcome::Success | Outcome::Manual => {
            step.tries += 1;
            Some(StepEvent::Succeed)
        }
        Outcome::Permanent => {
            step.tries += 1;
            Some(StepEvent::Fail)
        }
        Outcome::Retryable | Outcome::Timeout | Outcome::Panic => {
            step.tries += 1;
            step.delay = next_delay(step, route, jitter);
            Some(match step.delay {
                Some(_) => StepEvent::Retry,
                None => StepEvent::Fail,
            })
        }
        Outcome::Lost => {
            step.lost += 1;
            (step.lost > rules.max_lost).then_some(StepEvent::Fail)
        }
        // Nothing that the handler did: its attempts are as many as they were.
        Outcome::Unroutable | Outcome::Stale => Some(StepEvent::Fail),
        Outcome::Cancelled | Outcome::Released => None,
    }
}

/// The wait before the next attempt; `None` where there is none left.
fn next_delay(step: &Move, route: &Route, jitter: &mut impl FnMut() -> f64) -> Option<Duration> {
    let policy = &route.blueprint.step(step.message.step_no)?.retry;
    let failures = u32::try_from(step.tries).unwrap_or(u32::MAX);
    if !policy.retryable || failures >= policy.max_attempts {
        return None;
    }
    let asked = step
        .message
        .retry_after_ms
        .and_then(|ms| u64::try_from(ms).ok())
        .map(Duration::from_millis);
    Some(retry::delay(policy, failures, jitter(), asked))
}

/// Gives the move its slice of children; returns how many.
fn tell(
    decided: &mut Decided,
    route: &Route,
    rules: &Rules,
    flat: &mut Vec<Child>,
    shared: &mut HashMap<(i32, i16, i32, i32), std::ops::Range<usize>>,
) -> usize {
    let message = &decided.step.message;
    let children = route.blueprint.graph.children(message.step_no);
    let from = usize::try_from(message.progress)
        .unwrap_or(0)
        .min(children.len());
    let to = children.len().min(from + rules.slice);
    let key = (
        message.template_id,
        message.priority,
        message.step_no,
        message.progress,
    );
    let range = shared.entry(key).or_insert_with(|| {
        let start = flat.len();
        flat.extend(
            children[from..to]
                .iter()
                .map(|&number| child(number, route)),
        );
        start..flat.len()
    });
    decided.step.children = range.clone();
    decided.step.next = (to < children.len()).then(|| i32::try_from(to).unwrap_or(i32::MAX));
    to - from
}

fn child(number: i32, route: &Route) -> Child {
    let Blueprint { graph, last, .. } = &*route.blueprint;
    let is_end = number == graph.join() && last.is_some();
    let lane = route.lane(number);
    Child {
        number: if is_end { END } else { number },
        lane,
        waits_for_one: is_end || lane.is_some() && graph.waiting_on(number) == 1,
    }
}

#[cfg(test)]
mod tests;
