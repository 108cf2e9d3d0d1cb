//! Frames a client sends. Fields stand at top level or under `data` (both accepted, top level
//! wins); unknown fields are ignored. [`ClientFrame::parse`] is the only way in.

use crate::chunk::Digest;
use crate::code::ErrorCode;
use crate::id::{ConversationId, Epoch, Index, MessageId, RequestId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;

/// Longest model name, in characters.
pub const MAX_MODEL_CHARS: usize = 128;
/// Longest token of an AUTH frame, in bytes.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// What a client may say.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientFrame {
    /// Start an answer and follow it.
    ChatRequest(ChatRequest),
    /// Follow a message from a position: resume, join, or read a finished one.
    Reconnect(Reconnect),
    /// Stop sending a message here.
    Unfollow {
        /// Which.
        message_id: MessageId,
    },
    /// Stop the answer.
    CancelStream {
        /// Which; absent: the session's newest live one.
        message_id: Option<MessageId>,
    },
    /// Reserved.
    ToolResult {
        /// Of which answer.
        message_id: MessageId,
    },
    /// Replace the token in place.
    Auth {
        /// The JWT.
        token: String,
    },
    /// I am here.
    Heartbeat {
        /// Echoed.
        t: Option<Value>,
    },
}

/// `CHAT_REQUEST`.
///
/// ```
/// use protocol::ClientFrame;
/// let text = r#"{"type":"CHAT_REQUEST","data":{"content":" hi ","options":{"temperature":0.5}}}"#;
/// let ClientFrame::ChatRequest(r) = ClientFrame::parse(text).unwrap() else { panic!() };
/// assert_eq!(r.content, "hi");
/// assert_eq!(r.options.temperature, Some(0.5));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ChatRequest {
    /// 1–10,000 characters, trimmed.
    pub content: String,
    /// Absent: a new conversation.
    pub conversation_id: Option<ConversationId>,
    /// Idempotency key of this user, 24 h.
    pub request_id: Option<RequestId>,
    /// What the model gets.
    pub options: ChatOptions,
    /// What happens when nobody follows.
    pub on_disconnect: OnDisconnect,
}

/// Options of a request.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChatOptions {
    /// Name of the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(min_length = 1, max_length = 128))]
    pub model: Option<String>,
    /// 0–2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(minimum = 0, maximum = 2))]
    pub temperature: Option<f64>,
    /// At least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(minimum = 1))]
    pub max_tokens: Option<u64>,
}

/// Whether an answer outlives its followers.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDisconnect {
    /// It goes on (default).
    #[default]
    Continue,
    /// It is cancelled when no socket on any node has followed it for 30 s.
    Cancel,
}

/// `RECONNECT`: follow `message_id` from `last_chunk_index` + 1.
///
/// ```
/// use protocol::{ClientFrame, Index};
/// let text = r#"{"type":"RECONNECT","messageId":"018f4d5e-0000-7000-8000-000000000001",
///                "lastChunkIndex":41,"epoch":1,"digest":"3af68992"}"#;
/// let ClientFrame::Reconnect(r) = ClientFrame::parse(text).unwrap() else { panic!() };
/// assert_eq!(r.from, Index(42));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Reconnect {
    /// Which message.
    pub message_id: MessageId,
    /// First index wanted: `lastChunkIndex` + 1, 0 for none.
    pub from: Index,
    /// Of the last chunk received.
    pub epoch: Option<Epoch>,
    /// Up to the last chunk received.
    pub digest: Option<Digest>,
}

/// A frame that was refused; the connection lives on.
#[derive(Clone, Debug, PartialEq)]
pub struct BadFrame {
    /// INVALID_JSON, UNKNOWN_TYPE or INVALID_MESSAGE.
    pub code: ErrorCode,
    /// The field at fault, for INVALID_MESSAGE.
    pub field: Option<&'static str>,
    /// The request it was about, where that could be read.
    pub request_id: Option<RequestId>,
}

