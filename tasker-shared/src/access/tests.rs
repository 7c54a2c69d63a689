#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod gate;
mod published;
mod signer;
mod tokens;
