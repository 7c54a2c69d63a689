//! Submissions made by `tasker.submit_task` inside users' own transactions: they are tasks already for those
//! who asked, so a request that cannot run becomes a task in error that says why.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tasker_shared::blueprints::Blueprints;
use tasker_shared::db::Transaction;
use tasker_shared::db::accept::{self, Begin, NewTask};
use tasker_shared::db::pool::Pinned;
use tasker_shared::db::requests::{self, Request, Wanted};
use tasker_shared::db::upkeep;
use tasker_shared::db::wake::{Found, Patience, Topic, Wakes};
use tasker_shared::plan::stale::first_look;
use tasker_shared::resilience::breaker::Breaker;
use tasker_shared::{db, ids};
use tokio_util::sync::CancellationToken;

use super::admit::{Admission, Admitted};
use super::note::{Arrival, Note};
use super::{Refusal, keys_of, roots};

/// Submissions taken in one transaction.
const MOST_REQUESTS: i64 = 500;
/// For how long a submission is passed over that cannot be stored.
const ASIDE: Duration = Duration::from_secs(60);

/// Takes submissions and makes their tasks.
#[derive(Debug)]
pub struct Outbox {
    pub connection: Pinned,
    pub blueprints: Blueprints,
    pub admission: Admission,
    pub wakes: Wakes,
    pub patience: Patience,
    pub breaker: Breaker,
    pub choice: Choice,
}

/// Which submissions are taken next: fewer and fewer where one of them cannot be stored, until that one is known.
#[derive(Debug)]
pub struct Choice {
    most: i64,
    /// Partitions have just been made for them.
    is_placed: bool,
    /// Those that could not be stored, and until when they are passed over.
    aside: HashMap<i64, Instant>,
}

impl Default for Choice {
    fn default() -> Choice {
        Choice {
            most: MOST_REQUESTS,
            is_placed: false,
            aside: HashMap::new(),
        }
    }
}

impl Choice {
    /// What is passed over now.
    fn without(&mut self, now: Instant) -> Vec<i64> {
        self.aside.retain(|_, until| *until > now);
        self.aside.keys().copied().collect()
    }

    /// These were stored.
    fn stored(&mut self) {
        self.most = (self.most * 2).min(MOST_REQUESTS);
        self.is_placed = false;
    }

    /// One of these cannot be; says which, where that is known.
    fn refused(&mut self, requests: &[i64], now: Instant) -> Option<i64> {
        self.is_placed = false;
        match requests {
            &[one] => {
                self.aside.insert(one, now + ASIDE);
                Some(one)
            }
            many => {
                self.most = i64::try_from(many.len() / 2).unwrap_or(1).max(1);
                None
            }
        }
    }
}

impl Outbox {
    /// Works until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(open) = self.breaker.admit() {
                tokio::select! {
                    () = tokio::time::sleep(open.retry_after) => {}
                    () = stop.cancelled() => {}
                }
                continue;
            }
            let result = self.pass().await;
            match db::tell(&self.breaker, self.connection.check(result)) {
                // The next one shows whether the database is back for good.
                Ok(false) if !self.breaker.is_closed() => continue,
                Ok(false) => {}
                Ok(true) => {
                    self.patience.found(Found::Part);
                    continue;
                }
                Err(error) => tracing::warn!(%error, "taking submissions failed; trying again"),
            }
            let patience = self.patience.wait(self.wakes.hears());
            tokio::select! {
                _ = self.wakes.wait(Topic::Requests, patience) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Makes the tasks of what waits, in one transaction; says whether there may be more.
    async fn pass(&mut self) -> db::Result<bool> {
        let without = self.choice.without(Instant::now());
        let connection = self.connection.get().await?;
        let wanted = requests::list_wanted(connection, &without, self.choice.most).await?;
        if wanted.is_empty() {
            return Ok(false);
        }
        self.look_up(&wanted).await?;
        let connection = self.connection.get().await?;
        let mut transaction = Transaction::begin(connection, "take_requests").await?;
        let requests = requests::take(&mut transaction, &without, self.choice.most).await?;
        let taken: Vec<i64> = requests.iter().map(|request| request.id).collect();
        let (mut tasks, mut notes) = (Vec::new(), Vec::new());
        for request in requests {
            if let Some(admitted) = self.admission.admit_submitted(request).await? {
                notes.push((admitted.note, admitted.task.created_at));
                tasks.push(admitted.task);
            }
        }
        if !tasks.is_empty() {
            let routes = self.blueprints.routes(keys_of(&tasks)).await?;
            let roots = roots(&tasks, &routes);
            let made = accept::accept_within(&mut transaction, &tasks, &roots, true).await;
            if let Err(error) = made {
                transaction.rollback().await?;
                return self.refused(error, &taken, &tasks).await;
            }
        }
        transaction.commit().await?;
        self.choice.stored();
        let now = self.admission.clock.now();
        for (note, requested_at) in notes {
            let age = (now - requested_at).to_std().unwrap_or_default();
            note.stored(&Arrival::ago(age));
        }
        Ok(true)
    }

    /// Fills the caches from which the transaction's tasks are made: it must not wait for another connection.
    async fn look_up(&self, wanted: &[Wanted]) -> db::Result<()> {
        let mut keys = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            let (namespace, name) = (&wanted.namespace, &wanted.name);
            let found = self
                .admission
                .templates
                .find(namespace, name, wanted.version.as_deref());
            if let Some(blueprint) = found.await? {
                keys.push((blueprint.template_id, wanted.priority));
            }
        }
        self.blueprints.routes(keys).await.map(drop)
    }

    /// Submissions could not be stored together: that must hold up no others than the one it is about.
    async fn refused(
        &mut self,
        error: db::Error,
        taken: &[i64],
        tasks: &[NewTask],
    ) -> db::Result<bool> {
        if error.is_unavailable() || error.is_conflict() {
            return Err(error);
        }
        if error.is_missing_partition() && !self.choice.is_placed {
            let times = tasks.iter().map(|task| task.created_at);
            upkeep::ensure_partitions_of(self.connection.get().await?, times).await?;
            self.choice.is_placed = true;
            return Ok(true);
        }
        match self.choice.refused(taken, Instant::now()) {
            Some(request) => tracing::error!(
                %error, request, "a submission cannot be stored now; it is tried again in a minute"
            ),
            None => tracing::warn!(
                %error, submissions = taken.len(), "storing submissions failed; taking fewer at once"
            ),
        }
        Ok(true)
    }
}

