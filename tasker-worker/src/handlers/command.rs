//! `command`: runs a program without a shell; the inputs go to its stdin, its stdout is the result.
//!
//! Exit 0 is success, 64 to 78 (the range of sysexits.h) a permanent failure, everything else retryable.
//! The program's whole process group ends with the attempt, also where the executor drops it at its deadline.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitStatus;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tasker_shared::document::Document;
use tasker_shared::name::Name;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::ChildStdin;
use tokio_util::sync::CancellationToken;

use super::process::{Group, Pipes};
use super::{Handler, document, settings};
use crate::completions::Completions;
use crate::context::StepContext;
use crate::error::StepError;

/// How long a program may take to end after SIGTERM before SIGKILL.
const GRACE: Duration = Duration::from_secs(1);

/// How long the pipes may stay open after the program has ended: a process that it left behind may hold them.
const LINGER: Duration = Duration::from_secs(1);

/// What is kept of stderr, from its end.
const STDERR_BYTES: usize = 4 * 1024;

/// What is shown of a stdout that is no JSON, from its beginning.
const STDOUT_SHOWN: usize = 200;

/// The handler.
pub(super) struct Command {
    completions: Completions,
}

impl Command {
    /// Programs hand in how they ended through this door.
    pub(super) fn new(completions: Completions) -> Command {
        Command { completions }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The program, then its arguments.
    argv: Vec<String>,
    /// Added to the worker's environment.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Where it runs; absent: where the worker does.
    cwd: Option<PathBuf>,
    #[serde(default)]
    include: Vec<String>,
    #[serde(default, rename = "circuit")]
    _circuit: Option<String>,
}

/// What is kept of an attempt that failed.
#[derive(Serialize)]
struct Details<'a> {
    argv: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_status: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    stderr: &'a str,
}

impl Handler for Command {
    fn handler_type(&self) -> Name {
        Name::fixed("command")
    }

    fn call(&self, context: StepContext) -> BoxFuture<'static, Result<Document, StepError>> {
        let completions = self.completions.clone();
        Box::pin(async move {
            let settings: Settings = settings::read(&context, "command")?;
            let inputs = context.inputs_json_including(&settings.include).await?;
            let (group, pipes) = spawn(&settings, &context)?;
            let stop = context.cancellation().child_token();
            // Ends the program also where this future is dropped, as it is at the deadline.
            let _stop = stop.clone().drop_guard();
            // In a task of its own, which sees to the program's end whoever waits for it.
            let limit = context.limits().max_result_bytes;
            let watched = tokio::spawn(watch(group, pipes, inputs, stop, limit));
            let (end, output) = watched.await?.map_err(|error| {
                StepError::retryable("the program could not be waited for").with_source(&error)
            })?;
            let ended = conclude(&end, &output, &settings, &context);
            let (ticket, expected) = completions.expect(&context);
            // What is handed back is said by what is expected.
            let _ = ticket.complete(ended).await;
            expected.ended().await
        })
    }
}

fn spawn(settings: &Settings, context: &StepContext) -> Result<(Group, Pipes), StepError> {
    let refused = |message: String| StepError::permanent(message).with_type("settings_error");
    let Some((program, arguments)) = settings.argv.split_first() else {
        return Err(refused(
            "handler `command`: initialization.argv is empty; its first item is the program".into(),
        ));
    };
    let mut command = tokio::process::Command::new(program);
    command.args(arguments);
    for (name, _) in std::env::vars_os() {
        if is_withheld(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
    command.env("TASKER_TASK_UUID", context.task_uuid().to_string());
    command.env("TASKER_STEP_UUID", context.step_uuid().to_string());
    command.env(
        "TASKER_CORRELATION_ID",
        context.correlation_id().to_string(),
    );
    command.env("TASKER_ATTEMPT", context.attempt().to_string());
    command.envs(&settings.env);
    if let Some(cwd) = &settings.cwd {
        if !cwd.is_dir() {
            return Err(refused(format!(
                "handler `command`: initialization.cwd: `{}` is not a directory on this worker",
                cwd.display()
            )));
        }
        command.current_dir(cwd);
    }
    Group::spawn(command).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => refused(format!(
            "the program `{program}`, or the interpreter it names, was not found on this worker; install it there \
             or give its full path in initialization.argv"
        )),
        io::ErrorKind::PermissionDenied => {
            refused(format!("the program `{program}` may not be run by the worker's user"))
        }
        io::ErrorKind::InvalidInput | io::ErrorKind::ArgumentListTooLong => {
            refused(format!("the program `{program}` cannot be started with these arguments: {error}"))
        }
        _ => StepError::retryable(format!("the program `{program}` could not be started")).with_source(&error),
    })
}

/// The worker's own configuration, credentials included, is not for whatever a template starts.
fn is_withheld(variable: &str) -> bool {
    variable == "DATABASE_URL"
        || variable.starts_with("TASKER_")
        || variable.starts_with("PG")
        || (variable.starts_with("OTEL_") && variable.ends_with("_HEADERS"))
}

/// How an attempt came to its end.
enum End {
    Exited(ExitStatus),
    TooMuchOutput,
    Cancelled,
}

