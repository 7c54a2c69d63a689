//! A worker whose handlers do what no built-in one does: `panics` panics in its first `times` attempts, `tells`
//! answers what it is told of its trace, and logs that it does, `blocks` blocks its thread for good, `large` answers a text of so many `bytes`. The door for
//! completions is kept open for as long as the process lives. It is started as `tasker worker` is; see `Stack::add_faulty_worker`.
#![allow(clippy::panic, reason = "that is what it is for")]

use serde_json::{Value, json};
use tasker_shared::config::Argument;
use tasker_tests::told_to_end;
use tasker_worker::{StepContext, StepError, Worker};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Runtime::new()?;
    let worked = runtime.block_on(work());
    // A handler that blocks its thread must not keep the process.
    runtime.shutdown_background();
    worked
}

async fn work() -> Result<(), Box<dyn std::error::Error>> {
    let listen = Argument::new("--listen", "worker.listen", "127.0.0.1:0");
    let worker = Worker::from_env_with(&[listen])?
        .handler("panics", panics)
        .handler("tells", tells)
        .handler("blocks", blocks)
        .handler("large", large);
    let _door = worker.completions();
    let told = told_to_end()?;
    let started = worker.start().await?;
    if let Some(file) = std::env::var_os("TASKER_ADDRESS_FILE") {
        std::fs::write(file, started.address().to_string())?;
    }
    Ok(started.run_until(told).await?)
}

async fn blocks(_: StepContext) -> Result<Value, StepError> {
    loop {
        std::thread::park();
    }
}

async fn large(context: StepContext) -> Result<Value, StepError> {
    let bytes = context.config::<Value>()?["bytes"].as_u64();
    let bytes = usize::try_from(bytes.unwrap_or_default());
    Ok(Value::String("x".repeat(bytes.unwrap_or_default())))
}

async fn panics(context: StepContext) -> Result<Value, StepError> {
    let times = context.config::<Value>()?["times"].as_u64();
    if u64::from(context.attempt()) <= times.unwrap_or(u64::MAX) {
        panic!("as it was told to");
    }
    Ok(Value::Null)
}

async fn tells(context: StepContext) -> Result<Value, StepError> {
    tracing::info!(answer = 42, "it tells");
    tracing::debug!("in detail");
    let place = context.trace_context();
    Ok(json!({
        "correlation_id": context.correlation_id(),
        "is_traced": place.sampled,
        "traceparent": place.traceparent(),
        "tracestate": place.tracestate(),
    }))
}
