//! Submissions made by `tasker.submit_task` inside users' own transactions: they are tasks already for those
//! who asked, so a request that cannot run becomes a task in error that says why.

use std::sync::Arc;

use tasker_shared::blueprints::Blueprints;
use tasker_shared::db::Transaction;
use tasker_shared::db::accept::{self, Begin, NewTask};
use tasker_shared::db::pool::Pinned;
use tasker_shared::db::requests::{self, Request};
use tasker_shared::db::upkeep;
use tasker_shared::db::wake::Topic;
use tasker_shared::db::wake::{Patience, Wakes};
use tasker_shared::plan::stale::first_look;
use tasker_shared::resilience::breaker::Breaker;
use tasker_shared::{db, ids};
use tokio_util::sync::CancellationToken;

use super::admit::{Admission, Admitted};
use super::note::{Arrival, Note};
use super::{Refusal, keys_of, roots};

/// Submissions taken in one transaction.
const MOST_REQUESTS: i64 = 500;

/// Takes submissions and makes their tasks.
#[derive(Debug)]
pub struct Outbox {
    pub connection: Pinned,
    pub blueprints: Blueprints,
    pub admission: Admission,
    pub wakes: Wakes,
    pub patience: Patience,
    pub breaker: Breaker,
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
                Ok(0) if !self.breaker.is_closed() => continue,
                Ok(0) => {}
                Ok(_) => {
                    self.patience.found();
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

    /// Makes the tasks of what waits, in one transaction; returns how many.
    async fn pass(&mut self) -> db::Result<usize> {
        let connection = self.connection.get().await?;
        if !requests::any(connection).await? {
            return Ok(0);
        }
        let mut transaction = Transaction::begin(connection, "take_requests").await?;
        let requests = requests::take(&mut transaction, MOST_REQUESTS).await?;
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
                if error.is_missing_partition() {
                    let times = tasks.iter().map(|task| task.created_at);
                    upkeep::ensure_partitions_of(self.connection.get().await?, times).await?;
                }
                return Err(error);
            }
        }
        transaction.commit().await?;
        let now = self.admission.clock.now();
        for (note, requested_at) in notes {
            let age = (now - requested_at).to_std().unwrap_or_default();
            note.stored(&Arrival::ago(age));
        }
        Ok(tasks.len())
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
            context: request.context,
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
