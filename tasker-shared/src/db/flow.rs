//! The whole way of a step through the database, driven by hand: no server, no worker, no waiting.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod applying;
mod budget;
mod circuits;
mod crash;
mod dead;
mod deliveries;
mod differential;
mod facts;
mod gauges;
mod graphs;
mod measured;
mod rescued;
mod stale;
mod tasks;
mod told;
mod weeks;

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use sqlx::PgConnection;
use uuid::Uuid;

use super::accept::{self, Begin, NewTask, Root};
use super::claim::{self, Claimed, Take};
use super::pool::{Pool, Target};
use super::submit::{self, Ended};
use super::wake::Notice;
use super::workers::{self, Expired, GivenBack, Registration};
use super::{Transaction, controls, delayed, lanes, shards, templates};
use crate::blueprints::Blueprints;
use crate::cursor::Span;
use crate::embedded::Temporary;
use crate::ids;
use crate::plan::advance::Rules;
use crate::plan::{Blueprint, Kind, Message, Outcome, Route, intervene};
use crate::state::step::StepState;
use crate::state::task::TaskState;
use crate::template::{self, Limits};

/// A database with one server that owns every shard and one worker that serves every lane.
struct World {
    _postgres: Temporary,
    target: Target,
    pool: Pool,
    connection: PgConnection,
    server: Uuid,
    worker: Uuid,
    blueprints: Blueprints,
    rules: Rules,
}

const DIAMOND: &str = "  - {name: a, handler: {callable: echo}}
  - {name: b, handler: {callable: echo}, dependencies: [a], retry: {max_attempts: 2, backoff: none}}
  - {name: c, handler: {callable: echo}, dependencies: [a]}
  - {name: d, handler: {callable: echo}, dependencies: [b, c]}\n";

/// The steps of a template in a line.
fn chain(length: usize) -> String {
    (0..length)
        .map(|i| match i {
            0 => "  - {name: s0, handler: {callable: echo}}\n".to_owned(),
            _ => format!(
                "  - {{name: s{i}, handler: {{callable: echo}}, dependencies: [s{}]}}\n",
                i - 1
            ),
        })
        .collect()
}

impl World {
    async fn new() -> World {
        let postgres = Temporary::start().await.unwrap();
        let target = Target::parse(postgres.url(), "flow", Duration::from_secs(10)).unwrap();
        super::migrate::run(&target).await.unwrap();
        let pool = target.pool(4);
        let (server, worker) = (Uuid::now_v7(), Uuid::now_v7());
        shards::renew(&pool, server, "test").await.unwrap();
        shards::take(&pool, server, 16).await.unwrap();
        let world = World {
            connection: target.batches().connect().await.unwrap(),
            blueprints: Blueprints::new(pool.clone(), "test"),
            rules: Rules {
                slice: 1000,
                children: 2000,
                max_lost: 3,
            },
            _postgres: postgres,
            target,
            pool,
            server,
            worker,
        };
        world.register(worker).await;
        world
    }

    async fn register(&self, worker: Uuid) {
        let registration = Registration {
            worker,
            name: "test".into(),
            namespaces: vec![],
            callables: vec!["echo".into()],
            slots: 100,
            lease_ms: 60_000,
        };
        workers::register(&self.pool, &registration).await.unwrap();
    }

    async fn template(&mut self, name: &str, steps: &str) -> Arc<Blueprint> {
        let source = format!("name: {name}\nnamespace_name: n\nversion: 1.0.0\nsteps:\n{steps}");
        let template = template::parse(&source, "t.yaml", &Limits::default()).unwrap();
        let mut transaction = Transaction::begin(&mut self.connection, "test")
            .await
            .unwrap();
        let id = templates::insert(&mut transaction, &template, &source)
            .await
            .unwrap()
            .unwrap();
        transaction.commit().await.unwrap();
        self.blueprints
            .get([id])
            .await
            .unwrap()
            .remove(&id)
            .unwrap()
    }

    async fn route(&self, blueprint: &Blueprint, priority: i16) -> Route {
        let key = (blueprint.template_id, priority);
        self.blueprints
            .routes(vec![key])
            .await
            .unwrap()
            .remove(&key)
            .unwrap()
    }

    fn task(&self, blueprint: &Blueprint, begin: Begin) -> NewTask {
        let now = Utc::now();
        NewTask {
            task_uuid: ids::new_task_uuid(now),
            template_id: blueprint.template_id,
            namespace: "n".into(),
            name: blueprint.template.name.clone(),
            priority: 0,
            sampled: false,
            traced: false,
            context: r#"{"n": 1.50}"#.into(),
            correlation_id: Uuid::now_v7(),
            parent_correlation_id: None,
            traceparent: None,
            tracestate: None,
            initiator: None,
            source_system: None,
            reason: None,
            tags: vec!["a".into(), "b \"quoted\"".into()],
            key: None,
            idempotency_key: None,
            options: None,
            run_at: None,
            created_at: now,
            begin,
            failure: None,
            look_at: None,
        }
    }

