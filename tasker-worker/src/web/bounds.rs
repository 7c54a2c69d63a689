//! What a worker spends on requests at most: so many at once, and so long on each. Health and metrics are told also
//! when nothing more can be served.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tasker_shared::config::Worker;
use tasker_shared::resilience::serving::Crowded;
use tokio::sync::Semaphore;

use super::failure::Failure;

/// The bounds of one worker.
#[derive(Debug)]
pub(super) struct Bounds {
    requests: Semaphore,
    at_once: u32,
    time: Duration,
}

impl Bounds {
    pub(super) fn new(config: &Worker) -> Arc<Bounds> {
        let at_once = config.max_concurrent_requests;
        let permits = usize::try_from(at_once).unwrap_or(usize::MAX);
        Arc::new(Bounds {
            requests: Semaphore::new(permits.min(Semaphore::MAX_PERMITS)),
            at_once,
            time: Duration::from_millis(config.request_timeout_ms),
        })
    }
}

/// Answers within the bounds, or says which one was met.
pub(super) async fn keep(
    State(bounds): State<Arc<Bounds>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let is_free = path.starts_with("/health") || path.starts_with("/metrics");
    if let Some(Crowded { connections }) = request.extensions().get()
        && !is_free
    {
        let what = format!("{connections} connections are open (worker.max_connections)");
        return Failure::busy(&what).into_response();
    }
    let permit = bounds.requests.try_acquire();
    if permit.is_err() && !is_free {
        let at_once = bounds.at_once;
        let what = format!("{at_once} requests are being served (worker.max_concurrent_requests)");
        return Failure::busy(&what).into_response();
    }
    match tokio::time::timeout(bounds.time, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Failure::timed_out(bounds.time).into_response(),
    }
}
