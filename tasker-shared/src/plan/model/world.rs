//! The tables in memory, accepting tasks, and sending messages. Each function says which statement it stands for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use uuid::Uuid;

use super::super::advance::{Advance, Rules};
use super::super::intervene::Action;
use super::super::{Blueprint, Kind, Message, Outcome, Route};
use super::scenario::{Scenario, Start};
use super::{Delivery, Key, stored};
use crate::ids;
use crate::state::step::StepState as S;
use crate::state::task::TaskState as T;

/// A rule of the statements that the world can leave out, so that what it is for shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// A message is applied by whoever has it, not only by whoever deletes it.
    Taken,
    /// A result counts for its step whichever delivery it is of.
    Attempt,
    /// A result counts whatever state its step is in.
    State,
    /// A result can be handed in as often as one likes.
    Submitted,
    /// What a stopped worker had is handed out again, and still its own.
    Rescued,
    /// A person's wish is done while a step's children are still being told.
    Spreading,
    /// What waits of a cancelled task stays where it can be claimed.
    Revoked,
    /// Only the first slice of a step's children is told.
    Rest,
    /// A skipped step tells nobody.
    Skipped,
    /// A task that ends badly makes no message.
    Buried,
}

/// A row of `steps`; the last of a task is its join, which every task has here, whether it is stored or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) state: S,
    pub(crate) waiting_on: i32,
    pub(crate) failed: i32,
    pub(crate) attempt: i32,
    pub(crate) tries: i32,
    pub(crate) lost: i32,
    /// Its row in `ready`.
    pub(crate) message: Option<i64>,
}

/// A row of `tasks`, its steps and its dead letter.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) uuid: Uuid,
    pub(crate) state: T,
    pub(crate) steps: Vec<Step>,
    /// It has a dead letter that is pending.
    pub(crate) buried: bool,
}

/// A row of `ready` or `delayed`.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub(crate) delivery: Delivery,
    pub(crate) tries: i32,
    pub(crate) lost: i32,
    pub(crate) worker: Option<usize>,
}

/// Everything.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) blueprint: Arc<Blueprint>,
    pub(crate) route: Route,
    pub(crate) rules: Rules,
    pub(crate) tasks: Vec<Task>,
    pub(crate) ready: BTreeMap<i64, Waiting>,
    pub(crate) delayed: BTreeMap<i64, Waiting>,
    pub(crate) results: BTreeMap<i64, Message>,
    pub(crate) attempts: BTreeMap<Delivery, Outcome>,
    /// Messages that came once more.
    pub(super) copies: BTreeSet<i64>,
    /// Messages that were taken and could come once more.
    pub(super) past: Vec<Message>,
    /// Every delivery that was ever claimed, with its row and its worker.
    pub(super) claimed: Vec<(i64, usize, Delivery)>,
    /// Whether each worker is alive.
    pub(super) workers: Vec<bool>,
    /// The server that owns each task's shard.
    pub(super) owners: Vec<usize>,
    /// The plan that each server keeps.
    pub(super) plans: [Option<Advance>; 2],
    pub(super) wishes: HashMap<Uuid, (usize, Action)>,
    /// How often each delivery changed its step.
    pub(super) applied: HashMap<Delivery, usize>,
    pub(super) broken: Option<Broken>,
    last_id: i64,
}

impl World {
    /// The world of a scenario, its tasks accepted.
    pub(crate) fn new(scenario: &Scenario, broken: Option<Broken>) -> World {
        let blueprint = scenario.shape.blueprint();
        let lanes: Vec<i32> = (1..=scenario.shape.steps.len() as i32).collect();
        let mut world = World {
            route: Route::new(blueprint.clone(), lanes.into()),
            blueprint,
            rules: scenario.rules(),
            tasks: Vec::new(),
            ready: BTreeMap::new(),
            delayed: BTreeMap::new(),
            results: BTreeMap::new(),
            attempts: BTreeMap::new(),
            copies: BTreeSet::new(),
            past: Vec::new(),
            claimed: Vec::new(),
            workers: vec![true, true],
            owners: vec![0; scenario.tasks.len()],
            plans: [None, None],
            wishes: HashMap::new(),
            applied: HashMap::new(),
            broken,
            last_id: 0,
        };
        for (number, start) in scenario.tasks.iter().enumerate() {
            world.accept(number, *start);
        }
        world
    }

