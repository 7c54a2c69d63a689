//! Dead letters: listed, read, put there, annotated. What is counted and measured is in `overview`, letting tasks go
//! on in `requeue`, and what is made of a stored entry in `view`.

pub(super) mod overview;
pub(super) mod requeue;
pub(super) mod view;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use tasker_shared::access::Caller;
use tasker_shared::db::dead_letter_views::{self, Entry, Filter};
use tasker_shared::db::dead_letters::{self, Change};
use tasker_shared::document::Document;
use tasker_shared::metrics::orchestration as metrics;
use tasker_shared::name::Name;
use tasker_shared::plan::dead_letter::Reason;
use tasker_shared::wire::{
    DlqAddRequest, DlqEntry, DlqInvestigationUpdate, DlqReason, DlqResolution, DlqUpdated,
    ErrorResponse,
};
use utoipa::IntoParams;
use uuid::Uuid;

use super::App;
use super::access::By;
use super::error::ApiError;
use super::extract::{Body, EntryPath, OptionalBody, Query, TaskPath};

const LIMIT: i64 = 50;
const MOST: i64 = 500;
/// The longest note that is kept.
const MOST_CHARACTERS: usize = 10_000;
/// What PostgreSQL calls an entry that would be the second one pending of its task.
const UNIQUE_VIOLATION: &str = "23505";

/// What a list is asked for with. Parameters that are not known are refused; empty ones count as absent.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    #[param(default = 50, minimum = 1, maximum = 500)]
    limit: Option<i64>,
    #[param(default = 0, minimum = 0)]
    offset: Option<i64>,
    /// `pending`, `manually_resolved`, `permanently_failed` or `cancelled`; in PascalCase too.
    resolution_status: Option<String>,
    /// An exact reason such as `poison`, or one of the client's such as `worker_unavailable`.
    reason: Option<String>,
    namespace: Option<String>,
    /// The template's name.
    name: Option<String>,
}

/// Lists dead letters, the newest first.
#[utoipa::path(
    get, operation_id = "list_dead_letters", path = "/v1/dlq", tag = "dead letters",
    params(ListQuery),
    responses(
        (status = 200, body = Vec<DlqEntry>),
        (status = 400, body = ErrorResponse, description = "A parameter is wrong or unknown"),
    )
)]
pub(super) async fn list(
    State(app): State<App>,
    By(caller): By,
    Query(query): Query<ListQuery>,
) -> Result<Json<Vec<DlqEntry>>, ApiError> {
    let limit = within("limit", query.limit.unwrap_or(LIMIT), 1, MOST)?;
    let offset = within("offset", query.offset.unwrap_or(0), 0, i64::MAX)?;
    let resolution = given(&query.resolution_status)
        .map(resolution)
        .transpose()?;
    let filter = Filter {
        resolution: resolution.map(Into::into),
        reasons: given(&query.reason).map(reasons).transpose()?,
        namespaces: reached(&caller, given(&query.namespace)),
        name: given(&query.name).map(str::to_owned),
        before: None,
    };
    let entries = dead_letter_views::list(&app.pool, &filter, limit, offset).await?;
    Ok(Json(app.shown(entries).await?))
}

/// Reads a dead letter.
#[utoipa::path(
    get, operation_id = "get_dead_letter", path = "/v1/dlq/entry/{dlq_entry_uuid}", tag = "dead letters",
    params(("dlq_entry_uuid" = uuid::Uuid, Path)),
    responses(
        (status = 200, body = DlqEntry),
        (status = 400, body = ErrorResponse, description = "Not a UUID"),
        (status = 404, body = ErrorResponse, description = "No such entry"),
    )
)]
pub(super) async fn get(
    State(app): State<App>,
    By(caller): By,
    EntryPath(entry): EntryPath,
) -> Result<Json<DlqEntry>, ApiError> {
    let entry = app.entry(&caller, entry).await?;
    app.shown_one(entry).await.map(Json)
}

/// Reads the newest dead letter of a task.
#[utoipa::path(
    get, operation_id = "get_dead_letter_of_task", path = "/v1/dlq/task/{task_uuid}", tag = "dead letters",
    params(("task_uuid" = uuid::Uuid, Path)),
    responses(
        (status = 200, body = DlqEntry),
        (status = 400, body = ErrorResponse, description = "Not a UUID"),
        (status = 404, body = ErrorResponse, description = "The task never was a dead letter"),
    )
)]
pub(super) async fn of_task(
    State(app): State<App>,
    TaskPath(task_uuid): TaskPath,
) -> Result<Json<DlqEntry>, ApiError> {
    let found = dead_letter_views::find_of_task(&app.pool, task_uuid).await?;
    let none = || ApiError::not_found(format!("there is no dead letter of a task {task_uuid}"));
    app.shown_one(found.ok_or_else(none)?).await.map(Json)
}

