mod access;
mod telemetry;

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use tasker_shared::access::Gate;
use tasker_shared::clock::Clock;
use tasker_shared::config::{Config, Inputs};
use tasker_shared::db;
use tasker_shared::db::pool::Target;
use tasker_shared::embedded::Temporary;
use tasker_shared::resilience::breaker::Breaker;
use tasker_shared::resilience::vitals::Vitals;
use tasker_shared::template;
use tasker_shared::wire;
use tower::ServiceExt;
use uuid::Uuid;

use super::*;

/// Nothing listens there.
const NOWHERE: &str = "postgres://tasker:secret@127.0.0.1:1/tasker";

fn state(url: &str, change: impl FnOnce(&mut Config)) -> State {
    let patience = Duration::from_millis(if url == NOWHERE { 200 } else { 5_000 });
    let mut loaded = Config::load_from(&Inputs {
        variables: vec![("DATABASE_URL".into(), url.into())],
        working_directory: "/nonexistent".into(),
        ..Inputs::default()
    })
    .unwrap();
    change(&mut loaded.config);
    let pool = Target::parse(url, "test", patience).unwrap().pool(2);
    let clock = Clock::default();
    State {
        gate: Gate::new(&loaded.config.auth, pool.clone(), clock.clone()).unwrap(),
        pool,
        loaded,
        callables: vec!["echo".to_owned(), "http".to_owned()],
        started_at: Utc::now() - TimeDelta::seconds(90),
        clock,
        progress: Arc::new(Progress::default()),
        breakers: Vec::new(),
        vitals: Vitals::default(),
        asked: Asked::default(),
    }
}

/// A worker at work: it has a lease, claims and listens.
fn at_work(state: State) -> Arc<State> {
    let now = state.clock.now();
    state.progress.named(Uuid::now_v7());
    state.progress.renewed(now);
    state.progress.claimed(now);
    state.progress.set_listening(true);
    state.progress.set_busy(3);
    Arc::new(state)
}

async fn ask(
    state: &Arc<State>,
    request: Request<Body>,
) -> (StatusCode, axum::http::HeaderMap, Value) {
    let response = router(Arc::clone(state)).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    (
        parts.status,
        parts.headers,
        serde_json::from_slice(&body).unwrap_or(Value::Null),
    )
}

async fn get(state: &Arc<State>, path: &str) -> (StatusCode, Value) {
    let (status, _, body) = ask(state, Request::get(path).body(Body::empty()).unwrap()).await;
    (status, body)
}

#[tokio::test]
async fn the_short_answers_need_no_database() {
    let state = at_work(state(NOWHERE, |_| {}));
    for (path, status) in [("/health", "healthy"), ("/health/live", "alive")] {
        let (code, body) = get(&state, path).await;
        assert_eq!(code, StatusCode::OK);
        let health: wire::WorkerBasicHealth = serde_json::from_value(body).unwrap();
        assert_eq!(health.status, status);
        assert_eq!(health.worker_id, state.progress.worker_id().to_string());
    }
}

#[tokio::test]
async fn a_worker_whose_loop_has_died_says_that_it_needs_a_new_start() {
    let state = at_work(state(NOWHERE, |_| {}));
    let dies = async { panic!("so it is") };
    let stop = tokio_util::sync::CancellationToken::new();
    state.vitals.clone().keep("claims", stop, dies).await;
    for path in ["/health/live", "/health/ready"] {
        let (code, body) = get(&state, path).await;
        assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert!(
            body.to_string()
                .contains("`claims` has died: it panicked: so it is"),
            "{body}"
        );
    }
    assert_eq!(get(&state, "/health").await.0, StatusCode::OK);
}

#[tokio::test]
async fn open_breakers_are_told() {
    let mut state = state(NOWHERE, |_| {});
    let keys = state.loaded.config.circuit_breakers.pgmq();
    let breaker = Breaker::new("pgmq", keys.into());
    (0..keys.failure_threshold).for_each(|_| breaker.failed());
    state.breakers = vec![breaker];
    let (_, body) = get(&at_work(state), "/health/detailed").await;
    assert_eq!(body["circuit_breakers"][0]["name"], "pgmq");
    assert_eq!(body["circuit_breakers"][0]["state"], "open");
    assert_eq!(body["checks"]["circuit_breakers"]["message"], "open: pgmq");
}

#[tokio::test]
async fn without_its_database_a_worker_is_degraded_and_not_ready() {
    let state = at_work(state(NOWHERE, |_| {}));
    let (code, body) = get(&state, "/health/ready").await;
    assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
    let ready: wire::WorkerReadiness = serde_json::from_value(body).unwrap();
    assert_eq!(
        (ready.status.as_str(), ready.checks.database.status.as_str()),
        ("not_ready", "unhealthy")
    );
    // Anybody may ask, so what the driver said stays in the log.
    let message = ready.checks.database.message;
    assert_eq!(message.as_deref(), Some("the database does not answer"));

    let (code, body) = get(&state, "/health/detailed").await;
    assert_eq!(code, StatusCode::OK);
    assert_eq!(body["status"], "degraded");
    assert!(!body.to_string().contains("secret"));

    let (code, body) = get(&state, "/v1/templates").await;
    assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body["error"], "SERVICE_UNAVAILABLE");
}

