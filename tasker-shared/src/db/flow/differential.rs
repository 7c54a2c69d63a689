//! The model of `plan::model` against PostgreSQL: the same things happen in both, and after each of them the tables
//! say the same.

use std::collections::HashMap;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngSeed, TestRunner};

use super::*;
use crate::db::{advance, dead_letters, staleness, unroutable};
use crate::plan::advance::{Advance, plan};
use crate::plan::dead_letter::Resolution;
use crate::plan::model::scenario::{Scenario, Start, rare, scenario};
use crate::plan::model::world as model;
use crate::plan::model::{Act, Delivery, Key, stored};

mod tables;

/// Each is a second or so of statements; `PROPTEST_CASES` is for more.
const CASES: u64 = 12;
const EVENTS: usize = 80;
/// More than there ever is of anything.
const MOST: i64 = 10_000;

/// PostgreSQL beside the model: who the numbers of the model are.
struct Beside<'w> {
    world: &'w mut World,
    route: Route,
    tasks: Vec<Uuid>,
    workers: Vec<Uuid>,
    stopped: Vec<Uuid>,
    servers: [Uuid; 2],
    owners: Vec<usize>,
    plans: [Option<Advance>; 2],
    claimed: HashMap<Delivery, Claimed>,
    wishes: HashMap<Uuid, intervene::Action>,
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Scenarios, the same ones every time, and those that chance hardly meets.
fn scenarios(count: u64) -> impl Iterator<Item = (u64, Scenario)> {
    let mut runner = TestRunner::new(Config {
        rng_seed: RngSeed::Fixed(number("PROPTEST_RNG_SEED").unwrap_or(4)),
        ..Config::default()
    });
    let made = move |case| {
        (
            case,
            scenario(EVENTS).new_tree(&mut runner).unwrap().current(),
        )
    };
    let rare = (1_000_000..).zip(rare());
    (0..count).map(made).chain(rare)
}

#[tokio::test]
async fn postgresql_does_what_the_model_says() {
    let mut world = World::new().await;
    let mut acts = 0;
    for (case, scenario) in scenarios(number("PROPTEST_CASES").unwrap_or(CASES)) {
        let played = play(&mut world, case, &scenario, None).await;
        acts += played.unwrap_or_else(|why| panic!("{why}\nof {scenario:#?}"));
    }
    assert!(acts > 100, "only {acts} things happened");
}

#[tokio::test]
async fn a_model_that_leaves_out_a_rule_is_told_from_postgresql() {
    let mut world = World::new().await;
    let rules = [
        model::Broken::Buried,
        model::Broken::Skipped,
        model::Broken::Rest,
    ];
    for (place, rule) in (1..).zip(rules) {
        let mut told = false;
        for (case, scenario) in scenarios(100) {
            let case = place * 10_000_000 + case;
            let played = play(&mut world, case, &scenario, Some(rule)).await;
            told = played.is_err();
            if told {
                break;
            }
        }
        assert!(told, "nothing shows that PostgreSQL keeps {rule:?}");
    }
}

/// Lets a scenario happen in both; returns how many things were done, or what one says and the other does not.
async fn play(
    world: &mut World,
    case: u64,
    scenario: &Scenario,
    broken: Option<model::Broken>,
) -> Result<usize, String> {
    let mut model = model::World::new(scenario, broken);
    let mut beside = Beside::new(world, case, scenario).await;
    let mut acts = Vec::new();
    beside.compare(&model).await?;
    for event in &scenario.events {
        let done = match model.happen(*event) {
            Ok(done) => done,
            // That is what its own rules are for.
            Err(_) if broken.is_some() => break,
            Err(why) => return Err(why),
        };
        for act in done {
            beside.act(&act).await;
            acts.push(act);
        }
        let same = beside.compare(&model).await;
        same.map_err(|why| format!("{why}\nafter {acts:#?}"))?;
    }
    Ok(acts.len())
}

impl World {
    async fn store(&mut self, source: &str) -> Arc<Blueprint> {
        let template = template::parse(source, "t.yaml", &Limits::default()).unwrap();
        let connection = &mut self.connection;
        let mut transaction = Transaction::begin(connection, "test").await.unwrap();
        let id = templates::insert(&mut transaction, &template, source).await;
        transaction.commit().await.unwrap();
        let id = id.unwrap().unwrap();
        let found = self.blueprints.get([id]).await;
        found.unwrap().remove(&id).unwrap()
    }

    async fn run(&self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&self.pool).await.unwrap();
    }

    /// Tasks of a scenario, each on a shard of its own as in the model.
    fn tasks(&self, blueprint: &Blueprint, starts: &[Start]) -> Vec<NewTask> {
        let mut tasks: Vec<NewTask> = Vec::new();
        for start in starts {
            let (begin, run_at) = match start {
                Start::Now => (Begin::Now, None),
                Start::Spread => (Begin::Spread, None),
                Start::Later => (Begin::At(Utc::now()), Some(Utc::now())),
            };
            let task = loop {
                let task = self.task(blueprint, begin.clone());
                let shard = ids::shard_of(task.task_uuid);
                if tasks.iter().all(|t| ids::shard_of(t.task_uuid) != shard) {
                    break task;
                }
            };
            tasks.push(NewTask { run_at, ..task });
        }
        tasks
    }
}

