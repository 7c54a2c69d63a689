use tasker_shared::config::Config;
use tasker_shared::name::Name;

use super::*;

fn limits() -> Backpressure {
    Backpressure {
        max_queue_depth: Some(1_000),
        ..Config::default().backpressure
    }
}

fn usage(used: usize, taken: u64) -> Usage {
    Usage {
        channel: Name::fixed("submissions"),
        component: Name::fixed("task_initializer"),
        capacity: 100,
        used,
        high_water: used,
        full_events: 0,
        taken,
    }
}

fn sample(oldest_request_s: Option<f64>, steps: i64) -> Waiting {
    Waiting {
        oldest_request_s,
        steps: Some(steps),
    }
}

fn secs(seconds: f64) -> Option<Duration> {
    Some(Duration::from_secs_f64(seconds))
}

#[test]
fn a_channel_near_its_end_refuses_for_as_long_as_it_takes_to_empty() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let mut measures = Measures::default();
    let well = measures.judge(&limits(), Some(&usage(89, 0)), start);
    assert_eq!(well, None);
    let full = measures.judge(&limits(), Some(&usage(100, 0)), start);
    assert_eq!(full, None, "a full one refuses by itself");
    measures.submissions(at(0), &usage(0, 0));
    measures.submissions(at(1_000), &usage(0, 3));
    assert_eq!(measures.drained_in(50), secs(0.0), "nobody ever waited");
    measures.submissions(at(2_000), &usage(50, 13));
    measures.submissions(at(2_100), &usage(50, 20));
    let (cause, wait) = measures
        .judge(&limits(), Some(&usage(90, 13)), start)
        .unwrap();
    let expected = Cause::Submissions {
        used: 90,
        capacity: 100,
    };
    assert_eq!((cause, wait), (expected, secs(9.0)), "ten a second");
    measures.submissions(at(3_000), &usage(95, 13));
    assert_eq!(measures.drained_in(90), secs(18.0), "and then none");
    let mut stuck = Measures::default();
    stuck.submissions(at(0), &usage(95, 13));
    stuck.submissions(at(1_000), &usage(95, 13));
    assert_eq!(stuck.drained_in(90), None);
    assert_eq!(stuck.drained_in(0), secs(0.0), "nobody waits");
}

#[test]
fn a_pool_in_use_for_a_moment_is_no_pressure_and_for_seconds_it_is() {
    let start = Instant::now();
    let mut measures = Measures::default();
    let mut over = Vec::new();
    for tenth in 0..80 {
        let share = if (5..75).contains(&tenth) { 1.0 } else { 0.0 };
        let now = start + Duration::from_millis(100 * tenth);
        measures.pool(now, share, limits().pool_percent);
        if let Some((Cause::Pool { .. }, wait)) = measures.judge(&limits(), None, now) {
            over.push((tenth, wait));
        }
    }
    let ((first, soon), (last, late)) = (over[0], over[over.len() - 1]);
    assert!((15..75).contains(&first) && last < 78, "{first} to {last}");
    assert_eq!(soon, secs(1.0));
    assert!(late > secs(3.0), "what lasted is told to last: {late:?}");
}

#[test]
fn old_submissions_by_sql_refuse_until_the_oldest_is_young_again() {
    let now = Instant::now();
    let before = now.checked_sub(Duration::from_secs(1)).unwrap();
    let table = [
        // the age before and now, and the time until it is under thirty seconds
        (Some(29.0), Some(29.9), None),
        (None, Some(3_600.0), None),
        (Some(3_600.0), None, None),
        (Some(12.0), Some(45.0), None),
        (Some(44.0), Some(45.0), Some(None)),
        (Some(48.0), Some(45.0), Some(secs(5.0))),
    ];
    for (age_before, age, expected) in table {
        let mut measures = Measures::default();
        measures.waiting(before, sample(age_before, 0));
        measures.waiting(now, sample(age, 0));
        let judged = measures.judge(&limits(), None, now);
        assert_eq!(
            judged.map(|(_, wait)| wait),
            expected,
            "{age_before:?}, {age:?}"
        );
    }
}

#[test]
fn a_queue_over_its_bound_refuses_and_without_a_bound_it_never_does() {
    let now = Instant::now();
    let before = now.checked_sub(Duration::from_secs(1)).unwrap();
    let table = [
        (2_000, 1_000, None),
        (900, 1_001, Some(None)),
        (1_300, 1_200, Some(secs(2.0))),
    ];
    for (depth_before, depth, expected) in table {
        let mut measures = Measures::default();
        measures.waiting(before, sample(None, depth_before));
        measures.waiting(now, sample(None, depth));
        let judged = measures.judge(&limits(), None, now);
        assert_eq!(judged.map(|(_, wait)| wait), expected, "{depth}");
        let unbounded = Config::default().backpressure;
        assert_eq!(measures.judge(&unbounded, None, now), None);
    }
}

#[test]
fn what_was_sampled_long_ago_or_far_apart_says_nothing() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    for (before, last, now, says) in [(0, 1, 2, true), (0, 1, 9, false), (0, 9, 9, false)] {
        let mut measures = Measures::default();
        measures.waiting(at(before), sample(Some(99.0), 5_000));
        measures.waiting(at(last), sample(Some(99.0), 5_000));
        let judged = measures.judge(&limits(), None, at(now));
        assert_eq!(judged.is_some(), says, "{before}, {last}, {now}");
    }
}
