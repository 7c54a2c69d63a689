//! The result processor: reads the messages of the shards that this server owns, plans what they mean for
//! their graphs, and has the plan applied. One pass takes all shards, so that batches stay large.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tasker_shared::blueprints::Blueprints;
use tasker_shared::cursor::Cursor;
use tasker_shared::db;
use tasker_shared::db::advance::{self, Ask};
use tasker_shared::db::pool::Pinned;
use tasker_shared::db::upkeep;
use tasker_shared::db::wake::{Found, Pace, Patience, Throttle, Wakes};
use tasker_shared::plan::Message;
use tasker_shared::plan::advance::{Advance, Rules, plan};
use tasker_shared::resilience::breaker::Breaker;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use self::asks::Asks;
use self::look::Look;
use self::record::{Batch, Routes};
use super::control;

mod asks;
mod bury;
mod look;
mod record;
#[cfg(test)]
mod testing;
mod told;
mod trace;

/// How long a pass that failed is waited with before the next one.
const PAUSE: Duration = Duration::from_millis(200);

/// The processor's state between passes.
#[derive(Debug)]
pub struct ResultProcessor {
    pub server: Uuid,
    pub connection: Pinned,
    pub blueprints: Blueprints,
    /// The shards that this server owns now.
    pub shards: watch::Receiver<Vec<i16>>,
    pub rules: Rules,
    /// Messages taken in one pass.
    pub batch: usize,
    pub wakes: Wakes,
    pub patience: Patience,
    /// When to look at the latest, whatever is told meanwhile.
    pub look_at: Option<Instant>,
    /// Told when something was delayed, so that its time is waited for.
    pub delayed: Arc<Notify>,
    pub progress: Arc<super::Progress>,
    /// How far each shard has been worked off.
    pub cursors: HashMap<i16, Cursor>,
    pub asks: Asks,
    pub throttle: Throttle,
    pub pace: Pace,
    pub breaker: Breaker,
}

