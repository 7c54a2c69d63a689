//! End-to-end tests, one program so that it is linked once. A file a subject; each test starts a stack of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so by panicking"
)]

mod access;
mod backpressure;
mod bench;
mod breakers;
mod channels;
mod circuits;
mod connections;
mod data_pipeline;
mod dead_letters;
mod demo;
mod dev;
mod documents;
mod faults;
mod fuzz;
mod graphs;
mod history;
mod hostile;
mod memory;
mod namespaces;
mod pgbouncer;
mod processes;
mod prometheus_queries;
mod rescue;
mod retention;
mod schemathesis;
mod secrets;
mod sources;
mod starting;
mod storm;
mod submissions;
mod telemetry_contract;
mod telemetry_export;
mod telemetry_flow;
mod telemetry_logs;
mod telemetry_traces;
mod tokens;
mod upgrade;
mod wire_answers;
mod wire_pictures;
mod wire_requests;
mod wire_tables;
