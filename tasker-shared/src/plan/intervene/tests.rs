#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::template;

use StepState as S;
use TaskState as T;

/// a -> (b, c) -> d, as blueprint.
fn diamond(on_failure: &str) -> Blueprint {
    let source = format!(
        "name: t\nnamespace_name: n\nversion: 1.0.0\non_failure: {on_failure}\nsteps:
  - {{name: a, handler: {{callable: echo}}}}
  - {{name: b, handler: {{callable: echo}}, dependencies: [a]}}
  - {{name: c, handler: {{callable: echo}}, dependencies: [a]}}
  - {{name: d, handler: {{callable: echo}}, dependencies: [b, c]}}\n"
    );
    Blueprint::new(
        1,
        template::parse(&source, "t", &template::Limits::default()).unwrap(),
    )
}

/// A task whose counts are what its states say.
fn snapshot(task: TaskState, states: [StepState; 5], blueprint: &Blueprint) -> Snapshot {
    let mut steps: Vec<StepRow> = states
        .iter()
        .map(|&state| StepRow {
            state,
            waiting_on: 0,
            failed: 0,
            tries: 3,
            lost: 1,
        })
        .collect();
    for number in 1..=5 {
        let (mut waiting_on, mut failed) = (0, 0);
        for &parent in blueprint.graph.parents(number) {
            let state = states[(parent - 1) as usize];
            waiting_on += i32::from(!state.has_ended());
            failed += i32::from(state.ended_badly());
        }
        let step = &mut steps[(number - 1) as usize];
        (step.waiting_on, step.failed) = (waiting_on, failed);
    }
    Snapshot { task, steps }
}

fn after(before: &Snapshot, plan: &Intervention) -> (TaskState, Vec<StepState>) {
    let mut states: Vec<StepState> = before.steps.iter().map(|s| s.state).collect();
    for (number, step) in &plan.steps {
        states[(number - 1) as usize] = step.state;
    }
    (plan.task.unwrap_or(before.task), states)
}

const FAILED: [StepState; 5] = [S::Complete, S::Error, S::Complete, S::Skipped, S::Skipped];

#[test]
fn cancelling_ends_every_step_that_has_not_ended() {
    let blueprint = diamond("fail");
    let states = [
        S::Complete,
        S::Enqueued,
        S::WaitingForRetry,
        S::Pending,
        S::Pending,
    ];
    let before = snapshot(T::StepsInProcess, states, &blueprint);
    let plan = plan(&before, &blueprint, &Action::Cancel).unwrap();
    let cancelled = [
        S::Complete,
        S::Cancelled,
        S::Cancelled,
        S::Cancelled,
        S::Cancelled,
    ];
    assert_eq!(after(&before, &plan), (T::Cancelled, cancelled.to_vec()));
}

#[test]
fn a_join_that_is_not_stored_is_what_follows_from_the_last_step() {
    let blueprint = diamond("fail");
    for (leaf, join) in [
        (S::Pending, S::Pending),
        (S::Enqueued, S::Pending),
        (S::Complete, S::Complete),
        (S::ResolvedManually, S::Complete),
        (S::Error, S::Skipped),
        (S::Skipped, S::Skipped),
        (S::Cancelled, S::Cancelled),
    ] {
        let states = [S::Complete, S::Complete, S::Complete, leaf, join];
        let whole = snapshot(T::StepsInProcess, states, &blueprint);
        let made = Snapshot::new(T::StepsInProcess, whole.steps[..4].to_vec(), &blueprint);
        let expected = StepRow {
            tries: 0,
            lost: 0,
            ..whole.steps[4].clone()
        };
        assert_eq!(made.steps[4..], [expected], "{leaf:?}");
    }
}

#[test]
fn a_task_that_has_ended_is_not_cancelled() {
    let blueprint = diamond("fail");
    for task in [T::Complete, T::Error, T::Cancelled, T::ResolvedManually] {
        let before = snapshot(task, FAILED, &blueprint);
        assert!(matches!(
            plan(&before, &blueprint, &Action::Cancel),
            Err(Refused::Task(..))
        ));
    }
}

