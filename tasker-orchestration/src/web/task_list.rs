//! Lists of tasks: filtered, the newest first, by page or by cursor.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use tasker_shared::db::namespaces;
use tasker_shared::db::task_views::{self, COUNTED, Filter, List};
use tasker_shared::state::task::TaskState;
use tasker_shared::wire::{ErrorResponse, Pagination, TaskListResponse, TaskResponse};
use utoipa::IntoParams;
use uuid::Uuid;

use super::App;
use super::access::By;
use super::error::ApiError;
use super::extract::Query;
use super::view::task::Outline;

const PER_PAGE: u32 = 25;
const MOST_PER_PAGE: u32 = 100;

/// What a list is asked for with. Parameters that are not known are refused; empty ones count as absent.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// From 1.
    #[param(value_type = Option<u64>, default = 1, minimum = 1, maximum = 4294967295_u64)]
    page: Option<u32>,
    #[param(default = 25, minimum = 1, maximum = 100)]
    per_page: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    /// A task state; `completed` is taken as `complete`.
    status: Option<String>,
    #[param(pattern = "^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})?$")]
    correlation_id: Option<String>,
    tag: Option<String>,
    initiator: Option<String>,
    source_system: Option<String>,
    /// RFC 3339, exclusive.
    created_after: Option<String>,
    /// RFC 3339, exclusive.
    created_before: Option<String>,
}

/// The part of a list that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    page: u32,
    per_page: u32,
    behind: Option<Uuid>,
}

/// Lists tasks, the newest first.
#[utoipa::path(
    get, operation_id = "list_tasks", path = "/v1/tasks", tag = "tasks",
    params(ListQuery),
    responses(
        (status = 200, body = TaskListResponse),
        (status = 400, body = ErrorResponse, description = "A parameter is wrong or unknown"),
    )
)]
pub(super) async fn list(
    State(app): State<App>,
    By(caller): By,
    Query(query): Query<ListQuery>,
) -> Result<Json<TaskListResponse>, ApiError> {
    let window = query.window()?;
    let mut filter = query.filter()?;
    let (namespace, name) = (given(&query.namespace), given(&query.name));
    if let Some(reached) = caller.namespaces() {
        let found = namespaces::list_templates(&app.pool, reached, namespace, name);
        filter.templates = Some(found.await?);
    } else if namespace.is_some() || name.is_some() {
        filter.templates = Some(task_views::template_ids(&app.pool, namespace, name).await?);
    }
    let skipped = match window.behind {
        Some(_) => 0,
        None => i64::from(window.page - 1) * i64::from(window.per_page),
    };
    let most = i64::from(window.per_page) + 1;
    let list = List::of(&app.pool, &filter).await?;
    let mut uuids = list.page(&app.pool, window.behind, skipped, most).await?;
    let per_page = usize::try_from(window.per_page).unwrap_or(usize::MAX);
    let has_next = uuids.len() > per_page;
    uuids.truncate(per_page);
    let tasks = app.outlines(&uuids).await?;
    let total = match window.behind.is_none() && window.page == 1 && !has_next {
        true => (uuids.len() as u64, false),
        false => app.total(list).await?,
    };
    let next = uuids.last().copied().filter(|_| has_next);
    Ok(Json(TaskListResponse {
        tasks,
        pagination: pagination(window, total, next),
    }))
}

impl App {
    /// The tasks of these uuids without their steps, the newest first.
    async fn outlines(&self, uuids: &[Uuid]) -> Result<Vec<TaskResponse>, ApiError> {
        let rows = task_views::get(&self.pool, uuids).await?;
        let ids: Vec<i32> = rows.iter().map(|row| row.template_id).collect();
        let blueprints = self.blueprints.get(ids).await?;
        let sizes: Vec<(Uuid, i32)> = rows
            .iter()
            .filter_map(|row| {
                Some((
                    row.task_uuid,
                    blueprints.get(&row.template_id)?.graph.join() - 1,
                ))
            })
            .collect();
        let counted: HashMap<Uuid, task_views::Counted> =
            task_views::count_steps(&self.pool, &sizes)
                .await?
                .into_iter()
                .map(|counted| (counted.task_uuid, counted))
                .collect();
        let now = self.clock.now();
        let outline = |task: &task_views::TaskRow| {
            let blueprint = blueprints.get(&task.template_id)?;
            let counted = counted.get(&task.task_uuid);
            let outline = Outline::counted(task, blueprint, counted, now);
            Some(outline.response(Vec::new()))
        };
        Ok(rows.iter().filter_map(outline).collect())
    }

    /// How many tasks a list has, and whether that is an estimate.
    async fn total(&self, list: List<'_>) -> Result<(u64, bool), ApiError> {
        let filter = list.filter();
        if let Some(total) = self.totals.find(filter, self.clock.now()) {
            return Ok((total, true));
        }
        if let Some(counted) = list.count(&self.pool).await? {
            return Ok((counted.unsigned_abs(), false));
        }
        let estimate = list.estimate(&self.pool).await?;
        let total = estimate.max(COUNTED + 1).unsigned_abs();
        self.totals.keep(filter.clone(), total, self.clock.now());
        Ok((total, true))
    }
}

fn pagination(window: Window, (total, estimated): (u64, bool), next: Option<Uuid>) -> Pagination {
    let pages = total.div_ceil(u64::from(window.per_page));
    Pagination {
        page: window.page,
        per_page: window.per_page,
        total_count: total,
        total_pages: u32::try_from(pages).unwrap_or(u32::MAX),
        has_next: next.is_some(),
        has_previous: window.page > 1 || window.behind.is_some(),
        total_count_estimated: estimated,
        next_cursor: next.map(|uuid| uuid.simple().to_string()),
    }
}

fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

impl ListQuery {
    fn window(&self) -> Result<Window, ApiError> {
        let page = self.page.unwrap_or(1);
        let per_page = self.per_page.unwrap_or(PER_PAGE);
        if page == 0 {
            return Err(wrong("page", "begins with 1"));
        }
        if !(1..=MOST_PER_PAGE).contains(&per_page) {
            return Err(wrong("per_page", "is outside 1 to 100"));
        }
        let behind = match given(&self.cursor) {
            Some(_) if page > 1 => return Err(wrong("page", "and cursor exclude each other")),
            Some(text) => {
                let uuid = Uuid::try_parse(text);
                Some(uuid.map_err(|_| wrong("cursor", "is not one that a list has given"))?)
            }
            None => None,
        };
        Ok(Window {
            page,
            per_page,
            behind,
        })
    }

    /// The filter, but for the templates.
    fn filter(&self) -> Result<Filter, ApiError> {
        let owned = |text: &Option<String>| given(text).map(str::to_owned);
        let state = |text: &str| {
            let known: Vec<&str> = TaskState::ALL.iter().map(|state| state.as_str()).collect();
            let unknown = || {
                wrong(
                    "status",
                    format!("{text:?} is none of {}", known.join(", ")),
                )
            };
            TaskState::parse(text).ok_or_else(unknown)
        };
        let correlation = |text: &str| {
            Uuid::parse_str(text).map_err(|error| {
                let message = format!("correlation_id {text:?} is not a UUID: {error}");
                ApiError::new(StatusCode::BAD_REQUEST, "INVALID_UUID", message)
                    .with("parameter", "correlation_id")
            })
        };
        Ok(Filter {
            templates: None,
            state: given(&self.status).map(state).transpose()?,
            correlation_id: given(&self.correlation_id).map(correlation).transpose()?,
            tag: owned(&self.tag),
            initiator: owned(&self.initiator),
            source_system: owned(&self.source_system),
            created_after: given(&self.created_after)
                .map(|text| time("created_after", text))
                .transpose()?,
            created_before: given(&self.created_before)
                .map(|text| time("created_before", text))
                .transpose()?,
        })
    }
}

/// A `+` that was not encoded arrives as a space.
fn time(parameter: &str, text: &str) -> Result<DateTime<Utc>, ApiError> {
    DateTime::parse_from_rfc3339(&text.replace(' ', "+"))
        .map(|time| time.with_timezone(&Utc))
        .map_err(|error| {
            wrong(
                parameter,
                format!("{text:?} is not an RFC 3339 time: {error}"),
            )
        })
}

fn wrong(parameter: &str, message: impl std::fmt::Display) -> ApiError {
    ApiError::bad_request(format!("{parameter} {message}")).with("parameter", parameter)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn query(text: &str) -> Result<(Window, Filter), String> {
        let uri: axum::http::Uri = format!("/v1/tasks?{text}").parse().unwrap();
        let axum::extract::Query(query) =
            axum::extract::Query::<ListQuery>::try_from_uri(&uri).map_err(|e| e.body_text())?;
        let told = |error: ApiError| error.body().message;
        Ok((query.window().map_err(told)?, query.filter().map_err(told)?))
    }

    #[test]
    fn what_the_published_client_sends_is_understood() {
        let (window, filter) = query("page=1&per_page=25").unwrap();
        assert_eq!(
            window,
            Window {
                page: 1,
                per_page: 25,
                behind: None
            }
        );
        assert!(filter.state.is_none());
        let (_, filter) =
            query("page=1&per_page=25&namespace=a+b&status=completed&initiator=me&source_system=x")
                .unwrap();
        assert_eq!(filter.state, Some(TaskState::Complete));
        assert_eq!(filter.initiator.as_deref(), Some("me"));
    }

    #[test]
    fn wrong_parameters_are_refused_by_name() {
        let table = [
            ("page=0", "page begins with 1"),
            ("per_page=0", "per_page is outside 1 to 100"),
            ("per_page=101", "per_page is outside 1 to 100"),
            ("page=-1", "page"),
            ("status=done", "status"),
            ("cursor=nonsense", "cursor"),
            ("page=2&cursor=0199c3e0ccdb758187ab3f67daeaa4a5", "cursor"),
            ("correlation_id=1", "correlation_id"),
            ("created_after=yesterday", "created_after"),
            ("namspace=shop", "namspace"),
        ];
        for (text, expected) in table {
            let error = query(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_plus_that_was_not_encoded_is_still_an_offset() {
        let (_, filter) = query("created_after=2025-01-02T03:04:05+01:00").unwrap();
        assert_eq!(
            filter.created_after.unwrap().to_rfc3339(),
            "2025-01-02T02:04:05+00:00"
        );
    }

    #[test]
    fn a_page_knows_its_neighbours() {
        let window = Window {
            page: 2,
            per_page: 10,
            behind: None,
        };
        let uuid = Uuid::from_u128(7);
        let middle = pagination(window, (35, false), Some(uuid));
        assert_eq!(
            (middle.total_pages, middle.has_next, middle.has_previous),
            (4, true, true)
        );
        assert_eq!(Uuid::try_parse(&middle.next_cursor.unwrap()).unwrap(), uuid);
        let only = pagination(Window { page: 1, ..window }, (0, false), None);
        assert_eq!(
            (only.total_pages, only.has_next, only.has_previous),
            (0, false, false)
        );
        let deep = pagination(
            Window {
                page: 1,
                behind: Some(uuid),
                ..window
            },
            (20_000, true),
            None,
        );
        assert!(deep.has_previous && deep.total_count_estimated);
    }
}
