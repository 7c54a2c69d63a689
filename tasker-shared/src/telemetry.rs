//! What leaves a process about itself by OTLP.

mod attributes;
mod batch;
pub mod context;
mod faults;
pub mod spans;
mod stop;
pub mod trace;
pub mod tracestate;
