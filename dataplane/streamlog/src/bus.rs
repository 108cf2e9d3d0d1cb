//! Hints between nodes. Delivery may be lost: nothing may depend on it but speed.

use crate::error::LogError;
use async_trait::async_trait;
use protocol::{Incarnation, MessageId, NodeName, SessionId};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

/// Hints held for one slow node; older ones are lost.
pub const BUS_CAPACITY: usize = 1_024;

/// To whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// Every node, the sender included.
    All,
    /// One boot of one node.
    Node(Incarnation),
}

/// What is hinted at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BusEvent {
    /// A stream was marked to be cancelled: look now.
    Cancel(MessageId),
    /// A node marked its streams: claim now.
    HandOver,
    /// Move this session's sockets.
    Goaway(SessionId),
    /// Close this session's sockets with this code.
    Close(SessionId, u16),
    /// An operator's broadcast (NODE_STARTUP, CACHE_INVALIDATE, …).
    Broadcast(String),
}

/// A hint as it arrives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hint {
    /// Who sent it.
    pub from: NodeName,
    /// To whom.
    pub to: Target,
    /// What.
    pub event: BusEvent,
}

/// Publish and subscribe between nodes.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Sends a hint.
    ///
    /// # Errors
    /// `Unavailable`; the caller goes on without.
    async fn publish(&self, to: Target, event: BusEvent) -> Result<(), LogError>;

    /// Hints from now on. Those to other nodes may be among them: look at [`Hint::to`].
    fn subscribe(&self) -> broadcast::Receiver<Hint>;
}
