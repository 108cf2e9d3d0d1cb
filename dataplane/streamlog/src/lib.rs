//! The append-only log of chunks: one fenced writer, any number of followers.
//!
//! ```text
//!  write arc   stream task ─▶ append ─▶ ┌───────────┐
//!                                       │ StreamLog │  memory (reference engine), redis; tiered over either
//!  read arc    session ◀─ Follower ◀──  └───────────┘
//! ```
//! First delivery, reconnect, second device and hand-over are all [`follow`]. Engines give reads and
//! wake-ups; gapless following is written once, in [`follower`]. Reading order: [`batch`] → [`bell`] →
//! [`answer`] → [`log`] → [`directory`] → [`registry`] → [`bus`] → [`follower`] → [`memory`] → [`tiered`] →
//! [`redis`](crate::redis).

pub mod answer;
pub mod batch;
pub mod bell;
pub mod bugs;
pub mod bus;
#[cfg(any(test, feature = "testing"))]
pub mod chaos;
pub mod clock;
#[cfg(any(test, feature = "testing"))]
#[path = "tests/conformance/mod.rs"]
pub mod conformance;
pub mod cursor;
pub mod directory;
pub mod error;
pub mod follower;
pub mod lease;
pub mod log;
pub mod memory;
pub mod redis;
pub mod registry;
pub mod tiered;

pub use crate::redis::{BadRedisConfig, RedisConfig, RedisEngine, RedisStats};
pub use answer::Answer;
pub use batch::{Batch, Slice};
pub use bugs::Bug;
pub use bus::{Bus, BusEvent, Target};
#[cfg(any(test, feature = "testing"))]
pub use chaos::{Chaos, ChaosControl, Faults};
pub use clock::{Clock, Ids};
pub use cursor::Cursor;
pub use directory::{
    Claim, Claimed, Directory, Keep, Mark, NodeRecord, Orphan, OrphanCause, Restore,
};
pub use error::LogError;
pub use follower::{Attached, Event, FollowError, Follower, follow};
pub use lease::Lease;
pub use log::{Head, Opened, Opening, Owner, Page, StreamLog, TailWatch};
pub use registry::{Key, Registry, Space};
pub use tiered::Tiered;