/// Runs the program to its end, and when told to stop brings that about.
async fn watch(
    mut group: Group,
    pipes: Pipes,
    inputs: String,
    stop: CancellationToken,
    limit: usize,
) -> io::Result<(End, Output)> {
    let id = group.id();
    let mut output = Output {
        limit,
        ..Output::default()
    };
    let end = {
        let mut exchange = pin!(exchange(&mut group, pipes, &inputs, &mut output));
        tokio::select! {
            biased;
            end = &mut exchange => end?,
            () = stop.cancelled() => {
                id.terminate();
                // Its pipes stay open meanwhile: what it says as it ends must not kill it.
                let _ = tokio::time::timeout(GRACE, exchange).await;
                End::Cancelled
            }
        }
    };
    group.kill().await;
    Ok((end, output))
}

/// Talks to the program until it has ended: all three streams at once, so that neither side waits for the
/// other with a full pipe.
async fn exchange(
    group: &mut Group,
    pipes: Pipes,
    inputs: &str,
    output: &mut Output,
) -> io::Result<End> {
    let Output {
        stdout,
        stderr,
        limit,
    } = output;
    let mut streams = pin!(async {
        tokio::try_join!(
            feed(pipes.stdin, inputs),
            fill(pipes.stdout, stdout, *limit),
            keep_tail(pipes.stderr, stderr),
        )
    });
    let status = tokio::select! {
        all = &mut streams => match all {
            Ok(_) => group.wait().await?,
            Err(TooMuch) => return Ok(End::TooMuchOutput),
        },
        status = group.wait() => match (status?, tokio::time::timeout(LINGER, &mut streams).await) {
            (_, Ok(Err(TooMuch))) => return Ok(End::TooMuchOutput),
            (status, _) => status,
        },
    };
    Ok(End::Exited(status))
}

#[derive(Default)]
struct Output {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    limit: usize,
}

struct TooMuch;

/// A program need not read its inputs: a pipe closed early is no failure.
async fn feed(mut stdin: ChildStdin, inputs: &str) -> Result<(), TooMuch> {
    let _ = stdin.write_all(inputs.as_bytes()).await;
    Ok(())
}

/// A pipe that breaks ends the output like one that is closed; the exit status says whether it matters.
async fn fill(
    mut from: impl AsyncRead + Unpin,
    into: &mut Vec<u8>,
    limit: usize,
) -> Result<(), TooMuch> {
    while let Ok(1..) = from.read_buf(into).await {
        if into.len() > limit {
            return Err(TooMuch);
        }
    }
    Ok(())
}

async fn keep_tail(mut from: impl AsyncRead + Unpin, tail: &mut Vec<u8>) -> Result<(), TooMuch> {
    while let Ok(1..) = from.read_buf(tail).await {
        if tail.len() > 2 * STDERR_BYTES {
            tail.drain(..tail.len() - STDERR_BYTES);
        }
    }
    Ok(())
}

fn conclude(
    end: &End,
    output: &Output,
    settings: &Settings,
    context: &StepContext,
) -> Result<Document, StepError> {
    let program = settings.argv.first().map_or("", String::as_str);
    let kept = &output.stderr[output.stderr.len().saturating_sub(STDERR_BYTES)..];
    let stderr = String::from_utf8_lossy(kept);
    let failure = |error: StepError, status: Option<ExitStatus>| {
        error.with_type("command_error").with_details(&Details {
            argv: &settings.argv,
            exit_status: status.and_then(|status| status.code()),
            signal: status.and_then(|status| status.signal()),
            stderr: &stderr,
        })
    };
    let status = match end {
        End::Exited(status) if status.success() => {
            return result(&output.stdout, context).map_err(|error| failure(error, Some(*status)));
        }
        End::Exited(status) => *status,
        End::TooMuchOutput => {
            let message = format!(
                "`{program}` wrote more than the {} bytes to stdout that limits.max_result_bytes allows",
                output.limit
            );
            return Err(failure(StepError::permanent(message), None));
        }
        End::Cancelled => {
            return Err(failure(
                StepError::retryable(format!("`{program}` was ended: the step is cancelled")),
                None,
            ));
        }
    };
    let last_words = stderr
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty());
    let said = last_words.map_or(String::new(), |line| format!(": {line}"));
    Err(failure(
        match (status.code(), status.signal()) {
            (Some(code @ 64..=78), _) => {
                StepError::permanent(format!("`{program}` exited with status {code}{said}"))
            }
            (Some(code), _) => {
                StepError::retryable(format!("`{program}` exited with status {code}{said}"))
            }
            (None, signal) => StepError::retryable(format!(
                "`{program}` was killed by signal {}{said}",
                signal.unwrap_or_default()
            )),
        },
        Some(status),
    ))
}

/// What the program wrote, without surrounding blanks; nothing is `null`.
fn result(stdout: &[u8], context: &StepContext) -> Result<Document, StepError> {
    let text = std::str::from_utf8(stdout)
        .map_err(|error| StepError::permanent(format!("stdout is not UTF-8: {error}")))?;
    match text.trim() {
        "" => Ok(Document::null()),
        text => document(text, context.limits()).map_err(|error| {
            let shown: String = text.chars().take(STDOUT_SHOWN).collect();
            StepError::permanent(format!(
                "stdout is not a result: {}; it begins with {shown:?}",
                error.message()
            ))
        }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
