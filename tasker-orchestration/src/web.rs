//! The REST API: a file a resource, each with its routes, and `view` that makes what they answer from what is
//! stored. Handlers translate; what is decided, is decided in `lifecycle`.

mod access;
mod analytics;
mod breaker;
mod circuits;
mod config;
mod dlq;
mod error;
mod extract;
mod health;
mod layers;
mod log_level;
mod metrics;
mod openapi;
mod served;
mod starting;
mod step_audit;
mod steps;
mod submission;
mod task_batch;
mod task_controls;
mod task_events;
mod task_graph;
mod task_list;
mod task_summary;
mod tasks;
mod templates;
mod totals;
mod view;

pub use health::{Health, OperationalState};
pub use starting::{Starting, router as starting};

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use tasker_shared::access::Gate;
use tasker_shared::blueprints::Blueprints;
use tasker_shared::clock::Clock;
use tasker_shared::config::Loaded;
use tasker_shared::db::pool::Pool;
use tasker_shared::resilience::vitals::Vitals;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

use crate::Breakers;
use crate::lifecycle::Progress;
use crate::lifecycle::control::Controls;
use crate::lifecycle::registry::Templates;
use crate::lifecycle::task_initializer::TaskInitializer;
use crate::loops::pulse::{Answering, Depths};

/// A pass may be this many intervals away, and no less than `LEAST_PATIENCE`, before it is late.
const INTERVALS: u32 = 20;
const LEAST_PATIENCE: Duration = Duration::from_secs(10);

/// What the API works with.
#[derive(Debug, Clone)]
pub struct Parts {
    pub pool: Pool,
    /// Lets callers in.
    pub gate: Gate,
    pub loaded: Loaded,
    pub initializer: TaskInitializer,
    pub controls: Controls,
    pub templates: Templates,
    pub blueprints: Blueprints,
    pub clock: Clock,
    /// The result processor's.
    pub progress: Arc<Progress>,
    /// The shards that this server owns now.
    pub shards: watch::Receiver<Vec<i16>>,
    pub breakers: Breakers,
    /// Of the loops.
    pub vitals: Vitals,
    /// Whether the database does.
    pub answering: Arc<Answering>,
    /// How much waits in the queues, for whoever asks how the server is.
    pub depths: Arc<Depths>,
}

/// The API before it is served.
#[derive(Debug, Clone)]
pub struct State {
    parts: Parts,
    health: Health,
}

impl State {
    /// The API of a server made of these parts.
    pub fn new(parts: Parts) -> State {
        let interval = Duration::from_millis(parts.loaded.config.server.poll_interval_ms);
        let longest = (interval * INTERVALS).max(LEAST_PATIENCE);
        let health = Health::new(
            parts.progress.clone(),
            parts.shards.clone(),
            parts.vitals.clone(),
            parts.answering.clone(),
            longest,
        );
        State { parts, health }
    }

    /// What the server knows of itself.
    pub fn health(&self) -> &Health {
        &self.health
    }
}

/// The state with what the API keeps for itself.
#[derive(Debug, Clone)]
struct App(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: Parts,
    health: Health,
    served: served::Served,
    totals: totals::Totals,
    requests: Semaphore,
    streams: Arc<Semaphore>,
    closing: CancellationToken,
}

impl Deref for App {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Deref for Inner {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

/// Every route, behind the layers that all share. Event streams end at `closing`, so that their connections can.
pub fn router(state: State, closing: CancellationToken) -> axum::Router {
    let most = usize::try_from(state.parts.loaded.config.server.max_concurrent_requests)
        .unwrap_or(usize::MAX)
        .min(Semaphore::MAX_PERMITS);
    let app = App(Arc::new(Inner {
        parts: state.parts,
        health: state.health,
        served: served::Served::default(),
        totals: totals::Totals::default(),
        requests: Semaphore::new(most),
        streams: Arc::new(Semaphore::new(most)),
        closing,
    }));
    let (router, api) = routes().split_for_parts();
    let api = openapi::completed(api);
    let router = router
        .merge(SwaggerUi::new("/api-docs/ui").url("/api-docs/openapi.json", api))
        .fallback(error::no_such_path)
        .method_not_allowed_fallback(error::no_such_method);
    layers::around(router, app.clone()).with_state(app)
}

/// The description of the API that `/api-docs/openapi.json` serves.
pub fn description() -> utoipa::openapi::OpenApi {
    openapi::completed(routes().split_for_parts().1)
}

fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(openapi::Description::openapi())
        .routes(routes!(tasks::create, task_list::list))
        .routes(routes!(task_batch::create_batch))
        .routes(routes!(tasks::get, task_controls::cancel))
        .routes(routes!(task_controls::retry))
        .routes(routes!(task_summary::summary))
        .routes(routes!(task_graph::graph))
        .routes(routes!(task_events::events))
        .routes(routes!(steps::list))
        .routes(routes!(steps::get, steps::act))
        .routes(routes!(step_audit::audit))
        .routes(routes!(templates::list, templates::apply))
        .routes(routes!(templates::get))
        .routes(routes!(analytics::performance))
        .routes(routes!(analytics::bottlenecks))
        .routes(routes!(circuits::list))
        .routes(routes!(circuits::close))
        .routes(routes!(dlq::list))
        .routes(routes!(dlq::get, dlq::update))
        .routes(routes!(dlq::of_task, dlq::add))
        .routes(routes!(dlq::overview::stats))
        .routes(routes!(dlq::overview::queue))
        .routes(routes!(dlq::overview::staleness))
        .routes(routes!(dlq::requeue::requeue))
        .routes(routes!(dlq::requeue::requeue_all))
        .routes(routes!(config::config))
        .routes(routes!(log_level::get, log_level::put))
        .routes(routes!(metrics::metrics))
        .routes(routes!(health::routes::health))
        .routes(routes!(health::routes::live))
        .routes(routes!(health::routes::ready))
        .routes(routes!(health::routes::detailed))
}

#[cfg(test)]
mod tests;
