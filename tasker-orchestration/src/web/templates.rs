//! Templates: listing, reading and storing them.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::value::to_raw_value;
use tasker_shared::db::templates::{self, Stored};
use tasker_shared::wire::{
    ErrorResponse, NamespaceSummary, TemplateApplied, TemplateDetail, TemplateListResponse,
    TemplateStepDetail, TemplateSummary,
};
use utoipa::IntoParams;

use super::App;
use super::access::By;
use super::error::ApiError;
use super::extract::{self, Query, TemplatePath};

/// JSON is YAML too.
const MEDIA_TYPES: &[&str] = &[
    "application/yaml",
    "application/json",
    "application/x-yaml",
    "text/yaml",
    "text/x-yaml",
    "text/plain",
];

/// What a list of templates is asked for with.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only the templates of this namespace.
    namespace: Option<String>,
}

/// Lists templates.
#[utoipa::path(
    get, operation_id = "list_templates", path = "/v1/templates", tag = "templates",
    params(ListQuery),
    responses((status = 200, body = TemplateListResponse))
)]
pub(super) async fn list(
    State(app): State<App>,
    By(caller): By,
    Query(query): Query<ListQuery>,
) -> Result<Json<TemplateListResponse>, ApiError> {
    let mut all = templates::list(&app.pool).await?;
    all.retain(|template| caller.allows(&template.namespace));
    let mut namespaces: BTreeMap<&str, u64> = BTreeMap::new();
    for template in &all {
        *namespaces.entry(&template.namespace).or_default() += 1;
    }
    let namespaces = namespaces
        .into_iter()
        .map(|(name, template_count)| NamespaceSummary {
            name: name.to_owned(),
            description: None,
            template_count,
        });
    let asked = query
        .namespace
        .as_deref()
        .filter(|namespace| !namespace.is_empty());
    let templates = all
        .iter()
        .filter(|template| asked.is_none_or(|namespace| namespace == template.namespace));
    Ok(Json(TemplateListResponse {
        namespaces: namespaces.collect(),
        templates: templates
            .map(|template| TemplateSummary {
                name: template.name.clone(),
                namespace: template.namespace.clone(),
                version: template.version.clone(),
                description: template.description.clone(),
                step_count: u64::try_from(template.step_count).unwrap_or_default(),
            })
            .collect(),
        total_count: all.len() as u64,
    }))
}

/// Reads a template.
#[utoipa::path(
    get, operation_id = "get_template", path = "/v1/templates/{namespace}/{name}/{version}", tag = "templates",
    params(("namespace" = String, Path), ("name" = String, Path), ("version" = String, Path)),
    responses(
        (status = 200, body = TemplateDetail),
        (status = 404, body = ErrorResponse, description = "No such template"),
    )
)]
pub(super) async fn get(
    State(app): State<App>,
    path: TemplatePath,
) -> Result<Json<TemplateDetail>, ApiError> {
    let TemplatePath {
        namespace,
        name,
        version,
    } = &path;
    let stored = templates::find(&app.pool, namespace, name, version).await?;
    let missing = || {
        ApiError::not_found(format!(
            "there is no template {namespace}/{name} in version {version}"
        ))
    };
    Ok(Json(detail(stored.ok_or_else(missing)?)))
}

fn detail(stored: Stored) -> TemplateDetail {
    let template = stored.definition.0;
    TemplateDetail {
        name: stored.name,
        namespace: stored.namespace,
        version: stored.version,
        configuration: to_raw_value(&template).ok(),
        description: template.description,
        steps: template
            .steps
            .into_iter()
            .map(|step| TemplateStepDetail {
                name: step.name,
                description: step.description,
                default_retryable: step.retry.retryable,
                default_max_attempts: i32::try_from(step.retry.max_attempts).unwrap_or(i32::MAX),
                result_schema: step.result_schema,
                handler: step.handler.callable,
                dependencies: step.dependencies,
            })
            .collect(),
    }
}

/// Stores a template, given as YAML or JSON. Once stored, a version never changes.
#[utoipa::path(
    post, operation_id = "apply_template", path = "/v1/templates", tag = "templates",
    request_body(content(
        (String = "application/yaml"),
        (serde_json::Value = "application/json"),
    )),
    responses(
        (status = 201, body = TemplateApplied, description = "Stored"),
        (status = 200, body = TemplateApplied, description = "The very same template was stored before"),
        (status = 400, body = ErrorResponse, description = "The template has faults: all are in `details.faults`"),
        (status = 403, body = ErrorResponse, description = "The credentials do not reach its namespace"),
        (status = 409, body = ErrorResponse, description = "This version has other contents"),
        (status = 413, body = ErrorResponse, description = "A limit is exceeded"),
    )
)]
pub(super) async fn apply(
    State(app): State<App>,
    By(caller): By,
    request: Request,
) -> Result<(StatusCode, Json<TemplateApplied>), ApiError> {
    let source = extract::text(request, &app, MEDIA_TYPES).await?;
    let applied = app
        .templates
        .apply(&source, "template", |namespace| caller.allows(namespace))
        .await?;
    let status = match applied.created {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    };
    let body = TemplateApplied {
        namespace: applied.namespace,
        name: applied.name,
        version: applied.version,
        created: applied.created,
    };
    Ok((status, Json(body)))
}
