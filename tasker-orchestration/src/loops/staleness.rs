//! Tasks that are past a limit of their template's `lifecycle`: each server looks at those of its own shards when
//! they may be, ends their steps where they are, and looks again until the task has ended.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tasker_shared::blueprints::Blueprints;
use tasker_shared::db;
use tasker_shared::db::pool::Pinned;
use tasker_shared::db::staleness::{self, Due, Stale};
use tasker_shared::db::wake::{Topic, Wakes};
use tasker_shared::plan::stale::{self, Limit, Verdict};
use tasker_shared::template::{Lifecycle, StalenessAction};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often tasks are looked at; limits are minutes.
const INTERVAL: Duration = Duration::from_secs(2);
/// Tasks of one shard looked at in one pass.
const MOST_TASKS: i64 = 100;
/// Steps ended in one statement.
const MOST_STEPS: i64 = 1_000;
/// How soon a stale task is looked at again: what was on its way has arrived by then.
const AGAIN: Duration = Duration::from_secs(2);

/// The one who looks.
#[derive(Debug)]
pub struct Watcher {
    pub server: Uuid,
    pub connection: Pinned,
    pub blueprints: Blueprints,
    pub shards: watch::Receiver<Vec<i16>>,
    pub wakes: Wakes,
}

/// What is to be done about the tasks of a pass.
#[derive(Debug, Default)]
struct Plan<'a> {
    over: Vec<&'a Due>,
    again: Vec<(&'a Due, DateTime<Utc>)>,
    stale: Vec<Stale>,
}

impl Watcher {
    /// Works until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let idle = self.shards.borrow().is_empty();
            let result = match idle {
                true => Ok(false),
                false => self.pass().await,
            };
            let more = self.connection.check(result).unwrap_or_else(|error| {
                tracing::warn!(%error, "looking for stale tasks failed; trying again");
                false
            });
            if more {
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Looks at what is due; says whether there may be more.
    async fn pass(&mut self) -> db::Result<bool> {
        let connection = self.connection.get().await?;
        let due = staleness::list_due(&mut *connection, self.server, MOST_TASKS).await?;
        if due.is_empty() {
            return Ok(false);
        }
        let ids: Vec<i32> = due.iter().map(|task| task.template_id).collect();
        let blueprints = self.blueprints.get(ids).await?;
        let plan = plan(&due, |id| {
            blueprints.get(&id).map(|b| &b.template.lifecycle)
        });
        if !plan.stale.is_empty() {
            let steps =
                staleness::fail(&mut *connection, self.server, &plan.stale, MOST_STEPS).await?;
            if steps > 0 {
                tracing::warn!(tasks = plan.stale.len(), steps, "stale tasks ended");
                self.wakes.wake(Topic::Results);
            }
        }
        staleness::look_again(&mut *connection, &plan.again).await?;
        staleness::forget(&mut *connection, &plan.over).await?;
        Ok(due.len() >= usize::try_from(MOST_TASKS).unwrap_or(usize::MAX))
    }
}

fn plan<'a, 'b>(due: &'a [Due], lifecycle: impl Fn(i32) -> Option<&'b Lifecycle>) -> Plan<'a> {
    let mut plan = Plan::default();
    for task in due {
        let judged = lifecycle(task.template_id)
            .filter(|lifecycle| stale::action(lifecycle) != StalenessAction::None)
            .zip(task.life.as_ref());
        let Some((lifecycle, life)) = judged else {
            plan.over.push(task);
            continue;
        };
        match stale::judge(lifecycle, life) {
            Verdict::Over => plan.over.push(task),
            Verdict::LookAgain(at) => plan.again.push((task, at)),
            Verdict::Stale(limit) => {
                plan.stale.push(Stale {
                    task_uuid: task.task_uuid,
                    error: error(limit, lifecycle),
                });
                plan.again.push((task, life.now + AGAIN));
            }
        }
    }
    plan
}

/// What the steps of a stale task end with, as JSON text.
fn error(limit: Limit, lifecycle: &Lifecycle) -> String {
    let minutes = limit.minutes(lifecycle).unwrap_or_default();
    let key = limit.key();
    serde_json::json!({
        "error_type": "stale",
        "retryable": false,
        "message": format!("the task is past lifecycle.{key} of its template, {minutes} min"),
        "limit": key,
        "minutes": minutes,
    })
    .to_string()
}
