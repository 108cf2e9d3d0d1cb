//! The AI provider behind one trait. A call yields events until it ends or breaks; whoever owns the
//! stream turns them into chunks of the log.

pub mod calls;
pub mod simulated;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use protocol::{Chunk, Epoch, Index, Usage};
use std::sync::Arc;
use streamlog::Opening;

/// One call of the provider.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The whole request.
    pub opening: Arc<Opening>,
    /// Epoch of the owner that asks.
    pub epoch: Epoch,
    /// First chunk wanted: 0, or where a takeover continues.
    pub from: Index,
    /// The chunks before `from`.
    pub prefix: Vec<Chunk>,
}

/// What a provider sends.
#[derive(Clone, Debug, PartialEq)]
pub enum UpstreamEvent {
    /// Text; may be longer than a chunk may be.
    Chunk(Chunk),
    /// The regular end; nothing follows.
    Finished {
        /// `stop`, `length`, `tool_use` or `content_filter`.
        reason: String,
        /// The model that answered.
        model: String,
        /// Tokens.
        usage: Usage,
    },
}

/// Why a call failed. The text goes to the log, never to a user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// Not reached, overloaded, or broken off: UPSTREAM_UNAVAILABLE.
    #[error("the provider is unavailable: {0}")]
    Unavailable(String),
    /// It refused the request: UPSTREAM_ERROR.
    #[error("the provider refused: {0}")]
    Refused(String),
}

/// Events of one call.
pub type Events = BoxStream<'static, Result<UpstreamEvent, UpstreamError>>;

/// An AI provider. Dropping the events ends the call.
#[async_trait]
pub trait Upstream: Send + Sync + 'static {
    /// Starts a call.
    ///
    /// # Errors
    /// [`UpstreamError`] where it could not be started.
    async fn call(&self, ask: Ask) -> Result<Events, UpstreamError>;

    /// Whether it can go on from a prefix of its own answer.
    fn can_continue(&self) -> bool;
}