#[tokio::test]
async fn readiness_and_detail_follow_what_the_loops_tell() {
    let cluster = Temporary::start().await.unwrap();
    let healthy = || state(cluster.url(), |_| {});
    let late = |state: &State| state.clock.step(TimeDelta::seconds(60));
    // (what happens, the check that says so, its status, ready)
    type Event = fn(&State);
    let table: [(Event, &str, &str, bool); 6] = [
        (|_| {}, "database", "healthy", true),
        (
            |state| state.progress.drain(),
            "command_processor",
            "unhealthy",
            false,
        ),
        (
            |state| state.progress.set_listening(false),
            "event_system",
            "degraded",
            true,
        ),
        (
            |state| {
                state
                    .progress
                    .claimed(state.clock.now() - TimeDelta::seconds(60))
            },
            "queue_processing",
            "unhealthy",
            false,
        ),
        (
            |state| {
                state
                    .progress
                    .renewed(state.clock.now() - TimeDelta::seconds(60))
            },
            "step_processing",
            "unhealthy",
            true,
        ),
        (
            |state| state.progress.set_busy(256),
            "queue_processing",
            "healthy",
            true,
        ),
    ];
    for (event, check, status, ready) in table {
        let state = at_work(healthy());
        event(&state);
        let (code, body) = get(&state, "/health/ready").await;
        assert_eq!(code == StatusCode::OK, ready, "{check} {status}: {body}");
        let detailed: wire::WorkerDetailedHealth =
            serde_json::from_value(get(&state, "/health/detailed").await.1).unwrap();
        let checks = serde_json::to_value(&detailed.checks).unwrap();
        assert_eq!(checks[check]["status"], status, "{checks}");
        assert_eq!(
            detailed.status,
            if status == "healthy" {
                "healthy"
            } else {
                "degraded"
            }
        );
    }
    // A full worker makes no claims; that none was answered for a while says nothing then.
    let full = at_work(healthy());
    full.progress.set_busy(256);
    late(&full);
    assert_eq!(get(&full, "/health/ready").await.0, StatusCode::OK);
    // Before the first lease and claim.
    let new = Arc::new(healthy());
    assert_eq!(
        get(&new, "/health/ready").await.0,
        StatusCode::SERVICE_UNAVAILABLE
    );
}

#[tokio::test]
async fn the_details_say_what_runs_and_how_full_the_channel_is() {
    let (sender, mut receiver) =
        tasker_shared::resilience::channel::bounded("results", "worker", 2);
    let state = state(NOWHERE, |_| {});
    let state = at_work(state);
    (0..3).for_each(|n| {
        let _ = sender.try_send(n);
    });
    receiver.recv().await.unwrap();
    let (_, body) = get(&state, "/health/detailed").await;
    assert_eq!(
        body["channels"],
        json!([{"channel": "results", "component": "worker", "capacity": 2, "usage_percent": 50.0, "high_water": 2, "full_events": 1}])
    );
    assert_eq!(body["circuit_breakers"], json!([]));
    assert_eq!(
        body["checks"]["command_processor"]["message"],
        "3 of 256 steps at once"
    );
    let info: wire::WorkerSystemInfo = serde_json::from_value(body["system_info"].clone()).unwrap();
    assert!((90..100).contains(&info.uptime_seconds));
    assert!(info.command_processor_active);
}

#[tokio::test]
async fn the_configuration_in_force_is_shown_with_its_passwords_masked() {
    let state = at_work(state(NOWHERE, |_| {}));
    let (code, body) = get(&state, "/config").await;
    assert_eq!(code, StatusCode::OK);
    assert!(!body.to_string().contains("secret"), "{body}");
    let config: wire::WorkerConfigResponse = serde_json::from_value(body).unwrap();
    let entry = |key: &str| {
        config
            .configuration
            .iter()
            .find(|entry| entry.key == key)
            .unwrap()
    };
    assert_eq!(entry("worker.concurrency").value, "256");
    assert_eq!(entry("database.url").source, "DATABASE_URL");
    assert_eq!(entry("worker.handlers.command").value, "");
    assert_eq!(config.auth.verification_method, "none");
}

const TEMPLATE: &str = "
name: process_order
namespace_name: shop
version: 1.2.0
steps:
  - { name: validate, handler: { callable: echo } }
  - { name: charge, handler: { callable: http, initialization: { url: 'http://pay/' } }, dependencies: [validate] }
  - { name: pack, handler: { callable: pack_order }, dependencies: [charge], timeout_seconds: 30 }
environments:
  development: { steps: [ { name: pack, timeout_seconds: 5 } ] }
";

