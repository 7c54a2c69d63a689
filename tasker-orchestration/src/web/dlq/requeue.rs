//! Letting the tasks of dead letters go on: one, or those that fit a filter. The entry is resolved in the transaction
//! that puts the task's failed steps back.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use futures::{StreamExt, stream};
use tasker_shared::access::Caller;
use tasker_shared::db::dead_letter_views::{self, Entry, Filter};
use tasker_shared::plan::dead_letter::{Reason, Resolution};
use tasker_shared::wire::{
    DlqRefused, DlqRequeueFilter, DlqRequeueRequest, DlqRequeued, DlqRequeuedMany, ErrorResponse,
};
use uuid::Uuid;

use super::super::App;
use super::super::access::By;
use super::super::error::ApiError;
use super::super::extract::{Body, EntryPath, OptionalBody};
use super::super::view::Results;
use super::{reached, reasons, text, within};
use crate::lifecycle::control::{self, Action};

const LIMIT: i64 = 100;
const MOST: i64 = 1_000;
/// Tasks put back at once.
const AT_ONCE: usize = 16;
/// Whatever is configured, a request gets so long to begin putting tasks back.
const LEAST: Duration = Duration::from_millis(100);

/// Lets the task of a dead letter go on: its failed steps are put back with all their attempts ahead, and the entry is
/// resolved.
#[utoipa::path(
    post, operation_id = "requeue_dead_letter", path = "/v1/dlq/entry/{dlq_entry_uuid}/requeue", tag = "dead letters",
    params(("dlq_entry_uuid" = uuid::Uuid, Path)),
    request_body = Option<DlqRequeueRequest>,
    responses(
        (status = 200, body = DlqRequeued),
        (status = 400, body = ErrorResponse, description = "Not a UUID, or the body is wrong"),
        (status = 404, body = ErrorResponse, description = "No such entry"),
        (status = 409, body = ErrorResponse, description = "The entry is resolved, or the task cannot go on"),
        (status = 503, body = ErrorResponse, description = "No server has taken it up in time"),
    )
)]
pub(in crate::web) async fn requeue(
    State(app): State<App>,
    by: By,
    EntryPath(entry): EntryPath,
    OptionalBody(request): OptionalBody<DlqRequeueRequest>,
) -> Result<Json<DlqRequeued>, ApiError> {
    let said = Said::of(&by, &request.requeued_by, &request.note)?;
    let entry = app.entry(&by.0, entry).await?;
    if entry.resolution != Resolution::Pending {
        return Err(resolved(&entry));
    }
    app.put_back(entry.entry, entry.task_uuid, &said).await?;
    let task = app.task_view(entry.task_uuid, Results::Without).await?;
    Ok(Json(DlqRequeued {
        dlq_entry_uuid: entry.entry,
        task_uuid: entry.task_uuid,
        status: task.outline().state().as_str().to_owned(),
    }))
}

/// Lets the tasks of all pending dead letters go on that fit a filter, the oldest first. Those whose input was refused
/// cannot go on, and those that a person put there need not have failed: both are left out, but where they are asked for
/// by their reason. What cannot be done in good time is left for another request, which says `after` which entry it goes on.
#[utoipa::path(
    post, operation_id = "requeue_dead_letters", path = "/v1/dlq/requeue", tag = "dead letters",
    request_body = DlqRequeueFilter,
    responses(
        (status = 200, body = DlqRequeuedMany),
        (status = 400, body = ErrorResponse, description = "The filter is wrong, or there is none"),
        (status = 404, body = ErrorResponse, description = "There is no dead letter `after`, or it is out of reach"),
        (status = 503, body = ErrorResponse, description = "The database is not available"),
    )
)]
pub(in crate::web) async fn requeue_all(
    State(app): State<App>,
    by: By,
    Body(request): Body<DlqRequeueFilter>,
) -> Result<Json<DlqRequeuedMany>, ApiError> {
    let said = Said::of(&by, &request.requeued_by, &request.note)?;
    let limit = within("/limit", request.limit.unwrap_or(LIMIT), 1, MOST)?;
    let filter = filter(&by.0, &request)?;
    if let Some(after) = request.after {
        app.entry(&by.0, after).await?;
    }
    let found = dead_letter_views::list_oldest(&app.pool, &filter, request.after, limit).await?;
    let all = found.len();
    let results: Vec<_> = stream::iter(found)
        .take_until(tokio::time::sleep(app.requeue_time()))
        .map(|(entry, task_uuid)| {
            let (app, said) = (&app, &said);
            async move { (entry, task_uuid, app.put_back(entry, task_uuid, said).await) }
        })
        .buffered(AT_ONCE)
        .collect()
        .await;
    let more = results.len() < all || i64::try_from(all).unwrap_or(i64::MAX) >= limit;
    let last = results.last().map(|(entry, ..)| *entry);
    let mut answer = DlqRequeuedMany {
        requeued: 0,
        refused: Vec::new(),
        more,
        after: last.or(request.after).filter(|_| more),
    };
    for (dlq_entry_uuid, task_uuid, result) in results {
        match result {
            Ok(()) => answer.requeued += 1,
            Err(error) => answer.refused.push(DlqRefused {
                dlq_entry_uuid,
                task_uuid,
                error: error.body(),
            }),
        }
    }
    Ok(Json(answer))
}

