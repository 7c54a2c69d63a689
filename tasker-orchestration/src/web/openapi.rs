//! What the description of the API says of the whole, and of every route: the answers that any of them can give,
//! because of what all share.

mod credentials;

use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::{ContentBuilder, Ref, ResponseBuilder};

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
        (name = "dead letters", description = "Tasks that cannot go on until somebody has looked at them, and tasks that are about to"),
        (name = "analytics", description = "How tasks and steps have gone, and where they are held up"),
        (name = "system", description = "Health, metrics, configuration and logs")
    )
)]
pub(super) struct Description;

/// What is open to everybody, and answered whatever else is wrong.
const OPEN: [&str; 2] = ["/health", "/metrics"];

/// Answers of the layers around every other route.
const SHARED: [(&str, &str); 6] = [
    ("400", "A part of the request is not what it should be"),
    ("401", "There are no credentials that are known"),
    ("403", "The credentials do not allow it"),
    ("408", "It took longer than `server.request_timeout_ms`"),
    (
        "500",
        "A fault of the server, told in its log by the request id",
    ),
    (
        "503",
        "The server cannot do it now; `Retry-After` says when to try again",
    ),
];

/// Answers to any request with a body.
const OF_BODIES: [(&str, &str); 2] = [
    ("413", "A limit is exceeded"),
    ("415", "The body is of another media type"),
];

/// The description with the answers that routes share, where a route does not describe one itself.
pub(super) fn completed(mut api: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    for (path, item) in &mut api.paths.paths {
        if OPEN.iter().any(|open| path.starts_with(open)) {
            continue;
        }
        for operation in operations(item) {
            let of_bodies = OF_BODIES
                .iter()
                .filter(|_| operation.request_body.is_some());
            for (status, description) in SHARED.iter().chain(of_bodies).copied().collect::<Vec<_>>()
            {
                let error = Ref::from_schema_name("ErrorResponse");
                let content = ContentBuilder::new().schema(Some(error)).build();
                let answer = ResponseBuilder::new()
                    .description(description)
                    .content("application/json", content)
                    .build();
                let answers = &mut operation.responses.responses;
                answers
                    .entry(status.to_owned())
                    .or_insert_with(|| answer.into());
            }
        }
    }
    credentials::described(api)
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [
        &mut item.get,
        &mut item.put,
        &mut item.post,
        &mut item.delete,
        &mut item.patch,
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::description;

    #[test]
    fn every_route_behind_the_layers_describes_what_they_answer() {
        let api = serde_json::to_value(description()).unwrap();
        let paths = api["paths"].as_object().unwrap();
        assert!(paths.len() > 10);
        for (path, item) in paths {
            let open = path.starts_with("/health") || path.starts_with("/metrics");
            for (method, operation) in item.as_object().unwrap() {
                let answers = operation["responses"].as_object().unwrap();
                assert_eq!(answers.contains_key("401"), !open, "{method} {path}");
                let has_body = operation.get("requestBody").is_some();
                assert!(
                    !has_body || answers.contains_key("415"),
                    "{method} {path} takes a body"
                );
            }
        }
        let own = &paths["/v1/tasks"]["post"]["responses"]["503"]["description"];
        assert_eq!(own, "Nothing was stored; try again");
    }
}
