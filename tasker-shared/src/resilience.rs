//! What keeps a process within its means and from asking in vain: channels that are bounded, named and measured, and
//! circuit breakers.

pub mod breaker;
pub mod channel;
mod circuit;
