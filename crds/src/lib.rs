//! `ChatCluster`, the one resource of ChatCluster's API group. Here are its types with their rules,
//! the closed set of its conditions' reasons, and the names and labels of everything that follows
//! from it. Pure: no client, no clock.

// The derive of a schema writes a second, private type beside each: its `pub` is not ours.
#![allow(unreachable_pub)]

mod bounds;
pub mod condition;
pub mod gateway;
pub mod manifest;
pub mod names;
pub mod operations;
pub mod providers;
pub mod quantity;
pub mod redis;
pub mod security;
pub mod spec;
pub mod status;

pub use condition::{ConditionType, Reason};
pub use spec::{ChatCluster, ChatClusterSpec};
pub use status::ChatClusterStatus;

/// The API group.
pub const GROUP: &str = "chatcluster.dev";
/// The one version.
pub const VERSION: &str = "v1alpha1";
