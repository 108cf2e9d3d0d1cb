//! The data plane: one node that streams answers and never loses one.
//!
//! ```text
//!  client      ┌────────┐ Input ┌─────────┐ accept ┌────────┐ append ┌───────────┐
//!  frames ───▶ │ socket │ ────▶ │ session │ ─────▶ │ stream │ ─────▶ │ streamlog │
//!         ◀─── │        │ ◀──── │ machine │        │ 1 task │ ◀─ upstream        │
//!              └────────┘ Output└─────────┘        └────────┘        └─────┬─────┘
//!                   ▲                ▲      Follower (catch-up, then tail)  │
//!                   └────────────────┴──────────────────────────────────────┘
//! ```
//! The one arrow from `stream` back to `session` is "accepted" or "refused"; no chunk travels on it.
//! Reading order: [`node`] → [`socket`] → [`session`] → [`stream`] → [`upstream`] → [`admit`] →
//! [`api`] → [`drain`] → [`broadcast`] → [`roster`] → [`admin`] → [`metrics`] → [`telemetry`] →
//! [`config`] → [`page`] → [`process`] → [`playground`].

pub mod admin;
pub mod admit;
pub mod api;
pub mod broadcast;
pub mod config;
pub mod drain;
pub mod hot;
pub mod listen;
pub mod metrics;
pub mod node;
pub mod page;
pub mod playground;
pub mod process;
pub mod roster;
pub mod session;
pub mod socket;
pub mod stream;
pub mod telemetry;
pub mod upstream;

pub use node::{Node, NodeConfig, RunningNode};
