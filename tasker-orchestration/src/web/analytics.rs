//! Analytics: how tasks and steps have gone and where they are held up. Reads statistics, never history. What is
//! advised is in `advice`.

mod advice;

use axum::Json;
use axum::extract::State;
use chrono::TimeDelta;
use serde::Deserialize;
use tasker_shared::db::analytics::{self, Census, Performance, Slow};
use tasker_shared::state::step::StepState as Step;
use tasker_shared::state::task::TaskState as Task;
use tasker_shared::stats;
use tasker_shared::wire::{
    BottleneckAnalysis, ErrorResponse, PerformanceMetrics, ResourceUtilization, SlowStep, SlowTask,
    SystemHealthCounts,
};
use utoipa::IntoParams;

use super::App;
use super::access::By;
use super::error::ApiError;
use super::extract::Query;

/// For so long statistics are kept.
const MOST_HOURS: u32 = 400 * 24;
/// What is slow is what was slow lately.
const BOTTLENECK_HOURS: u32 = 24;
const MOST: i32 = 1_000;

/// The period that is asked about.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PerformanceQuery {
    /// How far back.
    #[param(default = 24, minimum = 1, maximum = 9600)]
    hours: Option<u32>,
}

/// What is asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct BottleneckQuery {
    /// Steps, and templates, at most.
    #[param(default = 10, minimum = 1, maximum = 1000)]
    limit: Option<i32>,
    /// What ran less often says little.
    #[param(default = 5, minimum = 0)]
    min_executions: Option<i32>,
    /// How far back.
    #[param(default = 24, minimum = 1, maximum = 9600)]
    hours: Option<u32>,
}

/// How tasks and steps have gone in the last hours, in the namespaces that the caller reaches.
#[utoipa::path(
    get, operation_id = "performance", path = "/v1/analytics/performance", tag = "analytics",
    params(PerformanceQuery),
    responses(
        (status = 200, body = PerformanceMetrics),
        (status = 400, body = ErrorResponse, description = "A parameter is wrong or unknown"),
    )
)]
pub(super) async fn performance(
    State(app): State<App>,
    By(caller): By,
    Query(query): Query<PerformanceQuery>,
) -> Result<Json<PerformanceMetrics>, ApiError> {
    let hours = hours(query.hours)?;
    stats::flush(&app.pool).await?;
    let found = analytics::performance(&app.pool, hours, caller.namespaces()).await?;
    Ok(Json(metrics(&found, app.clock.now(), hours)))
}

/// What takes longest, how much there is, and what could be done about it, in the namespaces that the caller reaches.
#[utoipa::path(
    get, operation_id = "bottlenecks", path = "/v1/analytics/bottlenecks", tag = "analytics",
    params(BottleneckQuery),
    responses(
        (status = 200, body = BottleneckAnalysis),
        (status = 400, body = ErrorResponse, description = "A parameter is wrong or unknown"),
    )
)]
pub(super) async fn bottlenecks(
    State(app): State<App>,
    By(caller): By,
    Query(query): Query<BottleneckQuery>,
) -> Result<Json<BottleneckAnalysis>, ApiError> {
    let hours = hours(query.hours.or(Some(BOTTLENECK_HOURS)))?;
    let limit = i64::from(within("limit", query.limit.unwrap_or(10), 1, MOST)?);
    let least = query.min_executions.unwrap_or(5);
    let least = i64::from(within("min_executions", least, 0, i32::MAX)?);
    stats::flush(&app.pool).await?;
    let found = analytics::bottlenecks(&app.pool, hours, least, limit, caller.namespaces()).await?;
    let (steps, tasks) = app.named(&found.steps, &found.tasks).await?;
    let busy = app
        .pool
        .size()
        .saturating_sub(u32::try_from(app.pool.num_idle()).unwrap_or(u32::MAX));
    let most = app.loaded.config.database.max_connections.max(1);
    let resource_utilization = ResourceUtilization {
        database_pool_utilization: (f64::from(busy) / f64::from(most)).min(1.0),
        system_health: counts(&found.census),
    };
    Ok(Json(BottleneckAnalysis {
        recommendations: advice::on(&steps, &resource_utilization),
        slow_steps: steps,
        slow_tasks: tasks,
        resource_utilization,
    }))
}

