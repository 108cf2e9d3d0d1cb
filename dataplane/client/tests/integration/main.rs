//! The client against small scripted nodes on real sockets.

// Clippy's exceptions for tests do not reach the helpers of an integration test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cluster;
mod drivers;
mod http;
mod node;
mod session;
mod soak;
