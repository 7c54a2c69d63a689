//! Dead letters: made, read, resolved.

use chrono::DateTime;
use serde_json::Value;

use super::*;
use crate::db::dead_letter_views::{self, Entry, Filter};
use crate::db::dead_letters;
use crate::plan::dead_letter::{Reason, Resolution};

pub(super) const PAIR: &str =
    "  - {name: a, handler: {callable: echo}, retry: {max_attempts: 2, backoff: none}}
  - {name: b, handler: {callable: echo}, dependencies: [a]}\n";

impl World {
    async fn entries(&self) -> Vec<Entry> {
        dead_letter_views::list(&self.pool, &Filter::default(), 100, 0)
            .await
            .unwrap()
    }

    /// The entry of a task, which has to be there.
    pub(super) async fn entry(&self, task: Uuid) -> Entry {
        dead_letter_views::find_of_task(&self.pool, task)
            .await
            .unwrap()
            .unwrap()
    }

    /// Fails what is claimed next with this outcome, again and again, until nothing is left to claim.
    async fn exhaust(&mut self, outcome: Outcome) {
        let (worker, shards): (Uuid, Vec<i16>) = (self.worker, (0..16).collect());
        loop {
            for _ in 0..2 {
                delayed::promote(&self.pool, &shards, 100).await.unwrap();
                self.advance().await;
            }
            let claimed = self.claim(worker, 100).await;
            if claimed.is_empty() {
                return;
            }
            for step in &claimed {
                self.end(step, outcome).await;
            }
        }
    }
}

pub(super) fn snapshot(entry: &Entry) -> Value {
    serde_json::from_str(&entry.snapshot).unwrap()
}

