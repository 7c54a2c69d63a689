//! What a worker answers until it has started: that it lives, that it is not ready and why, and to everything else
//! that one may try again.

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use chrono::{DateTime, Utc};
use tasker_shared::clock::Clock;
use tasker_shared::config::Loaded;
use tasker_shared::resilience::breaker::Breaker;
use tasker_shared::wire::{
    ChannelStatus, CircuitBreakerStatus, WorkerBasicHealth, WorkerCheck, WorkerDetailedChecks,
    WorkerDetailedHealth, WorkerErrorResponse, WorkerReadiness, WorkerReadinessChecks,
    WorkerSystemInfo,
};
use tokio::sync::watch;
use uuid::Uuid;

use super::health::{VERSION, WORKER_TYPE};

/// A worker that starts.
#[derive(Debug, Clone)]
pub struct Starting {
    pub loaded: Loaded,
    pub clock: Clock,
    pub started_at: DateTime<Utc>,
    /// What it is doing.
    pub doing: watch::Receiver<&'static str>,
    /// Those that it will work with.
    pub breakers: Vec<Breaker>,
}

/// What it answers.
pub fn router(starting: Starting) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/health/detailed", get(detailed))
        .fallback(later)
        .with_state(starting)
}

async fn health(State(starting): State<Starting>) -> Json<WorkerBasicHealth> {
    starting.short("healthy")
}

async fn live(State(starting): State<Starting>) -> Json<WorkerBasicHealth> {
    starting.short("alive")
}

async fn ready(State(starting): State<Starting>) -> (StatusCode, Json<WorkerReadiness>) {
    let check = || starting.check();
    let readiness = WorkerReadiness {
        status: "not_ready".to_owned(),
        timestamp: starting.clock.now(),
        worker_id: Uuid::nil().to_string(),
        checks: WorkerReadinessChecks {
            database: check(),
            command_processor: check(),
            queue_processing: check(),
        },
        system_info: starting.info(),
    };
    (StatusCode::SERVICE_UNAVAILABLE, Json(readiness))
}

async fn detailed(State(starting): State<Starting>) -> Json<WorkerDetailedHealth> {
    let check = || starting.check();
    Json(WorkerDetailedHealth {
        status: "degraded".to_owned(),
        timestamp: starting.clock.now(),
        worker_id: Uuid::nil().to_string(),
        checks: WorkerDetailedChecks {
            database: check(),
            command_processor: check(),
            queue_processing: check(),
            event_system: check(),
            step_processing: check(),
            circuit_breakers: check(),
        },
        system_info: starting.info(),
        distributed_cache: None,
        circuit_breakers: CircuitBreakerStatus::all(&starting.breakers),
        channels: ChannelStatus::all(),
    })
}

async fn later(State(starting): State<Starting>) -> Response {
    let body = WorkerErrorResponse {
        error: "SERVICE_UNAVAILABLE".to_owned(),
        message: format!("{}; try again", starting.says()),
        timestamp: starting.clock.now(),
        request_id: None,
    };
    let mut response = (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response();
    let after = HeaderValue::from_static("1");
    response.headers_mut().insert(header::RETRY_AFTER, after);
    response
}

impl Starting {
    fn says(&self) -> String {
        format!("the worker is starting: {}", *self.doing.borrow())
    }

    fn short(&self, status: &str) -> Json<WorkerBasicHealth> {
        Json(WorkerBasicHealth {
            status: status.to_owned(),
            timestamp: self.clock.now(),
            worker_id: Uuid::nil().to_string(),
            message: Some(self.says()),
        })
    }

    fn check(&self) -> WorkerCheck {
        WorkerCheck {
            status: "unknown".to_owned(),
            message: Some(self.says()),
            duration_ms: 0,
            last_checked: self.clock.now(),
        }
    }

    fn info(&self) -> WorkerSystemInfo {
        let uptime = self.clock.now() - self.started_at;
        WorkerSystemInfo {
            version: VERSION.to_owned(),
            environment: self.loaded.environment.clone(),
            worker_type: WORKER_TYPE.to_owned(),
            uptime_seconds: u64::try_from(uptime.num_seconds()).unwrap_or(0),
            database_pool_size: 0,
            command_processor_active: false,
            supported_namespaces: self.loaded.config.worker.namespaces.clone(),
            pool_utilization: None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tasker_shared::config::{Config, Inputs};
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_worker_that_starts_lives_and_is_not_ready_and_everything_else_comes_later() {
        let clock = Clock::default();
        let (_tell, doing) = watch::channel("taking its lease");
        let rules = Config::default().circuit_breakers.pgmq().into();
        let router = router(Starting {
            loaded: Config::load_from(&Inputs::default()).unwrap(),
            started_at: clock.now(),
            clock,
            doing,
            breakers: vec![Breaker::new("pgmq", rules)],
        });
        for (path, expected, says) in [
            ("/health", 200, "healthy"),
            ("/health/live", 200, "alive"),
            ("/health/ready", 503, "not_ready"),
            ("/health/detailed", 200, "degraded"),
            ("/v1/templates", 503, ""),
        ] {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
            let body = to_bytes(body, usize::MAX).await.unwrap();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(parts.status.as_u16(), expected, "{path}");
            assert_eq!(body["status"].as_str().unwrap_or_default(), says, "{path}");
            assert!(body.to_string().contains("taking its lease"), "{body}");
            if path == "/health/detailed" {
                assert_eq!(body["circuit_breakers"][0]["state"], "closed");
            }
        }
    }
}
