//! What a session tells its owner, and what it lets an observer see.

use crate::transcript::SocketNo;
use protocol::server_frame::{
    Accepted, Complete, ErrorData, Goaway, Recovery, Reset, ServerFrame, Status, Takeover,
    WireChunk,
};
use protocol::{Epoch, Index, MessageId, RequestId};
use std::time::Duration;

/// One thing that happened. Chunks come exactly once each, in order, whatever the sockets did.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A socket is open and welcomed.
    Connected {
        /// The node's name.
        node: String,
        /// Its base URL.
        url: String,
        /// From the start of dialling to WELCOME.
        took: Duration,
    },
    /// The request is in the log.
    Accepted(Accepted),
    /// New chunks, consecutive, of one epoch.
    Chunks {
        /// The answer.
        message_id: MessageId,
        /// Position of the first.
        index: Index,
        /// Under which they were appended.
        epoch: Epoch,
        /// The chunks.
        chunks: Vec<WireChunk>,
    },
    /// What a RECONNECT found.
    Recovered(Recovery),
    /// Forget the indexes ≥ `truncateTo`.
    Reset(Reset),
    /// Another node goes on.
    Takeover(Takeover),
    /// State of an answer.
    Status(Status),
    /// The server skipped chunks; the session asks for them again.
    Gap {
        /// The answer.
        message_id: MessageId,
        /// The index that should have come.
        expected: Index,
        /// The index that came.
        got: Index,
    },
    /// The node goes away; a new socket will be opened first.
    Goaway(Goaway),
    /// No socket now; the next try comes after `delay`.
    Reconnecting {
        /// Failures in a row.
        attempt: u32,
        /// Until the next try.
        delay: Duration,
        /// What broke.
        why: String,
    },
    /// The answer has its seal.
    Complete(Complete),
    /// A request or a follow ended without one; trying again would not help.
    Failed(ErrorData),
    /// A refusal that ended nothing, or that is tried again.
    Warning(ErrorData),
    /// The session is over.
    Stopped(Stop),
}

/// Why a session gave up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// No node could be reached for the configured time.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// The token is refused.
    #[error("not authenticated: {0}; get a token with `chatctl token`")]
    Unauthenticated(String),
    /// A close code or refusal that must not be retried.
    #[error("the server ended the session: {0}")]
    Refused(String),
}

/// Sees every frame and every question of a session in order, before the session acts on it.
/// All methods do nothing by default.
pub trait Observer {
    /// RECONNECT was sent.
    fn on_follow(&mut self, _socket: SocketNo, _message: MessageId, _from: Index) {}
    /// UNFOLLOW was sent.
    fn on_unfollow(&mut self, _socket: SocketNo, _message: MessageId) {}
    /// CHAT_REQUEST was sent.
    fn on_request(&mut self, _socket: SocketNo, _request: &RequestId) {}
    /// A frame came.
    fn on_frame(&mut self, _socket: SocketNo, _frame: &ServerFrame) {}
    /// Something came that is no frame.
    fn on_broken(&mut self, _problem: &str) {}
    /// The socket is gone.
    fn on_closed(&mut self, _socket: SocketNo) {}
}

impl Observer for () {}