/// Who wants it, and why.
#[derive(Debug)]
struct Said {
    by: Option<String>,
    note: Option<String>,
}

impl Said {
    fn of(by: &By, named: &Option<String>, note: &Option<String>) -> Result<Said, ApiError> {
        Ok(Said {
            by: by.signed(text("/requeued_by", named)?),
            note: text("/note", note)?.map(str::to_owned),
        })
    }
}

impl App {
    /// For so long tasks are begun to be put back: those begun last have time to be done before the request is given up.
    fn requeue_time(&self) -> Duration {
        let server = &self.loaded.config.server;
        let left = server
            .request_timeout_ms
            .saturating_sub(server.control_timeout_ms);
        Duration::from_millis(left / 2).max(LEAST)
    }

    async fn put_back(&self, entry: Uuid, task_uuid: Uuid, said: &Said) -> Result<(), ApiError> {
        let action = Action::Retry {
            by: said.by.clone(),
            note: said.note.clone(),
            entry: Some(entry),
        };
        match self.controls.apply(task_uuid, action).await {
            Err(control::Error::NotAllowed(why)) => Err(self.cannot(entry, why).await?),
            Err(control::Error::NotFound) => {
                let message = format!(
                    "task {task_uuid} is no longer kept: submit it anew from the entry's snapshot, and resolve the entry"
                );
                Err(ApiError::conflict(message))
            }
            result => Ok(result?),
        }
    }

    /// Why the task of an entry does not go on, and what to do instead.
    async fn cannot(&self, entry: Uuid, why: String) -> Result<ApiError, ApiError> {
        let Some(entry) = dead_letter_views::find(&self.pool, entry).await? else {
            return Ok(super::no_such_entry(entry));
        };
        if entry.resolution != Resolution::Pending {
            return Ok(resolved(&entry));
        }
        let instead = match entry.reason {
            Reason::InvalidInput => {
                "its input breaks the template's input_schema: submit a task with a good one, and resolve the entry"
            }
            _ => "resolve the entry where nothing is left to do",
        };
        Ok(ApiError::conflict(format!("{why}; {instead}")))
    }
}

fn resolved(entry: &Entry) -> ApiError {
    let status = tasker_shared::wire::DlqResolution::from(entry.resolution).as_snake();
    let message = format!(
        "the entry is {status} already; look at the newest one of task {}",
        entry.task_uuid
    );
    ApiError::conflict(message).with("resolution_status", status)
}

fn filter(caller: &Caller, request: &DlqRequeueFilter) -> Result<Filter, ApiError> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let (reason, namespace) = (given(&request.reason), given(&request.namespace));
    let name = given(&request.name);
    text("/namespace", &namespace)?;
    text("/name", &name)?;
    let narrows =
        reason.is_some() || namespace.is_some() || name.is_some() || request.before.is_some();
    if !narrows && request.all != Some(true) {
        return Err(ApiError::bad_request(
            "name a reason, namespace, name or before; or say \"all\": true",
        ));
    }
    let able = || {
        Reason::ALL
            .into_iter()
            .filter(|r| !matches!(r, Reason::InvalidInput | Reason::Manual))
    };
    let reasons = match &reason {
        Some(word) => reasons(word)?,
        None => able().collect(),
    };
    Ok(Filter {
        resolution: Some(Resolution::Pending),
        reasons: Some(reasons),
        namespaces: reached(caller, namespace.as_deref()),
        name,
        before: request.before,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_requeue_of_everything_has_to_be_asked_for() {
        let caller = Caller::anonymous();
        let nothing = DlqRequeueFilter::default();
        assert!(filter(&caller, &nothing).is_err());
        let empty = DlqRequeueFilter {
            name: Some(String::new()),
            ..DlqRequeueFilter::default()
        };
        assert!(filter(&caller, &empty).is_err());
        let all = DlqRequeueFilter {
            all: Some(true),
            ..DlqRequeueFilter::default()
        };
        let reasons = filter(&caller, &all).unwrap().reasons.unwrap();
        assert!(!reasons.contains(&Reason::InvalidInput) && !reasons.contains(&Reason::Manual));
        let named = DlqRequeueFilter {
            reason: Some("invalid_input".into()),
            ..DlqRequeueFilter::default()
        };
        let reasons = filter(&caller, &named).unwrap().reasons;
        assert_eq!(reasons, Some(vec![Reason::InvalidInput]));
    }
}