impl fmt::Display for BadFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field {
            Some(field) => write!(f, "{}: {field}", self.code.text()),
            None => f.write_str(self.code.text()),
        }
    }
}
impl std::error::Error for BadFrame {}

impl ClientFrame {
    /// Reads one text message.
    ///
    /// # Errors
    /// INVALID_JSON for no JSON, UNKNOWN_TYPE for a `type` nobody knows, INVALID_MESSAGE with the
    /// field for everything else.
    ///
    /// ```
    /// use protocol::{ClientFrame, ErrorCode};
    /// assert_eq!(ClientFrame::parse("{").unwrap_err().code, ErrorCode::InvalidJson);
    /// assert_eq!(ClientFrame::parse(r#"{"type":"X"}"#).unwrap_err().code, ErrorCode::UnknownType);
    /// let e = ClientFrame::parse(r#"{"type":"RECONNECT"}"#).unwrap_err();
    /// assert_eq!(e.to_string(), "Invalid message format: messageId");
    /// ```
    pub fn parse(text: &str) -> Result<Self, BadFrame> {
        let value: Value = serde_json::from_str(text).map_err(|_| BadFrame {
            code: ErrorCode::InvalidJson,
            field: None,
            request_id: None,
        })?;
        let Value::Object(top) = value else { return Err(invalid("type")) };
        let fields = Fields::new(&top)?;
        fields.frame().map_err(|mut bad| {
            bad.request_id = fields.text("requestId").ok().flatten().and_then(RequestId::parse);
            bad
        })
    }

    /// Reads a CHAT_REQUEST's fields from the body of an HTTP request.
    ///
    /// # Errors
    /// As [`ClientFrame::parse`].
    pub fn parse_request_body(body: &[u8]) -> Result<ChatRequest, BadFrame> {
        let value: Value = serde_json::from_slice(body).map_err(|_| BadFrame {
            code: ErrorCode::InvalidJson,
            field: None,
            request_id: None,
        })?;
        let Value::Object(top) = value else { return Err(invalid("content")) };
        Fields { top: &top, data: None }.chat_request()
    }
}

const fn invalid(field: &'static str) -> BadFrame {
    BadFrame { code: ErrorCode::InvalidMessage, field: Some(field), request_id: None }
}

/// The fields of one frame, wherever they stand. `null` counts as absent.
struct Fields<'a> {
    top: &'a Map<String, Value>,
    data: Option<&'a Map<String, Value>>,
}

impl<'a> Fields<'a> {
    fn new(top: &'a Map<String, Value>) -> Result<Self, BadFrame> {
        let data = match top.get("data") {
            None | Some(Value::Null) => None,
            Some(Value::Object(data)) => Some(data),
            Some(_) => return Err(invalid("data")),
        };
        Ok(Self { top, data })
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        let found = self.top.get(name).or_else(|| self.data.and_then(|data| data.get(name)));
        found.filter(|value| !value.is_null())
    }