/// Puts a task among the dead letters for somebody's attention. The task itself goes on as it does.
#[utoipa::path(
    post, operation_id = "add_dead_letter", path = "/v1/dlq/task/{task_uuid}", tag = "dead letters",
    params(("task_uuid" = uuid::Uuid, Path)),
    request_body = Option<DlqAddRequest>,
    responses(
        (status = 201, body = DlqEntry),
        (status = 400, body = ErrorResponse, description = "Not a UUID, or the body is wrong"),
        (status = 404, body = ErrorResponse, description = "No such task"),
        (status = 409, body = ErrorResponse, description = "An entry of the task is pending already"),
    )
)]
pub(super) async fn add(
    State(app): State<App>,
    caller: By,
    TaskPath(task_uuid): TaskPath,
    OptionalBody(request): OptionalBody<DlqAddRequest>,
) -> Result<(StatusCode, Json<DlqEntry>), ApiError> {
    let note = text("/note", &request.note)?;
    let by = caller.signed(text("/added_by", &request.added_by)?);
    let Some(entry) = dead_letters::add(&app.pool, task_uuid, note, by.as_deref()).await? else {
        return Err(app.not_added(task_uuid).await?);
    };
    metrics::dead_letter(Name::of(&entry.namespace), entry.reason);
    let shown = app.shown_one(entry).await?;
    Ok((StatusCode::CREATED, Json(shown)))
}

/// Writes down what somebody found out about a dead letter, and resolves it. The task itself stays where it is: see
/// the requeue of an entry for letting it go on.
#[utoipa::path(
    patch, operation_id = "update_dead_letter", path = "/v1/dlq/entry/{dlq_entry_uuid}", tag = "dead letters",
    params(("dlq_entry_uuid" = uuid::Uuid, Path)),
    request_body = DlqInvestigationUpdate,
    responses(
        (status = 200, body = DlqUpdated),
        (status = 400, body = ErrorResponse, description = "Not a UUID, or the body is wrong"),
        (status = 404, body = ErrorResponse, description = "No such entry"),
        (status = 409, body = ErrorResponse, description = "Another entry of the task is pending, so this one cannot be again"),
    )
)]
pub(super) async fn update(
    State(app): State<App>,
    by: By,
    EntryPath(entry): EntryPath,
    Body(update): Body<DlqInvestigationUpdate>,
) -> Result<Json<DlqUpdated>, ApiError> {
    let named = text("/resolved_by", &update.resolved_by)?;
    let resolves = named.is_some() || update.resolution_status.is_some();
    let change = Change {
        resolution: update.resolution_status.map(Into::into),
        notes: text("/resolution_notes", &update.resolution_notes)?.map(str::to_owned),
        by: resolves.then(|| by.signed(named)).flatten(),
        metadata: update
            .metadata
            .as_ref()
            .map(|metadata| app.document(metadata.get(), "/metadata"))
            .transpose()?,
    };
    let before = app.entry(&by.0, entry).await?;
    let updated = match dead_letters::update(&app.pool, entry, &change).await {
        Err(error) if error.sqlstate().as_deref() == Some(UNIQUE_VIOLATION) => {
            let message = format!(
                "another entry of task {} is pending; look at that one instead",
                before.task_uuid
            );
            return Err(ApiError::conflict(message));
        }
        updated => updated?.ok_or_else(|| no_such_entry(entry))?,
    };
    Ok(Json(DlqUpdated {
        success: true,
        message: "the entry is updated".to_owned(),
        dlq_entry_uuid: updated.entry,
        resolution_status: updated.resolution.into(),
    }))
}

impl App {
    /// The entry, where the caller reaches its namespace.
    async fn entry(&self, caller: &Caller, entry: Uuid) -> Result<Entry, ApiError> {
        let found = dead_letter_views::find(&self.pool, entry).await?;
        found
            .filter(|found| caller.allows(&found.namespace))
            .ok_or_else(|| no_such_entry(entry))
    }

    /// Why a task was not put there.
    async fn not_added(&self, task_uuid: Uuid) -> Result<ApiError, ApiError> {
        // A submission made by SQL is a task already, but none that has rows.
        self.task_of(task_uuid).await?;
        let pending = dead_letter_views::find_of_task(&self.pool, task_uuid).await?;
        Ok(match pending {
            Some(entry) => {
                let message = format!(
                    "entry {} of the task is pending already; write there what there is to say",
                    entry.entry
                );
                ApiError::conflict(message).with("dlq_entry_uuid", entry.entry.to_string())
            }
            None => ApiError::conflict("the task is only being made; try again"),
        })
    }

