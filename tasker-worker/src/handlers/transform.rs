//! `transform`: the result is what a jq program makes of the step's inputs.
//!
//! Numbers and keys that the program only passes on keep their text and order, but for the spelling of
//! strings and blanks: jaq reads into values of its own and writes those. `env`, `input`, `halt`, `debug`
//! and modules are not there: a program sees its inputs and nothing else, but for `now`.

mod guard;
mod program;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use serde::Deserialize;
use tasker_shared::document::Document;
use tokio::sync::{Semaphore, oneshot};

use self::guard::Stopped;
use self::program::Program;
use super::{Handler, document, settings};
use crate::context::StepContext;
use crate::error::StepError;

/// Far more programs than a worker's templates have; past it the cache begins anew.
const MAX_CACHED: usize = 1_000;

/// The stack of the thread that a program runs on. Only what is touched costs memory.
const STACK_BYTES: usize = 64 << 20;

/// What a program may use of it; the rest is for reading and writing values.
const STACK_LIMIT_BYTES: usize = 40 << 20;

pub(super) struct Transform {
    programs: Arc<Mutex<HashMap<String, Arc<Program>>>>,
    /// Programs only compute: more of them at once than there are cores would end no sooner.
    turns: Arc<Semaphore>,
}

impl Default for Transform {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            programs: Arc::default(),
            turns: Arc::new(Semaphore::new(cores)),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    jq: String,
    #[serde(default)]
    include: Vec<String>,
    #[serde(default, rename = "circuit")]
    _circuit: Option<String>,
}

impl Handler for Transform {
    fn call(&self, context: StepContext) -> BoxFuture<'static, Result<Document, StepError>> {
        let (programs, turns) = (Arc::clone(&self.programs), Arc::clone(&self.turns));
        Box::pin(async move {
            let settings: Settings = settings::read(&context, "transform")?;
            let inputs = context.inputs_json_including(&settings.include).await?;
            let turn = turns.acquire_owned().await.map_err(StepError::from)?;
            let (answer, answered) = oneshot::channel();
            let stopped = context.cancellation().child_token();
            // Ends the program also where this future is dropped, as it is at the deadline.
            let _stop = stopped.clone().drop_guard();
            let work = move || {
                let _turn = turn;
                let _ = answer.send(evaluate(&programs, settings.jq, &inputs, || {
                    guard::Watch::new(stopped, STACK_LIMIT_BYTES)
                }));
            };
            std::thread::Builder::new()
                .name("transform".into())
                .stack_size(STACK_BYTES)
                .spawn(work)?;
            let text = answered.await.map_err(|_| {
                StepError::retryable("the jq program was broken off by a panic")
                    .with_type("transform_error")
            })??;
            document(text, context.limits())
        })
    }
}

fn evaluate(
    programs: &Mutex<HashMap<String, Arc<Program>>>,
    text: String,
    inputs: &str,
    watch: impl FnOnce() -> guard::Watch,
) -> Result<String, StepError> {
    let cached = programs
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&text)
        .cloned();
    let program = match cached {
        Some(program) => program,
        None => {
            let program = Program::compile(&text)
                .map(Arc::new)
                .map_err(|faults| failed(format!("the jq program does not compile: {faults}")))?;
            let mut programs = programs.lock().unwrap_or_else(PoisonError::into_inner);
            if programs.len() >= MAX_CACHED {
                programs.clear();
            }
            programs.insert(text, Arc::clone(&program));
            program
        }
    };
    program.run(inputs, &watch()).map_err(|error| match error {
        program::Error::Stopped(Stopped::Cancelled) => {
            StepError::retryable("the jq program was given up: the step is cancelled")
                .with_type("transform_error")
        }
        error => failed(error.to_string()),
    })
}

/// A program sees nothing but its inputs, so it would fail alike at every attempt.
fn failed(message: String) -> StepError {
    StepError::permanent(message).with_type("transform_error")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
