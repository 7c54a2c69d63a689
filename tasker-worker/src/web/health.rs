//! A worker's health. `/health` and `/health/live` never touch the database; `/health/ready` is 503 where
//! no step can be taken; `/health/detailed` is always 200 and says inside what is wrong.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, TimeDelta, Utc};
use tasker_shared::db;
use tasker_shared::metrics::resilience::BreakerState;
use tasker_shared::wire::{
    ChannelStatus, CircuitBreakerStatus, WorkerBasicHealth, WorkerCheck, WorkerDetailedChecks,
    WorkerDetailedHealth, WorkerReadiness, WorkerReadinessChecks, WorkerSystemInfo,
};

pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");
pub(super) const WORKER_TYPE: &str = "rust";

/// Whoever asks for health wants to know soon; a database slower than this is not healthy.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(2);

/// For so long an answer of the database is told again.
const FRESH: Duration = Duration::from_secs(1);

/// A claim loop that has not come round for so long, while the lease was renewed, is stuck for good. Long, since a
/// statement may have to wait for somebody's lock, and no new process would mend that.
const STUCK: Duration = Duration::from_secs(300);

type Shared = State<Arc<super::State>>;

pub(super) async fn basic(State(state): Shared) -> Json<WorkerBasicHealth> {
    Json(short(&state, "healthy", None))
}

pub(super) async fn live(State(state): Shared) -> (StatusCode, Json<WorkerBasicHealth>) {
    match deadly(&state) {
        None => (StatusCode::OK, Json(short(&state, "alive", None))),
        Some(why) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(short(&state, "dead", Some(why))),
        ),
    }
}

/// Why starting the process anew would help, where it would.
fn deadly(state: &super::State) -> Option<String> {
    if let Some(death) = state.vitals.death() {
        return Some(death.to_string());
    }
    let stuck = state.progress.stuck_for().filter(|time| *time > STUCK)?;
    Some(format!(
        "nothing has been claimed for {} s though the database answers",
        stuck.as_secs()
    ))
}

fn short(state: &super::State, status: &str, message: Option<String>) -> WorkerBasicHealth {
    WorkerBasicHealth {
        status: status.to_owned(),
        timestamp: state.clock.now(),
        worker_id: state.progress.worker_id().to_string(),
        message,
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
        circuit_breakers: breakers(&state),
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
        circuit_breakers: CircuitBreakerStatus::all(&state.breakers),
        channels: ChannelStatus::all(),
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

/// However many ask, the database is asked once a second, and by one of them.
async fn database(state: &super::State) -> WorkerCheck {
    let mut asked = state.asked.0.lock().await;
    if let Some((at, check)) = &*asked
        && at.elapsed() < FRESH
    {
        return check.clone();
    }
    let check = ask_database(state).await;
    *asked = Some((Instant::now(), check.clone()));
    check
}

async fn ask_database(state: &super::State) -> WorkerCheck {
    let begun = Instant::now();
    let (status, message) =
        match tokio::time::timeout(DATABASE_TIMEOUT, db::upkeep::ping(&state.pool)).await {
            Ok(Ok(())) => ("healthy", "it answers".to_owned()),
            Ok(Err(error)) => {
                // Anybody may ask; what a driver says names hosts, users and tables.
                tracing::debug!(%error, "the database did not answer a health check");
                ("unhealthy", "the database does not answer".to_owned())
            }
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
    if let Some(death) = state.vitals.death() {
        return check(state, "unhealthy", death.to_string());
    }
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

/// By the worst breaker.
fn breakers(state: &super::State) -> WorkerCheck {
    let named = |wanted: BreakerState| {
        let views = state.breakers.iter().map(|breaker| breaker.watch());
        let of = views.filter(|view| view.state == wanted);
        let names: Vec<&str> = of.map(|view| view.name.as_str()).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    if let Some(open) = named(BreakerState::Open) {
        return check(state, "unhealthy", format!("open: {open}"));
    }
    match named(BreakerState::HalfOpen) {
        Some(half_open) => check(state, "degraded", format!("half-open: {half_open}")),
        None => check(state, "healthy", "all are closed".to_owned()),
    }
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
