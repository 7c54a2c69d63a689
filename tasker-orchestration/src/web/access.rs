//! Who may use which route. The guard stands before every handler, so that no body of a stranger is read: it asks the
//! table, then the gate, and keeps callers who are limited to namespaces from whatever a path names outside of them.
//! What a body or a list names, handlers hold against [`By`].

use axum::extract::{FromRequestParts, MatchedPath, RawPathParams, Request};
use axum::http::header::ALLOW;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tasker_shared::access::{Caller, Need, Permission, Route, Wanted, allowed, wanted};
use tasker_shared::db::namespaces;
use uuid::Uuid;

use super::App;
use super::error::{self, ApiError};

const fn may(permission: Permission) -> Need {
    Need::Permission(permission)
}

/// Every route with what it needs.
pub(super) static ROUTES: &[Route] = &[
    (Method::POST, "/v1/tasks", may(Permission::TasksCreate)),
    (Method::GET, "/v1/tasks", may(Permission::TasksList)),
    (
        Method::POST,
        "/v1/tasks/batch",
        may(Permission::TasksCreate),
    ),
    (
        Method::GET,
        "/v1/tasks/{task_uuid}",
        may(Permission::TasksRead),
    ),
    (
        Method::DELETE,
        "/v1/tasks/{task_uuid}",
        may(Permission::TasksCancel),
    ),
    (
        Method::POST,
        "/v1/tasks/{task_uuid}/retry",
        may(Permission::StepsResolve),
    ),
    (
        Method::GET,
        "/v1/tasks/{task_uuid}/summary",
        may(Permission::TasksRead),
    ),
    (
        Method::GET,
        "/v1/tasks/{task_uuid}/graph",
        may(Permission::TasksRead),
    ),
    (
        Method::GET,
        "/v1/tasks/{task_uuid}/events",
        may(Permission::TasksRead),
    ),
    (
        Method::GET,
        "/v1/tasks/{task_uuid}/workflow_steps",
        may(Permission::StepsRead),
    ),
    (
        Method::GET,
        "/v1/tasks/{task_uuid}/workflow_steps/{step_uuid}",
        may(Permission::StepsRead),
    ),
    (
        Method::PATCH,
        "/v1/tasks/{task_uuid}/workflow_steps/{step_uuid}",
        may(Permission::StepsResolve),
    ),
    (
        Method::GET,
        "/v1/tasks/{task_uuid}/workflow_steps/{step_uuid}/audit",
        may(Permission::StepsRead),
    ),
    (Method::GET, "/v1/templates", may(Permission::TemplatesRead)),
    (
        Method::POST,
        "/v1/templates",
        may(Permission::TemplatesCreate),
    ),
    (
        Method::GET,
        "/v1/templates/{namespace}/{name}/{version}",
        may(Permission::TemplatesRead),
    ),
    (Method::GET, "/v1/dlq", may(Permission::DlqRead)),
    (
        Method::GET,
        "/v1/dlq/entry/{dlq_entry_uuid}",
        may(Permission::DlqRead),
    ),
    (
        Method::PATCH,
        "/v1/dlq/entry/{dlq_entry_uuid}",
        may(Permission::DlqUpdate),
    ),
    (
        Method::POST,
        "/v1/dlq/entry/{dlq_entry_uuid}/requeue",
        may(Permission::DlqUpdate),
    ),
    (Method::POST, "/v1/dlq/requeue", may(Permission::DlqUpdate)),
    (
        Method::GET,
        "/v1/dlq/task/{task_uuid}",
        may(Permission::DlqRead),
    ),
    (
        Method::POST,
        "/v1/dlq/task/{task_uuid}",
        may(Permission::DlqUpdate),
    ),
    (Method::GET, "/v1/dlq/stats", may(Permission::DlqStats)),
    (
        Method::GET,
        "/v1/dlq/investigation-queue",
        may(Permission::DlqRead),
    ),
    (Method::GET, "/v1/dlq/staleness", may(Permission::DlqRead)),
    (
        Method::GET,
        "/v1/analytics/performance",
        may(Permission::SystemAnalyticsRead),
    ),
    (
        Method::GET,
        "/v1/analytics/bottlenecks",
        may(Permission::SystemAnalyticsRead),
    ),
    (
        Method::GET,
        "/v1/circuits",
        may(Permission::SystemCircuitsRead),
    ),
    (
        Method::DELETE,
        "/v1/circuits/{target}",
        may(Permission::SystemCircuitsUpdate),
    ),
    (Method::GET, "/config", may(Permission::SystemConfigRead)),
    (
        Method::GET,
        "/config/log-level",
        may(Permission::SystemConfigRead),
    ),
    (
        Method::PUT,
        "/config/log-level",
        may(Permission::SystemConfigUpdate),
    ),
    (Method::GET, "/metrics", Need::Nothing),
    (Method::GET, "/health", Need::Nothing),
    (Method::GET, "/health/live", Need::Nothing),
    (Method::GET, "/health/ready", Need::Nothing),
    (Method::GET, "/health/detailed", Need::Nothing),
];