fn hours(asked: Option<u32>) -> Result<i32, ApiError> {
    let hours = within("hours", asked.unwrap_or(24), 1, MOST_HOURS)?;
    Ok(i32::try_from(hours).unwrap_or(i32::MAX))
}

fn within<T: PartialOrd + std::fmt::Display>(
    parameter: &str,
    value: T,
    least: T,
    most: T,
) -> Result<T, ApiError> {
    if value >= least && value <= most {
        return Ok(value);
    }
    let message = format!("{parameter} {value} is not {least} to {most}");
    Err(ApiError::bad_request(message).with("parameter", parameter))
}

impl App {
    /// With the names of their templates and steps.
    async fn named(
        &self,
        steps: &[Slow],
        tasks: &[Slow],
    ) -> Result<(Vec<SlowStep>, Vec<SlowTask>), ApiError> {
        let ids = steps.iter().chain(tasks).map(|slow| slow.template_id);
        let blueprints = self.blueprints.get(ids).await?;
        let steps = steps.iter().filter_map(|slow| {
            let blueprint = blueprints.get(&slow.template_id)?;
            Some(SlowStep {
                namespace_name: blueprint.namespace.as_str().to_owned(),
                task_name: blueprint.template.name.clone(),
                version: blueprint.template.version.to_string(),
                step_name: blueprint.step_name(slow.step_no)?.as_str().to_owned(),
                average_duration_seconds: slow.mean_ms / 1000.0,
                max_duration_seconds: slow.max_ms / 1000.0,
                execution_count: slow.executions,
                error_count: slow.errors,
                error_rate: share(slow.errors, slow.executions),
                last_executed_at: Some(slow.last_at),
            })
        });
        let tasks = tasks.iter().filter_map(|slow| {
            let blueprint = blueprints.get(&slow.template_id)?;
            Some(SlowTask {
                namespace_name: blueprint.namespace.as_str().to_owned(),
                task_name: blueprint.template.name.clone(),
                version: blueprint.template.version.to_string(),
                average_duration_seconds: slow.mean_ms / 1000.0,
                max_duration_seconds: slow.max_ms / 1000.0,
                execution_count: slow.executions,
                error_count: slow.errors,
                error_rate: share(slow.errors, slow.executions),
                average_step_count: blueprint.template.steps.len() as f64,
                last_executed_at: Some(slow.last_at),
            })
        });
        Ok((steps.collect(), tasks.collect()))
    }
}

/// A share from 0 to 1; 0 of nothing.
fn share(part: i64, whole: i64) -> f64 {
    match whole > 0 {
        true => part as f64 / whole as f64,
        false => 0.0,
    }
}

fn metrics(
    found: &Performance,
    now: chrono::DateTime<chrono::Utc>,
    hours: i32,
) -> PerformanceMetrics {
    let timed = found.completed + found.failed;
    let ended = timed + found.cancelled + found.resolved;
    let active = found.active.max(0);
    let total = ended + active;
    let start = found
        .since
        .unwrap_or_else(|| now - TimeDelta::hours(i64::from(hours)));
    let first = found.first.map_or(now, |first| first.max(start));
    let span = ((now - first).num_seconds() as f64 / 3600.0).max(1.0);
    let mean = |ms: f64, of: i64| match of > 0 {
        true => ms / 1000.0 / of as f64,
        false => 0.0,
    };
    let trouble = share(found.failed, ended) + share(found.blocked.max(0), total);
    PerformanceMetrics {
        total_tasks: total,
        active_tasks: active,
        completed_tasks: found.completed,
        failed_tasks: found.failed,
        cancelled_tasks: found.cancelled,
        step_executions: found.executions,
        step_errors: found.errors,
        completion_rate: share(found.completed, total) * 100.0,
        error_rate: share(found.failed, total) * 100.0,
        average_task_duration_seconds: mean(found.task_ms, timed),
        average_step_duration_seconds: mean(found.step_ms, found.executions),
        tasks_per_hour: (ended as f64 / span).round() as i64,
        steps_per_hour: (found.executions as f64 / span).round() as i64,
        system_health_score: (1.0 - trouble).clamp(0.0, 1.0),
        analysis_period_start: start,
        calculated_at: now,
    }
}

