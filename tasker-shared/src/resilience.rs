//! What keeps a process within its means and from asking in vain: channels that are bounded, named and measured,
//! circuit breakers, and knowing that its loops run.

pub mod breaker;
pub mod channel;
mod circuit;
pub mod vitals;
