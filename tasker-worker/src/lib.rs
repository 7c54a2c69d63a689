//! The worker, and the library to write one with handlers of your own.
//!
//! A handler is an `async fn(StepContext) -> Result<impl Serialize, StepError>`.

mod circuits;
pub mod completions;
mod context;
mod error;
pub mod handlers;
mod heartbeat;
mod held;
mod inputs;
mod measure;
mod result_sender;
mod running;
mod schema;
mod step_claim;
mod step_executor;
pub mod testing;
pub mod web;
mod worker;

pub use completions::Completions;
pub use context::{AncestorError, Ancestors, Inputs, Limits, StepContext};
pub use error::StepError;
pub use handlers::{Handler, Registry};
pub use worker::{Error, Started, Worker};
