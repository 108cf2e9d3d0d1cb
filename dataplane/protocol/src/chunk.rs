//! Chunks and the digest of a log prefix.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use smol_str::SmolStr;
use std::fmt;
use std::sync::Arc;

/// Longest content of one chunk, in characters; longer text is split, never cut off.
pub const MAX_CHUNK_CHARS: usize = 1_024;

/// What a chunk carries.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ChunkType {
    /// Prose of the answer.
    Text,
    /// Code of the answer.
    Code,
    /// The model's reasoning; not part of the content.
    Thinking,
    /// Arguments of a tool call; `metadata {callId, name}`.
    ToolUse,
    /// A source.
    Citation,
}

impl ChunkType {
    /// The name on the wire, which is also what the digest covers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "TEXT",
            Self::Code => "CODE",
            Self::Thinking => "THINKING",
            Self::ToolUse => "TOOL_USE",
            Self::Citation => "CITATION",
        }
    }
    /// Whether the chunk is part of the message's `content`.
    pub const fn is_content(self) -> bool {
        matches!(self, Self::Text | Self::Code)
    }
}

/// One piece of an answer. `content` is never empty and at most [`MAX_CHUNK_CHARS`] long.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Chunk {
    /// What it carries.
    #[serde(rename = "type")]
    pub kind: ChunkType,
    /// The text.
    pub content: SmolStr,
    /// For example `{"callId":"c1","name":"search"}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Arc<RawValue>>,
}

impl Chunk {
    /// A chunk without metadata.
    pub fn new(kind: ChunkType, content: &str) -> Self {
        Self { kind, content: content.into(), metadata: None }
    }

    /// Bytes this chunk counts for in buffers and limits.
    pub fn weight(&self) -> usize {
        self.content.len() + self.metadata.as_ref().map_or(0, |m| m.get().len())
    }

    /// Cuts text into chunks of at most [`MAX_CHUNK_CHARS`] at character boundaries.
    ///
    /// ```
    /// use protocol::{Chunk, ChunkType};
    /// let parts = Chunk::split(ChunkType::Text, &"ä".repeat(1_500), None);
    /// assert_eq!(parts.iter().map(|c| c.content.chars().count()).collect::<Vec<_>>(), [1_024, 476]);
    /// assert!(Chunk::split(ChunkType::Text, "", None).is_empty());
    /// ```
    pub fn split(kind: ChunkType, text: &str, metadata: Option<Arc<RawValue>>) -> Vec<Self> {
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let cut = rest.char_indices().nth(MAX_CHUNK_CHARS).map_or(rest.len(), |(at, _)| at);
            let (head, tail) = rest.split_at(cut);
            parts.push(Self { kind, content: head.into(), metadata: metadata.clone() });
            rest = tail;
        }
        parts
    }
}

impl PartialEq for Chunk {
    fn eq(&self, other: &Self) -> bool {
        let raw = |c: &Self| c.metadata.as_ref().map(|m| m.get().to_owned());
        self.kind == other.kind && self.content == other.content && raw(self) == raw(other)
    }
}

/// CRC-32 (zlib's) of a log prefix: for each chunk in order `type` 0x1F `content` 0x1E in UTF-8.
///
/// ```
/// use protocol::{Chunk, ChunkType, Digest};
/// let mut d = Digest::EMPTY;
/// assert_eq!(d.to_string(), "00000000");
/// d = d.with(&Chunk::new(ChunkType::Text, "Hello"));
/// assert_eq!(d.to_string(), "c88d6113");
/// assert_eq!(Digest::parse("c88d6113"), Some(d));
/// ```
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(value_type = String, pattern = "^[0-9a-f]{8}$"))]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(u32);

impl Digest {
    /// The digest of the empty prefix.
    pub const EMPTY: Self = Self(0);

    /// The digest after one more chunk.
    #[must_use]
    pub fn with(self, chunk: &Chunk) -> Self {
        let mut crc = crc32fast::Hasher::new_with_initial(self.0);
        crc.update(chunk.kind.as_str().as_bytes());
        crc.update(&[0x1F]);
        crc.update(chunk.content.as_bytes());
        crc.update(&[0x1E]);
        Self(crc.finalize())
    }

    /// The digest after more chunks.
    #[must_use]
    pub fn with_all<'a>(self, chunks: impl IntoIterator<Item = &'a Chunk>) -> Self {
        chunks.into_iter().fold(self, Self::with)
    }

    /// Eight hexadecimal digits; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit());
        hex.then(|| u32::from_str_radix(text, 16).ok()).flatten().map(Self)
    }
}

impl Default for Digest {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(d)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("eight hexadecimal digits"))
    }
}
