//! The reference client of ChatCluster, and the oracle of every test.
//!
//! Reading order: [`transcript`] (the oracle) → [`connection`] (one socket) → [`session`] (the
//! reconnecting client) → [`recorder`] (both together) → [`api`], [`token`] → [`load`], [`soak`],
//! [`chaos`], [`verify`] (the commands' work).

pub mod api;
pub mod backoff;
pub mod chaos;
pub mod connection;
pub mod load;
pub mod recorder;
pub mod session;
pub mod soak;
pub mod token;
pub mod transcript;
pub mod verify;
pub mod wire;
