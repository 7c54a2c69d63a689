//! What proptest makes up: a template, some tasks of it, and what happens to them. Smaller numbers are simpler, so that
//! a case that breaks a rule shrinks to one that can be read.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::advance::Rules;
use super::super::{Blueprint, Outcome};
use crate::template::{self, Limits};

/// A template: what each step waits for and how often it is tried.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) blocks: bool,
    /// For each step the numbers of its parents, all lower than its own, and `max_attempts`.
    pub(crate) steps: Vec<(Vec<usize>, u32)>,
}

/// How a task of a scenario begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Now,
    Spread,
    Later,
}

/// What a person asks; steps are picked by number.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wish {
    Retry,
    Reset(u8),
    Resolve(u8),
    Complete(u8),
    Cancel,
}

/// What is to happen. A number picks one of whatever there is then; where there is nothing, nothing happens.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Event {
    Claim {
        worker: u8,
        pick: u8,
    },
    /// `late`: of any delivery that any worker ever had.
    End {
        pick: u8,
        outcome: Outcome,
        late: bool,
    },
    /// A server reads up to `most` messages from the one picked, plans and applies.
    Pass {
        server: u8,
        pick: u8,
        most: u8,
    },
    /// The same, and the plan is kept.
    Plan {
        server: u8,
        pick: u8,
        most: u8,
    },
    Apply {
        server: u8,
    },
    Promote {
        pick: u8,
    },
    Stop {
        worker: u8,
    },
    Rescue,
    /// What a worker has from the one picked on, it never heard of.
    GiveBack {
        worker: u8,
        pick: u8,
    },
    Give {
        task: u8,
        server: u8,
    },
    Ask {
        task: u8,
        wish: Wish,
    },
    Copy {
        pick: u8,
    },
    Unroute,
    Age {
        task: u8,
    },
}

/// All of it.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) shape: Shape,
    pub(crate) tasks: Vec<Start>,
    pub(crate) slice: usize,
    pub(crate) children: usize,
    pub(crate) max_lost: i32,
    pub(crate) events: Vec<Event>,
}

impl Scenario {
    pub(crate) fn rules(&self) -> Rules {
        Rules {
            slice: self.slice,
            children: self.children,
            max_lost: self.max_lost,
        }
    }
}

impl Shape {
    /// The steps of the template as YAML.
    pub(crate) fn yaml(&self, name: &str) -> String {
        let on_failure = if self.blocks { "block" } else { "fail" };
        let steps = (1..).zip(&self.steps).map(|(number, (parents, attempts))| {
            let parents: Vec<String> = parents.iter().map(|p| format!("s{p}")).collect();
            format!(
                "  - {{name: s{number}, handler: {{callable: echo}}, dependencies: [{}], retry: {{max_attempts: {attempts}, backoff: none}}}}\n",
                parents.join(", ")
            )
        });
        let steps: String = steps.collect();
        format!(
            "name: {name}\nnamespace_name: n\nversion: 1.0.0\non_failure: {on_failure}\nsteps:\n{steps}"
        )
    }

    pub(crate) fn blueprint(&self) -> Arc<Blueprint> {
        let template = template::parse(&self.yaml("model"), "model.yaml", &Limits::default());
        Arc::new(Blueprint::new(1, template.unwrap()))
    }
}

/// Graphs of one to seven steps: any, and a fan-out that comes together again.
fn shape() -> impl Strategy<Value = Shape> {
    let dag = prop::collection::vec((0..64_u8, 0..64_u8, 1..3_u32), 1..7).prop_map(|steps| {
        let parents =
            |at: usize, bits: u8| (0..at).filter(move |p| bits >> p & 1 == 1).map(|p| p + 1);
        (0..)
            .zip(steps)
            .map(|(at, (bits, sparse, attempts))| (parents(at, bits & sparse).collect(), attempts))
            .collect()
    });
    let fan = (2..5_usize, 1..3_u32).prop_map(|(width, attempts)| {
        let mut steps = vec![(vec![], attempts)];
        steps.extend((0..width).map(|_| (vec![1], attempts)));
        steps.push(((2..width + 2).collect(), attempts));
        steps
    });
    (prop_oneof![3 => dag, 1 => fan], any::<bool>())
        .prop_map(|(steps, blocks)| Shape { blocks, steps })
}

/// Steps one after the other.
fn line() -> impl Strategy<Value = Shape> {
    let parent = |at: usize| (at > 0).then_some(at).into_iter().collect();
    prop::collection::vec(1..3_u32, 2..6).prop_map(move |attempts| Shape {
        blocks: false,
        steps: (0..)
            .zip(attempts)
            .map(|(at, attempts)| (parent(at), attempts))
            .collect(),
    })
}

