//! Every integration test of the data plane, in one binary.

// A test's own parts may panic and spawn: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod admin;
mod api;
mod auth;
mod chaos;
mod cluster;
mod drains;
mod edge;
mod fixture;
mod fuzz;
mod haproxy;
mod hostile;
mod interface;
mod metrics;
mod outages;
mod page;
mod playground;
mod process;
mod processes;
mod redis;
mod roster;
mod soak;
mod streams;
mod takeovers;
mod takeup;
mod teeth;
mod traces;
mod upstream;