/// The description of the API, and what shows it: the same for everybody, and nothing of this installation.
const DOCUMENTS: &str = "/api-docs/";

/// Lets a request on to its handler, with its [`Caller`], or answers why not.
pub(super) async fn guard(app: &App, request: Request, next: Next) -> Response {
    // What no route has needs no rule.
    let Some(pattern) = request.extensions().get::<MatchedPath>().cloned() else {
        return next.run(request).await;
    };
    let (mut parts, body) = request.into_parts();
    match admit(app, &mut parts, pattern.as_str()).await {
        Ok(caller) => {
            if let Some(subject) = caller.subject() {
                tracing::Span::current().record("subject", subject);
            }
            parts.extensions.insert(caller);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(error) => error.into_response(),
    }
}

async fn admit(app: &App, parts: &mut Parts, pattern: &str) -> Result<Caller, ApiError> {
    let need = match wanted(ROUTES, &parts.method, pattern) {
        Wanted::Need(need) => need,
        Wanted::NoRule if pattern.starts_with(DOCUMENTS) => Need::Nothing,
        Wanted::NoRule if !app.gate.is_on() => Need::Nothing,
        Wanted::NoRule => return Err(tasker_shared::access::Refusal::NoRule.into()),
        Wanted::OtherMethod => {
            let error = error::no_such_method(parts.method.clone(), parts.uri.clone()).await;
            let allowed = HeaderValue::try_from(allowed(ROUTES, pattern));
            return Err(error.header(ALLOW, allowed.unwrap_or(HeaderValue::from_static(""))));
        }
    };
    let caller = app.gate.admit(&parts.headers, need).await?;
    if caller.namespaces().is_some() {
        reaches(app, &caller, parts).await?;
    }
    Ok(caller)
}

/// Whether what the path names is in a namespace of the caller's. What is not does not exist for it.
async fn reaches(app: &App, caller: &Caller, parts: &mut Parts) -> Result<(), ApiError> {
    let Ok(params) = RawPathParams::from_request_parts(parts, app).await else {
        // The handler says what is wrong with the path.
        return Ok(());
    };
    for (name, value) in &params {
        match name {
            "task_uuid" => {
                let Ok(task_uuid) = Uuid::parse_str(value) else {
                    continue;
                };
                let namespace = namespaces::find_of_task(&app.pool, task_uuid).await?;
                if !namespace.is_some_and(|namespace| caller.allows(&namespace)) {
                    return Err(ApiError::no_such_task(task_uuid));
                }
            }
            "namespace" if !caller.allows(value) => {
                let message =
                    format!("there is no template in a namespace {value:?} for these credentials");
                return Err(ApiError::not_found(message).without_asking());
            }
            _ => {}
        }
    }
    Ok(())
}

/// Who calls.
#[derive(Debug, Clone)]
pub(super) struct By(pub(super) Caller);

impl<S: Sync> FromRequestParts<S> for By {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let caller = parts.extensions.get::<Caller>().cloned();
        let missing =
            || ApiError::internal("a handler without the guard before it", &parts.uri.path());
        caller.map(By).ok_or_else(missing)
    }
}

impl By {
    /// Who acts: whom the request names, and always whose credentials they are. Who names nobody is known by these.
    pub(super) fn signed(&self, named: Option<&str>) -> Option<String> {
        match (named, self.0.subject()) {
            (Some(named), Some(subject)) if named != subject => {
                Some(format!("{named} (by the credentials of {subject})"))
            }
            (named, subject) => named.or(subject).map(str::to_owned),
        }
    }

    /// Refuses what is of a namespace that the caller does not reach.
    pub(super) fn reaches(&self, namespace: &str) -> Result<(), ApiError> {
        match self.0.allows(namespace) {
            true => Ok(()),
            false => {
                Err(tasker_shared::access::Refusal::OutsideNamespace(namespace.to_owned()).into())
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
