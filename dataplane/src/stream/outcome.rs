//! How a stream ends, as the terminal record says it. Pure.

use crate::upstream::UpstreamError;
use jiff::Timestamp;
use protocol::{ErrorCode, Seal, SealStatus, Usage};
use streamlog::Opening;

/// Why a producer stops with a seal.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The provider finished, or a limit of length was reached.
    Completed {
        /// `stop`, `length`, …
        reason: String,
        /// The model that answered; `None`: the one that was asked for.
        model: Option<String>,
        /// Tokens; `None`: the provider did not say.
        usage: Option<Usage>,
    },
    /// Somebody cancelled it, or nobody followed it any more.
    Cancelled,
    /// It failed.
    Failed(ErrorCode),
}

impl From<&UpstreamError> for Outcome {
    fn from(error: &UpstreamError) -> Self {
        Self::Failed(match error {
            UpstreamError::Unavailable(_) => ErrorCode::UpstreamUnavailable,
            UpstreamError::Refused(_) => ErrorCode::UpstreamError,
        })
    }
}

impl Outcome {
    /// A limit of length was reached.
    pub fn length() -> Self {
        Self::Completed { reason: "length".to_owned(), model: None, usage: None }
    }

    /// The terminal record. `first_chunk` is when the first chunk was appended.
    pub fn seal(
        self,
        opening: &Opening,
        chunks: u64,
        first_chunk: Option<Timestamp>,
        now: Timestamp,
    ) -> Seal {
        let asked = opening.options.model.clone().unwrap_or_default();
        let counted = Usage { prompt_tokens: 0, completion_tokens: chunks };
        let since = |at: Timestamp| at.duration_since(opening.started_at).as_millis().max(0) as u64;
        let (status, finish_reason, model, usage, code) = match self {
            Self::Completed { reason, model, usage } => {
                (SealStatus::Completed, reason, model, usage, None)
            }
            Self::Cancelled => (SealStatus::Cancelled, "cancelled".to_owned(), None, None, None),
            Self::Failed(code) => (SealStatus::Failed, "error".to_owned(), None, None, Some(code)),
        };
        Seal {
            status,
            finish_reason,
            model: model.unwrap_or(asked),
            usage: usage.unwrap_or(counted),
            latency_ms: since(now),
            first_token_ms: first_chunk.map(since),
            code,
        }
    }
}
