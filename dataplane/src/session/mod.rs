//! A session: the pure machine that decides what a socket is told. No I/O, no clock, no `async`.
//!
//! ```text
//!  client's frame ─┐                        ┌─▶ Send, SendBatch, Ping, Close   (to the client)
//!  follower's event ├─▶ Session::handle ────┤
//!  answer of a job ─┘   (one at a time)     └─▶ Accept, Cancel, Follow, Verify (to the node)
//! ```
//! Here: what goes in and what comes out. [`machine`] decides, [`follow`] knows one followed message
//! and the two dialects, [`abuse`] counts bad frames.

pub mod abuse;
pub mod follow;
pub mod machine;

use crate::admit::Identity;
use crate::stream::Refusal;
use jiff::Timestamp;
use protocol::server_frame::{Accepted, StreamState};
use protocol::{ChatRequest, CloseCode, ErrorCode, MessageId, NodeName, ServerFrame, Settings};
use streamlog::{Cursor, Event, FollowError, Slice};

pub use machine::Session;

/// The moment of an input.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Milliseconds of a monotonic clock.
    pub mono_ms: u64,
    /// Wall time: tokens end by it, frames carry it.
    pub wall: Timestamp,
}

/// One follow of one message on one socket. A new follow of the same message has a new id, so that
/// whatever is still on its way from the old one is recognised and dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FollowId(pub u32);

/// What the node tells a socket's task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// GOAWAY with this socket's own slot (v1; basic sockets ignore it until they are closed).
    Goaway {
        /// `drain` or `rebalance`.
        reason: &'static str,
        /// When it is closed, from now.
        deadline_ms: u64,
        /// Its slot, from now.
        reconnect_after_ms: u64,
    },
    /// Close with this code (basic: 1012 in place of 4000 and 4002).
    Close(CloseCode),
}

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// The socket is open.
    Opened,
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary,
    /// A ping or a pong.
    Seen,
    /// A follower spoke.
    Event {
        /// Which.
        follow: FollowId,
        /// What it said.
        event: Result<Event, FollowError>,
    },
    /// Answer to [`Output::Accept`].
    Accepted(Result<Accepted, Refusal>),
    /// Answer to [`Output::Cancel`].
    Cancelled {
        /// Which message it was; `None`: the session has no live one.
        message: Option<MessageId>,
        /// How it went.
        result: Result<StreamState, Refusal>,
    },
    /// Answer to [`Output::Verify`].
    Authenticated(Result<Identity, ErrorCode>),
    /// Answer to [`Output::ReadContent`].
    Content {
        /// For which follow.
        follow: FollowId,
        /// The whole text.
        text: Result<String, FollowError>,
    },
    /// The node has something to say.
    Control(Control),
    /// Time passed: at or after [`Session::due_ms`].
    Tick,
}

/// What is to be done, in this order.
#[derive(Debug)]
pub enum Output {
    /// Send a frame. The resume tokens in WELCOME and GOAWAY are left empty: whoever holds the key
    /// fills them in.
    Send(Box<ServerFrame>),
    /// Send chunks.
    SendBatch {
        /// Of which message.
        message: MessageId,
        /// Which.
        slice: Slice,
    },
    /// Ask the node to accept a request; answered by [`Input::Accepted`].
    Accept(Box<ChatRequest>),
    /// Ask the node to cancel; `None`: the session's newest live one, which this socket does not
    /// know. Answered by [`Input::Cancelled`].
    Cancel(Option<MessageId>),
    /// Start a follower; answered by [`Input::Event`]s.
    Follow {
        /// Its id.
        follow: FollowId,
        /// What to follow.
        message: MessageId,
        /// From where.
        cursor: Cursor,
    },
    /// Drop a follower, ended or not.
    Unfollow(FollowId),
    /// Read the whole text of a sealed message; answered by [`Input::Content`].
    ReadContent {
        /// For which follow.
        follow: FollowId,
        /// Which message.
        message: MessageId,
    },
    /// Check a token; answered by [`Input::Authenticated`] before anything else.
    Verify(String),
    /// Send a WebSocket ping.
    Ping,
    /// Close. Nothing follows.
    Close(CloseCode),
}

/// What all sessions of a node have in common.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The node's name.
    pub node: NodeName,
    /// Announced interval of HEARTBEAT.
    pub heartbeat_ms: u64,
    /// The coalescing window.
    pub coalesce_ms: u64,
    /// Without any frame for this long: 1001.
    pub idle_ms: u64,
    /// Silence after which followers are told `waiting`.
    pub waiting_ms: u64,
    /// Clock difference allowed at `exp`.
    pub leeway_ms: u64,
    /// Messages followed on one socket.
    pub follows: usize,
}

impl Rules {
    /// From a node's settings.
    pub fn new(node: NodeName, settings: &Settings) -> Self {
        Self {
            node,
            heartbeat_ms: settings.socket.heartbeat_ms,
            coalesce_ms: settings.stream.coalesce_ms,
            idle_ms: settings.socket.idle_ms,
            waiting_ms: settings.stream.waiting_ms,
            leeway_ms: settings.auth.leeway_ms,
            follows: settings.limits.follows_per_socket,
        }
    }
}

#[cfg(test)]
mod tests;
