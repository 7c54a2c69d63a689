//! The templates that a worker can run steps of, and whether it has all the handlers for one.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use serde::Deserialize;
use tasker_shared::access::Caller;
use tasker_shared::db;
use tasker_shared::template::Template;
use tasker_shared::wire::{
    HandlerMetadata, ResolvedTemplate, TemplateValidation, WireTemplate, WorkerTemplate,
    WorkerTemplateList,
};

use super::failure::Failure;

/// Which crate brings the handlers; the client wants a name.
const HANDLER_CLASS: &str = "tasker_worker::Registry";

/// `include_cache_stats`, which the client may send as well, asks for what a worker does not have.
#[derive(Deserialize)]
pub(super) struct Filter {
    namespace: Option<String>,
}

type Version = Path<(String, String, String)>;

pub(super) async fn list(
    State(state): State<Arc<super::State>>,
    Extension(caller): Extension<Caller>,
    Query(filter): Query<Filter>,
) -> Result<Json<WorkerTemplateList>, Failure> {
    let listed = db::templates::list(&state.pool).await?;
    let wanted = |namespace: &str| {
        serves(&state, namespace)
            && caller.allows(namespace)
            && filter
                .namespace
                .as_deref()
                .is_none_or(|only| only == namespace)
    };
    let count = listed
        .iter()
        .filter(|template| wanted(&template.namespace))
        .count();
    Ok(Json(WorkerTemplateList {
        supported_namespaces: state.loaded.config.worker.namespaces.clone(),
        template_count: count as u64,
        worker_capabilities: state.callables.clone(),
        cache_stats: None,
    }))
}

pub(super) async fn get(
    State(state): State<Arc<super::State>>,
    Path(version): Version,
) -> Result<Json<WorkerTemplate>, Failure> {
    let stored = find(&state, version).await?;
    let environment = &state.loaded.environment;
    let template = stored.definition.0.for_environment(environment);
    Ok(Json(WorkerTemplate {
        handler_metadata: HandlerMetadata {
            namespace: stored.namespace,
            name: stored.name,
            version: stored.version,
            handler_class: HANDLER_CLASS.to_owned(),
            config_schema: None,
            default_dependent_system: Some(template.system_dependencies.primary.clone()),
            registered_at: stored.created_at,
        },
        template: ResolvedTemplate {
            template: WireTemplate::from(&template),
            environment: environment.clone(),
            resolved_at: state.clock.now(),
        },
        cached: false,
        cache_age_seconds: None,
        access_count: None,
    }))
}

pub(super) async fn validate(
    State(state): State<Arc<super::State>>,
    Path(version): Version,
) -> Result<Json<TemplateValidation>, Failure> {
    let stored = find(&state, version).await?;
    Ok(Json(check(
        &stored.definition.0,
        &state.loaded.config.worker.namespaces,
        &state.callables,
    )))
}

async fn find(
    state: &super::State,
    (namespace, name, version): (String, String, String),
) -> Result<db::templates::Stored, Failure> {
    // PostgreSQL cannot even be asked for a text with a NUL.
    let stored = match [&namespace, &name, &version]
        .iter()
        .any(|part| part.contains('\0'))
    {
        true => None,
        false => db::templates::find(&state.pool, &namespace, &name, &version).await?,
    };
    stored.ok_or_else(|| {
        Failure::not_found(format!(
            "there is no template {name} {version} in the namespace {namespace}"
        ))
    })
}

fn serves(state: &super::State, namespace: &str) -> bool {
    let namespaces = &state.loaded.config.worker.namespaces;
    namespaces.is_empty() || namespaces.iter().any(|served| served == namespace)
}

/// Whether a worker that serves `namespaces` (every one where empty) with `callables` can run every step.
fn check(template: &Template, namespaces: &[String], callables: &[String]) -> TemplateValidation {
    let mut errors = Vec::new();
    if !namespaces.is_empty() && !namespaces.contains(&template.namespace_name) {
        errors.push(format!(
            "this worker does not serve the namespace {}",
            template.namespace_name
        ));
    }
    for step in &template.steps {
        let callable = &step.handler.callable;
        if !callables.contains(callable) {
            errors.push(format!(
                "step {} needs the handler {callable}, which this worker does not have",
                step.name
            ));
        }
    }
    let needed: BTreeSet<&String> = template
        .steps
        .iter()
        .map(|step| &step.handler.callable)
        .collect();
    TemplateValidation {
        valid: errors.is_empty(),
        errors,
        required_capabilities: needed.into_iter().cloned().collect(),
        step_handlers: template
            .steps
            .iter()
            .map(|step| step.handler.callable.clone())
            .collect(),
    }
}
