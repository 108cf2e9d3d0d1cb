//! The terminal record of a stream.

use crate::code::ErrorCode;
use serde::{Deserialize, Serialize};

/// How a stream ended.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SealStatus {
    /// The provider finished, or a limit of length was reached.
    Completed,
    /// It failed, timeouts included; `code` says why.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
}

/// Tokens as the provider counted them.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Of the request.
    pub prompt_tokens: u64,
    /// Of the answer.
    pub completion_tokens: u64,
}

/// What the owner or the reaper wrote last. Totals and digest are the log's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seal {
    /// How it ended.
    pub status: SealStatus,
    /// `stop`, `length`, `tool_use`, `content_filter`, `cancelled` or `error`.
    pub finish_reason: String,
    /// The model that answered.
    pub model: String,
    /// Tokens.
    pub usage: Usage,
    /// From acceptance to the seal, in milliseconds.
    pub latency_ms: u64,
    /// From acceptance to the first chunk, in milliseconds; `None` where there was none.
    pub first_token_ms: Option<u64>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<ErrorCode>,
}
