//! Frames the server sends. Chunks, with their fast encoder, are in `chunks`, ERROR is in `error`.
//!
//! Envelope: `{"type":T,"timestamp":"…","data":{…}}`; ERROR also has `"error":"human text"`.

use crate::chunk::Digest;
use crate::code::ErrorCode;
use crate::id::{ConversationId, Epoch, Index, MessageId, RequestId, SessionId, UserId};
use crate::seal::{Seal, SealStatus};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

mod chunks;
mod error;

pub use chunks::{ChunkData, ChunksData, WireChunk};
pub use error::ErrorData;

/// What a client understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// The original design: WELCOME, CHUNK, COMPLETE, ERROR, HEARTBEAT_ACK only.
    Basic,
    /// Subprotocol `chatcluster.v1`: all frames.
    V1,
}

/// Everything the server may say.
///
/// ```
/// use protocol::server_frame::{HeartbeatAck, ServerFrame};
/// let frame = ServerFrame::HeartbeatAck(HeartbeatAck { t: Some(7.into()) });
/// let text = frame.encode("2026-01-01T00:00:00Z".parse().unwrap());
/// assert_eq!(text, r#"{"type":"HEARTBEAT_ACK","timestamp":"2026-01-01T00:00:00Z","data":{"t":7}}"#);
/// assert_eq!(ServerFrame::parse(&text).unwrap().0, frame);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // Each variant is named after its frame; the bodies are documented.
pub enum ServerFrame {
    Welcome(Welcome),
    Accepted(Accepted),
    Chunk(ChunkData),
    Chunks(ChunksData),
    Complete(Complete),
    Recovery(Recovery),
    Reset(Reset),
    Takeover(Takeover),
    Status(Status),
    Goaway(Goaway),
    TokenExpiring(TokenExpiring),
    HeartbeatAck(HeartbeatAck),
    Error(ErrorData),
}

/// First frame of a socket, and the answer to AUTH. v1 gets all fields.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Welcome {
    /// The session.
    pub session_id: SessionId,
    /// The token's `sub`.
    pub user_id: UserId,
    /// The node's clock.
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub server_time: Timestamp,
    /// What only v1 gets.
    #[cfg_attr(feature = "schema", schema(ignore))]
    #[serde(flatten)]
    pub v1: Option<WelcomeV1>,
}

/// The v1 part of [`Welcome`].
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WelcomeV1 {
    /// `chatcluster.v1`.
    pub protocol: String,
    /// The node's name.
    pub node: String,
    /// How often to send HEARTBEAT, in milliseconds.
    pub heartbeat_ms: u64,
    /// Longest request content, in characters.
    pub max_content_chars: usize,
    /// The coalescing window, in milliseconds.
    pub coalesce_ms: u64,
    /// When the token ends.
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub token_expires_at: Timestamp,
    /// Offer it as `resume.<token>` when reconnecting.
    pub resume_token: String,
}

/// Request and stream are in the log; precedes the first chunk.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Accepted {
    /// The client's own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    /// The conversation.
    pub conversation_id: ConversationId,
    /// The user's message.
    pub user_message_id: MessageId,
    /// The answer: its stream.
    pub message_id: MessageId,
    /// The request id was known: this is the first one's answer.
    pub duplicate: bool,
}

/// The seal, whatever it says.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Complete {
    /// The answer.
    pub message_id: MessageId,
    /// Its conversation.
    pub conversation_id: ConversationId,
    /// How it ended.
    pub status: SealStatus,
    /// Chunks in the log.
    pub total_chunks: Index,
    /// Of the whole log.
    pub digest: Digest,
    /// Why it ended.
    pub finish_reason: String,
    /// The model that answered.
    pub model: String,
    /// Tokens.
    pub usage: crate::seal::Usage,
    /// From acceptance to the seal.
    pub latency_ms: u64,
    /// From acceptance to the first chunk.
    pub first_token_ms: Option<u64>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<ErrorCode>,
    /// Of a failure: ask again with a new request id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
    /// The whole text (basic only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

