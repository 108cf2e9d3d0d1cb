//! Bodies of the HTTP interface.

use crate::chunk::Digest;
use crate::code::ErrorCode;
use crate::id::{ConversationId, Epoch, Index, MessageId, SessionId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// RFC 9457 problem details, extended by `code`, `retryable` and `retryAfterMs`.
///
/// ```
/// use protocol::{ErrorCode, http::Problem};
/// let body = serde_json::to_value(Problem::new(ErrorCode::NotFound)).unwrap();
/// assert_eq!(body["status"], 404);
/// assert_eq!(body["code"], "NOT_FOUND");
/// assert_eq!(body["type"], "urn:chatcluster:error:NOT_FOUND");
/// ```
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// A stable name of the kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code's text.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What exactly, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The code.
    pub code: ErrorCode,
    /// Whether the same may succeed later.
    pub retryable: bool,
    /// When, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl Problem {
    /// A problem with the code's own text.
    pub fn new(code: ErrorCode) -> Self {
        Self {
            kind: format!("urn:chatcluster:error:{code}"),
            title: code.text().to_owned(),
            status: code.http_status(),
            detail: None,
            code,
            retryable: code.retryable(),
            retry_after_ms: None,
        }
    }
}

/// `POST /api/v1/tickets`.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ticket {
    /// Single use: `?ticket=`.
    pub ticket: String,
    /// 30 s from now.
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub expires_at: Timestamp,
}

/// State of a message.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum MessageStatus {
    Pending,
    Streaming,
    Completed,
    Failed,
    Cancelled,
}

/// `GET /api/v1/messages/{id}`.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageView {
    /// The message.
    pub message_id: MessageId,
    /// Its conversation.
    pub conversation_id: ConversationId,
    /// `assistant` (users' messages come with the database).
    pub role: String,
    /// Its state.
    pub status: MessageStatus,
    /// TEXT and CODE chunks in order.
    pub content: String,
    /// Chunks in the log so far.
    pub total_chunks: Index,
    /// Of the log so far.
    pub digest: Digest,
    /// The current epoch.
    pub epoch: Epoch,
}

/// One of `GET /api/v1/sessions`.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionView {
    /// The session.
    pub session_id: SessionId,
    /// The node that holds its socket.
    pub node: String,
    /// Since when.
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub connected_at: Timestamp,
}
