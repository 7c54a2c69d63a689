//! A storm: tasks of all shapes run on several servers and workers while faults of every kind strike at moments that
//! a seed decides. At the end the database and what the handlers wrote down are audited against what was accepted.

pub mod audit;
mod circuit;
pub mod disk;
mod faults;
pub mod kind;
mod load;
pub mod plan;
mod recovery;
pub mod report;
pub mod runs;
mod scene;
pub mod shapes;
mod tables;
mod target;

use std::time::{Duration, Instant};

use kind::Kind;
pub use report::Report;
use scene::Scene;

/// Names the seed of a storm.
const SEED: &str = "TASKER_STORM_SEED";
/// How long what is under way at the end may take.
const REST: Duration = Duration::from_secs(120);

/// What kind of storm.
#[derive(Debug, Clone)]
pub struct Options {
    /// Decides which faults come, when and whom they strike, and which tasks are asked for.
    pub seed: u64,
    /// How many faults, at least; each possible kind comes at least once.
    pub faults: usize,
    pub servers: usize,
    pub workers: usize,
    /// Leases of three seconds instead of the default, so that less is waited for.
    pub short_leases: bool,
    pub tasks_per_second: f64,
    /// Only kinds whose name contains this; all where it is empty.
    pub only: String,
}

impl Options {
    /// Two servers and three workers under a load that two cores bear beside the faults. The seed is what
    /// `TASKER_STORM_SEED` says, otherwise chance's, and is printed.
    ///
    /// # Panics
    /// Where the variable holds no number.
    #[must_use]
    pub fn new(faults: usize) -> Self {
        let seed = match std::env::var(SEED) {
            Ok(text) => text
                .parse()
                .unwrap_or_else(|_| panic!("{SEED} is no number: {text}")),
            Err(_) => u64::from(rand::random::<u32>()),
        };
        Self {
            seed,
            faults,
            servers: 2,
            workers: 3,
            short_leases: false,
            tasks_per_second: 20.0,
            only: String::new(),
        }
    }

    /// Whether `only` leaves any kind of faults.
    #[must_use]
    pub fn names_a_kind(&self) -> bool {
        Kind::ALL.iter().any(|kind| self.names(*kind))
    }

    fn names(&self, kind: Kind) -> bool {
        kind.as_str().contains(&self.only)
    }
}

/// Raises a storm, waits until it is over and audits what it has left.
///
/// # Panics
/// When something does not come up, or a fault is not got over at all.
pub async fn run(options: &Options) -> Report {
    eprintln!("storm of seed {} ({SEED} repeats it)", options.seed);
    let began = Instant::now();
    let mut scene = Scene::set(options).await;
    let (mut kinds, skipped) = scene.kinds();
    kinds.retain(|kind| options.names(*kind));
    for (kind, why) in &skipped {
        eprintln!("skipped: {kind}: {why}");
    }
    let mut recoveries = Vec::new();
    let mut done = 0;
    for strike in plan::plan(options.seed, options.faults, &kinds) {
        let recovery = scene.strike(&strike).await;
        done += strike.faults();
        let names: Vec<String> = recovery
            .kinds
            .iter()
            .zip(&recovery.whom)
            .map(|((kind, struck), whom)| format!("{kind} [{}]", format!("{whom} {struck}").trim()))
            .collect();
        eprintln!(
            "{:>6.1} s {done:>4}  {} – got over in {:.1} s{}; {} tasks accepted",
            began.elapsed().as_secs_f64(),
            names.join(" + "),
            recovery.recovered.as_secs_f64(),
            recovery
                .taken_over
                .map_or_else(String::new, |taken| format!(
                    ", its steps with others in {:.1} s",
                    taken.time.as_secs_f64()
                )),
            scene.load.accepted(),
        );
        recoveries.push(recovery);
    }
    let mut accepted = scene.load.stop().await;
    accepted.extend(scene.probes);
    scene::at_rest(scene.stack.sql(), REST).await;
    let (pool, shapes) = (scene.stack.sql(), shapes::all());
    let mut audit = audit::audit(pool, &scene.runs, &accepted, &shapes, &scene.crashes).await;
    audit.wrong.append(&mut scene.wrong);
    Report {
        seed: options.seed,
        took: began.elapsed(),
        kinds,
        recoveries,
        skipped,
        audit,
    }
}
