//! What leaves a process about itself by OTLP.

pub mod trace;
pub mod tracestate;