async fn with_template() -> (Temporary, Arc<State>) {
    let cluster = Temporary::start().await.unwrap();
    let target = Target::parse(cluster.url(), "test", Duration::from_secs(5)).unwrap();
    db::migrate::run(&target).await.unwrap();
    let template = template::parse(TEMPLATE, "order.yaml", &template::Limits::default()).unwrap();
    let mut connection = target.connect().await.unwrap();
    db::templates::insert(&mut connection, &template, TEMPLATE)
        .await
        .unwrap()
        .unwrap();
    let state = at_work(state(cluster.url(), |_| {}));
    (cluster, state)
}

#[tokio::test]
async fn templates_are_listed_shown_and_checked_against_the_handlers() {
    let (cluster, state) = with_template().await;
    let restricted = at_work(self::state(cluster.url(), |config| {
        config.worker.namespaces = vec!["bank".to_owned()]
    }));
    for (state, path, count) in [
        (&state, "/v1/templates", 1),
        (
            &state,
            "/v1/templates?namespace=shop&include_cache_stats=true",
            1,
        ),
        (&state, "/v1/templates?namespace=bank", 0),
        (&restricted, "/v1/templates", 0),
    ] {
        let (code, body) = get(state, path).await;
        assert_eq!(code, StatusCode::OK, "{body}");
        let list: wire::WorkerTemplateList = serde_json::from_value(body).unwrap();
        assert_eq!(list.template_count, count, "{path}");
        assert_eq!(list.worker_capabilities, ["echo", "http"]);
    }

    let (code, body) = get(&state, "/v1/templates/shop/process_order/1.2.0").await;
    assert_eq!(code, StatusCode::OK, "{body}");
    let shown: wire::WorkerTemplate = serde_json::from_value(body).unwrap();
    assert_eq!(shown.template.environment, "development");
    assert_eq!(shown.template.template.steps[2].timeout_seconds, Some(5));
    assert_eq!(shown.handler_metadata.version, "1.2.0");

    let path = "/v1/templates/shop/process_order/1.2.0/validate";
    let (code, _, body) = ask(&state, Request::post(path).body(Body::empty()).unwrap()).await;
    assert_eq!(code, StatusCode::OK);
    assert_eq!(
        body,
        json!({
            "valid": false,
            "errors": ["step pack needs the handler pack_order, which this worker does not have"],
            "required_capabilities": ["echo", "http", "pack_order"],
            "step_handlers": ["echo", "http", "pack_order"],
        })
    );
    let (_, _, body) = ask(
        &restricted,
        Request::post(path).body(Body::empty()).unwrap(),
    )
    .await;
    assert_eq!(
        body["errors"][0],
        "this worker does not serve the namespace shop"
    );
}

#[tokio::test]
async fn what_is_not_there_is_answered_in_the_workers_shape() {
    let (_cluster, state) = with_template().await;
    // (method, path, status, code)
    let table = [
        ("GET", "/nothing", StatusCode::NOT_FOUND, "NOT_FOUND"),
        (
            "GET",
            "/v1/templates/shop/process_order/9.9.9",
            StatusCode::NOT_FOUND,
            "NOT_FOUND",
        ),
        (
            "POST",
            "/v1/templates/shop/process_order/not-a-version/validate",
            StatusCode::NOT_FOUND,
            "NOT_FOUND",
        ),
        (
            "GET",
            "/v1/templates/shop/pro%00cess/1.0.0",
            StatusCode::NOT_FOUND,
            "NOT_FOUND",
        ),
        (
            "GET",
            "/v1/templates/%ff/a/1.0.0",
            StatusCode::BAD_REQUEST,
            "BAD_REQUEST",
        ),
        (
            "GET",
            "/v1/templates?namespace=a&namespace=b",
            StatusCode::BAD_REQUEST,
            "BAD_REQUEST",
        ),
        (
            "POST",
            "/health",
            StatusCode::METHOD_NOT_ALLOWED,
            "METHOD_NOT_ALLOWED",
        ),
    ];
    for (method, path, status, code) in table {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("x-request-id", "mine-7");
        let (found, headers, body) = ask(&state, request.body(Body::empty()).unwrap()).await;
        assert_eq!(found, status, "{path}: {body}");
        let error: wire::WorkerErrorResponse = serde_json::from_value(body).unwrap();
        assert_eq!(
            (error.error.as_str(), error.request_id.as_deref()),
            (code, Some("mine-7"))
        );
        assert_eq!(headers["x-request-id"], "mine-7");
        assert_eq!(
            headers.contains_key(header::ALLOW),
            status == StatusCode::METHOD_NOT_ALLOWED
        );
    }
}

#[tokio::test]
async fn every_answer_has_a_request_id_and_only_a_sane_one_is_taken_over() {
    let state = at_work(state(NOWHERE, |_| {}));
    for (given, kept) in [
        (None, false),
        (Some("a"), true),
        (Some("a b"), false),
        (Some(""), false),
    ] {
        let mut request = Request::get("/health/live");
        if let Some(given) = given {
            request = request.header("x-request-id", given);
        }
        let (_, headers, _) = ask(&state, request.body(Body::empty()).unwrap()).await;
        let id = headers["x-request-id"].to_str().unwrap();
        assert_eq!(Some(id) == given, kept, "{given:?}");
        assert!(kept || id.parse::<Uuid>().is_ok());
    }
}
