//! Names of things: UUID newtypes, positions in a stream, and who runs what.
//! No bare `u64` or `Uuid` crosses a module of this project.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(value_type = String, format = "uuid"))]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Parses any UUID form; `None` where it is none.
            pub fn parse(text: &str) -> Option<Self> {
                Uuid::parse_str(text).ok().map(Self)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

uuid_id!(
    /// A client's connection identity; several sockets may share one.
    SessionId
);
uuid_id!(
    /// A message. An assistant's message names its stream; it is never reused.
    MessageId
);
uuid_id!(
    /// A conversation: messages that belong together, of one user.
    ConversationId
);
uuid_id!(
    /// One start of a node's process; a restarted node has a new one.
    Incarnation
);

/// A client's own name for a request: 1–64 visible ASCII characters.
///
/// ```
/// use protocol::RequestId;
/// assert!(RequestId::parse("order-7").is_some());
/// assert!(RequestId::parse("").is_none());
/// assert!(RequestId::parse("a b").is_none());
/// assert!(RequestId::parse(&"x".repeat(65)).is_none());
/// ```
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(value_type = String, pattern = "^[!-~]{1,64}$"))]
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// Longest request id, in characters.
    pub const MAX_CHARS: usize = 64;

    /// `None` unless 1–64 visible ASCII characters.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=Self::MAX_CHARS).contains(&text.len());
        (fits && text.bytes().all(|b| b.is_ascii_graphic())).then(|| Self(text.into()))
    }
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(value_type = String))]
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes the text as it is.
            pub fn new(text: &str) -> Self {
                Self(text.into())
            }
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// The `sub` of a token.
    UserId
);
text_id!(
    /// A node's name, for people and logs; its [`Incarnation`] is its identity.
    NodeName
);

/// Position of a chunk in its stream, from 0, contiguous.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Index(pub u64);

impl Index {
    /// Before the first chunk; also the tail of an empty stream.
    pub const ZERO: Self = Self(0);
    /// Largest index a client may name: JavaScript's exact integers, 2^53.
    pub const MAX_WIRE: u64 = 1 << 53;

    /// The position `n` chunks further.
    pub const fn plus(self, n: usize) -> Self {
        Self(self.0.saturating_add(n as u64))
    }
    /// Chunks from `earlier` up to here; 0 if `earlier` lies behind.
    pub const fn since(self, earlier: Self) -> usize {
        self.0.saturating_sub(earlier.0) as usize
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Ownership generation of a stream: strictly increasing, 1 for its first owner.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch of the node that opened the stream.
    pub const FIRST: Self = Self(1);
    /// The next owner's epoch.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
