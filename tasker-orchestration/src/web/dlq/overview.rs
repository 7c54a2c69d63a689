//! Dead letters counted, those that wait for somebody by how urgent they are, and live tasks by how close they are to
//! being stale.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use tasker_shared::db::dead_letter_views::{self, Counted, Waiting};
use tasker_shared::db::staleness::{self, Candidate};
use tasker_shared::plan::Blueprint;
use tasker_shared::plan::dead_letter::Reason;
use tasker_shared::plan::stale::{self, Health};
use tasker_shared::template::StalenessAction;
use tasker_shared::wire::{
    DlqInvestigationQueueEntry, DlqReason, DlqStats, ErrorResponse, StalenessHealth,
    StalenessMonitoring,
};
use utoipa::IntoParams;

use super::super::App;
use super::super::access::By;
use super::super::error::ApiError;
use super::super::extract::Query;
use super::{reached, within};

const LIMIT: i64 = 100;
const MOST: i64 = 1_000;
/// Live tasks that are looked at for each that is shown: what waits for longest need not be what has not moved for
/// longest.
const LOOKED_AT: i64 = 2;

/// How much is asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::web) struct LimitQuery {
    #[param(default = 100, minimum = 1, maximum = 1000)]
    limit: Option<i64>,
}

impl LimitQuery {
    fn limit(&self) -> Result<i64, ApiError> {
        within("limit", self.limit.unwrap_or(LIMIT), 1, MOST)
    }
}

/// Counts dead letters by reason.
#[utoipa::path(
    get, operation_id = "get_dead_letter_stats", path = "/v1/dlq/stats", tag = "dead letters",
    responses((status = 200, body = Vec<DlqStats>, description = "One for each reason that there is")),
)]
pub(in crate::web) async fn stats(
    State(app): State<App>,
    By(caller): By,
) -> Result<Json<Vec<DlqStats>>, ApiError> {
    let namespaces = reached(&caller, None);
    let counted = dead_letter_views::count(&app.pool, namespaces.as_deref()).await?;
    Ok(Json(by_reason(&counted)))
}

/// Lists the dead letters that wait for somebody, the most urgent first.
#[utoipa::path(
    get, operation_id = "list_investigation_queue", path = "/v1/dlq/investigation-queue", tag = "dead letters",
    params(LimitQuery),
    responses(
        (status = 200, body = Vec<DlqInvestigationQueueEntry>),
        (status = 400, body = ErrorResponse, description = "A parameter is wrong or unknown"),
    )
)]
pub(in crate::web) async fn queue(
    State(app): State<App>,
    By(caller): By,
    Query(query): Query<LimitQuery>,
) -> Result<Json<Vec<DlqInvestigationQueueEntry>>, ApiError> {
    let limit = query.limit()?;
    let namespaces = reached(&caller, None);
    let urgent =
        dead_letter_views::list_urgent(&app.pool, namespaces.as_deref(), weight, limit).await?;
    let now = app.clock.now();
    let entries = urgent.into_iter().map(|entry| waiting(entry, now));
    Ok(Json(entries.collect()))
}

/// Lists live tasks by how close they are to a limit of their template's lifecycle, or to the default ones (60 minutes
/// waiting for dependencies, 30 for a retry, 30 in process): stale ones first, then those that have been where they are
/// for longest. Tasks of which some work has waited for longest are looked at, not all.
#[utoipa::path(
    get, operation_id = "list_staleness", path = "/v1/dlq/staleness", tag = "dead letters",
    params(LimitQuery),
    responses(
        (status = 200, body = Vec<StalenessMonitoring>),
        (status = 400, body = ErrorResponse, description = "A parameter is wrong or unknown"),
    )
)]
pub(in crate::web) async fn staleness(
    State(app): State<App>,
    By(caller): By,
    Query(query): Query<LimitQuery>,
) -> Result<Json<Vec<StalenessMonitoring>>, ApiError> {
    let limit = query.limit()?;
    let namespaces = reached(&caller, None);
    let most = limit * LOOKED_AT;
    let found = staleness::list_candidates(&app.pool, namespaces.as_deref(), most).await?;
    let ids: Vec<i32> = found.iter().map(|task| task.template_id).collect();
    let blueprints = app.blueprints.get(ids).await?;
    let mut shown: Vec<StalenessMonitoring> = found
        .iter()
        .filter_map(|task| measured(task, blueprints.get(&task.template_id)?))
        .collect();
    shown.sort_by_key(|task| {
        (
            Reverse(task.health_status),
            Reverse(task.time_in_state_minutes),
        )
    });
    shown.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(Json(shown))
}

/// How many minutes of waiting a reason counts for.
fn weight(reason: Reason) -> f64 {
    match DlqReason::from(reason) {
        DlqReason::DependencyCycleDetected => 1_000.0,
        DlqReason::MaxRetriesExceeded => 500.0,
        DlqReason::StalenessTimeout => 100.0,
        DlqReason::WorkerUnavailable => 50.0,
        DlqReason::ManualDlq => 10.0,
    }
}

