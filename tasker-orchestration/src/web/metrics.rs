//! What this server has recorded, for Prometheus.

use axum::body::Body;
use axum::http::request::Parts;
use axum::response::Response;
use tasker_shared::metrics::page;
use tasker_shared::resilience::serving::Peer;

/// Shows every metric.
///
/// A request with Prometheus's `X-Prometheus-Scrape-Timeout-Seconds` sees a new series at zero once, so that `rate()`
/// misses nothing; any other sees true values at once. Empty where telemetry is off.
#[utoipa::path(
    get, operation_id = "get_metrics", path = "/metrics", tag = "system",
    responses((
        status = 200,
        description = "Prometheus text, or OpenMetrics with exemplars where `Accept` asks for it",
        content((String = "text/plain"), (String = "application/openmetrics-text"))
    ))
)]
pub(super) async fn metrics(request: Parts) -> Response {
    let peer = request.extensions.get::<Peer>();
    let peer = peer.map(|Peer(address)| address.ip());
    let page = page::answer(&request.headers, request.uri.query(), peer).await;
    page.map(Body::from)
}