impl ResultProcessor {
    /// Works until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut told = None;
        while !stop.is_cancelled() {
            self.progress.came_round();
            if let Err(open) = self.breaker.admit() {
                tokio::select! {
                    () = tokio::time::sleep(open.retry_after) => {}
                    () = stop.cancelled() => {}
                }
                continue;
            }
            let passed = self.pass(told.take()).await;
            match db::tell(&self.breaker, passed) {
                // The next one shows whether the database is back for good.
                Ok(Found::Nothing) if !self.breaker.is_closed() => {}
                Ok(found) => {
                    if self.patience.found(found) {
                        self.pace.rest().await;
                        told = self.wait(&stop).await;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "processing results failed; trying again");
                    if error.is_unavailable() {
                        // What a crash took back is there again, below them.
                        self.cursors.clear();
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Waits for what is told; nothing where a look is due.
    async fn wait(&mut self, stop: &CancellationToken) -> Option<Vec<Message>> {
        let now = Instant::now();
        let at = now + self.patience.wait(self.wakes.hears());
        // What is told does not put off what is not.
        let at = self.look_at.map_or(at, |due| due.min(at));
        self.look_at = Some(at);
        if at <= now {
            return None;
        }
        tokio::select! {
            told = self.wakes.told(at.saturating_duration_since(now)) => told,
            // What waits for the owner of a shard has been told before there was one.
            _ = self.shards.changed() => None,
            () = stop.cancelled() => None,
        }
    }

    /// Applies what was told, or else what a look finds, and says whether there may be more.
    async fn pass(&mut self, told: Option<Vec<Message>>) -> db::Result<Found> {
        let told = told
            .filter(|_| self.breaker.is_closed())
            .and_then(|told| told::ours(told, &self.shards.borrow(), &self.cursors));
        if let Some(told) = told
            && let Some(found) = self.apply_told(told).await?
        {
            return Ok(found);
        }
        self.look_at = None;
        self.look().await
    }

    /// Applies messages that were told; nothing where they have to be read.
    async fn apply_told(&mut self, messages: Vec<Message>) -> db::Result<Option<Found>> {
        let received = Instant::now();
        self.progress.passed();
        if messages.is_empty() {
            return Ok(Some(Found::Nothing));
        }
        let count = messages.len();
        // What nobody has read yet makes no new lanes.
        let routes = self
            .blueprints
            .known_routes(messages.iter().map(Message::route_key));
        let plan = self.plan(messages, &routes);
        if !told::is_safe(&plan, count) {
            return Ok(None);
        }
        let more = self.apply(&Batch::new(&plan, &routes, received)).await?;
        Ok(Some(if more { Found::Part } else { Found::All }))
    }

    fn plan(&self, messages: Vec<Message>, routes: &Routes) -> Advance {
        let route = |message: &Message| routes.get(&message.route_key());
        plan(messages, &self.rules, route, || {
            rand::random_range(0.0..1.0)
        })
    }

    /// Reads, plans and applies one batch.
    async fn look(&mut self) -> db::Result<Found> {
        let (messages, look) = self.read().await?;
        let received = Instant::now();
        self.progress.passed();
        if messages.is_empty() {
            let more = look.brought(&[], &mut self.cursors);
            return Ok(if more { Found::Part } else { Found::Nothing });
        }
        let seen: Vec<(i16, i64)> = messages.iter().map(|m| (m.shard, m.id)).collect();
        let keys = messages.iter().map(Message::route_key).collect();
        let routes = self.blueprints.routes(keys).await?;
        let plan = self.plan(messages, &routes);
        let mut more = self.apply(&Batch::new(&plan, &routes, received)).await?;
        // What is sent on from here is told nobody.
        more |= !plan.burials.is_empty() || !plan.controls.is_empty();
        // Before a person's wish for such a task, which resolves its entry.
        let connection = self.connection.get().await?;
        let buried = bury::bury(connection, self.server, &plan.burials, &routes).await;
        let left = self.connection.check(buried)?;
        let mut taken = plan.taken - left;
        for message in &plan.controls {
            let Some(route) = routes.get(&message.route_key()) else {
                continue;
            };
            let connection = self.connection.get().await?;
            let result = control::apply(connection, self.server, message, route).await;
            if self.connection.check(result)? == control::Applied::Deferred {
                taken -= 1;
            }
        }
        more |= look.brought(&seen[..plan.taken], &mut self.cursors);
        Ok(match (taken, more) {
            (0, _) => Found::Nothing,
            (_, false) => Found::All,
            (_, true) => Found::Part,
        })
    }

    /// Reads one batch.
    async fn read(&mut self) -> db::Result<(Vec<Message>, Look)> {
        let now = Instant::now();
        let shards = self.shards.borrow_and_update().clone();
        self.cursors.retain(|shard, _| shards.contains(shard));
        if shards.is_empty() {
            if !self.breaker.is_closed() {
                // Nothing to read, but whether it could be has to come out.
                let result = upkeep::ping(self.connection.get().await?).await;
                self.connection.check(result)?;
            }
            return Ok((Vec::new(), Look::nowhere(now)));
        }
        let counts = self.asks.of(&shards, self.batch);
        let asks: Vec<Ask> = shards
            .iter()
            .zip(counts)
            .map(|(&shard, count)| {
                let cursor = self
                    .cursors
                    .entry(shard)
                    .or_insert_with(|| Cursor::new(now));
                Ask {
                    shard,
                    span: cursor.span(now),
                    most: i64::try_from(count).unwrap_or(i64::MAX),
                }
            })
            .collect();
        let connection = self.connection.get().await?;
        let result = advance::list_messages(connection, &asks).await;
        let listed = self.connection.check(result)?;
        let look = Look::new(Instant::now(), &asks, &listed);
        self.asks.brought(&look);
        let mut messages = listed.messages;
        messages.sort_unstable_by_key(|message| message.id);
        messages.truncate(self.batch);
        Ok((messages, look))
    }

    /// Applies a batch; says whether it sent messages to this server itself.
    async fn apply(&mut self, batch: &Batch<'_>) -> db::Result<bool> {
        let plan = batch.plan;
        if plan.moves.is_empty() {
            return Ok(false);
        }
        let notify = self.throttle.pass(Instant::now());
        let connection = self.connection.get().await?;
        let result = advance::apply(connection, self.server, plan, notify).await;
        let effects = self.connection.check(result)?;
        if plan.moves.iter().any(|m| m.delay.is_some()) {
            self.delayed.notify_one();
        }
        batch.record(&effects);
        let took = batch.received.elapsed();
        self.pace.carried(plan.moves.len(), took);
        Ok(effects.again > 0)
    }
}