#[tokio::test]
async fn a_task_that_fails_is_kept_with_all_that_is_needed_to_understand_it() {
    let mut world = World::new().await;
    let blueprint = world.template("pair", PAIR).await;
    let task = world.submit(&blueprint).await;
    world.drain(&[1]).await;
    let [entry] = &world.entries().await[..] else {
        panic!("not one entry");
    };
    assert_eq!(
        (entry.task_uuid, entry.reason, entry.resolution),
        (task, Reason::Permanent, Resolution::Pending)
    );
    assert_eq!(
        (entry.namespace.as_str(), entry.name.as_str()),
        ("n", "pair")
    );
    assert_eq!(entry.original_state, TaskState::Error);
    let snapshot = snapshot(entry);
    assert!(
        entry.snapshot.contains(r#"{"n": 1.50}"#),
        "the context is what came in, to the byte: {}",
        entry.snapshot
    );
    let steps = snapshot["steps"].as_array().unwrap();
    let numbers: Vec<i64> = steps
        .iter()
        .map(|s| s["step_no"].as_i64().unwrap())
        .collect();
    assert_eq!(numbers, [1, 2], "the join is no step");
    assert_eq!(steps[0]["error"]["message"], "no");
    assert_eq!(
        (&steps[0]["attempts"], &steps[0]["outcome"]),
        (&1.into(), &2.into())
    );
    world.assert_settled().await;
    let open = dead_letter_views::count_open(&mut world.connection).await;
    assert_eq!(open.unwrap(), [("n".to_owned(), 1)]);
}

#[tokio::test]
async fn the_reason_is_what_the_failed_steps_ended_with() {
    let mut world = World::new().await;
    let blueprint = world.template("pair", PAIR).await;
    for (outcome, reason) in [
        (Outcome::Permanent, Reason::Permanent),
        (Outcome::Retryable, Reason::Exhausted),
        (Outcome::Timeout, Reason::Exhausted),
        (Outcome::Panic, Reason::Exhausted),
    ] {
        let task = world.submit(&blueprint).await;
        world.exhaust(outcome).await;
        assert_eq!(world.entry(task).await.reason, reason, "{outcome:?}");
    }
    let mut failed = world.task(&blueprint, Begin::Failed);
    failed.failure = Some(r#"{"code": "INVALID_CONTEXT"}"#.into());
    let task = world.accept(&[failed], &blueprint).await[0];
    world.advance().await;
    let entry = world.entry(task).await;
    assert_eq!(entry.reason, Reason::InvalidInput);
    assert_eq!(
        snapshot(&entry)["task"]["failure"]["code"],
        "INVALID_CONTEXT"
    );
    world.assert_settled().await;
}

#[tokio::test]
async fn a_step_that_loses_its_workers_too_often_is_poison() {
    let mut world = World::new().await;
    world.rules.max_lost = 1;
    let blueprint = world.template("pair", PAIR).await;
    let task = world.submit(&blueprint).await;
    for _ in 0..2 {
        world.lose_worker().await;
        world.advance().await;
    }
    let entry = world.entry(task).await;
    assert_eq!(entry.reason, Reason::Poison);
    assert_eq!(snapshot(&entry)["steps"][0]["lost_leases"], 2);
}

#[tokio::test]
async fn a_blocked_task_is_a_dead_letter_too_and_one_entry_at_a_time_is_pending() {
    let mut world = World::new().await;
    let source =
        format!("name: t\nnamespace_name: n\nversion: 1.0.0\non_failure: block\nsteps:\n{PAIR}");
    let template = template::parse(&source, "t.yaml", &Limits::default()).unwrap();
    let mut transaction = Transaction::begin(&mut world.connection, "test")
        .await
        .unwrap();
    let id = templates::insert(&mut transaction, &template, &source)
        .await
        .unwrap()
        .unwrap();
    transaction.commit().await.unwrap();
    let blueprint = world
        .blueprints
        .get([id])
        .await
        .unwrap()
        .remove(&id)
        .unwrap();
    let task = world.submit(&blueprint).await;
    world.drain(&[1]).await;
    assert_eq!(
        world.entry(task).await.original_state,
        TaskState::BlockedByFailures
    );
    // It goes on and fails again while the first entry is not looked at.
    world
        .intervene(&blueprint, task, intervene::Action::Retry)
        .await
        .unwrap();
    world.drain(&[1]).await;
    assert_eq!(world.entries().await.len(), 1);
}

#[tokio::test]
async fn a_task_that_went_on_before_it_was_buried_is_no_dead_letter() {
    let mut world = World::new().await;
    let blueprint = world.template("pair", PAIR).await;
    let task = world.submit(&blueprint).await;
    let worker = world.worker;
    let claimed = world.claim(worker, 1).await;
    world.end(&claimed[0], Outcome::Permanent).await;
    loop {
        let messages = world.messages().await;
        if messages.iter().all(|m| m.kind == Kind::Bury) {
            break;
        }
        world.apply(messages).await;
    }
    world
        .intervene(&blueprint, task, intervene::Action::Retry)
        .await
        .unwrap();
    world.advance().await;
    assert_eq!(world.entries().await.len(), 0);
    assert_eq!(world.drain(&[]).await, 2);
    world.assert_settled().await;
}

/// Fails the one step that can be claimed for good; returns what is left to be done, which is burying its task.
async fn fail(world: &mut World) -> Vec<Message> {
    let worker = world.worker;
    let claimed = world.claim(worker, 1).await;
    world.end(&claimed[0], Outcome::Permanent).await;
    loop {
        let messages = world.messages().await;
        if messages.iter().all(|m| m.kind == Kind::Bury) {
            return messages;
        }
        world.apply(messages).await;
    }
}

#[tokio::test]
async fn a_server_that_lost_its_shards_buries_nothing() {
    let mut world = World::new().await;
    let blueprint = world.template("pair", PAIR).await;
    let task = world.submit(&blueprint).await;
    let messages = fail(&mut world).await;
    let owner = std::mem::replace(&mut world.server, Uuid::now_v7());
    assert_eq!(world.bury(&messages).await, []);
    world.server = owner;
    let buried = world.bury(&messages).await;
    assert_eq!(buried.len(), 1);
    assert_eq!(
        (
            buried[0].task_uuid,
            buried[0].reason,
            buried[0].namespace.as_str()
        ),
        (task, Reason::Permanent, "n")
    );
    assert_eq!(world.bury(&messages).await, [], "a message counts once");
}

#[tokio::test]
async fn what_a_person_put_there_is_told_anew_when_the_task_fails() {
    let mut world = World::new().await;
    let blueprint = world.template("pair", PAIR).await;
    let task = world.submit(&blueprint).await;
    let added = dead_letters::add(&world.pool, task, Some("odd"), Some("me")).await;
    let added = added.unwrap().unwrap();
    assert_eq!(
        (added.reason, added.original_state),
        (Reason::Manual, TaskState::StepsInProcess)
    );
    assert_eq!(added.metadata.as_deref(), Some(r#"{"added_by" : "me"}"#));
    let again = dead_letters::add(&world.pool, task, None, None).await;
    assert!(again.unwrap().is_none(), "one is pending");
    let none = dead_letters::add(&world.pool, Uuid::now_v7(), None, None).await;
    assert!(none.unwrap().is_none(), "there is no such task");
    let messages = fail(&mut world).await;
    let told: Vec<Reason> = world
        .bury(&messages)
        .await
        .iter()
        .map(|b| b.reason)
        .collect();
    assert_eq!(told, [Reason::Permanent], "it counts");
    let [entry] = &world.entries().await[..] else {
        panic!("not one entry");
    };
    assert_eq!(
        (entry.entry, entry.reason, entry.notes.as_deref()),
        (added.entry, Reason::Permanent, Some("odd"))
    );
}

#[tokio::test]
async fn resolving_keeps_what_was_said_and_leaves_room_for_the_next() {
    let mut world = World::new().await;
    let blueprint = world.template("pair", PAIR).await;
    let task = world.submit(&blueprint).await;
    world.drain(&[1]).await;
    let first = world.entry(task).await;
    let change = dead_letters::Change {
        notes: Some("looking".into()),
        metadata: Some(r#"{"ticket": 7}"#.into()),
        ..Default::default()
    };
    let changed = dead_letters::update(&world.pool, first.entry, &change).await;
    assert_eq!(changed.unwrap().unwrap().resolution, Resolution::Pending);
    let connection = &mut world.connection;
    dead_letters::resolve(
        connection,
        task,
        Resolution::ManuallyResolved,
        Some("me"),
        Some("mended"),
    )
    .await
    .unwrap();
    let resolved = world.entry(task).await;
    assert_eq!(resolved.resolution, Resolution::ManuallyResolved);
    assert_eq!(resolved.notes.as_deref(), Some("looking\nmended"));
    assert_eq!(resolved.metadata.as_deref(), Some(r#"{"ticket": 7}"#));
    assert!(resolved.resolved_at.is_some() && resolved.resolved_by.as_deref() == Some("me"));

    world
        .intervene(&blueprint, task, intervene::Action::Retry)
        .await
        .unwrap();
    world.drain(&[1]).await;
    let second = world.entry(task).await;
    assert_ne!(second.entry, first.entry);
    let reopen = dead_letters::Change {
        resolution: Some(Resolution::Pending),
        ..Default::default()
    };
    let refused = dead_letters::update(&world.pool, first.entry, &reopen).await;
    assert_eq!(refused.unwrap_err().sqlstate().as_deref(), Some("23505"));

    let counted = dead_letter_views::count(&world.pool, None).await.unwrap();
    assert_eq!(counted[0].by_resolution, [1, 1, 0, 0]);
    assert_eq!(counted[0].timed, 1);
    let urgent = dead_letter_views::list_urgent(&world.pool, None, |_| 1.0, 10).await;
    let urgent = urgent.unwrap();
    assert_eq!((urgent.len(), urgent[0].entry), (1, second.entry));
    assert_eq!(urgent[0].state, Some(TaskState::Error));
}

#[tokio::test]
async fn lists_are_filtered_and_ordered() {
    let mut world = World::new().await;
    let blueprint = world.template("pair", PAIR).await;
    let mut tasks = Vec::new();
    for _ in 0..3 {
        tasks.push(world.submit(&blueprint).await);
        world.drain(&[1]).await;
    }
    let all: Vec<Uuid> = world.entries().await.iter().map(|e| e.task_uuid).collect();
    tasks.reverse();
    assert_eq!(all, tasks, "the newest first");
    let page = dead_letter_views::list(&world.pool, &Filter::default(), 1, 1).await;
    assert_eq!(page.unwrap()[0].task_uuid, tasks[1]);
    let count = async |filter: Filter| {
        let entries = dead_letter_views::list_oldest(&world.pool, &filter, None, 10).await;
        entries.unwrap().len()
    };
    assert_eq!(count(Filter::default()).await, 3);
    let filters = [
        Filter {
            reasons: Some(vec![Reason::Poison, Reason::Manual]),
            ..Filter::default()
        },
        Filter {
            namespaces: Some(vec!["other".into()]),
            ..Filter::default()
        },
        Filter {
            name: Some("other".into()),
            ..Filter::default()
        },
        Filter {
            before: Some(DateTime::UNIX_EPOCH),
            ..Filter::default()
        },
        Filter {
            resolution: Some(Resolution::Cancelled),
            ..Filter::default()
        },
    ];
    for filter in filters {
        assert_eq!(count(filter.clone()).await, 0, "{filter:?}");
    }
    let fitting = Filter {
        resolution: Some(Resolution::Pending),
        reasons: Some(vec![Reason::Permanent]),
        namespaces: Some(vec!["n".into()]),
        name: Some("pair".into()),
        before: Some(Utc::now() + chrono::TimeDelta::minutes(1)),
    };
    assert_eq!(count(fitting).await, 3);

    // One after the other, each behind the last.
    let (mut after, mut met) = (None, Vec::new());
    loop {
        let filter = Filter::default();
        let next = dead_letter_views::list_oldest(&world.pool, &filter, after, 1).await;
        let next = next.unwrap();
        let Some((entry, task_uuid)) = next.first() else {
            break;
        };
        after = Some(*entry);
        met.push(*task_uuid);
    }
    met.reverse();
    assert_eq!(met, tasks);
}
