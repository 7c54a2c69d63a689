//! What keeps a process within its means: channels that are bounded, named and measured.

pub mod channel;
