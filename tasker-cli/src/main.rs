//! The program `tasker`: people's commands against the REST API, and the processes that serve it.
//! What those processes do is in the libraries; this program starts, stops and shows.

mod bench;
mod cli;
mod client;
mod commands;
mod dev;
mod doctor;
mod failure;
mod follow;
mod order;
mod output;
mod parse;
mod process;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;
use crate::failure::Failure;
use crate::output::palette::{Ink, Palette};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.wants_json();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(source) => return report(&Failure::setup("cannot start the runtime", source), json),
    };
    let done = runtime.block_on(cli.run());
    // A blocked read of standard input must not keep the process.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure, json),
    }
}

/// Says on standard error what went wrong. Where JSON is wanted, a refusal is its body on standard output.
fn report(failure: &Failure, json: bool) -> ExitCode {
    match failure {
        Failure::Silent | Failure::Unusable => {}
        // Whoever read the output has had enough, as `head` has.
        Failure::Local { source, .. } if source.kind() == ErrorKind::BrokenPipe => {}
        Failure::Verdict(_) if json => {}
        Failure::Refused { body, .. } if json && !body.trim().is_empty() => {
            // Nobody is left to be told when this fails.
            let _ = writeln!(std::io::stdout(), "{}", body.trim_end());
        }
        _ => {
            let label = Palette::of_stderr().paint(Ink::Bad, "error:");
            let _ = writeln!(std::io::stderr(), "{label} {}", failure.explained());
        }
    }
    ExitCode::from(failure.status())
}