impl<'w> Beside<'w> {
    async fn new(world: &'w mut World, case: u64, scenario: &Scenario) -> Beside<'w> {
        world
            .run(
                "TRUNCATE tasker.tasks, tasker.steps, tasker.attempts, tasker.ready, tasker.results, tasker.delayed,
                    tasker.controls, tasker.dead_letters, tasker.deadlines, tasker.task_counts, tasker.workers",
            )
            .await;
        world.rules = scenario.rules();
        let blueprint = world
            .store(&scenario.shape.yaml(&format!("case{case}")))
            .await;
        let tasks = world.tasks(&blueprint, &scenario.tasks);
        world.accept(&tasks, &blueprint).await;
        let mut beside = Beside {
            route: world.route(&blueprint, 0).await,
            world,
            owners: vec![0; tasks.len()],
            tasks: tasks.iter().map(|t| t.task_uuid).collect(),
            workers: Vec::new(),
            stopped: Vec::new(),
            servers: [Uuid::now_v7(), Uuid::now_v7()],
            plans: [None, None],
            claimed: HashMap::new(),
            wishes: HashMap::new(),
        };
        for _ in 0..2 {
            beside.hire().await;
        }
        for task in 0..tasks.len() {
            beside.give(task, 0).await;
        }
        beside
    }

    async fn hire(&mut self) {
        let worker = Uuid::now_v7();
        self.world.register(worker).await;
        self.workers.push(worker);
    }

    async fn give(&mut self, task: usize, server: usize) {
        let sql = "UPDATE tasker.shards SET owner = $1, until = now() + interval '1 hour' WHERE shard = $2";
        let query = sqlx::query(sql).bind(self.servers[server]);
        let query = query.bind(ids::shard_of(self.tasks[task]));
        query.execute(&self.world.pool).await.unwrap();
        self.owners[task] = server;
    }

    /// Does what was done in the model.
    async fn act(&mut self, act: &Act) {
        match act {
            Act::Claim { worker, delivery } => self.claim(*worker, *delivery).await,
            Act::End {
                worker,
                delivery,
                outcome,
            } => {
                let step = self.claimed[delivery].clone();
                let worker = self.workers[*worker];
                self.world.end_as(worker, &step, *outcome).await;
            }
            Act::Stop { worker } => {
                let worker = self.workers[*worker];
                workers::stop(&self.world.pool, worker).await.unwrap();
                self.stopped.push(worker);
                self.hire().await;
            }
            Act::Rescue => {
                let rescued = workers::rescue(&self.world.pool, &self.stopped, MOST).await;
                rescued.unwrap();
            }
            Act::Promote { due } => self.promote(due).await,
            Act::Copy {
                message,
                tries,
                lost,
            } => self.copy(message, *tries, *lost).await,
            Act::Plan { server, messages } => {
                let messages = self.find(messages).await;
                let route = &self.route;
                let plan = plan(messages, &self.world.rules, |_| Some(route), || 0.5);
                self.plans[*server] = Some(plan);
            }
            Act::Apply { server } => self.apply(*server).await,
            Act::Give { task, server } => self.give(*task, *server).await,
            Act::Ask {
                task,
                control,
                action,
            } => {
                let (pool, task) = (&self.world.pool, self.tasks[*task]);
                assert!(controls::ask(pool, *control, task, "{}").await.unwrap());
                self.wishes.insert(*control, action.clone());
            }
            Act::Unroute => self.unroute().await,
            Act::Age { task } => {
                let stale = staleness::Stale {
                    task_uuid: self.tasks[*task],
                    error: "{}".into(),
                };
                let server = self.servers[self.owners[*task]];
                let connection = &mut self.world.connection;
                let failed = staleness::fail(connection, server, &[stale], MOST).await;
                failed.unwrap();
            }
        }
    }

    async fn claim(&mut self, worker: usize, delivery: Delivery) {
        let sql = "SELECT lane, id FROM tasker.ready WHERE task_uuid = $1 AND step_no = $2 AND attempt = $3";
        let query = sqlx::query_as(sql)
            .bind(self.tasks[delivery.task])
            .bind(delivery.step_no)
            .bind(delivery.attempt);
        let (lane, id): (i32, i64) = query.fetch_one(&self.world.pool).await.unwrap();
        let take = Take {
            lane,
            behind: id - 1,
            most: 1,
        };
        let worker = self.workers[worker];
        let claimed = claim::claim(&mut self.world.connection, worker, &[take], 1).await;
        let claimed = claimed.unwrap().remove(0);
        assert_eq!(claimed.id, id, "{delivery:?}");
        self.claimed.insert(delivery, claimed);
    }

    /// Makes these and nothing else due.
    async fn promote(&mut self, due: &[Delivery]) {
        self.world
            .run("UPDATE tasker.delayed SET due_at = '2100-01-01'; UPDATE tasker.steps SET due_at = '2100-01-01' WHERE state = 5")
            .await;
        for delivery in due {
            let sql = "UPDATE tasker.delayed SET due_at = '2000-01-01' WHERE task_uuid = $1 AND step_no = $2 AND attempt = $3";
            let query = sqlx::query(sql)
                .bind(self.tasks[delivery.task])
                .bind(delivery.step_no)
                .bind(delivery.attempt);
            query.execute(&self.world.pool).await.unwrap();
        }
        let shards: Vec<i16> = (0..ids::SHARDS).collect();
        let promoted = delayed::promote(&self.world.pool, &shards, MOST).await;
        promoted.unwrap();
    }

    async fn copy(&mut self, message: &Key, tries: i32, lost: i32) {
        let sql = "INSERT INTO tasker.results (shard, kind, task_uuid, correlation_id, sent_at, step_no, attempt, tries, lost, template_id, priority, sampled)
                   VALUES (tasker.shard_of($1), $2, $1, $1, now(), $3, $4, $5, $6, $7, 0, false)";
        let query = sqlx::query(sql)
            .bind(self.tasks[message.task])
            .bind(message.kind)
            .bind(message.step_no)
            .bind(message.attempt)
            .bind(tries)
            .bind(lost)
            .bind(self.route.blueprint.template_id);
        query.execute(&self.world.pool).await.unwrap();
    }

    async fn unroute(&mut self) {
        let lanes = sqlx::query_scalar("SELECT lane FROM tasker.lanes").fetch_all(&self.world.pool);
        let lanes: Vec<i32> = lanes.await.unwrap();
        let failed = unroutable::fail(&self.world.pool, &lanes, -3600, MOST).await;
        failed.unwrap();
    }

    fn key(&self, message: &Message) -> Key {
        Key {
            task: self.number(message.task_uuid),
            step_no: message.step_no,
            attempt: message.attempt,
            kind: stored(message.kind),
            progress: message.progress,
            control: message.control,
        }
    }

    fn number(&self, task_uuid: Uuid) -> usize {
        self.tasks.iter().position(|t| *t == task_uuid).unwrap()
    }

    /// The messages that say this, in this order.
    async fn find(&mut self, keys: &[Key]) -> Vec<Message> {
        let mut messages = self.world.messages().await;
        let mut take = |key: &Key| {
            let place = messages.iter().position(|m| self.key(m) == *key);
            messages.swap_remove(place.unwrap_or_else(|| panic!("there is no {key:?}")))
        };
        keys.iter().map(&mut take).collect()
    }

    async fn apply(&mut self, server: usize) {
        let plan = self.plans[server].take().unwrap();
        let server = self.servers[server];
        let applied = advance::apply(&mut self.world.connection, server, &plan, false).await;
        applied.unwrap();
        let owner = std::mem::replace(&mut self.world.server, server);
        self.world.bury(&plan.burials).await;
        self.world.server = owner;
        for message in &plan.controls {
            self.control(server, message).await;
        }
    }

    /// As `lifecycle::control::apply` of the server.
    async fn control(&mut self, server: Uuid, message: &Message) {
        let connection = &mut self.world.connection;
        let mut transaction = Transaction::begin(connection, "test").await.unwrap();
        let spreading = controls::is_spreading(&mut transaction, message).await;
        if spreading.unwrap() {
            return transaction.rollback().await.unwrap();
        }
        let taken = controls::take(&mut transaction, server, message).await;
        if !taken.unwrap() {
            return transaction.rollback().await.unwrap();
        }
        let task_uuid = message.task_uuid;
        let snapshot = controls::lock(&mut transaction, task_uuid).await.unwrap();
        let action = &self.wishes[&message.control.unwrap()];
        if let Ok(plan) = intervene::plan(&snapshot, &self.route.blueprint, action) {
            if let intervene::Action::Resolve { step_no }
            | intervene::Action::Complete { step_no } = action
            {
                let made = controls::insert_manual_attempt(
                    &mut transaction,
                    task_uuid,
                    *step_no,
                    "1",
                    "{}",
                );
                made.await.unwrap();
            }
            let changed =
                controls::intervene(&mut transaction, message, &snapshot, &plan, &self.route);
            let changed = changed.await.unwrap();
            if changed.task.is_some() || *action == intervene::Action::Retry {
                let resolved = Resolution::ManuallyResolved;
                let done = dead_letters::resolve(&mut transaction, task_uuid, resolved, None, None);
                done.await.unwrap();
            }
        }
        transaction.commit().await.unwrap();
    }
}
