//! The model of `plan::model` against PostgreSQL: the same things happen in both, and after each of them the tables
//! say the same.

use std::collections::{BTreeMap, HashMap};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngSeed, TestRunner};

use super::*;
use crate::plan::advance::Advance;
use crate::plan::model::scenario::{Scenario, Start, calm, rare, scenario};
use crate::plan::model::world as model;
use crate::plan::model::{Act, Delivery};

mod acting;
mod tables;

/// `PROPTEST_CASES` is for more.
const CASES: usize = 12;
/// How many times as many are played where most goes well.
const CALM: usize = 8;
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
fn scenarios(count: usize) -> impl Iterator<Item = (u64, Scenario)> {
    let rare = (1_000_000..).zip(rare());
    made(scenario(EVENTS)).take(count).chain(rare)
}

/// The same ones every time.
fn made(strategy: impl Strategy<Value = Scenario>) -> impl Iterator<Item = (u64, Scenario)> {
    let mut runner = TestRunner::new(Config {
        rng_seed: RngSeed::Fixed(number("PROPTEST_RNG_SEED").unwrap_or(4)),
        ..Config::default()
    });
    (0..).map(move |case| (case, strategy.new_tree(&mut runner).unwrap().current()))
}

fn cases() -> usize {
    number("PROPTEST_CASES").map_or(CASES, |cases| cases as usize)
}

#[tokio::test]
async fn postgresql_does_what_the_model_says() {
    let mut world = World::new().await;
    let mut acts: BTreeMap<&str, usize> = BTreeMap::new();
    for (case, scenario) in scenarios(cases()) {
        let played = play(&mut world, case, &scenario, None).await;
        for act in played.unwrap_or_else(|why| panic!("{why}\nof {scenario:#?}")) {
            *acts.entry(act.name()).or_default() += 1;
        }
    }
    for name in Act::NAMES {
        assert!(acts.contains_key(name), "no {name} among {acts:?}");
    }
    println!("{acts:?}");
}

#[tokio::test]
async fn postgresql_does_what_the_model_says_where_most_goes_well() {
    let mut world = World::new().await;
    for (case, scenario) in made(calm(EVENTS)).take(cases() * CALM) {
        let played = play(&mut world, case, &scenario, None).await;
        played.unwrap_or_else(|why| panic!("{why}\nof {scenario:#?}"));
    }
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

/// Lets a scenario happen in both; returns what was done, or what one says and the other does not.
async fn play(
    world: &mut World,
    case: u64,
    scenario: &Scenario,
    broken: Option<model::Broken>,
) -> Result<Vec<Act>, String> {
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
    Ok(acts)
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
}
