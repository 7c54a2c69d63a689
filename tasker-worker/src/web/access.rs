//! Who may use which route of a worker. The guard stands before every handler and asks the table, then the gate.

use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath, RawPathParams, Request, State};
use axum::http::Method;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tasker_shared::access::{Caller, Need, Permission, Refusal, Route, Wanted, wanted};

use super::failure::Failure;

const fn may(permission: Permission) -> Need {
    Need::Permission(permission)
}

const TEMPLATE: &str = "/v1/templates/{namespace}/{name}/{version}";
const VALIDATE: &str = "/v1/templates/{namespace}/{name}/{version}/validate";

/// Every route with what it needs.
pub(super) static ROUTES: &[Route] = &[
    (Method::GET, "/health", Need::Nothing),
    (Method::GET, "/health/live", Need::Nothing),
    (Method::GET, "/health/ready", Need::Nothing),
    (Method::GET, "/health/detailed", Need::Nothing),
    (Method::GET, "/metrics", Need::Nothing),
    (Method::GET, "/metrics/worker", Need::Nothing),
    (Method::GET, "/config", may(Permission::WorkerConfigRead)),
    (
        Method::GET,
        "/config/log-level",
        may(Permission::WorkerConfigRead),
    ),
    (
        Method::PUT,
        "/config/log-level",
        may(Permission::WorkerConfigUpdate),
    ),
    (
        Method::GET,
        "/v1/templates",
        may(Permission::WorkerTemplatesRead),
    ),
    (Method::GET, TEMPLATE, may(Permission::WorkerTemplatesRead)),
    (Method::POST, VALIDATE, may(Permission::TemplatesValidate)),
];

/// Lets a request on to its handler, with its [`Caller`], or answers why not.
pub(super) async fn guard(
    State(state): State<Arc<super::State>>,
    request: Request,
    next: Next,
) -> Response {
    // What no route has needs no rule.
    let Some(pattern) = request.extensions().get::<MatchedPath>().cloned() else {
        return next.run(request).await;
    };
    let (mut parts, body) = request.into_parts();
    match admit(&state, &mut parts, pattern.as_str()).await {
        Ok(caller) => {
            parts.extensions.insert(caller);
            next.run(Request::from_parts(parts, body)).await
        }
        Err(failure) => failure.into_response(),
    }
}

async fn admit(state: &super::State, parts: &mut Parts, pattern: &str) -> Result<Caller, Failure> {
    let need = match wanted(ROUTES, &parts.method, pattern) {
        Wanted::Need(need) => need,
        Wanted::NoRule if !state.gate.is_on() => Need::Nothing,
        Wanted::NoRule => return Err(Refusal::NoRule.into()),
        // The handler that a method is missing from says which there are.
        Wanted::OtherMethod => Need::Nothing,
    };
    let caller = state.gate.admit(&parts.headers, need).await?;
    if caller.namespaces().is_some()
        && let Ok(params) = RawPathParams::from_request_parts(parts, &()).await
        && let Some((_, namespace)) = params.iter().find(|(name, _)| *name == "namespace")
        && !caller.allows(namespace)
    {
        // What the caller does not reach does not exist for it.
        return Err(Failure::not_found(format!(
            "there is no template in a namespace {namespace:?} for these credentials"
        )));
    }
    Ok(caller)
}
