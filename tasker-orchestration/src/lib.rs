//! The orchestration server: accepts tasks, advances their graphs as results come in, and finalises them.

mod breakers;
pub mod lifecycle;
pub mod loops;
mod server;
pub mod web;

pub use breakers::Breakers;
pub use server::{Error, Server};
