//! Applying what waits, and looking whether all is well after it.

use super::*;
use crate::db::advance::{self, Ask};
use crate::db::dead_letters::{self, Buried};
use crate::db::effects::Effects;
use crate::plan::advance::{Advance, plan};

impl World {
    /// What waits to be applied.
    pub(super) async fn messages(&mut self) -> Vec<Message> {
        let ask = |shard| Ask {
            shard,
            span: Span::behind(0),
            most: 1_000,
        };
        let all: Vec<Ask> = (0..ids::SHARDS).map(ask).collect();
        let listed = advance::list_messages(&mut self.connection, &all).await;
        listed.unwrap().messages
    }

    /// Applies messages; returns the plan and what came of it.
    pub(super) async fn apply(&mut self, messages: Vec<Message>) -> (Advance, Effects) {
        shards::renew(&self.pool, self.server, "test")
            .await
            .unwrap();
        let keys = messages.iter().map(Message::route_key);
        let routes = self.blueprints.routes(keys.collect()).await.unwrap();
        let find = |m: &Message| routes.get(&m.route_key());
        let plan = plan(messages, &self.rules, find, || 0.5);
        let effects = advance::apply(&mut self.connection, self.server, &plan, true).await;
        self.bury(&plan.burials).await;
        (plan, effects.unwrap())
    }

    /// Makes dead letters of the tasks of messages.
    pub(super) async fn bury(&mut self, messages: &[Message]) -> Vec<Buried> {
        if messages.is_empty() {
            return Vec::new();
        }
        let judged: Vec<(&Message, bool)> = messages.iter().map(|m| (m, true)).collect();
        let connection = &mut self.connection;
        let mut transaction = Transaction::begin(connection, "test").await.unwrap();
        let buried = dead_letters::bury(&mut transaction, self.server, &judged).await;
        transaction.commit().await.unwrap();
        buried.unwrap()
    }

    /// Applies every message until there are none; returns how many passes that took.
    pub(super) async fn advance(&mut self) -> usize {
        for passes in 0..10_000 {
            let messages = self.messages().await;
            if messages.is_empty() {
                self.assert_counted().await;
                return passes;
            }
            self.apply(messages).await;
        }
        panic!("there is no end of messages")
    }

    /// The changes of the numbers of tasks add up to the numbers.
    pub(super) async fn assert_counted(&self) {
        let sums = "SELECT state, sum(change)::int8 FROM tasker.task_counts GROUP BY 1 HAVING sum(change) <> 0 ORDER BY 1";
        let counts =
            "SELECT state, count(*) FROM tasker.tasks WHERE state < 8 GROUP BY 1 ORDER BY 1";
        let mut read: Vec<Vec<(i16, i64)>> = Vec::new();
        for sql in [sums, counts] {
            read.push(sqlx::query_as(sql).fetch_all(&self.pool).await.unwrap());
        }
        assert_eq!(read[0], read[1], "by their changes, and counted");
    }

    /// Nothing is left in any queue.
    pub(super) async fn assert_settled(&self) {
        for table in ["ready", "results", "delayed"] {
            assert_eq!(self.count(table).await, 0, "{table} is not empty");
        }
    }
}
