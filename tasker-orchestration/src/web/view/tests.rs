#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use tasker_shared::db::circuits::Circuit;
use tasker_shared::db::step_views::StepRow;
use tasker_shared::db::task_views::TaskRow;
use tasker_shared::ids;
use tasker_shared::plan::{Blueprint, Outcome};
use tasker_shared::state::step::StepState as S;
use tasker_shared::state::task::TaskState as T;
use tasker_shared::template;
use tasker_shared::wire::BlockedKind;
use uuid::Uuid;

use super::super::dlq::view::in_summary;
use super::super::served::Handlers;
use super::TaskView;
use super::step::{StepView, views};

const DIAMOND: &str = "
name: order
namespace_name: shop
version: 1.2.3
steps:
  - { name: check, handler: { callable: echo } }
  - { name: left, handler: { callable: echo }, dependencies: [check], retry: { max_attempts: 2 } }
  - { name: right, handler: { callable: sleep }, dependencies: [check], retry: { retryable: false } }
  - { name: close, handler: { callable: echo }, dependencies: [left, right] }
";

fn blueprint() -> Arc<Blueprint> {
    let template = template::parse(DIAMOND, "diamond.yaml", &template::Limits::default()).unwrap();
    Arc::new(Blueprint::new(7, template))
}

fn now() -> DateTime<Utc> {
    "2025-01-02T03:04:05.678901Z".parse().unwrap()
}

fn task(state: T) -> TaskRow {
    TaskRow {
        task_uuid: ids::new_task_uuid(now()),
        template_id: 7,
        state,
        priority: 5,
        context: r#"{"total":1.10}"#.to_owned(),
        correlation_id: Uuid::from_u128(1),
        parent_correlation_id: None,
        initiator: None,
        source_system: Some("tests".to_owned()),
        reason: None,
        tags: vec!["a".to_owned()],
        idempotency_key: None,
        run_at: None,
        created_at: now(),
        updated_at: now(),
        completed_at: None,
        failure: None,
    }
}

fn row(step_no: i32, state: S) -> StepRow {
    StepRow {
        step_no,
        state,
        waiting_on: 0,
        failed: 0,
        attempt: 1,
        tries: 0,
        lost: 0,
        changed_at: now(),
        due_at: None,
        worker: None,
        claimed_at: None,
        last_attempt: None,
        last_outcome: None,
        last_began_at: None,
        failed_at: None,
        error: None,
        result: None,
    }
}

fn ended(step_no: i32, state: S, outcome: Outcome) -> StepRow {
    StepRow {
        tries: 1,
        last_attempt: Some(1),
        last_outcome: Some(outcome),
        ..row(step_no, state)
    }
}

fn waiting(step_no: i32, waiting_on: i32, failed: i32) -> StepRow {
    StepRow {
        waiting_on,
        failed,
        attempt: 0,
        ..row(step_no, S::Pending)
    }
}

fn echo_everywhere() -> Handlers {
    Handlers::new(vec![(vec![], vec!["echo".to_owned()])], Vec::new())
}

fn show(task: &TaskRow, rows: Vec<StepRow>) -> Vec<StepView> {
    views(task, &blueprint(), (1, 4), rows, &echo_everywhere(), now())
}

fn kind(step: &StepView) -> Option<&'static str> {
    step.blocked_by
        .as_ref()
        .map(|blocked| blocked.kind.as_str())
}

#[test]
fn a_step_in_flight_shows_where_it_is() {
    let worker = Some(Uuid::from_u128(9));
    let on_the_way = |outcome| StepRow {
        last_attempt: Some(1),
        last_outcome: Some(outcome),
        ..row(1, S::Enqueued)
    };
    let again = StepRow {
        attempt: 2,
        tries: 1,
        last_attempt: Some(1),
        last_outcome: Some(Outcome::Retryable),
        ..row(1, S::Enqueued)
    };
    let table = [
        (row(1, S::Enqueued), "enqueued", 0, "queued"),
        (
            StepRow {
                worker,
                ..row(1, S::Enqueued)
            },
            "in_progress",
            1,
            "running",
        ),
        (
            on_the_way(Outcome::Success),
            "enqueued_for_orchestration",
            1,
            "queued",
        ),
        (
            on_the_way(Outcome::Permanent),
            "enqueued_as_error_for_orchestration",
            1,
            "queued",
        ),
        (
            on_the_way(Outcome::Lost),
            "enqueued_as_error_for_orchestration",
            0,
            "queued",
        ),
        (again.clone(), "enqueued", 1, "queued"),
        (StepRow { worker, ..again }, "in_progress", 2, "running"),
    ];
    for (row, state, attempts, blocked) in table {
        let step = &show(&task(T::StepsInProcess), vec![row])[0];
        assert_eq!(step.state.as_str(), state);
        assert_eq!(step.attempts, attempts, "{state}");
        assert_eq!(kind(step), Some(blocked), "{state}");
    }
}