impl Complete {
    /// The frame of a seal.
    pub fn new(
        message_id: MessageId,
        conversation_id: ConversationId,
        total_chunks: Index,
        digest: Digest,
        seal: &Seal,
    ) -> Self {
        Self {
            message_id,
            conversation_id,
            status: seal.status,
            total_chunks,
            digest,
            finish_reason: seal.finish_reason.clone(),
            model: seal.model.clone(),
            usage: seal.usage,
            latency_ms: seal.latency_ms,
            first_token_ms: seal.first_token_ms,
            code: seal.code,
            retryable: seal.code.map(ErrorCode::retryable),
            content: None,
        }
    }
}

/// What a RECONNECT found.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)] // Named in docs/protocol.md, section 4.
pub enum RecoveryStatus {
    Recovered,
    Completed,
    NotFound,
    Expired,
    Error,
}

/// Where a recovery was read.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Source {
    Memory,
    Cache,
    Database,
}

/// Precedes what it announces; after NOT_FOUND, EXPIRED and ERROR the ERROR frame follows at once.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recovery {
    /// The message.
    pub message_id: MessageId,
    /// What was found.
    pub status: RecoveryStatus,
    /// First index sent.
    pub from: Index,
    /// First unwritten index.
    pub tail: Index,
    /// The current epoch.
    pub epoch: Epoch,
    /// Whether it still grows.
    pub live: bool,
    /// Of the log before `from`.
    pub digest: Digest,
    /// Where it was read.
    pub source: Source,
}

/// Why chunks became void.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ResetReason {
    /// The store lost them.
    RolledBack,
    /// A takeover started over.
    Restarted,
}

/// Indexes ≥ `truncateTo` are void; chunks follow from there.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reset {
    /// The answer.
    pub message_id: MessageId,
    /// Why.
    pub reason: ResetReason,
    /// First void index.
    pub truncate_to: Index,
    /// The current epoch.
    pub epoch: Epoch,
}

/// What happens to the text when a stream changes its owner.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // Named in docs/protocol.md, section 4.
pub enum TakeoverMode {
    Finish,
    ProviderResume,
    Continue,
    Restart,
    Fail,
}

/// Another node owns the stream now. Told live, not replayed; before a RESET.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Takeover {
    /// The answer.
    pub message_id: MessageId,
    /// The new epoch.
    pub epoch: Epoch,
    /// First index of the new owner.
    pub from: Index,
    /// How it goes on.
    pub mode: TakeoverMode,
}

/// State of a followed answer.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamState {
    /// The upstream is silent; every 10 s of silence.
    Waiting,
    /// The log is away: nothing is lost, it goes on by itself.
    Paused,
    /// It goes on.
    Live,
    /// Answer to CANCEL_STREAM: the flag is set.
    Cancelling,
    /// Answer to CANCEL_STREAM: it had ended.
    Sealed,
}

/// See [`StreamState`].
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The answer.
    pub message_id: MessageId,
    /// Its state.
    pub state: StreamState,
    /// Of `paused`: STORE_UNAVAILABLE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<ErrorCode>,
}

/// Keep reading, open a new socket after `reconnectAfterMs`, RECONNECT there, then close this one.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Goaway {
    /// `drain` or `rebalance`.
    pub reason: String,
    /// When this socket is closed, in milliseconds from now.
    pub deadline_ms: u64,
    /// This client's own slot, in milliseconds from now.
    pub reconnect_after_ms: u64,
    /// Offer it as `resume.<token>`.
    pub resume_token: String,
}

/// The token ends in 60 s.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenExpiring {
    /// When.
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub expires_at: Timestamp,
}

/// Answer to HEARTBEAT, at once.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HeartbeatAck {
    /// As it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub t: Option<Value>,
}

#[derive(Deserialize)]
struct RawEnvelope<'a> {
    #[serde(rename = "type")]
    kind: std::borrow::Cow<'a, str>,
    timestamp: Timestamp,
    #[serde(default)]
    error: Option<String>,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Schemas by name, as the generator of documents collects them.