#[test]
fn retrying_puts_failed_steps_back_and_unskips_what_is_below_them() {
    let blueprint = diamond("fail");
    let before = snapshot(T::Error, FAILED, &blueprint);
    let plan = plan(&before, &blueprint, &Action::Retry).unwrap();
    let expected = [
        S::Complete,
        S::Enqueued,
        S::Complete,
        S::Pending,
        S::Pending,
    ];
    assert_eq!(
        after(&before, &plan),
        (T::StepsInProcess, expected.to_vec())
    );
    let step = |no: i32| {
        plan.steps
            .iter()
            .find(|(n, _)| *n == no)
            .map(|(_, s)| s.clone())
    };
    let b = step(2).unwrap();
    assert_eq!((b.tries, b.lost), (0, 0), "its attempts begin anew");
    let d = step(4).unwrap();
    assert_eq!((d.waiting_on, d.failed), (1, 0));
}

#[test]
fn retrying_is_refused_where_nothing_failed_or_the_task_was_cancelled() {
    let blueprint = diamond("fail");
    let fine = snapshot(
        T::StepsInProcess,
        [S::Enqueued, S::Pending, S::Pending, S::Pending, S::Pending],
        &blueprint,
    );
    assert!(matches!(
        plan(&fine, &blueprint, &Action::Retry),
        Err(Refused::Task(..))
    ));
    let cancelled = snapshot(T::Cancelled, FAILED, &blueprint);
    assert!(matches!(
        plan(&cancelled, &blueprint, &Action::Retry),
        Err(Refused::Task(..))
    ));
}

#[test]
fn resolving_the_only_failure_lets_the_rest_run() {
    let blueprint = diamond("block");
    let before = snapshot(T::BlockedByFailures, FAILED, &blueprint);
    let plan = plan(&before, &blueprint, &Action::Resolve { step_no: 2 }).unwrap();
    let expected = [
        S::Complete,
        S::ResolvedManually,
        S::Complete,
        S::Enqueued,
        S::Pending,
    ];
    assert_eq!(
        after(&before, &plan),
        (T::StepsInProcess, expected.to_vec())
    );
}

#[test]
fn resolving_the_last_failure_of_a_stuck_task_resolves_the_task() {
    let blueprint = diamond("fail");
    let states = [S::Complete, S::Complete, S::Complete, S::Error, S::Skipped];
    let before = snapshot(T::Error, states, &blueprint);
    let plan = plan(&before, &blueprint, &Action::Complete { step_no: 4 }).unwrap();
    let (task, steps) = after(&before, &plan);
    assert_eq!(
        (task, steps[3], steps[4]),
        (T::ResolvedManually, S::Complete, S::Complete)
    );
}

#[test]
fn with_another_failure_left_the_task_stays_stuck() {
    let blueprint = diamond("fail");
    let states = [S::Complete, S::Error, S::Error, S::Skipped, S::Skipped];
    let before = snapshot(T::Error, states, &blueprint);
    let plan = plan(&before, &blueprint, &Action::Resolve { step_no: 2 }).unwrap();
    let (task, steps) = after(&before, &plan);
    assert_eq!((task, steps[3]), (T::Error, S::Skipped));
}

#[test]
fn a_step_changes_only_where_no_handler_can_be_running_it() {
    let blueprint = diamond("fail");
    let before = snapshot(
        T::StepsInProcess,
        [S::Enqueued, S::Pending, S::Pending, S::Pending, S::Pending],
        &blueprint,
    );
    for action in [
        Action::Reset { step_no: 1 },
        Action::Resolve { step_no: 1 },
        Action::Complete { step_no: 1 },
    ] {
        assert!(matches!(
            plan(&before, &blueprint, &action),
            Err(Refused::Step { .. })
        ));
    }
    for step_no in [0, 5, 6, -1] {
        assert_eq!(
            plan(&before, &blueprint, &Action::Resolve { step_no }),
            Err(Refused::NoStep(step_no)),
            "the start and the join are nobody's to resolve"
        );
    }
}

/// a, b -> c, as blueprint.
fn pair() -> Blueprint {
    let source = "name: t\nnamespace_name: n\nversion: 1.0.0\nsteps:
  - {name: a, handler: {callable: echo}}
  - {name: b, handler: {callable: echo}}
  - {name: c, handler: {callable: echo}, dependencies: [a, b]}\n";
    let template = template::parse(source, "t", &template::Limits::default());
    Blueprint::new(1, template.unwrap())
}

