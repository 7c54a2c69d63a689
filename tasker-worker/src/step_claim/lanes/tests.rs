use super::*;
use crate::circuits::tests::claimed;

fn lane(lane: i32, priority: i16) -> Lane {
    Lane {
        lane,
        namespace: "n".into(),
        callable: "c".into(),
        priority,
        target: String::new(),
        parked_ms: None,
    }
}

#[test]
fn free_slots_are_shared_among_lanes_that_have_work_highest_priority_first() {
    let now = Instant::now();
    let mut lanes = Lanes::default();
    lanes.replace(vec![lane(1, 10), lane(2, 0), lane(3, 0), lane(4, 0)], now);
    lanes.active = vec![2, 3];
    let takes = lanes.takes(100, now, |_| false);
    assert_eq!((takes[0].lane, takes[0].most), (1, 100));
    assert!(takes[1..].iter().all(|t| t.most == 50));
}

#[test]
fn a_different_lane_begins_each_time() {
    let now = Instant::now();
    let mut lanes = Lanes::default();
    lanes.replace(vec![lane(1, 0), lane(2, 0), lane(3, 0)], now);
    let mut first: Vec<i32> = (0..3)
        .map(|_| lanes.takes(10, now, |_| false)[0].lane)
        .collect();
    first.sort_unstable();
    assert_eq!(first, [1, 2, 3]);
}

#[test]
fn nothing_is_asked_of_a_lane_whose_target_is_in_trouble_but_one_step_for_a_probe() {
    let now = Instant::now();
    let of = |number, target: &str| Lane {
        target: target.to_owned(),
        ..lane(number, 0)
    };
    let mut lanes = Lanes::default();
    lanes.replace(vec![of(1, "bank:443"), of(2, ""), of(3, "mail")], now);
    let bank = Name::of("bank:443");
    let mut asked: Vec<i32> = lanes
        .takes(10, now, |target| target == bank)
        .iter()
        .map(|take| take.lane)
        .collect();
    asked.sort_unstable();
    assert_eq!(asked, [2, 3]);
    let probe = lanes.of_target(bank, now);
    assert_eq!((probe.len(), probe[0].lane, probe[0].most), (1, 1, 1));
}

#[test]
fn nothing_is_asked_for_while_no_slot_is_free() {
    let mut lanes = Lanes::default();
    lanes.replace(vec![lane(1, 0)], Instant::now());
    assert!(lanes.takes(0, Instant::now(), |_| false).is_empty());
}

#[test]
fn a_lane_that_gives_all_that_is_asked_is_read_on_and_once_more_from_further_back_at_its_end() {
    let now = Instant::now();
    let mut lanes = Lanes::default();
    lanes.replace(vec![lane(1, 0)], now);
    let mut look = |ids: &[i64]| {
        let takes = lanes.takes(2, now, |_| false);
        (
            takes[0].span.behind,
            lanes.claimed(&steps(1, ids), &takes, 2, now),
        )
    };
    assert_eq!(look(&[8, 7]), (0, Found::Part));
    assert_eq!(look(&[9, 10]), (8, Found::Part));
    let late = "one with a lower id may have come since";
    assert_eq!(look(&[]), (10, Found::Part), "{late}");
    assert_eq!(look(&[6]), (0, Found::All));
    assert_eq!(look(&[]), (0, Found::Nothing));
}

#[test]
fn a_lane_that_a_full_claim_did_not_come_to_is_looked_at_as_if_for_the_first_time() {
    let now = Instant::now();
    let mut lanes = Lanes::default();
    lanes.replace(vec![lane(1, 10), lane(2, 0)], now);
    let takes = lanes.takes(3, now, |_| false);
    let first = steps(1, &[1, 2, 3]);
    assert_eq!(lanes.claimed(&first, &takes, 3, now), Found::Part);
    let takes = lanes.takes(3, now, |_| false);
    assert_eq!((takes[0].span.behind, takes[1].span.behind), (3, 0));
    let second = [steps(1, &[4]), steps(2, &[5, 6])].concat();
    assert_eq!(lanes.claimed(&second, &takes, 3, now), Found::Part);
    let takes = lanes.takes(3, now, |_| false);
    assert_eq!((takes[0].span.behind, takes[1].span.behind), (0, 6));
}

#[test]
fn after_a_crash_of_the_database_a_lane_is_looked_at_from_its_start() {
    let now = Instant::now();
    let mut lanes = Lanes::default();
    lanes.replace(vec![lane(1, 0)], now);
    let takes = lanes.takes(2, now, |_| false);
    lanes.claimed(&steps(1, &[7, 8]), &takes, 2, now);
    assert_eq!(lanes.takes(2, now, |_| false)[0].span.behind, 8);
    lanes.start_over();
    assert_eq!(lanes.takes(2, now, |_| false)[0].span.behind, 0);
}

fn steps(lane: i32, ids: &[i64]) -> Vec<Claimed> {
    let step = |id: &i64| Claimed {
        lane,
        id: *id,
        ..claimed(1, 0)
    };
    ids.iter().map(step).collect()
}