#[test]
fn a_step_whose_target_is_in_trouble_says_which_and_when_it_is_tried_again() {
    let parked = DIAMOND.replacen("echo }", "echo, initialization: { circuit: bank } }", 1);
    let template = template::parse(&parked, "parked.yaml", &template::Limits::default()).unwrap();
    let blueprint = Blueprint::new(7, template);
    let opened_at = now() + TimeDelta::seconds(1);
    let circuit = Circuit {
        target: "bank".to_owned(),
        reason: "no connection".to_owned(),
        opened_at,
        retry_at: now() + TimeDelta::seconds(6),
        failures: 2,
        probing: false,
    };
    let everywhere = vec![(vec![], vec!["echo".to_owned()])];
    let handlers = Handlers::new(everywhere, vec![circuit]);
    let task = task(T::StepsInProcess);
    let rows = vec![
        row(1, S::Enqueued),
        waiting(2, 1, 0),
        waiting(3, 1, 0),
        waiting(4, 2, 0),
    ];
    let steps = views(&task, &blueprint, (1, 4), rows, &handlers, now());
    assert_eq!(kind(&steps[0]), Some("circuit_open"));
    let blocked = steps[0].blocked_by.as_ref().unwrap();
    assert_eq!(blocked.detail["target"], "bank");
    assert_eq!(blocked.detail["reason"], "no connection");
    assert_eq!(blocked.detail["retry_at"], "2025-01-02T03:04:11.678901Z");
    assert_eq!(blocked.since, opened_at);
}

#[test]
fn every_reason_for_not_running_is_told() {
    let rows = vec![
        ended(1, S::Complete, Outcome::Success),
        StepRow {
            due_at: Some(now() + TimeDelta::seconds(3)),
            ..ended(2, S::WaitingForRetry, Outcome::Timeout)
        },
        row(3, S::Enqueued),
        waiting(4, 2, 0),
    ];
    let steps = show(&task(T::StepsInProcess), rows);
    let kinds: Vec<_> = steps.iter().map(kind).collect();
    assert_eq!(
        kinds,
        [
            None,
            Some("retry_at"),
            Some("no_worker"),
            Some("dependencies")
        ]
    );
    let detail =
        |i: usize| serde_json::to_value(&steps[i].blocked_by.as_ref().unwrap().detail).unwrap();
    assert_eq!(detail(1)["at"], "2025-01-02T03:04:08.678901Z");
    assert_eq!(detail(2)["handler"], "sleep");
    assert_eq!(detail(3)["steps"], serde_json::json!(["left", "right"]));

    let rows = vec![
        ended(1, S::Complete, Outcome::Success),
        ended(2, S::Error, Outcome::Permanent),
        ended(3, S::Complete, Outcome::Success),
        StepRow {
            failed: 1,
            attempt: 0,
            ..row(4, S::Skipped)
        },
    ];
    let steps = show(&task(T::Error), rows);
    assert_eq!(
        steps.iter().map(kind).collect::<Vec<_>>(),
        [None, None, None, Some("failed_dependency")]
    );
    assert_eq!(
        steps[3].blocked_by.as_ref().unwrap().detail["steps"],
        serde_json::json!(["left"])
    );
    assert_eq!(steps[3].completed_parents, 1);
}

#[test]
fn a_task_that_has_not_begun_says_what_it_waits_for() {
    let mut later = task(T::Pending);
    later.run_at = Some(now() + TimeDelta::hours(1));
    let steps = show(
        &later,
        vec![
            waiting(1, 0, 0),
            waiting(2, 1, 0),
            waiting(3, 1, 0),
            waiting(4, 2, 0),
        ],
    );
    assert_eq!(kind(&steps[0]), Some("scheduled"));
    assert!(!steps[0].is_ready && steps[0].dependencies_satisfied);

    let steps = show(&task(T::Pending), vec![]);
    assert_eq!(steps.len(), 4);
    assert_eq!(
        steps.iter().map(kind).collect::<Vec<_>>(),
        [
            Some("queued"),
            Some("dependencies"),
            Some("dependencies"),
            Some("dependencies")
        ]
    );
    assert!(steps[0].is_ready && !steps[1].is_ready);
}