fn counts(census: &Census) -> SystemHealthCounts {
    let (total_tasks, total_steps) = census.totals();
    SystemHealthCounts {
        pending_tasks: census.tasks(Task::Pending),
        initializing_tasks: census.tasks(Task::Initializing),
        enqueuing_steps_tasks: census.tasks(Task::EnqueuingSteps),
        steps_in_process_tasks: census.tasks(Task::StepsInProcess),
        evaluating_results_tasks: census.tasks(Task::EvaluatingResults),
        waiting_for_dependencies_tasks: census.tasks(Task::WaitingForDependencies),
        waiting_for_retry_tasks: census.tasks(Task::WaitingForRetry),
        blocked_by_failures_tasks: census.tasks(Task::BlockedByFailures),
        complete_tasks: census.tasks(Task::Complete),
        error_tasks: census.tasks(Task::Error),
        cancelled_tasks: census.tasks(Task::Cancelled),
        resolved_manually_tasks: census.tasks(Task::ResolvedManually),
        total_tasks,
        pending_steps: census.steps(Step::Pending),
        enqueued_steps: census.steps(Step::Enqueued),
        in_progress_steps: census.steps(Step::InProgress),
        enqueued_for_orchestration_steps: census.steps(Step::EnqueuedForOrchestration),
        enqueued_as_error_for_orchestration_steps: census
            .steps(Step::EnqueuedAsErrorForOrchestration),
        waiting_for_retry_steps: census.steps(Step::WaitingForRetry),
        complete_steps: census.steps(Step::Complete),
        error_steps: census.steps(Step::Error),
        cancelled_steps: census.steps(Step::Cancelled),
        resolved_manually_steps: census.steps(Step::ResolvedManually),
        skipped_steps: census.steps(Step::Skipped),
        total_steps,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_and_rates_over_nothing_are_nought_and_all_is_well() {
        let now = chrono::Utc::now();
        let found = metrics(&Performance::default(), now, 24);
        assert_eq!(found.total_tasks, 0);
        assert_eq!(
            (
                found.completion_rate,
                found.error_rate,
                found.average_task_duration_seconds
            ),
            (0.0, 0.0, 0.0)
        );
        assert_eq!((found.system_health_score, found.tasks_per_hour), (1.0, 0));
        assert_eq!(found.analysis_period_start, now - TimeDelta::hours(24));
    }

    #[test]
    fn what_ended_and_what_is_under_way_are_all_tasks() {
        let now = chrono::Utc::now();
        let performance = Performance {
            since: Some(now - TimeDelta::hours(24)),
            first: Some(now - TimeDelta::hours(2)),
            completed: 60,
            failed: 15,
            cancelled: 5,
            task_ms: 150_000.0,
            executions: 200,
            errors: 20,
            step_ms: 4_000.0,
            active: 20,
            blocked: 10,
            ..Performance::default()
        };
        let found = metrics(&performance, now, 24);
        assert_eq!((found.total_tasks, found.active_tasks), (100, 20));
        assert_eq!((found.completion_rate, found.error_rate), (60.0, 15.0));
        assert_eq!(found.average_task_duration_seconds, 2.0);
        assert_eq!(found.average_step_duration_seconds, 0.02);
        assert_eq!((found.tasks_per_hour, found.steps_per_hour), (40, 100));
        assert!((found.system_health_score - 0.7125).abs() < 1e-9);
    }
}
