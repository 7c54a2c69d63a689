//! What a server answers until it has started: that it lives, that it is not ready and why, and to everything else
//! that one may try again.

use axum::extract::State;
use axum::http::StatusCode;
use axum::middleware::from_fn;
use axum::routing::get;
use axum::{Json, Router};
use tasker_shared::clock::Clock;
use tasker_shared::config::Loaded;
use tasker_shared::wire::{
    ChannelStatus, CircuitBreakerStatus, DetailedHealthResponse, HealthCheck, HealthChecks,
    HealthInfo, HealthResponse, ReadinessChecks, ReadinessResponse,
};
use tokio::sync::watch;

use super::error::ApiError;
use super::health::OperationalState;
use super::layers;
use crate::Breakers;

/// A server that starts.
#[derive(Debug, Clone)]
pub struct Starting {
    pub loaded: Loaded,
    pub clock: Clock,
    /// What it is doing.
    pub doing: watch::Receiver<&'static str>,
    /// Those that it will work with; nothing asks them yet.
    pub breakers: Breakers,
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
        .layer(from_fn(layers::identify))
}

async fn health(State(starting): State<Starting>) -> Json<HealthResponse> {
    starting.short("healthy")
}

async fn live(State(starting): State<Starting>) -> Json<HealthResponse> {
    starting.short("alive")
}

async fn ready(State(starting): State<Starting>) -> (StatusCode, Json<ReadinessResponse>) {
    let check = || starting.check();
    let readiness = ReadinessResponse {
        status: "not_ready".to_owned(),
        timestamp: starting.clock.now(),
        checks: ReadinessChecks {
            web_database: check(),
            orchestration_database: check(),
            circuit_breaker: check(),
            orchestration_system: check(),
            command_processor: check(),
        },
        info: starting.info(),
    };
    (StatusCode::SERVICE_UNAVAILABLE, Json(readiness))
}

async fn detailed(State(starting): State<Starting>) -> Json<DetailedHealthResponse> {
    let check = || starting.check();
    Json(DetailedHealthResponse {
        status: "degraded".to_owned(),
        timestamp: starting.clock.now(),
        checks: HealthChecks {
            web_database: check(),
            orchestration_database: check(),
            circuit_breaker: check(),
            orchestration_system: check(),
            command_processor: check(),
            pool_utilization: check(),
            queue_depth: check(),
            channel_saturation: check(),
        },
        info: starting.info(),
        circuit_breakers: CircuitBreakerStatus::all(&starting.breakers.all()),
        channels: ChannelStatus::all(),
    })
}

async fn later(State(starting): State<Starting>) -> ApiError {
    ApiError::unavailable(format!("{}; try again", starting.says()))
}

impl Starting {
    fn says(&self) -> String {
        format!("the server is starting: {}", *self.doing.borrow())
    }

    fn short(&self, status: &str) -> Json<HealthResponse> {
        Json(HealthResponse {
            status: status.to_owned(),
            timestamp: self.clock.now(),
            message: Some(self.says()),
        })
    }

    fn check(&self) -> HealthCheck {
        HealthCheck {
            status: "unknown".to_owned(),
            message: Some(self.says()),
            duration_ms: 0,
        }
    }

    fn info(&self) -> HealthInfo {
        HealthInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            environment: self.loaded.environment.clone(),
            operational_state: OperationalState::Startup.as_str().to_owned(),
            circuit_breaker_state: "Closed".to_owned(),
            web_database_pool_size: self.loaded.config.database.max_connections,
            orchestration_database_pool_size: 0,
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
    async fn a_server_that_starts_lives_and_is_not_ready_and_everything_else_comes_later() {
        let (tell, doing) = watch::channel("waiting for the database");
        let loaded = Config::load_from(&Inputs::default()).unwrap();
        let starting = Starting {
            breakers: Breakers::new(&loaded.config.circuit_breakers),
            loaded,
            clock: Clock::default(),
            doing,
        };
        let router = router(starting);
        let ask = async |path: &str| {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
            assert!(parts.headers.contains_key("x-request-id"));
            let body = to_bytes(body, usize::MAX).await.unwrap();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            (parts.status.as_u16(), parts.headers, body)
        };
        for path in ["/health", "/health/live", "/health/detailed"] {
            assert_eq!(ask(path).await.0, 200, "{path}");
        }
        let (_, _, body) = ask("/health/detailed").await;
        let breakers = body["circuit_breakers"].as_array().unwrap();
        assert_eq!(breakers.len(), 3, "{body}");
        assert!(breakers.iter().all(|b| b["state"] == "closed"), "{body}");
        tell.send_replace("migrating the database");
        let (status, _, body) = ask("/health/ready").await;
        assert_eq!((status, &body["status"]), (503, &"not_ready".into()));
        assert_eq!(body["info"]["operational_state"], "Startup");
        let (status, headers, body) = ask("/v1/tasks").await;
        assert_eq!(
            (status, &body["error"]["code"]),
            (503, &"SERVICE_UNAVAILABLE".into())
        );
        assert_eq!(headers["retry-after"], "1");
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.contains("migrating the database"), "{message}");
    }
}
