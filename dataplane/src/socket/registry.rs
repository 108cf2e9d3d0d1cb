//! The sockets of a node: who is here, what they follow, and a way to tell them something.

use protocol::{CloseCode, SessionId, UserId};
use std::sync::Arc;

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
    /// Close with this code (basic: 1012 in place of 4000).
    Close(CloseCode),
}

/// One open socket.
pub struct SocketHandle {
    /// Its session.
    pub session: SessionId,
    /// Whose.
    pub user: UserId,
}

impl SocketHandle {
    /// Live answers it follows.
    pub fn live_follows(&self) -> usize {
        0
    }

    /// Whether it speaks v1.
    pub fn understands_goaway(&self) -> bool {
        true
    }

    /// Tells its task something, soon.
    pub fn tell(&self, control: Control) {
        let _ = control;
    }
}

/// The sockets of a node.
#[derive(Default)]
pub struct Sockets {}

impl Sockets {
    /// How many.
    pub fn len(&self) -> usize {
        0
    }

    /// Whether none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<SocketHandle>> {
        Vec::new()
    }
}
