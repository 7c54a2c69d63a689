#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use uuid::Uuid;

use super::*;
use crate::plan::{Blueprint, Route};
use crate::template;

const RULES: Rules = Rules {
    slice: 1000,
    children: 2000,
    max_lost: 3,
};

fn route(steps: &str) -> Route {
    let source = format!("name: t\nnamespace_name: n\nversion: 1.0.0\nsteps:\n{steps}");
    let template = template::parse(&source, "t.yaml", &template::Limits::default()).unwrap();
    let lanes: Vec<i32> = (0..template.steps.len() as i32).map(|i| 100 + i).collect();
    Route::new(Arc::new(Blueprint::new(7, template)), lanes.into())
}

fn diamond() -> Route {
    route(
        "  - {name: a, handler: {callable: echo}, retry: {max_attempts: 2, backoff: linear, backoff_base_ms: 100}}
  - {name: b, handler: {callable: echo}, dependencies: [a], retry: {retryable: false}}
  - {name: c, handler: {callable: echo}, dependencies: [a]}
  - {name: d, handler: {callable: echo}, dependencies: [b, c]}\n",
    )
}

fn fan_out(width: usize) -> Route {
    let mut steps = String::from("  - {name: root, handler: {callable: echo}}\n");
    for i in 0..width {
        steps.push_str(&format!(
            "  - {{name: s{i}, handler: {{callable: echo}}, dependencies: [root]}}\n"
        ));
    }
    route(&steps)
}

fn message(kind: Kind, step_no: i32) -> Message {
    Message {
        shard: 1,
        id: 1,
        kind,
        task_uuid: Uuid::nil(),
        correlation_id: Uuid::nil(),
        step_no,
        attempt: 1,
        tries: 0,
        lost: 0,
        template_id: 7,
        priority: 0,
        sampled: false,
        traced: false,
        progress: 0,
        retry_after_ms: None,
        control: None,
    }
}

fn ended(outcome: Outcome, step_no: i32) -> Message {
    message(Kind::Ended(outcome), step_no)
}

fn one(route: &Route, message: Message) -> (Move, Vec<Child>) {
    let advance = plan(vec![message], &RULES, |_| Some(route), || 0.5);
    let step = advance.moves.into_iter().next().unwrap();
    let children = advance.children[step.children.clone()].to_vec();
    (step, children)
}

#[test]
fn a_success_ends_the_step_and_tells_its_children_and_their_lanes() {
    let (step, children) = one(&diamond(), ended(Outcome::Success, 1));
    assert_eq!(step.step, Some((StepState::Enqueued, StepState::Complete)));
    assert_eq!((step.tries, step.bad, step.next), (1, false, None));
    let told: Vec<_> = children.iter().map(|c| (c.number, c.lane)).collect();
    assert_eq!(told, [(2, Some(101)), (3, Some(102))]);
}

#[test]
fn a_child_with_one_parent_waits_for_nothing_else() {
    for (ending, alone) in [(1, true), (2, false), (3, false), (4, true)] {
        let (_, children) = one(&diamond(), ended(Outcome::Success, ending));
        assert!(
            children.iter().all(|c| c.waits_for_one == alone),
            "{ending}"
        );
    }
}

#[test]
fn leaves_tell_the_join_which_has_no_lane_and_an_only_leaf_the_end() {
    let (one_leaf, three_leaves) = (diamond(), fan_out(3));
    for (route, leaf, number) in [(&one_leaf, 4, END), (&three_leaves, 3, 5)] {
        let (_, children) = one(route, ended(Outcome::Success, leaf));
        let told = Child {
            number,
            lane: None,
            waits_for_one: number == END,
        };
        assert_eq!(children, [told]);
    }
}

