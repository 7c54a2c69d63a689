use super::*;

/// Of each target: a second or two without optimisation. `TASKER_FUZZ_RUNS` is for more, `TASKER_FUZZ_SEED` for others.
const RUNS: usize = 8_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn drive(name: &str) {
    let target = TARGETS.iter().find(|t| t.name == name).unwrap();
    let seeds = target.seeds();
    assert!(!seeds.is_empty(), "{name} has no seeds");
    seeds.iter().for_each(|seed| (target.run)(seed));
    let mut mutator = Mutator::new(number("TASKER_FUZZ_SEED").unwrap_or(1));
    let runs = number("TASKER_FUZZ_RUNS").map_or(RUNS, |runs| usize::try_from(runs).unwrap());
    for run in 0..runs {
        let data = mutator.next(&seeds, target.words);
        let outcome = std::panic::catch_unwind(|| (target.run)(&data));
        if outcome.is_err() {
            panic!("run {run} of {name}: {:?}", String::from_utf8_lossy(&data));
        }
    }
}

#[test]
fn any_text_is_a_template_or_faults_with_their_places() {
    drive("template");
}

#[test]
fn any_bytes_are_a_body_of_the_api_or_an_error_with_its_place() {
    drive("request");
}

#[test]
fn any_text_is_a_result_or_refused_for_a_reason_another_reader_has_too() {
    drive("result");
}

#[test]
fn the_same_seed_makes_the_same_changes() {
    let seeds = [b"name: a".to_vec(), b"{}".to_vec()];
    let made = |seed| -> Vec<Vec<u8>> {
        let mut mutator = Mutator::new(seed);
        (0..50).map(|_| mutator.next(&seeds, &["x"])).collect()
    };
    assert_eq!(made(7), made(7));
    assert_ne!(made(7), made(8));
}
