//! ERROR: what was refused or failed, and what the client may do about it.

use super::RecoveryStatus;
use crate::code::ErrorCode;
use crate::id::{MessageId, RequestId};
use serde::{Deserialize, Serialize};

/// Something was refused or failed.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorData {
    /// Human text; stands at the envelope's top level.
    #[serde(skip)]
    pub error: String,
    /// Why.
    pub code: ErrorCode,
    /// Whether the same may succeed later.
    pub retryable: bool,
    /// When, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The request it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    /// The message it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<MessageId>,
    /// `true`: this ends the follow of `message_id`, and only that.
    #[serde(rename = "final", default, skip_serializing_if = "std::ops::Not::not")]
    pub last: bool,
    /// A failed recovery, in basic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<RecoveryStatus>,
    /// A failed recovery, in basic: whether RECONNECT may help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub should_reconnect: Option<bool>,
}

impl ErrorData {
    /// A plain refusal with the code's own text.
    pub fn new(code: ErrorCode) -> Self {
        Self {
            error: code.text().to_owned(),
            code,
            retryable: code.retryable(),
            retry_after_ms: None,
            request_id: None,
            message_id: None,
            last: false,
            status: None,
            should_reconnect: None,
        }
    }

    /// The final error of one follow.
    pub fn last(code: ErrorCode, message_id: MessageId) -> Self {
        Self { message_id: Some(message_id), last: true, ..Self::new(code) }
    }
}