#[cfg(feature = "schema")]
pub type NamedSchemas = Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::schema::Schema>)>;

/// One table for both directions: the frame's name on the wire, its variant and its body.
macro_rules! frames {
    ($($name:literal => $variant:ident($body:ty)),+ $(,)?) => {
        impl ServerFrame {
            /// The name on the wire.
            pub const fn kind(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name),+ }
            }

            /// Adds the schemas of all bodies; returns each frame's name with that of its body's schema.
            #[cfg(feature = "schema")]
            pub fn schemas(into: &mut NamedSchemas) -> Vec<(&'static str, String)> {
                vec![$({
                    <$body as utoipa::ToSchema>::schemas(into);
                    let name = <$body as utoipa::ToSchema>::name().to_string();
                    into.push((name.clone(), <$body as utoipa::PartialSchema>::schema()));
                    ($name, name)
                }),+]
            }

            fn write_data(&self, out: &mut Vec<u8>) -> serde_json::Result<()> {
                match self { $(Self::$variant(body) => serde_json::to_writer(out, body)),+ }
            }

            fn from_raw(kind: &str, data: &RawValue) -> serde_json::Result<Option<Self>> {
                Ok(Some(match kind {
                    $($name => Self::$variant(serde_json::from_str(data.get())?),)+
                    _ => return Ok(None),
                }))
            }
        }
    };
}

frames! {
    "WELCOME" => Welcome(Welcome),
    "ACCEPTED" => Accepted(Accepted),
    "CHUNK" => Chunk(ChunkData),
    "CHUNKS" => Chunks(ChunksData),
    "COMPLETE" => Complete(Complete),
    "RECOVERY" => Recovery(Recovery),
    "RESET" => Reset(Reset),
    "TAKEOVER" => Takeover(Takeover),
    "STATUS" => Status(Status),
    "GOAWAY" => Goaway(Goaway),
    "TOKEN_EXPIRING" => TokenExpiring(TokenExpiring),
    "HEARTBEAT_ACK" => HeartbeatAck(HeartbeatAck),
    "ERROR" => Error(ErrorData),
}

/// Appends formatted text.
fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing into a Vec cannot fail.
    let _ = std::io::Write::write_fmt(out, text);
}

/// Why a server's message could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// No JSON, or not the shape of its type.
    #[error("not a frame of this protocol: {0}")]
    Shape(#[from] serde_json::Error),
    /// A type this version does not know; ignore it.
    #[error("unknown frame type {0}")]
    UnknownType(String),
}

impl ServerFrame {
    /// The whole text message.
    pub fn encode(&self, at: Timestamp) -> String {
        let mut out = Vec::with_capacity(256);
        put(&mut out, format_args!("{{\"type\":\"{}\",\"timestamp\":\"{at}\",", self.kind()));
        if let Self::Error(error) = self {
            out.extend_from_slice(b"\"error\":");
            let _ = serde_json::to_writer(&mut out, &error.error);
            out.push(b',');
        }
        out.extend_from_slice(b"\"data\":");
        // The bodies are maps with text keys, so this cannot fail.
        let _ = self.write_data(&mut out);
        out.push(b'}');
        String::from_utf8(out).unwrap_or_default()
    }

    /// Reads one text message of a server.
    ///
    /// # Errors
    /// [`ParseError::UnknownType`] is to be ignored by clients, the other is a broken server.
    pub fn parse(text: &str) -> Result<(Self, Timestamp), ParseError> {
        let raw: RawEnvelope<'_> = serde_json::from_str(text)?;
        let frame = Self::from_raw(&raw.kind, raw.data)?;
        let mut frame = frame.ok_or_else(|| ParseError::UnknownType(raw.kind.into_owned()))?;
        if let Self::Error(body) = &mut frame {
            body.error = raw.error.unwrap_or_default();
        }
        Ok((frame, raw.timestamp))
    }
}