#[test]
fn retries_are_possible_while_attempts_are_left_and_the_step_is_retryable() {
    let failed = |number, tries| StepRow {
        tries,
        ..ended(number, S::Error, Outcome::Retryable)
    };
    let table = [
        (2, 0, true),
        (2, 1, true),
        (2, 2, false),
        (3, 0, true),
        (3, 1, false),
    ];
    for (number, tries, expected) in table {
        let rows = vec![failed(number, tries)];
        let (task, blueprint) = (task(T::Error), blueprint());
        let step = &views(
            &task,
            &blueprint,
            (number, number),
            rows,
            &echo_everywhere(),
            now(),
        )[0];
        assert_eq!(step.retry_eligible, expected, "step {number} after {tries}");
    }
}

#[test]
fn an_error_is_shown_until_the_step_ends_well() {
    let error = r#"{"message":"no money","error_type":"Declined","retryable":false,"status_code":402,"sources":["x"]}"#;
    let failed = StepRow {
        error: Some(error.to_owned()),
        failed_at: Some(now()),
        ..ended(2, S::Error, Outcome::Permanent)
    };
    let mended = StepRow {
        state: S::Complete,
        ..failed.clone()
    };
    let odd = StepRow {
        error: Some("[1]".to_owned()),
        ..failed.clone()
    };
    let blueprint = blueprint();
    let one = |row| {
        views(
            &task(T::Error),
            &blueprint,
            (2, 2),
            vec![row],
            &echo_everywhere(),
            now(),
        )
        .remove(0)
    };
    let shown = one(failed).last_error.unwrap();
    assert_eq!(
        (shown.message.as_str(), shown.status_code, shown.retryable),
        ("no money", Some(402), false)
    );
    assert!(one(mended).last_error.is_none());
    assert_eq!(one(odd).last_error.unwrap().message, "[1]");
}

#[test]
fn a_task_is_shown_with_its_counts_and_without_what_it_does_not_have() {
    let task = task(T::StepsInProcess);
    let rows = vec![
        ended(1, S::Complete, Outcome::Success),
        StepRow {
            worker: Some(Uuid::from_u128(9)),
            claimed_at: Some(now() + TimeDelta::seconds(1)),
            ..row(2, S::Enqueued)
        },
        row(3, S::Enqueued),
        waiting(4, 2, 0),
    ];
    let steps = show(&task, rows);
    let view = TaskView {
        task,
        blueprint: blueprint(),
        steps,
    };
    let body = serde_json::to_value(view.response()).unwrap();
    let expect = serde_json::json!({
        "name": "order", "namespace": "shop", "version": "1.2.3", "status": "steps_in_process",
        "initiator": "unknown", "source_system": "tests", "reason": "unknown", "priority": 5,
        "total_steps": 4, "pending_steps": 1, "in_progress_steps": 1, "completed_steps": 1, "failed_steps": 0, "ready_steps": 0,
        "execution_status": "processing", "recommended_action": "wait_for_completion", "health_status": "healthy",
        "completion_percentage": 25.0, "updated_at": "2025-01-02T03:04:06.678901Z",
    });
    for (key, value) in expect.as_object().unwrap() {
        assert_eq!(&body[key], value, "{key}");
    }
    let text = serde_json::to_string(&view.response()).unwrap();
    assert!(text.contains(r#""context":{"total":1.10}"#));
    assert_eq!(
        body["steps"][1]["last_attempted_at"],
        "2025-01-02T03:04:06.678901"
    );
    let summary = serde_json::to_value(view.summary(in_summary(None))).unwrap();
    assert_eq!(summary["task"]["initiator"], "");
    assert_eq!(
        summary["template"]["steps"][3]["dependencies"],
        serde_json::json!(["left", "right"])
    );
}

#[test]
fn the_same_step_of_a_template_has_one_id_for_all_tasks() {
    let ids = || -> Vec<Uuid> {
        let task = task(T::Pending);
        show(&task, vec![])
            .iter()
            .map(|step| step.readiness(task.task_uuid, 7).named_step_uuid)
            .collect()
    };
    assert_eq!(ids(), ids());
    let mut distinct = ids();
    distinct.dedup();
    assert_eq!(distinct.len(), 4);
    assert_eq!(
        BlockedKind::NoWorker.as_str(),
        serde_json::to_value(BlockedKind::NoWorker).unwrap()
    );
}
