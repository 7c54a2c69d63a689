//! A task's graph with the states of its steps: as JSON, or as a picture by `Accept`.

mod layout;
mod mermaid;
mod svg;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use tasker_shared::wire::{ErrorResponse, GraphEdge, TaskGraphResponse};

use super::App;
use super::error::ApiError;
use super::extract::TaskPath;
use super::view::{Results, TaskView};

/// What a graph can be had as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Svg,
    Mermaid,
}

/// The media types of each format; the first of a format is the one it is sent as.
const MEDIA_TYPES: &[(&str, Format)] = &[
    ("application/json", Format::Json),
    ("image/svg+xml", Format::Svg),
    ("text/vnd.mermaid", Format::Mermaid),
    ("text/x-mermaid", Format::Mermaid),
    ("text/mermaid", Format::Mermaid),
    ("text/plain", Format::Mermaid),
];

/// Shows a task's graph: JSON, or by `Accept` `image/svg+xml` or `text/vnd.mermaid`.
#[utoipa::path(
    get, operation_id = "get_task_graph", path = "/v1/tasks/{task_uuid}/graph", tag = "tasks",
    params(("task_uuid" = uuid::Uuid, Path)),
    responses(
        (status = 200, content((TaskGraphResponse = "application/json"), (String = "image/svg+xml"), (String = "text/vnd.mermaid"))),
        (status = 404, body = ErrorResponse, description = "No such task"),
    )
)]
pub(super) async fn graph(
    State(app): State<App>,
    TaskPath(task_uuid): TaskPath,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let view = app.task_view(task_uuid, Results::Without).await?;
    let graph = response(&view);
    let vary = (header::VARY, "accept");
    Ok(match accepted(&headers) {
        Format::Json => ([vary], Json(graph)).into_response(),
        Format::Svg => (
            [vary, (header::CONTENT_TYPE, "image/svg+xml")],
            svg::draw(&graph),
        )
            .into_response(),
        Format::Mermaid => {
            let kind = (header::CONTENT_TYPE, "text/vnd.mermaid; charset=utf-8");
            ([vary, kind], mermaid::write(&graph)).into_response()
        }
    })
}

fn response(view: &TaskView) -> TaskGraphResponse {
    let graph = &view.blueprint.graph;
    let layers = layout::layers(graph);
    let layer = |number: i32| {
        usize::try_from(number)
            .ok()
            .and_then(|i| layers.get(i))
            .copied()
    };
    let edges = view.steps.iter().flat_map(|step| {
        graph.parents(step.number).iter().map(|&parent| GraphEdge {
            from: graph.name(parent).to_owned(),
            to: step.name.clone(),
        })
    });
    let template = &view.blueprint.template;
    TaskGraphResponse {
        task_uuid: view.task.task_uuid,
        namespace: template.namespace_name.clone(),
        name: template.name.clone(),
        version: template.version.to_string(),
        status: view.outline().state().as_str().to_owned(),
        edges: edges.collect(),
        nodes: view
            .steps
            .iter()
            .map(|step| step.node(layer(step.number).unwrap_or_default()))
            .collect(),
    }
}

/// The format that the client likes best; JSON where it does not say, or wants none of them.
fn accepted(headers: &HeaderMap) -> Format {
    let mut best = (0.0, Format::Json);
    for value in headers.get_all(header::ACCEPT) {
        for part in value.to_str().unwrap_or_default().split(',') {
            let mut fields = part.split(';').map(str::trim);
            let essence = fields.next().unwrap_or_default();
            let quality = fields
                .find_map(|field| field.strip_prefix("q=")?.parse::<f32>().ok())
                .unwrap_or(1.0);
            let format = match essence {
                "*/*" | "application/*" => Some(Format::Json),
                "image/*" => Some(Format::Svg),
                _ => MEDIA_TYPES
                    .iter()
                    .find(|(known, _)| known.eq_ignore_ascii_case(essence))
                    .map(|(_, format)| *format),
            };
            if let Some(format) = format.filter(|_| quality > best.0) {
                best = (quality, format);
            }
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn the_format_follows_what_the_client_accepts() {
        let table = [
            ("*/*", Format::Json),
            ("image/svg+xml", Format::Svg),
            ("text/vnd.mermaid", Format::Mermaid),
            ("text/plain", Format::Mermaid),
            ("application/json;q=0.5, image/svg+xml", Format::Svg),
            ("application/json, image/svg+xml;q=0.9", Format::Json),
            ("image/svg+xml;q=0", Format::Json),
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
                Format::Json,
            ),
            ("text/html", Format::Json),
            ("", Format::Json),
        ];
        for (accept, expected) in table {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            assert_eq!(accepted(&headers), expected, "{accept}");
        }
        assert_eq!(accepted(&HeaderMap::new()), Format::Json);
    }
}