    fn document(&self, text: &str, pointer: &str) -> Result<String, ApiError> {
        let limit = self.loaded.config.limits.max_context_bytes;
        Document::parse(text, limit, "limits.max_context_bytes")
            .map(String::from)
            .map_err(|error| ApiError::invalid(&format!("{pointer}{}", error.pointer()), error))
    }
}

fn no_such_entry(entry: Uuid) -> ApiError {
    ApiError::not_found(format!("there is no dead letter {entry}"))
}

/// The namespaces that a filter leaves of those that a caller reaches; `None` for all.
fn reached(caller: &Caller, namespace: Option<&str>) -> Option<Vec<String>> {
    match (caller.namespaces(), namespace) {
        (reached, None) => reached.map(<[String]>::to_vec),
        (_, Some(namespace)) if caller.allows(namespace) => Some(vec![namespace.to_owned()]),
        (_, Some(_)) => Some(Vec::new()),
    }
}

fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

fn within(parameter: &str, value: i64, least: i64, most: i64) -> Result<i64, ApiError> {
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    let range = match most {
        i64::MAX => format!("{least} or more"),
        _ => format!("{least} to {most}"),
    };
    let message = format!("{parameter} {value} is not {range}");
    Err(ApiError::bad_request(message).with("parameter", parameter))
}

fn resolution(word: &str) -> Result<DlqResolution, ApiError> {
    DlqResolution::parse(word).ok_or_else(|| {
        let words = DlqResolution::words();
        let message = format!("resolution_status {word:?} is none of {words}");
        ApiError::bad_request(message).with("parameter", "resolution_status")
    })
}

/// The exact reasons behind a word.
fn reasons(word: &str) -> Result<Vec<Reason>, ApiError> {
    let exact = Reason::parse(word).map(|reason| vec![reason]);
    exact
        .or_else(|| DlqReason::parse(word).map(DlqReason::exact))
        .ok_or_else(|| {
            let words = Reason::ALL.map(Reason::as_str).join(", ");
            let message = format!("reason {word:?} is none of {words}, {}", DlqReason::words());
            ApiError::bad_request(message).with("parameter", "reason")
        })
}

/// A text that can be kept.
fn text<'t>(pointer: &str, text: &'t Option<String>) -> Result<Option<&'t str>, ApiError> {
    let Some(text) = text.as_deref() else {
        return Ok(None);
    };
    if text.contains('\0') {
        return Err(ApiError::invalid(pointer, "contains a NUL character"));
    }
    if text.chars().count() > MOST_CHARACTERS {
        let message = format!("has more than {MOST_CHARACTERS} characters");
        return Err(ApiError::invalid(pointer, message));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_reason_is_known_by_its_own_word_and_by_the_clients() {
        let table: [(&str, &[Reason]); 4] = [
            ("poison", &[Reason::Poison]),
            ("WorkerUnavailable", &[Reason::Poison, Reason::Unroutable]),
            (
                "max_retries_exceeded",
                &[Reason::Exhausted, Reason::Permanent],
            ),
            ("DependencyCycleDetected", &[]),
        ];
        for (word, expected) in table {
            assert_eq!(reasons(word).unwrap(), expected, "{word}");
        }
        let error = reasons("bad luck").unwrap_err().body();
        assert!(
            error.message.contains("exhausted, permanent"),
            "{}",
            error.message
        );
    }

    #[test]
    fn a_filter_never_reaches_further_than_its_caller() {
        let anybody = Caller::anonymous();
        assert_eq!(reached(&anybody, None), None);
        assert_eq!(reached(&anybody, Some("a")), Some(vec!["a".to_owned()]));
    }

    #[test]
    fn numbers_and_texts_are_held_within_bounds() {
        assert!(within("limit", 500, 1, MOST).is_ok());
        let error = within("limit", 501, 1, MOST).unwrap_err().body();
        assert_eq!(error.message, "limit 501 is not 1 to 500");
        assert!(within("offset", -1, 0, i64::MAX).is_err());
        assert!(text("/note", &Some("a\0b".into())).is_err());
        assert!(text("/note", &Some("x".repeat(10_001))).is_err());
        assert_eq!(
            text("/note", &Some("ü".repeat(10_000)))
                .unwrap()
                .map(str::len),
            Some(20_000)
        );
    }
}
