//! What the end-to-end tests stand on: a [`Stack`] is a PostgreSQL of its own with `tasker` processes on it, killed
//! and removed when it goes, whether the test passes, panics or is killed. The tests are in `e2e/`; this is no test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so by panicking"
)]

pub mod contract;
pub mod exposition;
pub mod fuzz;
mod ledger;
pub mod otlp;
pub mod pgbouncer;
mod process;
pub mod prometheus;
pub mod proxy;
mod skipped;
mod stack;
pub mod storm;
mod tasks;
mod told;
mod trouble;
mod until;

pub use ledger::Ledger;
pub use process::Process;
pub use skipped::skipped;
pub use stack::{Setup, Stack};
pub use told::told_to_end;
pub use until::until;