    pub(super) fn breaks(&self, rule: Broken) -> bool {
        self.broken == Some(rule)
    }

    pub(super) fn next_id(&mut self) -> i64 {
        self.last_id += 1;
        self.last_id
    }

    pub(super) fn step(&mut self, task: usize, step_no: i32) -> &mut Step {
        &mut self.tasks[task].steps[step_no as usize - 1]
    }

    /// `accept_tasks`.
    fn accept(&mut self, number: usize, start: Start) {
        let graph = &self.blueprint.graph;
        let steps = (1..=graph.join()).map(|step_no| Step {
            state: S::Pending,
            waiting_on: graph.waiting_on(step_no),
            failed: 0,
            attempt: 0,
            tries: 0,
            lost: 0,
            message: None,
        });
        let uuid = Uuid::from_u128((0x0199_u128 << 112) | (7 << 76) | ((number as u128 + 1) << 20));
        self.tasks.push(Task {
            uuid,
            state: if start == Start::Now {
                T::StepsInProcess
            } else {
                T::Pending
            },
            steps: steps.collect(),
            buried: false,
        });
        let roots: Vec<i32> = self.blueprint.graph.children(0).to_vec();
        match start {
            Start::Now => roots.iter().for_each(|root| self.enqueue(number, *root)),
            Start::Spread => drop(self.send(number, Kind::SpreadWell, 0, 0)),
            Start::Later => {
                let id = self.next_id();
                let delivery = Delivery {
                    task: number,
                    step_no: 0,
                    attempt: 0,
                };
                self.delayed.insert(
                    id,
                    Waiting {
                        delivery,
                        tries: 0,
                        lost: 0,
                        worker: None,
                    },
                );
            }
        }
    }

    /// Puts a step on its lane, as its next delivery.
    pub(super) fn enqueue(&mut self, task: usize, step_no: i32) {
        let id = self.next_id();
        let step = self.step(task, step_no);
        step.state = S::Enqueued;
        step.attempt += 1;
        step.message = Some(id);
        let (attempt, tries, lost) = (step.attempt, step.tries, step.lost);
        let delivery = Delivery {
            task,
            step_no,
            attempt,
        };
        self.ready.insert(
            id,
            Waiting {
                delivery,
                tries,
                lost,
                worker: None,
            },
        );
    }

    /// Sends a message about no delivery; `progress` children were told.
    pub(super) fn send(&mut self, task: usize, kind: Kind, step_no: i32, progress: i32) -> i64 {
        let delivery = Delivery {
            task,
            step_no,
            attempt: 0,
        };
        let waiting = Waiting {
            delivery,
            tries: 0,
            lost: 0,
            worker: None,
        };
        self.send_of(&waiting, kind, progress)
    }

    /// Sends a message about a delivery.
    pub(super) fn send_of(&mut self, of: &Waiting, kind: Kind, progress: i32) -> i64 {
        let id = self.next_id();
        let task_uuid = self.tasks[of.delivery.task].uuid;
        let message = Message {
            shard: ids::shard_of(task_uuid),
            id,
            kind,
            task_uuid,
            correlation_id: task_uuid,
            step_no: of.delivery.step_no,
            attempt: of.delivery.attempt,
            tries: of.tries,
            lost: of.lost,
            template_id: self.blueprint.template_id,
            priority: 0,
            sampled: false,
            traced: false,
            progress,
            retry_after_ms: None,
            control: None,
        };
        self.results.insert(id, message);
        id
    }

    pub(super) fn task_of(&self, message: &Message) -> usize {
        self.tasks
            .iter()
            .position(|t| t.uuid == message.task_uuid)
            .unwrap()
    }

    pub(crate) fn key(&self, message: &Message) -> Key {
        Key {
            task: self.task_of(message),
            step_no: message.step_no,
            attempt: message.attempt,
            kind: stored(message.kind),
            progress: message.progress,
            control: message.control,
        }
    }

    /// Takes a message out, for ever.
    pub(super) fn take(&mut self, id: i64) -> Option<Message> {
        let message = self.results.remove(&id)?;
        self.copies.remove(&id);
        if matches!(message.kind, Kind::Ended(_) | Kind::Due) {
            self.past.push(message.clone());
        }
        Some(message)
    }
}
