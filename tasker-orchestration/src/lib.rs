//! The orchestration server: accepts tasks, advances their graphs as results come in, and finalises them.

pub mod lifecycle;
pub mod loops;
mod server;
pub mod web;

pub use server::{Error, Server};
