//! A worker's health. `/health` and `/health/live` never touch the database; `/health/ready` is 503 where
//! no step can be taken; `/health/detailed` is always 200 and says inside what is wrong.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, TimeDelta, Utc};
use tasker_shared::db;
use tasker_shared::wire::{
    WorkerBasicHealth, WorkerCheck, WorkerDetailedChecks, WorkerDetailedHealth, WorkerReadiness,
    WorkerReadinessChecks, WorkerSystemInfo,
};

pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");
pub(super) const WORKER_TYPE: &str = "rust";

/// Whoever asks for health wants to know soon; a database slower than this is not healthy.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(2);

type Shared = State<Arc<super::State>>;

pub(super) async fn basic(State(state): Shared) -> Json<WorkerBasicHealth> {
    Json(short(&state, "healthy"))
}

pub(super) async fn live(State(state): Shared) -> Json<WorkerBasicHealth> {
    Json(short(&state, "alive"))
}

fn short(state: &super::State, status: &str) -> WorkerBasicHealth {
    WorkerBasicHealth {
        status: status.to_owned(),
        timestamp: state.clock.now(),
        worker_id: state.progress.worker_id().to_string(),
        message: None,
    }
}

pub(super) async fn ready(State(state): Shared) -> (StatusCode, Json<WorkerReadiness>) {
    let checks = WorkerReadinessChecks {
        database: database(&state).await,
        command_processor: slots(&state),
        queue_processing: claims(&state),
    };
    let can_work = [
        &checks.database,
        &checks.command_processor,
        &checks.queue_processing,
    ]
    .into_iter()
    .all(is_healthy);
    let (code, status) = match can_work {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not_ready"),
    };
    let readiness = WorkerReadiness {
        status: status.to_owned(),
        timestamp: state.clock.now(),
        worker_id: state.progress.worker_id().to_string(),
        checks,
        system_info: system_info(&state),
    };
    (code, Json(readiness))
}

pub(super) async fn detailed(State(state): Shared) -> Json<WorkerDetailedHealth> {
    let checks = WorkerDetailedChecks {
        database: database(&state).await,
        command_processor: slots(&state),
        queue_processing: claims(&state),
        event_system: notifications(&state),
        step_processing: lease(&state),
        circuit_breakers: check(&state, "healthy", "there are none".to_owned()),
    };
    let all = [
        &checks.database,
        &checks.command_processor,
        &checks.queue_processing,
        &checks.event_system,
        &checks.step_processing,
        &checks.circuit_breakers,
    ];
    let status = if all.into_iter().all(is_healthy) {
        "healthy"
    } else {
        "degraded"
    };
    Json(WorkerDetailedHealth {
        status: status.to_owned(),
        timestamp: state.clock.now(),
        worker_id: state.progress.worker_id().to_string(),
        checks,
        system_info: system_info(&state),
        distributed_cache: None,
        circuit_breakers: Vec::new(),
        channels: state.channels.iter().map(|c| c.usage().into()).collect(),
    })
}

fn is_healthy(check: &WorkerCheck) -> bool {
    check.status == "healthy"
}

fn check(state: &super::State, status: &str, message: String) -> WorkerCheck {
    WorkerCheck {
        status: status.to_owned(),
        message: Some(message),
        duration_ms: 0,
        last_checked: state.clock.now(),
    }
}

async fn database(state: &super::State) -> WorkerCheck {
    let begun = Instant::now();
    let (status, message) =
        match tokio::time::timeout(DATABASE_TIMEOUT, db::upkeep::ping(&state.pool)).await {
            Ok(Ok(())) => ("healthy", "it answers".to_owned()),
            Ok(Err(error)) => ("unhealthy", error.to_string()),
            Err(_) => (
                "unhealthy",
                format!("no answer within {} s", DATABASE_TIMEOUT.as_secs()),
            ),
        };
    let duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    WorkerCheck {
        duration_ms,
        ..check(state, status, message)
    }
}

/// Whether the worker takes steps at all.
fn slots(state: &super::State) -> WorkerCheck {
    let (busy, all) = (
        state.progress.busy(),
        state.loaded.config.worker.concurrency,
    );
    if state.progress.is_draining() {
        return check(
            state,
            "unhealthy",
            format!("draining; {busy} steps still run"),
        );
    }
    check(state, "healthy", format!("{busy} of {all} steps at once"))
}

/// Whether claims are answered. A worker that is full makes none.
fn claims(state: &super::State) -> WorkerCheck {
    let full = state.progress.busy() >= state.loaded.config.worker.concurrency as usize;
    let (status, message) = match state.progress.since_claim(state.clock.now()) {
        _ if full => ("healthy", "every slot is taken".to_owned()),
        None => ("unhealthy", "no claim has been answered yet".to_owned()),
        Some(since) if since <= patience(state) => {
            ("healthy", format!("last claim {} ago", ms(since)))
        }
        Some(since) => (
            "unhealthy",
            format!("the last claim was answered {} ago", ms(since)),
        ),
    };
    check(state, status, message)
}

fn notifications(state: &super::State) -> WorkerCheck {
    let (status, message) = match (
        state.loaded.config.database.listen,
        state.progress.is_listening(),
    ) {
        (false, _) => ("healthy", "switched off by database.listen; polling"),
        (true, true) => ("healthy", "listening, and polling beside it"),
        (true, false) => ("degraded", "not listening; polling until it can again"),
    };
    check(state, status, message.to_owned())
}

/// Whether what runs is still this worker's to run.
fn lease(state: &super::State) -> WorkerCheck {
    let lease_ms = i64::try_from(state.loaded.config.worker.lease_ms).unwrap_or(i64::MAX);
    let (status, message) = match state.progress.since_renewal(state.clock.now()) {
        None => ("unhealthy", "the worker has no lease yet".to_owned()),
        Some(since) if since.num_milliseconds() < lease_ms => {
            ("healthy", format!("lease renewed {} ago", ms(since)))
        }
        Some(since) => (
            "unhealthy",
            format!("the lease was renewed {} ago and has run out", ms(since)),
        ),
    };
    check(state, status, message)
}

/// Claims come at least once a poll interval; a lease's time without one is no hiccup.
fn patience(state: &super::State) -> TimeDelta {
    let worker = &state.loaded.config.worker;
    let longest = worker
        .lease_ms
        .max(worker.poll_interval_ms.saturating_mul(4));
    TimeDelta::milliseconds(i64::try_from(longest).unwrap_or(i64::MAX / 2))
}

fn ms(since: TimeDelta) -> String {
    format!("{} ms", since.num_milliseconds())
}

fn system_info(state: &super::State) -> WorkerSystemInfo {
    WorkerSystemInfo {
        version: VERSION.to_owned(),
        environment: state.loaded.environment.clone(),
        worker_type: WORKER_TYPE.to_owned(),
        uptime_seconds: uptime_seconds(state.started_at, state.clock.now()),
        database_pool_size: state.pool.size(),
        command_processor_active: !state.progress.is_draining(),
        supported_namespaces: state.loaded.config.worker.namespaces.clone(),
        pool_utilization: None,
    }
}

fn uptime_seconds(started_at: DateTime<Utc>, now: DateTime<Utc>) -> u64 {
    u64::try_from((now - started_at).num_seconds()).unwrap_or(0)
}
