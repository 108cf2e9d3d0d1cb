//! Chunks on the wire, and their encoder: written by hand, because it is the one hot encoder.

use crate::chunk::{Chunk, ChunkType};
use crate::id::{Epoch, Index, MessageId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use smol_str::SmolStr;

/// One chunk.
///
/// ```
/// use protocol::server_frame::{ChunkData, ServerFrame};
/// use protocol::{Chunk, ChunkType, Epoch, Index, MessageId};
/// let message = MessageId::parse("018f4d5e-0000-7000-8000-000000000001").unwrap();
/// let (at, mut text) = ("2026-01-01T00:00:00Z", Vec::new());
/// ChunkData::encode(&mut text, at, message, Epoch(1), Index(3), &Chunk::new(ChunkType::Text, "hi \"you\""));
/// assert_eq!(String::from_utf8(text).unwrap(), concat!(r#"{"type":"CHUNK","timestamp":"2026-01-01T00:00:00Z","data":"#,
///     r#"{"messageId":"018f4d5e-0000-7000-8000-000000000001","index":3,"type":"TEXT","content":"hi \"you\"","epoch":1}}"#));
/// ```
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChunkData {
    /// The answer.
    pub message_id: MessageId,
    /// Its position.
    pub index: Index,
    /// Type, content, metadata.
    #[serde(flatten)]
    pub chunk: WireChunk,
    /// The epoch it was appended under.
    pub epoch: Epoch,
}

/// A chunk as it is read from the wire. (Flattened structs cannot hold raw JSON, so `metadata` is a value.)
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WireChunk {
    /// What it carries.
    #[serde(rename = "type")]
    pub kind: ChunkType,
    /// The text.
    #[cfg_attr(feature = "schema", schema(value_type = String, min_length = 1, max_length = 1024))]
    pub content: SmolStr,
    /// For example `{"callId":"c1","name":"search"}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
}

impl WireChunk {
    /// The chunk without its metadata: what digest and content are made of.
    pub fn to_chunk(&self) -> Chunk {
        Chunk { kind: self.kind, content: self.content.clone(), metadata: None }
    }
}

impl ChunkData {
    /// Appends the whole frame to `out`; `at` is a timestamp as text.
    pub fn encode(
        out: &mut Vec<u8>,
        at: &str,
        message: MessageId,
        epoch: Epoch,
        index: Index,
        chunk: &Chunk,
    ) {
        put_envelope(out, b"{\"type\":\"CHUNK\",\"timestamp\":\"", at);
        put_message(out, message);
        put_number(out, b",\"index\":", index.0);
        out.push(b',');
        put_chunk_fields(out, chunk);
        put_number(out, b",\"epoch\":", epoch.0);
        out.extend_from_slice(b"}}");
    }
}

/// Consecutive chunks of one epoch; the k-th has index `index` + k.
///
/// ```
/// use protocol::server_frame::{ChunksData, ServerFrame};
/// use protocol::{Chunk, ChunkType, Epoch, Index, MessageId};
/// let message = MessageId::parse("018f4d5e-0000-7000-8000-000000000001").unwrap();
/// let at = "2026-01-01T00:00:00Z";
/// let chunks = [Chunk::new(ChunkType::Text, "a"), Chunk::new(ChunkType::Code, "b")];
/// let mut text = Vec::new();
/// ChunksData::encode(&mut text, at, message, Epoch(2), Index(5), &chunks);
/// assert_eq!(String::from_utf8(text).unwrap(), concat!(r#"{"type":"CHUNKS","timestamp":"2026-01-01T00:00:00Z","data":"#,
///     r#"{"messageId":"018f4d5e-0000-7000-8000-000000000001","epoch":2,"index":5,"#,
///     r#""chunks":[{"type":"TEXT","content":"a"},{"type":"CODE","content":"b"}]}}"#));
/// ```
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChunksData {
    /// The answer.
    pub message_id: MessageId,
    /// The epoch they were appended under.
    pub epoch: Epoch,
    /// Position of the first.
    pub index: Index,
    /// The chunks.
    pub chunks: Vec<WireChunk>,
}

impl ChunksData {
    /// Appends the whole frame to `out`.
    pub fn encode<'a>(
        out: &mut Vec<u8>,
        at: &str,
        message: MessageId,
        epoch: Epoch,
        index: Index,
        chunks: impl IntoIterator<Item = &'a Chunk>,
    ) {
        put_envelope(out, b"{\"type\":\"CHUNKS\",\"timestamp\":\"", at);
        put_message(out, message);
        put_number(out, b",\"epoch\":", epoch.0);
        put_number(out, b",\"index\":", index.0);
        out.extend_from_slice(b",\"chunks\":[");
        for (k, chunk) in chunks.into_iter().enumerate() {
            out.extend_from_slice(if k == 0 { b"{" } else { b",{" });
            put_chunk_fields(out, chunk);
            out.push(b'}');
        }
        out.extend_from_slice(b"]}}");
    }
}

fn put_envelope(out: &mut Vec<u8>, head: &[u8], at: &str) {
    let parts = [head, at.as_bytes(), b"\",\"data\":"];
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

fn put_chunk_fields(out: &mut Vec<u8>, chunk: &Chunk) {
    out.extend_from_slice(b"\"type\":\"");
    out.extend_from_slice(chunk.kind.as_str().as_bytes());
    out.extend_from_slice(b"\",\"content\":");
    // Writing into a Vec cannot fail.
    let _ = serde_json::to_writer(&mut *out, &*chunk.content);
    if let Some(metadata) = &chunk.metadata {
        out.extend_from_slice(b",\"metadata\":");
        out.extend_from_slice(metadata.get().as_bytes());
    }
}

/// Opens an object with the message's id; a formatter would take longer than all the rest.
fn put_message(out: &mut Vec<u8>, message: MessageId) {
    let mut id = uuid::Uuid::encode_buffer();
    out.extend_from_slice(b"{\"messageId\":\"");
    out.extend_from_slice(message.0.hyphenated().encode_lower(&mut id).as_bytes());
    out.push(b'"');
}

fn put_number(out: &mut Vec<u8>, name: &[u8], number: u64) {
    out.extend_from_slice(name);
    let _ = serde_json::to_writer(out, &number);
}
