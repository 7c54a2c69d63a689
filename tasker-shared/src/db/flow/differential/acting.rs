//! Doing in PostgreSQL, by the real statements, what was done in the model.

use super::*;
use crate::db::{advance, dead_letters, staleness, unroutable};
use crate::plan::advance::plan;
use crate::plan::dead_letter::Resolution;
use crate::plan::model::{Key, stored};

impl Beside<'_> {
    /// Does what was done in the model.
    pub(super) async fn act(&mut self, act: &Act) {
        match act {
            Act::Claim { worker, delivery } => self.claim(*worker, *delivery).await,
            Act::End {
                worker,
                delivery,
                outcome,
            } => {
                let step = self.claimed[delivery].clone();
                let worker = self.workers[*worker];
                self.world.end_as(worker, &step, *outcome).await;
            }
            Act::Stop { worker } => {
                let worker = self.workers[*worker];
                workers::stop(&self.world.pool, worker).await.unwrap();
                self.stopped.push(worker);
                self.hire().await;
            }
            Act::Rescue => {
                let rescued = workers::rescue(&self.world.pool, &self.stopped, MOST).await;
                rescued.unwrap();
            }
            Act::GiveBack { worker, unheard } => self.give_back(*worker, unheard).await,
            Act::Promote { due } => self.promote(due).await,
            Act::Copy {
                message,
                tries,
                lost,
            } => self.copy(message, *tries, *lost).await,
            Act::Plan { server, messages } => {
                let messages = self.find(messages).await;
                let route = &self.route;
                let plan = plan(messages, &self.world.rules, |_| Some(route), || 0.5);
                self.plans[*server] = Some(plan);
            }
            Act::Apply { server } => self.apply(*server).await,
            Act::Give { task, server } => self.give(*task, *server).await,
            Act::Ask {
                task,
                control,
                action,
            } => {
                let (pool, task) = (&self.world.pool, self.tasks[*task]);
                assert!(controls::ask(pool, *control, task, "{}").await.unwrap());
                self.wishes.insert(*control, action.clone());
            }
            Act::Unroute => self.unroute().await,
            Act::Age { task } => {
                let stale = staleness::Stale {
                    task_uuid: self.tasks[*task],
                    error: "{}".into(),
                };
                let server = self.servers[self.owners[*task]];
                let connection = &mut self.world.connection;
                let failed = staleness::fail(connection, server, &[stale], MOST).await;
                failed.unwrap();
            }
        }
    }

    async fn claim(&mut self, worker: usize, delivery: Delivery) {
        let sql = "SELECT lane, id FROM tasker.ready WHERE task_uuid = $1 AND step_no = $2 AND attempt = $3";
        let query = sqlx::query_as(sql)
            .bind(self.tasks[delivery.task])
            .bind(delivery.step_no)
            .bind(delivery.attempt);
        let (lane, id): (i32, i64) = query.fetch_one(&self.world.pool).await.unwrap();
        let take = Take {
            lane,
            span: Span::behind(id - 1),
            most: 1,
        };
        let worker = self.workers[worker];
        let claimed = claim::claim(&mut self.world.connection, worker, &[take], 1).await;
        let claimed = claimed.unwrap().remove(0);
        assert_eq!(claimed.id, id, "{delivery:?}");
        self.claimed.insert(delivery, claimed);
    }

    /// Hands back as a worker that knows of all that it has but these.
    async fn give_back(&mut self, worker: usize, unheard: &[Delivery]) {
        let worker = self.workers[worker];
        let sql = "SELECT id, task_uuid, step_no, attempt FROM tasker.ready WHERE worker = $1";
        let held = sqlx::query_as(sql).bind(worker).fetch_all(&self.world.pool);
        let held: Vec<(i64, Uuid, i32, i32)> = held.await.unwrap();
        let heard = held.into_iter().filter(|(_, task_uuid, step_no, attempt)| {
            let delivery = Delivery {
                task: self.number(*task_uuid),
                step_no: *step_no,
                attempt: *attempt,
            };
            !unheard.contains(&delivery)
        });
        let heard: Vec<i64> = heard.map(|(id, ..)| id).collect();
        let lanes = sqlx::query_scalar("SELECT lane FROM tasker.lanes");
        let lanes: Vec<i32> = lanes.fetch_all(&self.world.pool).await.unwrap();
        let (pool, all) = (&self.world.pool, Span::behind(0));
        let given = workers::give_back_unheard(pool, worker, &heard, &lanes, all, MOST).await;
        let GivenBack { steps, .. } = given.unwrap();
        assert_eq!(steps, i64::try_from(unheard.len()).unwrap());
    }

    /// Makes these and nothing else due.
    async fn promote(&mut self, due: &[Delivery]) {
        self.world
            .run("UPDATE tasker.delayed SET due_at = '2100-01-01'; UPDATE tasker.steps SET due_at = '2100-01-01' WHERE state = 5")
            .await;
        for delivery in due {
            let sql = "UPDATE tasker.delayed SET due_at = '2000-01-01' WHERE task_uuid = $1 AND step_no = $2 AND attempt = $3";
            let query = sqlx::query(sql)
                .bind(self.tasks[delivery.task])
                .bind(delivery.step_no)
                .bind(delivery.attempt);
            query.execute(&self.world.pool).await.unwrap();
        }
        let shards: Vec<i16> = (0..ids::SHARDS).collect();
        let promoted = delayed::promote(&self.world.pool, &shards, MOST).await;
        promoted.unwrap();
    }

    async fn copy(&mut self, message: &Key, tries: i32, lost: i32) {
        let sql = "INSERT INTO tasker.results (shard, kind, task_uuid, correlation_id, sent_at, step_no, attempt, tries, lost, template_id, priority, sampled)
                   VALUES (tasker.shard_of($1), $2, $1, $1, now(), $3, $4, $5, $6, $7, 0, false)";
        let query = sqlx::query(sql)
            .bind(self.tasks[message.task])
            .bind(message.kind)
            .bind(message.step_no)
            .bind(message.attempt)
            .bind(tries)
            .bind(lost)
            .bind(self.route.blueprint.template_id);
        query.execute(&self.world.pool).await.unwrap();
    }

    async fn unroute(&mut self) {
        let lanes = sqlx::query_scalar("SELECT lane FROM tasker.lanes").fetch_all(&self.world.pool);
        let lanes: Vec<i32> = lanes.await.unwrap();
        let failed = unroutable::fail(&self.world.pool, &lanes, -3600, MOST).await;
        failed.unwrap();
    }

    fn key(&self, message: &Message) -> Key {
        Key {
            task: self.number(message.task_uuid),
            step_no: message.step_no,
            attempt: message.attempt,
            kind: stored(message.kind),
            progress: message.progress,
            control: message.control,
        }
    }

    pub(super) fn number(&self, task_uuid: Uuid) -> usize {
        self.tasks.iter().position(|t| *t == task_uuid).unwrap()
    }

    /// The messages that say this, in this order.
    async fn find(&mut self, keys: &[Key]) -> Vec<Message> {
        let mut messages = self.world.messages().await;
        let mut take = |key: &Key| {
            let place = messages.iter().position(|m| self.key(m) == *key);
            messages.swap_remove(place.unwrap_or_else(|| panic!("there is no {key:?}")))
        };
        keys.iter().map(&mut take).collect()
    }

    async fn apply(&mut self, server: usize) {
        let plan = self.plans[server].take().unwrap();
        let server = self.servers[server];
        let applied = advance::apply(&mut self.world.connection, server, &plan, false).await;
        applied.unwrap();
        let owner = std::mem::replace(&mut self.world.server, server);
        self.world.bury(&plan.burials).await;
        self.world.server = owner;
        for message in &plan.controls {
            self.control(server, message).await;
        }
    }

    /// As `lifecycle::control::apply` of the server.
    async fn control(&mut self, server: Uuid, message: &Message) {
        let connection = &mut self.world.connection;
        let mut transaction = Transaction::begin(connection, "test").await.unwrap();
        let spreading = controls::is_spreading(&mut transaction, message).await;
        if spreading.unwrap() {
            return transaction.rollback().await.unwrap();
        }
        let taken = controls::take(&mut transaction, server, message).await;
        if !taken.unwrap() {
            return transaction.rollback().await.unwrap();
        }
        let task_uuid = message.task_uuid;
        let blueprint = &self.route.blueprint;
        let snapshot = controls::lock(&mut transaction, task_uuid, blueprint)
            .await
            .unwrap();
        let action = &self.wishes[&message.control.unwrap()];
        if let Ok(plan) = intervene::plan(&snapshot, &self.route.blueprint, action) {
            if let intervene::Action::Resolve { step_no }
            | intervene::Action::Complete { step_no } = action
            {
                let made = controls::insert_manual_attempt(
                    &mut transaction,
                    task_uuid,
                    *step_no,
                    "1",
                    "{}",
                );
                made.await.unwrap();
            }
            let changed =
                controls::intervene(&mut transaction, message, &snapshot, &plan, &self.route);
            let changed = changed.await.unwrap();
            if changed.task.is_some() || *action == intervene::Action::Retry {
                let resolved = Resolution::ManuallyResolved;
                let done = dead_letters::resolve(&mut transaction, task_uuid, resolved, None, None);
                done.await.unwrap();
            }
        }
        transaction.commit().await.unwrap();
    }
}