/// The client's reasons, each from the exact ones that it stands for.
fn by_reason(counted: &[Counted]) -> Vec<DlqStats> {
    let mut of: BTreeMap<DlqReason, Vec<&Counted>> = BTreeMap::new();
    for one in counted {
        of.entry(one.reason.into()).or_default().push(one);
    }
    let sum = |of: &[&Counted], pick: usize| of.iter().map(|c| c.by_resolution[pick]).sum();
    let all = |one: &Counted| one.by_resolution.iter().sum::<i64>();
    let stats = of.into_iter().map(|(dlq_reason, of)| {
        let timed: i64 = of.iter().map(|one| one.timed).sum();
        let minutes: f64 = of.iter().map(|one| one.resolution_minutes).sum();
        DlqStats {
            dlq_reason,
            total_entries: of.iter().map(|one| all(one)).sum(),
            pending: sum(&of, 0),
            manually_resolved: sum(&of, 1),
            permanent_failures: sum(&of, 2),
            cancelled: sum(&of, 3),
            oldest_entry: of.iter().filter_map(|one| one.oldest).min(),
            newest_entry: of.iter().filter_map(|one| one.newest).max(),
            // Counts of rows are far below the integers that a float holds exactly.
            avg_resolution_time_minutes: (timed > 0).then(|| minutes / timed as f64),
            reasons: of
                .iter()
                .map(|one| (one.reason.as_str().to_owned(), all(one)))
                .collect(),
        }
    });
    stats.collect()
}

fn waiting(entry: Waiting, now: DateTime<Utc>) -> DlqInvestigationQueueEntry {
    let since = |at: DateTime<Utc>| (now - at).to_std().unwrap_or_default();
    let minutes = since(entry.buried_at).as_secs_f64() / 60.0;
    DlqInvestigationQueueEntry {
        dlq_entry_uuid: entry.entry,
        task_uuid: entry.task_uuid,
        original_state: entry.original_state.as_str().to_owned(),
        dlq_reason: entry.reason.into(),
        dlq_timestamp: entry.buried_at,
        minutes_in_dlq: minutes,
        namespace_name: Some(entry.namespace),
        task_name: Some(entry.name),
        current_state: entry.state.map(|state| state.as_str().to_owned()),
        time_in_state_minutes: entry.state_since.map(|at| whole_minutes(since(at))),
        priority_score: minutes + weight(entry.reason),
        reason: entry.reason.as_str().to_owned(),
    }
}

/// `None` where nothing limits the task.
fn measured(task: &Candidate, blueprint: &Blueprint) -> Option<StalenessMonitoring> {
    let template = &blueprint.template;
    let measured = stale::measure(&template.lifecycle, &task.life)?;
    let acts = measured.limit.minutes(&template.lifecycle).is_some();
    let action = match acts {
        true => stale::action(&template.lifecycle),
        false => StalenessAction::None,
    };
    Some(StalenessMonitoring {
        task_uuid: task.task_uuid,
        namespace_name: Some(template.namespace_name.clone()),
        task_name: Some(template.name.clone()),
        current_state: task.life.state.as_str().to_owned(),
        time_in_state_minutes: whole_minutes(measured.in_state),
        task_age_minutes: whole_minutes(measured.age),
        staleness_threshold_minutes: i32::try_from(measured.threshold_minutes).unwrap_or(i32::MAX),
        health_status: match measured.health {
            Health::Healthy => StalenessHealth::Healthy,
            Health::Warning => StalenessHealth::Warning,
            Health::Stale => StalenessHealth::Stale,
        },
        priority: i32::from(task.priority),
        limit: measured.limit.key().to_owned(),
        action: action.as_str().to_owned(),
    })
}

fn whole_minutes(time: Duration) -> i32 {
    i32::try_from(time.as_secs() / 60).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(reason: Reason, by_resolution: [i64; 4], minutes: f64) -> Counted {
        Counted {
            reason,
            by_resolution,
            oldest: Some(DateTime::UNIX_EPOCH),
            newest: Some(DateTime::UNIX_EPOCH),
            timed: by_resolution[1..].iter().sum(),
            resolution_minutes: minutes,
        }
    }

    #[test]
    fn exact_reasons_are_counted_under_the_clients() {
        let stats = by_reason(&[
            counted(Reason::Exhausted, [1, 2, 0, 1], 30.0),
            counted(Reason::Permanent, [1, 0, 1, 0], 10.0),
            counted(Reason::Manual, [1, 0, 0, 0], 0.0),
        ]);
        let told: Vec<_> = stats
            .iter()
            .map(|s| (s.dlq_reason, s.total_entries, s.avg_resolution_time_minutes))
            .collect();
        let expected = [
            (DlqReason::MaxRetriesExceeded, 6, Some(10.0)),
            (DlqReason::ManualDlq, 1, None),
        ];
        assert_eq!(told, expected);
        let first = &stats[0];
        assert_eq!(
            (
                first.pending,
                first.manually_resolved,
                first.permanent_failures,
                first.cancelled
            ),
            (2, 2, 1, 1)
        );
        assert_eq!(first.reasons["permanent"], 2);
    }
}
