//! How a member lives: what every kind of incarnation can be asked, and what starts them. The task
//! of a member, `/dev` and the fleet know nothing else.

use super::member::Place;
use super::redis::RedisSwitch;
use async_trait::async_trait;
use protocol::DrainPhase;
use protocol::dev::{NodePhase, UpstreamCall};
use protocol::drain::DrainRequest;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// After the deadline of its drain a node that is to start again has this long to close its sockets.
pub(super) const DRAIN_GRACE: Duration = Duration::from_secs(2);

/// What `/dev/nodes` shows of an incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vitals {
    pub(super) phase: NodePhase,
    pub(super) sessions: usize,
    pub(super) streams: usize,
}

/// A running node's phase, as `/dev` says it.
pub(super) const fn shown(phase: DrainPhase) -> NodePhase {
    match phase {
        DrainPhase::Serving => NodePhase::Serving,
        DrainPhase::Refusing => NodePhase::Refusing,
        DrainPhase::HandingOver => NodePhase::HandingOver,
        DrainPhase::Flushing => NodePhase::Flushing,
        DrainPhase::Done => NodePhase::Done,
    }
}

impl Vitals {
    pub(super) const DEAD: Self = Self { phase: NodePhase::Dead, sessions: 0, streams: 0 };
}

/// One boot of one node: a thread of this process, or a process of its own.
#[async_trait]
pub(super) trait Life: Send + Sync {
    /// How it is now; as it was last where it does not answer.
    async fn vitals(&self) -> Vitals;
    /// Starts a drain, whatever epoch an earlier one had.
    async fn drain(&self, request: DrainRequest);
    /// As SIGSTOP for a while; a later end replaces an earlier one.
    fn pause(&self, duration: Duration);
    /// As SIGCONT.
    fn go_on(&self);
    /// Waits until a drain is over, was called off, or is overdue.
    async fn drained(&self);
    /// As SIGKILL; returns when it is dead.
    async fn kill(&self);
}

/// What the incarnations of a fleet share, and how one is started.
#[async_trait]
pub(super) trait World: Send + Sync {
    /// Starts what is shared. Once, before any node.
    async fn begin(&self) -> io::Result<()>;
    /// Starts an incarnation; when this returns it serves.
    async fn boot(&self, place: &Place) -> io::Result<Arc<dyn Life>>;
    /// What the provider was asked, oldest first.
    fn calls(&self) -> Vec<UpstreamCall>;
    /// What can be done to Redis, where there is one.
    fn redis(&self) -> Option<RedisSwitch>;
    /// Ends what is shared. Once, after every node.
    async fn end(&self);
}
