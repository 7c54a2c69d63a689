//! The commands, a file each: what they are given, what they ask the server, what they print.

pub(crate) mod bench;
pub(crate) mod circuit;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod demo_payments;
pub(crate) mod dev;
pub(crate) mod dlq;
mod dlq_act;
pub(crate) mod doctor;
pub(crate) mod health;
pub(crate) mod key;
pub(crate) mod log_level;
pub(crate) mod migrate;
pub(crate) mod server;
pub(crate) mod step;
pub(crate) mod task;
mod task_control;
mod task_list;
mod task_show;
mod task_submit;
pub(crate) mod template;
mod template_check;
pub(crate) mod worker;

use std::io::Write;

use crate::failure::Failure;

/// Prints a text as it is.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|source| Failure::local("cannot write to standard output", source))
}

/// Prints a text and a line feed.
fn print_line(text: &str) -> Result<(), Failure> {
    print(&format!("{text}\n"))
}

/// Prints an answer's body on lines of its own.
fn print_body(body: &str) -> Result<(), Failure> {
    print_line(body.trim_end())
}
