//! What the description of the API says of the whole.

use utoipa::OpenApi;

/// The frame; the routes bring their own parts.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tasker",
        description = "Tasks, their steps and templates. Answers speak the wire format of the published client library; fields may be added, never renamed.",
        license(name = "MIT OR Apache-2.0")
    ),
    tags(
        (name = "tasks", description = "Submitting, reading and changing tasks"),
        (name = "steps", description = "The steps of a task and their attempts"),
        (name = "templates", description = "What tasks are made of"),
        (name = "system", description = "Health, metrics, configuration and logs")
    )
)]
pub(super) struct Description;
