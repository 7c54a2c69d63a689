//! The worker, and the library to write one with handlers of your own.
//!
//! A handler is an `async fn(StepContext) -> Result<impl Serialize, StepError>`.

mod context;
mod error;
pub mod handlers;
pub mod testing;
pub mod web;

pub use context::{AncestorError, Ancestors, Inputs, Limits, StepContext};
pub use error::StepError;
pub use handlers::{Handler, Registry};