    fn text(&self, name: &'static str) -> Result<Option<&'a str>, BadFrame> {
        self.get(name).map(|v| v.as_str().ok_or_else(|| invalid(name))).transpose()
    }

    fn parsed<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, BadFrame> {
        self.text(name)?.map(|text| parse(text).ok_or_else(|| invalid(name))).transpose()
    }

    fn message_id(&self) -> Result<MessageId, BadFrame> {
        self.parsed("messageId", MessageId::parse)?.ok_or_else(|| invalid("messageId"))
    }

    fn frame(&self) -> Result<ClientFrame, BadFrame> {
        // The type must stand at top level: it says how to read the rest.
        let kind = self.top.get("type").and_then(Value::as_str).ok_or_else(|| invalid("type"))?;
        match kind {
            "CHAT_REQUEST" => self.chat_request().map(ClientFrame::ChatRequest),
            "RECONNECT" => self.reconnect().map(ClientFrame::Reconnect),
            "UNFOLLOW" => Ok(ClientFrame::Unfollow { message_id: self.message_id()? }),
            "CANCEL_STREAM" => Ok(ClientFrame::CancelStream {
                message_id: self.parsed("messageId", MessageId::parse)?,
            }),
            "TOOL_RESULT" => self.tool_result(),
            "AUTH" => self.auth(),
            "HEARTBEAT" => Ok(ClientFrame::Heartbeat { t: self.get("t").cloned() }),
            _ => Err(BadFrame { code: ErrorCode::UnknownType, field: None, request_id: None }),
        }
    }

    fn chat_request(&self) -> Result<ChatRequest, BadFrame> {
        let content = self.text("content")?.ok_or_else(|| invalid("content"))?.trim();
        if content.is_empty() || content.chars().count() > crate::MAX_CONTENT_CHARS {
            return Err(invalid("content"));
        }
        Ok(ChatRequest {
            content: content.to_owned(),
            conversation_id: self.parsed("conversationId", ConversationId::parse)?,
            request_id: self.parsed("requestId", RequestId::parse)?,
            options: self.options()?,
            on_disconnect: self
                .parsed("onDisconnect", |text| match text {
                    "continue" => Some(OnDisconnect::Continue),
                    "cancel" => Some(OnDisconnect::Cancel),
                    _ => None,
                })?
                .unwrap_or_default(),
        })
    }

    fn options(&self) -> Result<ChatOptions, BadFrame> {
        let Some(value) = self.get("options") else { return Ok(ChatOptions::default()) };
        let Value::Object(map) = value else { return Err(invalid("options")) };
        let fields = Fields { top: map, data: None };
        let model = fields.text("model").map_err(|_| invalid("options.model"))?;
        if model.is_some_and(|m| m.is_empty() || m.chars().count() > MAX_MODEL_CHARS) {
            return Err(invalid("options.model"));
        }
        let temperature = match fields.get("temperature").map(Value::as_f64) {
            None => None,
            Some(Some(t)) if (0.0..=2.0).contains(&t) => Some(t),
            Some(_) => return Err(invalid("options.temperature")),
        };
        let max_tokens = match fields.get("maxTokens").map(Value::as_u64) {
            None => None,
            Some(Some(n)) if n >= 1 => Some(n),
            Some(_) => return Err(invalid("options.maxTokens")),
        };
        Ok(ChatOptions { model: model.map(str::to_owned), temperature, max_tokens })
    }

    fn reconnect(&self) -> Result<Reconnect, BadFrame> {
        let message_id = self.message_id()?;
        let from = match self.get("lastChunkIndex") {
            None => Index::ZERO,
            Some(value) => match value.as_i64() {
                Some(-1) => Index::ZERO,
                Some(last) if (0..=Index::MAX_WIRE as i64).contains(&last) => {
                    Index(last as u64 + 1)
                }
                _ => return Err(invalid("lastChunkIndex")),
            },
        };
        let epoch = match self.get("epoch").map(Value::as_u64) {
            None => None,
            Some(Some(epoch)) if epoch <= Index::MAX_WIRE => Some(Epoch(epoch)),
            Some(_) => return Err(invalid("epoch")),
        };
        Ok(Reconnect { message_id, from, epoch, digest: self.parsed("digest", Digest::parse)? })
    }

    fn tool_result(&self) -> Result<ClientFrame, BadFrame> {
        let message_id = self.message_id()?;
        self.text("callId")?.ok_or_else(|| invalid("callId"))?;
        self.get("output").ok_or_else(|| invalid("output"))?;
        Ok(ClientFrame::ToolResult { message_id })
    }

    fn auth(&self) -> Result<ClientFrame, BadFrame> {
        let token = self.text("token")?.ok_or_else(|| invalid("token"))?;
        if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
            return Err(invalid("token"));
        }
        Ok(ClientFrame::Auth { token: token.to_owned() })
    }
}
