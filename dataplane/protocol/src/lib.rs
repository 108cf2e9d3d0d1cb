//! What two ChatCluster processes must agree on, and nothing else: ids, chunks, frames, codes,
//! the bodies of the HTTP and `/dev` interfaces, [`Settings`] and [`DrainReport`].
//!
//! No I/O, no clock, no async: times come in as arguments. `docs/protocol.md` is the normative
//! text; every frame here carries its JSON as an executable example. Reading order:
//! [`id`] → [`chunk`] → [`code`] → [`client_frame`] → [`server_frame`] → [`seal`] → [`http`] →
//! [`drain`] → [`settings`] → [`dev`] → [`sim`].

pub mod chunk;
pub mod client_frame;
pub mod code;
pub mod dev;
pub mod drain;
pub mod hot;
pub mod http;
pub mod id;
pub mod seal;
pub mod server_frame;
pub mod settings;
pub mod sim;

pub use chunk::{Chunk, ChunkType, Digest};
pub use client_frame::{ChatOptions, ChatRequest, ClientFrame, OnDisconnect, Reconnect};
pub use code::{CloseCode, ErrorCode};
pub use drain::{DrainPhase, DrainReport};
pub use id::{
    ConversationId, Epoch, Incarnation, Index, MessageId, NodeName, RequestId, SessionId, UserId,
};
pub use seal::{Seal, SealStatus, Usage};
pub use server_frame::{Dialect, ServerFrame};
pub use settings::Settings;

/// The WebSocket subprotocol of dialect v1.
pub const SUBPROTOCOL: &str = "chatcluster.v1";
/// Largest text message a client may send, in bytes; a larger one closes 1009.
pub const MAX_FRAME_BYTES: usize = 256 * 1024;
/// Longest `content` of a request, in characters after trimming.
pub const MAX_CONTENT_CHARS: usize = 10_000;
