//! From a request to a stream in the log.

use crate::node::Node;
use protocol::server_frame::{Accepted, StreamState};
use protocol::{ChatRequest, ErrorCode, MessageId, UserId};
use std::sync::Arc;
use std::time::Duration;

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The code.
    pub code: ErrorCode,
    /// When to try again.
    pub retry_after: Option<Duration>,
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self { code, retry_after: None }
    }
}

impl Node {
    /// Accepts a request: when this returns, request and stream are in the log. The caller follows
    /// `message_id` from 0. A known request id starts nothing.
    ///
    /// # Errors
    /// RATE_LIMITED, AT_CAPACITY, DRAINING, NOT_FOUND (conversation), STORE_UNAVAILABLE.
    pub async fn accept(
        self: &Arc<Self>,
        user: &UserId,
        request: ChatRequest,
    ) -> Result<Accepted, Refusal> {
        let _ = (user, request);
        Err(ErrorCode::Internal.into())
    }

    /// Asks the owner of a message, wherever it is, to stop: `Cancelling`, or `Sealed` if it had
    /// ended. Idempotent.
    ///
    /// # Errors
    /// NOT_FOUND (also: somebody else's), STORE_UNAVAILABLE.
    pub async fn cancel(&self, user: &UserId, message: MessageId) -> Result<StreamState, Refusal> {
        let _ = (user, message);
        Err(ErrorCode::NotFound.into())
    }
}
