//! The playground's `/dev` interface (protocol section 7), for scripts.

use crate::id::{Epoch, Index, MessageId, RequestId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// State of a playground node: the drain phases, and what `/dev` can do to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // See DrainPhase.
pub enum NodePhase {
    Serving,
    Refusing,
    HandingOver,
    Flushing,
    Done,
    /// Killed.
    Dead,
    /// Frozen.
    Paused,
}

/// One of `GET /dev/nodes`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DevNode {
    /// Its name.
    pub name: String,
    /// `http://host:port`.
    pub base_url: String,
    /// `ws://host:port/ws/chat`, without a query.
    pub ws_url: String,
    /// `http://host:port` of the admin port.
    pub admin_url: String,
    /// Its state.
    pub phase: NodePhase,
    /// Open sockets.
    pub sessions: usize,
    /// Live streams it owns.
    pub streams: usize,
}

/// `POST /dev/nodes/{name}/pause`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// How long, in milliseconds.
    pub ms: u64,
}

/// One of `GET /dev/upstream/calls`: what the provider was asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamCall {
    /// For which answer.
    pub message_id: MessageId,
    /// Under which epoch.
    pub epoch: Epoch,
    /// The client's request id.
    pub request_id: Option<RequestId>,
    /// By which node.
    pub node: String,
    /// First chunk asked for.
    pub from: Index,
    /// Chunks handed out.
    pub chunks: u64,
    /// When it began.
    pub started_at: Timestamp,
    /// `stop`, `length`, `tool_use`, `content_filter`, `error`, `dropped`; `null` while it runs.
    pub end: Option<String>,
}

/// `GET /dev/token?user=`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevToken {
    /// A JWT.
    pub token: String,
}