#[test]
fn outcomes_mean_what_the_table_says() {
    use StepState as S;
    let cases = [
        // outcome, step, tries before, lost before -> state, tries, lost, bad, waits
        (Outcome::Success, 1, 0, 0, S::Complete, 1, 0, false, false),
        (Outcome::Permanent, 1, 0, 0, S::Error, 1, 0, true, false),
        (
            Outcome::Retryable,
            1,
            0,
            0,
            S::WaitingForRetry,
            1,
            0,
            false,
            true,
        ),
        (
            Outcome::Timeout,
            1,
            0,
            0,
            S::WaitingForRetry,
            1,
            0,
            false,
            true,
        ),
        (
            Outcome::Panic,
            1,
            0,
            0,
            S::WaitingForRetry,
            1,
            0,
            false,
            true,
        ),
        (Outcome::Retryable, 1, 1, 0, S::Error, 2, 0, true, false),
        (Outcome::Retryable, 2, 0, 0, S::Error, 1, 0, true, false),
        (Outcome::Lost, 1, 1, 0, S::Enqueued, 1, 1, false, false),
        (Outcome::Lost, 1, 1, 3, S::Error, 1, 4, true, false),
        (Outcome::Released, 1, 1, 2, S::Enqueued, 1, 2, false, false),
        (Outcome::Cancelled, 1, 1, 2, S::Enqueued, 1, 2, false, false),
    ];
    for (outcome, step_no, tries, lost, state, tries_after, lost_after, bad, waits) in cases {
        let mut given = ended(outcome, step_no);
        (given.tries, given.lost) = (tries, lost);
        let (step, children) = one(&diamond(), given);
        let context = format!("{outcome:?} of step {step_no} after {tries} tries, {lost} lost");
        assert_eq!(step.step, Some((S::Enqueued, state)), "{context}");
        assert_eq!(
            (step.tries, step.lost),
            (tries_after, lost_after),
            "{context}"
        );
        assert_eq!((step.bad, step.delay.is_some()), (bad, waits), "{context}");
        assert_eq!(step.lane.is_some(), state == S::Enqueued, "{context}");
        assert_eq!(children.is_empty(), !state.has_ended(), "{context}");
    }
}

#[test]
fn a_retry_waits_as_its_template_says_and_longer_where_the_handler_asks() {
    let (step, _) = one(&diamond(), ended(Outcome::Retryable, 1));
    assert_eq!(step.delay, Some(Duration::from_millis(100)));
    let mut asked = ended(Outcome::Retryable, 1);
    asked.retry_after_ms = Some(5_000);
    let (step, _) = one(&diamond(), asked);
    assert_eq!(step.delay, Some(Duration::from_secs(5)));
}

#[test]
fn a_due_retry_goes_back_to_its_lane() {
    let (step, children) = one(&diamond(), message(Kind::Due, 3));
    assert_eq!(
        step.step,
        Some((StepState::WaitingForRetry, StepState::Enqueued))
    );
    assert_eq!((step.lane, children.len()), (Some(102), 0));
}

#[test]
fn a_wide_fan_out_is_told_in_slices_that_go_on_where_the_last_one_ended() {
    let route = fan_out(2500);
    let (first, children) = one(&route, ended(Outcome::Success, 1));
    assert_eq!((children.len(), first.next), (1000, Some(1000)));
    let mut told: Vec<i32> = children.iter().map(|c| c.number).collect();
    for (progress, next) in [(1000, Some(2000)), (2000, None)] {
        let mut spread = message(Kind::SpreadWell, 1);
        spread.progress = progress;
        let (step, children) = one(&route, spread);
        assert_eq!((step.step, step.next), (None, next));
        told.extend(children.iter().map(|c| c.number));
    }
    assert_eq!(told, (2..=2501).collect::<Vec<_>>());
}

#[test]
fn a_batch_stops_before_it_tells_too_many_children() {
    let route = fan_out(900);
    let batch = vec![ended(Outcome::Success, 1); 5];
    let advance = plan(batch, &RULES, |_| Some(&route), || 0.5);
    assert_eq!((advance.taken, advance.moves.len()), (2, 2));
    assert_eq!(
        advance.children.len(),
        900,
        "the same step's children are listed once"
    );
}

#[test]
fn a_single_message_is_planned_however_many_children_it_tells() {
    let rules = Rules {
        children: 10,
        ..RULES
    };
    let route = fan_out(900);
    let advance = plan(
        vec![ended(Outcome::Success, 1)],
        &rules,
        |_| Some(&route),
        || 0.5,
    );
    assert_eq!(advance.taken, 1);
}

#[test]
fn controls_are_set_apart_and_messages_of_unknown_templates_pass() {
    let route = diamond();
    let mut unknown = ended(Outcome::Success, 1);
    unknown.template_id = 99;
    let batch = vec![
        message(Kind::Control, 0),
        unknown,
        ended(Outcome::Success, 1),
    ];
    let find = |m: &Message| (m.template_id == 7).then_some(&route);
    let advance = plan(batch, &RULES, find, || 0.5);
    assert_eq!(
        (advance.taken, advance.moves.len(), advance.controls.len()),
        (3, 1, 1)
    );
}

#[test]
fn the_start_tells_the_roots() {
    let (step, children) = one(&diamond(), message(Kind::SpreadWell, 0));
    assert_eq!((step.step, step.bad), (None, false));
    assert_eq!(
        children,
        [Child {
            number: 1,
            lane: Some(100),
            waits_for_one: false,
        }]
    );
}
