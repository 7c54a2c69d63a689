//! A worker that writes down every run: its handler `record` appends a line to a file of the process's own before it
//! does anything else, so that whoever audits need not believe the database. It takes its `ms`, fails its first `fails` attempts, or for good where it is `hopeless`, and else gives `value`, the context's
//! `n` and its parents' sums as `sum`. It is started as `tasker worker` is; the directory is `RECORDER_DIRECTORY`.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tasker_shared::config::Argument;
use tasker_tests::storm::runs;
use tasker_tests::told_to_end;
use tasker_worker::{StepContext, StepError, Worker};

#[derive(Debug, Deserialize)]
struct Part {
    ms: u64,
    value: i64,
    fails: u32,
    hopeless: bool,
    parents: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Input {
    n: i64,
}

#[derive(Debug, Deserialize)]
struct Sum {
    sum: i64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory =
        std::env::var_os("RECORDER_DIRECTORY").ok_or("RECORDER_DIRECTORY is not set")?;
    let file = PathBuf::from(directory).join(format!("{}.runs", std::process::id()));
    let file = File::options().create(true).append(true).open(file)?;
    let file = Arc::new(file);
    let listen = Argument::new("--listen", "worker.listen", "127.0.0.1:0");
    let worker = Worker::from_env_with(&[listen])?
        .built_in_handlers()
        .handler("record", move |context| record(Arc::clone(&file), context));
    let told = told_to_end()?;
    let started = worker.start().await?;
    if let Some(file) = std::env::var_os("TASKER_ADDRESS_FILE") {
        std::fs::write(file, started.address().to_string())?;
    }
    Ok(started.run_until(told).await?)
}

async fn record(file: Arc<File>, context: StepContext) -> Result<Value, StepError> {
    // One write, so that a line is there wholly or not at all.
    let line = runs::line(context.step_uuid(), &context.trace_context());
    (&*file).write_all(line.as_bytes()).map_err(|error| {
        StepError::retryable(format!("the run cannot be written down: {error}"))
    })?;
    let part: Part = context.config()?;
    tokio::time::sleep(Duration::from_millis(part.ms)).await;
    if part.hopeless {
        return Err(StepError::permanent("it is hopeless"));
    }
    if context.attempt() <= part.fails {
        return Err(StepError::retryable("not yet"));
    }
    let mut sum = part.value + context.input::<Input>()?.n;
    for parent in &part.parents {
        sum += context.dependency::<Sum>(parent)?.sum;
    }
    Ok(json!({ "sum": sum }))
}