/// `calm` is how many times as often as usual all goes well.
fn outcome(calm: u32) -> impl Strategy<Value = Outcome> {
    prop_oneof![
        6 * calm => Just(Outcome::Success),
        2 => Just(Outcome::Retryable),
        2 => Just(Outcome::Permanent),
        1 => Just(Outcome::Timeout),
        1 => Just(Outcome::Panic),
        1 => Just(Outcome::Cancelled),
        1 => Just(Outcome::Released),
    ]
}

fn wish() -> impl Strategy<Value = Wish> {
    prop_oneof![
        3 => Just(Wish::Retry),
        2 => any::<u8>().prop_map(Wish::Reset),
        2 => any::<u8>().prop_map(Wish::Resolve),
        2 => any::<u8>().prop_map(Wish::Complete),
        1 => Just(Wish::Cancel),
    ]
}

fn event(calm: u32) -> impl Strategy<Value = Event> {
    let batch = || (0..2_u8, any::<u8>(), 1..9_u8);
    prop_oneof![
        8 * calm => (0..2_u8, any::<u8>()).prop_map(|(worker, pick)| Event::Claim { worker, pick }),
        8 * calm => (any::<u8>(), outcome(calm)).prop_map(|(pick, outcome)| Event::End { pick, outcome, late: false }),
        1 => (any::<u8>(), outcome(calm)).prop_map(|(pick, outcome)| Event::End { pick, outcome, late: true }),
        8 * calm => batch().prop_map(|(server, pick, most)| Event::Pass { server, pick, most }),
        2 => batch().prop_map(|(server, pick, most)| Event::Plan { server, pick, most }),
        2 => (0..2_u8).prop_map(|server| Event::Apply { server }),
        4 => any::<u8>().prop_map(|pick| Event::Promote { pick }),
        1 => (0..2_u8).prop_map(|worker| Event::Stop { worker }),
        1 => Just(Event::Rescue),
        1 => (0..2_u8, any::<u8>()).prop_map(|(worker, pick)| Event::GiveBack { worker, pick }),
        1 => (any::<u8>(), 0..2_u8).prop_map(|(task, server)| Event::Give { task, server }),
        4 => (any::<u8>(), wish()).prop_map(|(task, wish)| Event::Ask { task, wish }),
        1 => any::<u8>().prop_map(|pick| Event::Copy { pick }),
        1 => Just(Event::Unroute),
        1 => any::<u8>().prop_map(|task| Event::Age { task }),
    ]
}

/// A scenario of up to `events` events.
pub(crate) fn scenario(events: usize) -> impl Strategy<Value = Scenario> {
    of(shape(), prop::collection::vec(event(1), 0..events))
}

/// A scenario of `events` events of which most go well, so that batches come about in which all does: those are applied
/// by shorter statements.
pub(crate) fn calm(events: usize) -> impl Strategy<Value = Scenario> {
    let shape = prop_oneof![shape(), line()];
    of(shape, prop::collection::vec(event(6), events))
}

fn of(
    shape: impl Strategy<Value = Shape>,
    events: impl Strategy<Value = Vec<Event>>,
) -> impl Strategy<Value = Scenario> {
    let start =
        prop_oneof![3 => Just(Start::Now), 1 => Just(Start::Spread), 1 => Just(Start::Later)];
    (
        shape,
        prop::collection::vec(start, 1..3),
        (1..4_usize, 1..6_usize, 0..3_i32),
        events,
    )
        .prop_map(
            |(shape, tasks, (slice, children, max_lost), events)| Scenario {
                shape,
                tasks,
                slice,
                children,
                max_lost,
                events,
            },
        )
}

/// Scenarios that chance hardly meets, each for a fault that was there.
pub(crate) fn rare() -> Vec<Scenario> {
    let pass = Event::Pass {
        server: 0,
        pick: 0,
        most: 8,
    };
    // A step has run though the task waits for its time; then the task is stale, and two steps wait, one below the other.
    let behind_a_start = Scenario {
        shape: Shape {
            blocks: false,
            steps: vec![(vec![], 1), (vec![], 1), (vec![1], 1), (vec![2], 1)],
        },
        tasks: vec![Start::Later],
        slice: 3,
        children: 5,
        max_lost: 0,
        events: vec![
            Event::Ask {
                task: 0,
                wish: Wish::Resolve(0),
            },
            pass,
            Event::Claim { worker: 0, pick: 0 },
            Event::End {
                pick: 0,
                outcome: Outcome::Success,
                late: false,
            },
            pass,
            Event::Age { task: 0 },
            pass,
            pass,
            pass,
        ],
    };
    vec![behind_a_start]
}
