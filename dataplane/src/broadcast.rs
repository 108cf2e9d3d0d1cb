//! What a node tells all the others at once. Only hints: a broadcast that is lost or cannot be sent
//! breaks nothing, it is counted.

use crate::node::Node;
use jiff::Timestamp;
use protocol::{Incarnation, NodeName};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use streamlog::{BusEvent, LogError, Target};
use tokio::time::timeout;

/// A bus that takes longer counts as away.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[schema(as = BroadcastKind)]
pub enum Kind {
    /// A node began to serve.
    NodeStartup,
    /// A node gave its lease up: what it still owned wants a new owner now.
    NodeShutdown,
    /// Whatever is cached must be read again.
    CacheInvalidate,
    /// Settings that need no restart were changed.
    ConfigUpdate,
    /// Say how you are: every node renews its lease, and its statistics with it.
    HealthCheck,
}

impl Kind {
    /// Its name in events and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NodeStartup => "NODE_STARTUP",
            Self::NodeShutdown => "NODE_SHUTDOWN",
            Self::CacheInvalidate => "CACHE_INVALIDATE",
            Self::ConfigUpdate => "CONFIG_UPDATE",
            Self::HealthCheck => "HEALTH_CHECK",
        }
    }
}

/// A broadcast as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broadcast {
    /// What is told.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// By whom, for people.
    pub node: NodeName,
    /// By which boot of it.
    pub incarnation: Incarnation,
    /// When, by the sender's clock.
    pub time: Timestamp,
}

/// Tells all nodes, the own one left out.
///
/// # Errors
/// `Unavailable`; nothing needs to be done about it.
pub async fn publish(node: &Node, kind: Kind) -> Result<(), LogError> {
    let broadcast = Broadcast {
        kind,
        node: node.owner.node.clone(),
        incarnation: node.owner.incarnation,
        time: node.clock.wall(),
    };
    let text = serde_json::to_string(&broadcast).unwrap_or_default();
    let published = timeout(PATIENCE, node.bus.publish(Target::All, BusEvent::Broadcast(text)));
    let outcome = published.await.unwrap_or(Err(LogError::Unavailable { retry: PATIENCE }));
    node.metrics.broadcast_sent(kind, outcome.is_ok());
    outcome
}

/// As [`publish`], where nobody waits for the outcome.
pub async fn tell(node: &Node, kind: Kind) {
    if let Err(error) = publish(node, kind).await {
        tracing::debug!(node = %node.owner.node, kind = kind.as_str(), %error, "not told");
    }
}

/// Does what a broadcast asks for. One of a kind that this version does not know asks for nothing.
pub(crate) fn heed(node: &Node, text: &str) {
    let Ok(broadcast) = serde_json::from_str::<Broadcast>(text) else {
        tracing::debug!(node = %node.owner.node, "a broadcast of another version");
        return;
    };
    if broadcast.incarnation == node.owner.incarnation {
        return;
    }
    let kind = broadcast.kind;
    node.metrics.broadcast_received(kind);
    tracing::info!(
        node = %node.owner.node, from = %broadcast.node, at = %broadcast.time,
        kind = kind.as_str(), "broadcast",
    );
    match kind {
        Kind::NodeShutdown => node.streams.look.notify_one(),
        Kind::HealthCheck => node.speak.notify_one(),
        Kind::CacheInvalidate => node.log.clear_cache(),
        Kind::NodeStartup | Kind::ConfigUpdate => {}
    }
}
