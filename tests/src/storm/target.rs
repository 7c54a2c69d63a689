//! Whom a storm's `http` steps ask: a server of the test's own, behind a line that can take it away. It writes down
//! each request before it answers, as handlers write down their runs.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Value, json};
use tasker_shared::telemetry::trace::TraceContext;
use tokio::net::UnixListener;
use tokio::task::AbortHandle;

use super::runs;
use crate::proxy::{Line, Proxy};

/// The server. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Target {
    line: Proxy,
    serving: AbortHandle,
}

impl Target {
    /// Starts it with its socket in `directory`, and what it writes down in `written`.
    pub(super) async fn start(directory: &Path, written: &Path) -> Target {
        let file = File::create(written.join("target.runs")).unwrap();
        let socket = directory.join("target");
        let listener = UnixListener::bind(&socket).unwrap();
        let router = axum::Router::new()
            .fallback(answer)
            .with_state(Arc::new(file));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        Target {
            line: Proxy::to(socket).await,
            serving: serving.abort_handle(),
        }
    }

    /// Where steps ask it.
    pub(super) fn address(&self) -> SocketAddr {
        self.line.address()
    }

    /// Cuts whoever asks, and takes no connections any more.
    pub(super) fn go(&self) {
        self.line.set(Line::Refusing);
    }

    /// Answers again.
    pub(super) fn come_back(&self) {
        self.line.set(Line::Passing);
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[derive(Debug, Deserialize)]
struct Inputs {
    context: Context,
}

#[derive(Debug, Deserialize)]
struct Context {
    n: i64,
}

/// What a step gives that has no parents: the value that the path names, and its task's number.
async fn answer(
    State(file): State<Arc<File>>,
    uri: Uri,
    headers: HeaderMap,
    Json(inputs): Json<Inputs>,
) -> Result<Json<Value>, StatusCode> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let step = header("idempotency-key").and_then(|step| step.parse().ok());
    let place = header("traceparent").and_then(|text| TraceContext::parse(text, None).ok());
    let value: Option<i64> = uri.path().trim_start_matches('/').parse().ok();
    let (Some(step), Some(place), Some(value)) = (step, place, value) else {
        return Err(StatusCode::BAD_REQUEST);
    };
    let line = runs::line(step, &place);
    let written = (&*file).write_all(line.as_bytes());
    written.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(Json(json!({ "sum": value + inputs.context.n })))
}
