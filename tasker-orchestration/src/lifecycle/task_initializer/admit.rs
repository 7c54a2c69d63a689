//! Judging a request: what it lacks is said, and what it needs to be a task is decided here, once: its ids, its
//! beginning, and whether it is followed.

use std::sync::Arc;

use tasker_shared::clock::Clock;
use tasker_shared::db::accept::{Begin, NewTask};
use tasker_shared::document::{self, Document};
use tasker_shared::graph::START;
use tasker_shared::ids;
use tasker_shared::metrics::{Correlation, correlation};
use tasker_shared::plan::Blueprint;
use tasker_shared::plan::stale::first_look;
use tasker_shared::telemetry::trace::{TraceContext, should_trace};
use tasker_shared::wire::TaskRequest;
use uuid::Uuid;

use super::digest;
use super::note::{self, Note};
use crate::lifecycle::admission::{self, InputError, Refusal, Schemas};
use crate::lifecycle::registry::Templates;

/// What the initializer decides by.
#[derive(Debug, Clone)]
pub struct Admission {
    pub templates: Templates,
    pub schemas: Schemas,
    pub clock: Clock,
    pub max_context_bytes: usize,
    /// The share of tasks that are traced where their callers say nothing of it, 0 to 1.
    pub sample_rate: f64,
    /// Tasks with more roots than this are started in slices.
    pub roots_at_once: usize,
}

/// A request that may be stored, and what to say of it then.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) task: NewTask,
    pub(super) note: Note,
}

/// Whether a task is followed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Followed {
    pub(super) correlation: Correlation,
    /// Its spans leave.
    pub(super) traced: bool,
}

impl Admission {
    /// The task that a request asks for.
    pub(super) async fn admit(
        &self,
        request: TaskRequest,
        caller: Option<&TraceContext>,
    ) -> Result<Admitted, Refusal> {
        admission::check_fields(&request)?;
        let documents = self.read_documents(&request);
        let found = self.find_template(&request).await;
        // What is wrong with the request itself is said whether or not its template can be looked up.
        let checked = documents.and_then(|documents| {
            let blueprint = found.clone()?;
            self.schemas.check(&blueprint, documents.0.as_str())?;
            Ok((documents, blueprint))
        });
        let ((context, options), blueprint) = checked.inspect_err(|_| {
            if let Ok(blueprint) = &found {
                note::refused(&request, blueprint);
            }
        })?;
        let asked_id = request
            .correlation_id
            .or_else(|| caller.map(|c| c.trace_id));
        let followed = self.follow(asked_id.unwrap_or_else(Uuid::now_v7), &blueprint, caller);
        let key = request.idempotency_key.clone().map(|key| {
            let options = options.as_ref().map(Document::as_str);
            let digest = digest(&request, context.as_str(), options);
            (key, digest)
        });
        let now = self.clock.now();
        let task_uuid = ids::new_task_uuid(now);
        let roots = blueprint.graph.children(START).len();
        let begin = self.begin(request.run_at.filter(|at| *at > now), roots);
        let since = request.run_at.map_or(now, |at| at.max(now));
        let look_at = first_look(&blueprint.template.lifecycle, since);
        let note = Note {
            task_uuid,
            followed,
            own_id: asked_id.is_none(),
            begin: begin.clone(),
            caller: caller.cloned(),
            blueprint: Arc::clone(&blueprint),
        };
        let task = NewTask {
            task_uuid,
            template_id: blueprint.template_id,
            namespace: request.namespace,
            name: request.name,
            priority: i16::try_from(request.priority.unwrap_or(0)).unwrap_or(0),
            sampled: followed.correlation.sampled,
            traced: followed.traced,
            context: String::from(context).into(),
            correlation_id: followed.correlation.id,
            parent_correlation_id: request.parent_correlation_id,
            traceparent: caller.map(TraceContext::traceparent),
            // It belongs to the caller's trace, which the task is a part of only where the ids are one.
            tracestate: caller
                .filter(|c| c.trace_id == followed.correlation.id)
                .and_then(|c| c.tracestate().map(str::to_owned)),
            initiator: request.initiator,
            source_system: request.source_system,
            reason: request.reason,
            tags: request.tags,
            key,
            idempotency_key: request.idempotency_key,
            options: options.map(String::from),
            run_at: request.run_at,
            created_at: now,
            begin,
            failure: None,
            look_at,
        };
        Ok(Admitted { task, note })
    }

    async fn find_template(&self, request: &TaskRequest) -> Result<Arc<Blueprint>, Refusal> {
        let version = request.version.as_deref();
        let found = self
            .templates
            .find(&request.namespace, &request.name, version)
            .await;
        found
            .map_err(|error| {
                if error.is_unavailable() {
                    return Refusal::Unavailable;
                }
                tracing::error!(%error, "reading a template failed");
                Refusal::NotTaken
            })?
            .ok_or_else(|| Refusal::UnknownTemplate {
                namespace: request.namespace.clone(),
                name: request.name.clone(),
                version: request.version.clone(),
            })
    }

    /// Context and options.
    fn read_documents(
        &self,
        request: &TaskRequest,
    ) -> Result<(Document, Option<Document>), Refusal> {
        let context = self.check_context(request.context.get())?;
        let options = match &request.options {
            Some(options) => Some(self.check_document(options.get(), "/options")?),
            None => None,
        };
        Ok((context, options))
    }

    /// Decides, once for the whole task, whether its id gets series of its own and whether it is traced: as
    /// its caller does, or by chance.
    pub(super) fn follow(
        &self,
        id: Uuid,
        blueprint: &Blueprint,
        caller: Option<&TraceContext>,
    ) -> Followed {
        let asked = caller.is_some_and(|c| c.sampled);
        let sampled = correlation::admit(id, blueprint.template.steps.len(), asked);
        Followed {
            correlation: Correlation { id, sampled },
            traced: caller.map_or_else(|| should_trace(id, self.sample_rate), |c| c.sampled),
        }
    }

    pub(super) fn begin(
        &self,
        later: Option<chrono::DateTime<chrono::Utc>>,
        roots: usize,
    ) -> Begin {
        match later {
            Some(at) => Begin::At(at),
            None if roots > self.roots_at_once => Begin::Spread,
            None => Begin::Now,
        }
    }

    pub(super) fn check_context(&self, text: &str) -> Result<Document, Refusal> {
        Document::parse(text, self.max_context_bytes, "limits.max_context_bytes").map_err(|error| {
            match error {
                document::Error::TooLarge {
                    limit,
                    limit_bytes,
                    bytes,
                } => Refusal::TooLarge {
                    what: "context",
                    limit,
                    actual: bytes,
                    allowed: limit_bytes,
                },
                other => Refusal::InvalidContext(vec![InputError {
                    pointer: other.pointer().to_owned(),
                    message: other.to_string(),
                }]),
            }
        })
    }

    fn check_document(&self, text: &str, pointer: &str) -> Result<Document, Refusal> {
        Document::parse(text, self.max_context_bytes, "limits.max_context_bytes").map_err(|error| {
            Refusal::InvalidRequest {
                pointer: format!("{pointer}{}", error.pointer()),
                message: error.to_string(),
            }
        })
    }
}