/// Its counts are what the states say.
fn waiting(task: TaskState, states: [StepState; 4]) -> Snapshot {
    let waits = [0, 0, 2, 1];
    let steps = states.into_iter().zip(waits).map(|(state, waits)| StepRow {
        state,
        waiting_on: waits,
        failed: 0,
        tries: 0,
        lost: 0,
    });
    Snapshot {
        task,
        steps: steps.collect(),
    }
}

#[test]
fn a_task_that_waits_for_its_time_does_not_start_by_a_manual_change() {
    let before = waiting(T::Pending, [S::Pending; 4]);
    let plan = plan(&before, &pair(), &Action::Resolve { step_no: 1 }).unwrap();
    let expected = [S::ResolvedManually, S::Pending, S::Pending, S::Pending];
    assert_eq!(after(&before, &plan), (T::Pending, expected.to_vec()));
}

#[test]
fn a_root_that_waits_for_its_time_waits_though_another_step_runs() {
    let states = [S::Error, S::Pending, S::Pending, S::Pending];
    let before = waiting(T::StepsInProcess, states);
    let plan = plan(&before, &pair(), &Action::Retry).unwrap();
    let expected = [S::Enqueued, S::Pending, S::Pending, S::Pending];
    assert_eq!(
        after(&before, &plan),
        (T::StepsInProcess, expected.to_vec())
    );
}

#[test]
fn a_step_does_not_end_by_hand_before_those_above_it() {
    let blueprint = diamond("fail");
    for task in [T::Pending, T::StepsInProcess] {
        let before = snapshot(task, [S::Pending; 5], &blueprint);
        for action in [
            Action::Resolve { step_no: 2 },
            Action::Complete { step_no: 4 },
        ] {
            let refused = plan(&before, &blueprint, &action).unwrap_err();
            assert!(
                refused.to_string().contains("have not ended"),
                "{action:?}: {refused}"
            );
        }
    }
}

#[test]
fn a_task_that_waits_for_its_time_starts_where_a_manual_change_lets_a_step_run() {
    let blueprint = diamond("fail");
    let before = snapshot(T::Pending, [S::Pending; 5], &blueprint);
    let plan = plan(&before, &blueprint, &Action::Resolve { step_no: 1 }).unwrap();
    let expected = [
        S::ResolvedManually,
        S::Enqueued,
        S::Enqueued,
        S::Pending,
        S::Pending,
    ];
    assert_eq!(
        after(&before, &plan),
        (T::StepsInProcess, expected.to_vec())
    );
}

proptest! {
    /// Whatever the states, after a retry no step is left that could run and does not, none is skipped
    /// without a failure above it, and the counts are what the states say.
    #[test]
    fn after_a_retry_every_step_is_where_its_parents_put_it(numbers in proptest::array::uniform4(prop_oneof![Just(0_i16), Just(1), Just(5), Just(6), Just(7), Just(10)])) {
        let blueprint = diamond("fail");
        let mut states = [S::Pending; 5];
        for (state, number) in states.iter_mut().zip(numbers) {
            *state = S::from_i16(number).unwrap();
        }
        let before = snapshot(T::StepsInProcess, states, &blueprint);
        if let Ok(plan) = plan(&before, &blueprint, &Action::Retry) {
            let (_, states) = after(&before, &plan);
            for number in 1..=5_i32 {
                let parents: Vec<S> = blueprint.graph.parents(number).iter().map(|p| states[(*p - 1) as usize]).collect();
                let ready = parents.iter().all(|p| p.has_ended());
                let failed = parents.iter().any(|p| p.ended_badly());
                let state = states[(number - 1) as usize];
                // A root that waits does so for the task's start.
                let unstarted = number == 1 && before.steps[0].state == S::Pending;
                prop_assert!(!(state == S::Pending && ready) || unstarted, "step {} could go on", number);
                prop_assert!(state != S::Skipped || failed, "step {} skipped for nothing", number);
                prop_assert_ne!(state, S::Error);
            }
        }
    }
}