impl Admission {
    /// The task of a submission; in error where it cannot run. `None` where its template has gone, which
    /// the database does not allow.
    async fn admit_submitted(&self, request: Request) -> db::Result<Option<Admitted>> {
        let found = self
            .templates
            .find(
                &request.namespace,
                &request.name,
                request.version.as_deref(),
            )
            .await?;
        let Some(blueprint) = found else {
            tracing::error!(task_uuid = %request.task_uuid, "a submission names a template that is not stored; it is dropped");
            return Ok(None);
        };
        let correlation_id = match request.correlation_id {
            id if id.is_nil() => uuid::Uuid::now_v7(),
            id => id,
        };
        let followed = self.follow(correlation_id, &blueprint, None);
        let checked = self
            .check_context(&request.context)
            .and_then(|context| self.schemas.check(&blueprint, context.as_str()));
        let now = self.clock.now();
        let roots = blueprint.graph.children(tasker_shared::graph::START).len();
        let begin = match &checked {
            Ok(()) => self.begin(request.run_at.filter(|at| *at > now), roots),
            Err(_) => Begin::Failed,
        };
        let task_uuid = ids::split_step_uuid(request.task_uuid).0;
        let note = Note {
            task_uuid,
            followed,
            own_id: false,
            begin: begin.clone(),
            caller: None,
            blueprint: Arc::clone(&blueprint),
        };
        let since = request
            .run_at
            .map_or(request.requested_at, |at| at.max(request.requested_at));
        let look_at = match begin {
            Begin::Failed => None,
            _ => first_look(&blueprint.template.lifecycle, since),
        };
        let task = NewTask {
            task_uuid,
            template_id: blueprint.template_id,
            namespace: request.namespace,
            name: request.name,
            priority: request.priority,
            sampled: followed.correlation.sampled,
            traced: followed.traced,
            context: request.context.into(),
            correlation_id: followed.correlation.id,
            parent_correlation_id: request.parent_correlation_id,
            traceparent: None,
            tracestate: None,
            initiator: request.initiator,
            source_system: request.source_system,
            reason: request.reason,
            tags: request.tags,
            key: None,
            idempotency_key: request.idempotency_key,
            options: None,
            run_at: request.run_at,
            created_at: request.requested_at,
            begin,
            failure: checked.err().as_ref().map(failure),
            look_at,
        };
        Ok(Some(Admitted { task, note }))
    }
}

/// What a task that cannot run says of it, as JSON text.
fn failure(refusal: &Refusal) -> String {
    // Said as the API says it, which takes a context as a part of its request.
    let (code, errors) = match refusal {
        Refusal::InvalidContext(errors) => (
            "INVALID_CONTEXT",
            errors
                .iter()
                .map(|e| serde_json::json!({"pointer": format!("/context{}", e.pointer), "message": e.message}))
                .collect(),
        ),
        _ => ("INVALID_INPUT", Vec::new()),
    };
    serde_json::json!({"code": code, "message": refusal.to_string(), "errors": errors}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_submissions_the_one_that_cannot_be_stored_is_found_and_passed_over_for_a_while() {
        let (mut choice, now) = (Choice::default(), Instant::now());
        let (bad, mut waiting) = (137, (0..400).collect::<Vec<i64>>());
        let mut transactions = 0;
        while waiting != [bad] {
            transactions += 1;
            assert!(transactions < 100, "{waiting:?}");
            let without = choice.without(now);
            let most = usize::try_from(choice.most).unwrap_or_default();
            let open = waiting.iter().filter(|id| !without.contains(id));
            let taken: Vec<i64> = open.take(most).copied().collect();
            if taken.contains(&bad) {
                choice.refused(&taken, now);
            } else {
                choice.stored();
                waiting.retain(|id| !taken.contains(id));
            }
        }
        assert_eq!(choice.without(now), [bad]);
        assert!(choice.without(now + ASIDE).is_empty());
    }
}
