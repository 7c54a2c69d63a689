//! What a worker says over HTTP: its health, its configuration and the templates it can run, in the
//! worker's shapes of the wire format. Nothing here changes anything but the level of the log.

mod access;
mod bounds;
mod config;
mod failure;
mod health;
mod log_level;
mod metrics;
mod starting;
mod state;
mod templates;

use std::sync::Arc;

use axum::Router;
use axum::middleware;
use axum::routing::{get, post};

use self::failure::Failure;
pub use self::starting::{Starting, router as starting};
pub use self::state::{Asked, Progress, State};

/// Every route of a worker.
pub fn router(state: Arc<State>) -> Router {
    let bounds = bounds::Bounds::new(&state.loaded.config.worker);
    let guard = middleware::from_fn_with_state(Arc::clone(&state), access::guard);
    Router::new()
        .route("/health", get(health::basic))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/health/detailed", get(health::detailed))
        .route("/config", get(config::get))
        .route("/config/log-level", get(log_level::get).put(log_level::put))
        .route("/metrics", get(metrics::get))
        .route("/metrics/worker", get(metrics::get_json))
        .route("/v1/templates", get(templates::list))
        .route(
            "/v1/templates/{namespace}/{name}/{version}",
            get(templates::get),
        )
        .route(
            "/v1/templates/{namespace}/{name}/{version}/validate",
            post(templates::validate),
        )
        .fallback(Failure::no_route)
        .method_not_allowed_fallback(Failure::wrong_method)
        .with_state(Arc::clone(&state))
        .layer(guard)
        .layer(middleware::from_fn_with_state(bounds, bounds::keep))
        .layer(middleware::from_fn_with_state(state, failure::identify))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
