//! The AI provider behind one trait. A call yields events until it ends or breaks; whoever owns the
//! stream turns them into chunks of the log.
//!
//! ```text
//!  Ask ─▶ calls ─▶ simulated                                             ─▶ Events
//!                  providers ─▶ provider ─▶ HTTP ─▶ call ─▶ openai    ─▶ answer ─▶ fences
//!                  failover     limiter     SSE             anthropic    chunks    code
//!                               breaker
//! ```
//! Reading order: [`simulated`] → [`providers`] → `provider` → `call` → `openai`, `anthropic` →
//! `answer` → [`fences`] → [`seam`] → `failure` → [`breaker`] → `health` → `limiter` → [`calls`] →
//! [`compose`].

mod alike;
mod answer;
mod anthropic;
pub mod breaker;
mod call;
pub mod calls;
pub mod compose;
mod failure;
pub mod fences;
mod health;
pub mod keys;
mod limiter;
mod openai;
pub mod prompt;
mod provider;
pub mod providers;
pub mod seam;
pub mod simulated;
mod text;

pub use breaker::BreakerState;
pub use call::MAX_EVENT_BYTES;
pub use health::ProviderStatistics;
pub use keys::ProviderKeys;

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

    /// From what it can go on, for a request like this.
    fn continues(&self, opening: &Opening) -> Continues;

    /// Whether other tasks of the node read its connections, a piece at a time and only when asked: a
    /// call that has nothing ready may then have more as soon as those had a turn.
    fn is_fed(&self) -> bool {
        false
    }

    /// How its providers do, for whoever tells statistics; none where there is nothing to tell.
    fn statistics(&self) -> Vec<ProviderStatistics> {
        Vec::new()
    }
}

/// From what a provider can go on that another owner asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continues {
    /// From nothing: a takeover begins again.
    Never,
    /// From text and code, not from thoughts, sources or tool calls.
    PlainText,
    /// From any beginning of its own answer.
    Anything,
}