    async fn accept(&mut self, tasks: &[NewTask], blueprint: &Blueprint) -> Vec<Uuid> {
        let mut roots = Vec::new();
        for priority in tasks
            .iter()
            .map(|t| t.priority)
            .collect::<std::collections::BTreeSet<_>>()
        {
            let route = self.route(blueprint, priority).await;
            roots.extend(blueprint.graph.children(0).iter().map(|&step_no| Root {
                template_id: blueprint.template_id,
                priority,
                step_no,
                lane: route.lane(step_no).unwrap(),
            }));
        }
        let mut connection = self.target.acceptance().connect().await.unwrap();
        let made = accept::accept(&mut connection, tasks, &roots, true).await;
        self.assert_counted().await;
        made.unwrap()
    }

    /// One task that begins now.
    async fn submit(&mut self, blueprint: &Blueprint) -> Uuid {
        let task = self.task(blueprint, Begin::Now);
        self.accept(&[task], blueprint).await[0]
    }

    async fn claim(&mut self, worker: Uuid, most: i64) -> Vec<Claimed> {
        let lanes = lanes::list(&self.pool, &["echo".into()], &[])
            .await
            .unwrap();
        let takes: Vec<Take> = lanes
            .iter()
            .map(|l| Take {
                lane: l.lane,
                span: Span::behind(0),
                most,
            })
            .collect();
        claim::claim(&mut self.connection, worker, &takes, most)
            .await
            .unwrap()
    }

    /// A worker of its own claims a step and stops, and the step is taken back.
    async fn lose_worker(&mut self) {
        let worker = Uuid::now_v7();
        self.register(worker).await;
        assert_eq!(self.claim(worker, 1).await.len(), 1);
        workers::stop(&self.pool, worker).await.unwrap();
        workers::rescue(&self.pool, &[worker], 10).await.unwrap();
    }

    async fn end(&mut self, step: &Claimed, outcome: Outcome) -> usize {
        let worker = self.worker;
        self.end_as(worker, step, outcome).await
    }

    async fn end_as(&mut self, worker: Uuid, step: &Claimed, outcome: Outcome) -> usize {
        let success = outcome == Outcome::Success;
        let ended = Ended {
            lane: step.lane,
            id: step.id,
            attempt: step.attempt,
            enqueued_at: step.enqueued_at,
            correlation: step.correlation(),
            outcome,
            started_at: Some(Utc::now()),
            finished_at: Utc::now(),
            result: success.then(|| format!("{{\"step\": {}}}", step.step_no)),
            error: (!success).then(|| r#"{"message": "no"}"#.into()),
            retry_after_ms: None,
        };
        submit::submit(&mut self.connection, worker, &[ended], Notice::Tell)
            .await
            .unwrap()
            .len()
    }

    /// Runs everything to its end, steps whose name is in `failing` failing for good; returns how many
    /// steps were run.
    async fn drain(&mut self, failing: &[i32]) -> usize {
        let mut run = 0;
        loop {
            self.advance().await;
            let worker = self.worker;
            let claimed = self.claim(worker, 5000).await;
            if claimed.is_empty() {
                return run;
            }
            for step in &claimed {
                let outcome = if failing.contains(&step.step_no) {
                    Outcome::Permanent
                } else {
                    Outcome::Success
                };
                assert_eq!(self.end(step, outcome).await, 1);
                run += 1;
            }
        }
    }

    async fn intervene(
        &mut self,
        blueprint: &Blueprint,
        task: Uuid,
        action: intervene::Action,
    ) -> Result<(), intervene::Refused> {
        let route = self.route(blueprint, 0).await;
        let message = facts::control(task);
        let mut transaction = Transaction::begin(&mut self.connection, "test")
            .await
            .unwrap();
        let snapshot = controls::lock(&mut transaction, task, blueprint)
            .await
            .unwrap();
        let plan = intervene::plan(&snapshot, blueprint, &action)?;
        controls::intervene(&mut transaction, &message, &snapshot, &plan, &route)
            .await
            .unwrap();
        transaction.commit().await.unwrap();
        self.assert_counted().await;
        Ok(())
    }

    async fn state(&mut self, task: Uuid) -> (TaskState, Vec<StepState>) {
        let sql = "SELECT template_id FROM tasker.tasks WHERE task_uuid = $1";
        let template_id: i32 = sqlx::query_scalar(sql)
            .bind(task)
            .fetch_one(&self.pool)
            .await
            .unwrap();
        let found = self.blueprints.get([template_id]).await.unwrap();
        let snapshot = controls::lock(&mut self.connection, task, &found[&template_id]);
        let snapshot = snapshot.await.unwrap();
        (
            snapshot.task,
            snapshot.steps.iter().map(|s| s.state).collect(),
        )
    }

    async fn count(&self, table: &'static str) -> i64 {
        let sql = format!("SELECT count(*) FROM tasker.{table}");
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }
}
