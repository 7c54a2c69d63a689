//! What keeps a process within its means and from asking in vain: channels that are bounded, named and measured,
//! circuit breakers, knowing that its loops run, answering while it starts, and serving no more than it can.

pub mod breaker;
pub mod channel;
mod circuit;
pub mod front;
pub mod serving;
pub mod vitals;
