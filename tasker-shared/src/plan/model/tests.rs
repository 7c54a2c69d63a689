use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};

use super::drain::play;
use super::scenario::{self, Scenario, scenario};
use super::world::Broken;
use crate::state::task::TaskState as T;

const EVENTS: usize = 60;
/// Takes a second or two without optimisation; `PROPTEST_CASES` is for more, `PROPTEST_RNG_SEED` for others.
const CASES: u32 = 600;
/// As long as it takes to see what a rule is for.
const CASES_UNTIL_BROKEN: u32 = 20_000;

fn runner(cases: u32) -> TestRunner {
    let fixed = std::env::var_os("PROPTEST_RNG_SEED").is_none();
    let given = std::env::var_os("PROPTEST_CASES").is_some();
    let default = Config::default();
    TestRunner::new(Config {
        cases: if given { default.cases } else { cases },
        rng_seed: if fixed {
            RngSeed::Fixed(20)
        } else {
            default.rng_seed
        },
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..default
    })
}

/// The simplest scenario that breaks a rule, and how.
fn find(cases: u32, test: impl Fn(&Scenario) -> Result<(), String>) -> Option<(String, Scenario)> {
    let outcome = runner(cases).run(&scenario(EVENTS), |scenario| {
        test(&scenario).map_err(TestCaseError::fail)
    });
    match outcome {
        Ok(()) => None,
        Err(TestError::Fail(why, scenario)) => Some((why.to_string(), scenario)),
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}

#[track_caller]
fn holds(test: impl Fn(&Scenario) -> Result<(), String>) {
    if let Some((why, scenario)) = find(CASES, test) {
        panic!("{why}\n{}{scenario:#?}", scenario.shape.yaml("shrunk"));
    }
}

#[test]
fn whatever_happens_every_rule_holds_and_every_task_comes_to_its_end() {
    holds(|scenario| play(scenario, None)?.drain());
}

#[test]
fn whatever_happened_a_retry_brings_every_task_home() {
    holds(|scenario| {
        let mut world = play(scenario, None)?;
        world.drain()?;
        world.retry_all()?;
        world.drain()?;
        let home = |t: &T| matches!(t, T::Complete | T::ResolvedManually | T::Cancelled);
        match world.tasks.iter().find(|t| !home(&t.state)) {
            None => Ok(()),
            Some(task) => Err(format!("a retry left {task:?}")),
        }
    });
}

/// Without any one of these, some scenario goes wrong: the model sees what each is for.
#[test]
fn a_statement_that_leaves_out_one_of_its_rules_is_found_out() {
    let rules = [
        Broken::Taken,
        Broken::Attempt,
        Broken::State,
        Broken::Submitted,
        Broken::Rescued,
        Broken::Spreading,
        Broken::Revoked,
        Broken::Rest,
        Broken::Skipped,
        Broken::Buried,
    ];
    for rule in rules {
        let found = find(CASES_UNTIL_BROKEN, |scenario| {
            play(scenario, Some(rule))?.drain()
        });
        let (why, scenario) =
            found.unwrap_or_else(|| panic!("nothing shows that {rule:?} is needed"));
        println!("without {rule:?}, {} events: {why}", scenario.events.len());
    }
}

#[test]
fn what_chance_hardly_meets_keeps_every_rule_too() {
    for scenario in scenario::rare() {
        let mut world = play(&scenario, None).unwrap();
        world.drain().unwrap();
    }
}

#[test]
fn a_scenario_of_the_model_is_a_template_that_can_be_stored() {
    let stored = runner(64).run(&scenario(1), |scenario| {
        let blueprint = scenario.shape.blueprint();
        prop_assert_eq!(blueprint.graph.len(), scenario.shape.steps.len());
        Ok(())
    });
    stored.unwrap();
}
