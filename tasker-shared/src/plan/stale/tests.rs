#![allow(clippy::unwrap_used)]

use chrono::TimeDelta;

use super::*;
use TaskState as S;

/// Limits of 60 minutes in all, 30 waiting for dependencies, 20 for a retry and 10 in process.
fn limited() -> Lifecycle {
    Lifecycle {
        max_duration_minutes: Some(60),
        max_waiting_for_dependencies_minutes: Some(30),
        max_waiting_for_retry_minutes: Some(20),
        max_steps_in_process_minutes: Some(10),
        staleness_action: None,
    }
}

fn at(minute: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::minutes(minute)
}

/// A task that began at minute 0, changed at `changed`, in `state` at `now`.
fn life(state: TaskState, changed: i64, now: i64) -> Life {
    Life {
        state,
        since: at(0),
        changed_at: at(changed),
        now: at(now),
    }
}

#[test]
fn a_task_is_stale_when_it_is_past_a_limit_of_its_state_or_of_its_life() {
    use Verdict::{LookAgain, Over, Stale};
    let cases = [
        (life(S::StepsInProcess, 0, 9), LookAgain(at(10))),
        (life(S::StepsInProcess, 0, 10), Stale(Limit::InProcess)),
        (life(S::StepsInProcess, 5, 14), LookAgain(at(15))),
        (life(S::EvaluatingResults, 0, 10), Stale(Limit::InProcess)),
        // What another state would allow counts from now on.
        (life(S::WaitingForRetry, 0, 10), LookAgain(at(20))),
        (life(S::WaitingForRetry, 0, 5), LookAgain(at(15))),
        (life(S::WaitingForRetry, 0, 20), Stale(Limit::Retry)),
        (
            life(S::WaitingForDependencies, 0, 30),
            Stale(Limit::Dependencies),
        ),
        (life(S::WaitingForDependencies, 29, 30), LookAgain(at(40))),
        // Progress does not make a life longer.
        (life(S::StepsInProcess, 59, 60), Stale(Limit::Duration)),
        (life(S::StepsInProcess, 55, 55), LookAgain(at(60))),
        (life(S::Pending, 0, 59), LookAgain(at(60))),
        (life(S::Pending, 0, 60), Stale(Limit::Duration)),
        (life(S::BlockedByFailures, 0, 600), Over),
        (life(S::Complete, 0, 600), Over),
        (life(S::Error, 0, 600), Over),
        (life(S::Cancelled, 0, 600), Over),
    ];
    for (life, expected) in cases {
        assert_eq!(judge(&limited(), &life), expected, "{life:?}");
    }
}

#[test]
fn what_is_put_back_begins_anew() {
    let mut life = life(S::StepsInProcess, 5, 100);
    life.since = at(99);
    assert_eq!(
        judge(&limited(), &life),
        Verdict::LookAgain(at(109)),
        "the time in its state does not reach behind its beginning"
    );
}

#[test]
fn a_look_comes_no_later_than_any_limit_can_be_passed() {
    let one = Lifecycle {
        max_waiting_for_retry_minutes: Some(3),
        ..Lifecycle::default()
    };
    assert_eq!(
        judge(&one, &life(S::StepsInProcess, 0, 50)),
        Verdict::LookAgain(at(53))
    );
    let none = Lifecycle::default();
    assert_eq!(judge(&none, &life(S::StepsInProcess, 0, 50)), Verdict::Over);
}

#[test]
fn a_task_is_first_looked_at_after_the_shortest_of_its_limits() {
    assert_eq!(first_look(&limited(), at(5)), Some(at(15)));
    assert_eq!(first_look(&Lifecycle::default(), at(5)), None);
    let shown = Lifecycle {
        staleness_action: Some(StalenessAction::None),
        ..limited()
    };
    assert_eq!(first_look(&shown, at(5)), None);
    assert_eq!(action(&limited()), StalenessAction::Dlq);
}

#[test]
fn without_limits_of_its_own_a_task_is_measured_by_the_default_ones() {
    let cases = [
        (life(S::StepsInProcess, 0, 23), 30, Health::Healthy),
        (life(S::StepsInProcess, 0, 24), 30, Health::Warning),
        (life(S::StepsInProcess, 0, 30), 30, Health::Stale),
        (life(S::WaitingForRetry, 0, 24), 30, Health::Warning),
        (life(S::WaitingForDependencies, 0, 47), 60, Health::Healthy),
        (life(S::WaitingForDependencies, 0, 48), 60, Health::Warning),
    ];
    for (life, threshold, health) in cases {
        let measured = measure(&Lifecycle::default(), &life).unwrap();
        assert_eq!(
            (measured.threshold_minutes, measured.health),
            (threshold, health),
            "{life:?}"
        );
    }
    assert_eq!(
        measure(&Lifecycle::default(), &life(S::Pending, 0, 600)),
        None
    );
}

#[test]
fn the_limit_that_is_closest_measures_a_task() {
    let measured = measure(&limited(), &life(S::StepsInProcess, 50, 54)).unwrap();
    assert_eq!(
        (measured.limit, measured.health),
        (Limit::Duration, Health::Warning)
    );
    assert_eq!(measured.age, Duration::from_secs(54 * 60));
    assert_eq!(measured.in_state, Duration::from_secs(4 * 60));
    let measured = measure(&limited(), &life(S::StepsInProcess, 10, 20)).unwrap();
    assert_eq!(
        (measured.limit, measured.health),
        (Limit::InProcess, Health::Stale)
    );
}
