//! Error codes (one table for WebSocket and HTTP) and close codes.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Why something was refused or failed. Each has one HTTP status and one answer to "try again?".
///
/// ```
/// use protocol::ErrorCode;
/// assert_eq!(ErrorCode::AtCapacity.http_status(), 503);
/// assert!(ErrorCode::AtCapacity.retryable());
/// assert_eq!(serde_json::to_string(&ErrorCode::InvalidJson).unwrap(), "\"INVALID_JSON\"");
/// ```
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    /// Not JSON.
    InvalidJson,
    /// A frame type nobody knows.
    UnknownType,
    /// A field is missing or out of range; the text names it.
    InvalidMessage,
    /// No or a bad token.
    Unauthenticated,
    /// The token's time is over.
    TokenExpired,
    /// Not allowed here.
    Forbidden,
    /// Nothing of that name, or somebody else's.
    NotFound,
    /// It existed; its text is gone.
    Expired,
    /// Too many requests, sockets or live answers of this user.
    RateLimited,
    /// The body is too large (HTTP only).
    PayloadTooLarge,
    /// The node has no place.
    AtCapacity,
    /// The node is going away.
    Draining,
    /// The provider cannot be reached or broke off.
    UpstreamUnavailable,
    /// The provider refused.
    UpstreamError,
    /// First token, silence or total time ran out.
    StreamTimeout,
    /// The owner died and nobody could go on.
    Interrupted,
    /// The log is away; nothing is lost.
    StoreUnavailable,
    /// The cursor does not fit the log.
    Reset,
    /// A bug.
    Internal,
    /// An older drain epoch (HTTP only).
    StaleEpoch,
}

impl ErrorCode {
    /// Every code, in the order of the protocol's table.
    pub const ALL: [Self; 20] = [
        Self::InvalidJson,
        Self::UnknownType,
        Self::InvalidMessage,
        Self::Unauthenticated,
        Self::TokenExpired,
        Self::Forbidden,
        Self::NotFound,
        Self::Expired,
        Self::RateLimited,
        Self::PayloadTooLarge,
        Self::AtCapacity,
        Self::Draining,
        Self::UpstreamUnavailable,
        Self::UpstreamError,
        Self::StreamTimeout,
        Self::Interrupted,
        Self::StoreUnavailable,
        Self::Reset,
        Self::Internal,
        Self::StaleEpoch,
    ];

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidJson => "INVALID_JSON",
            Self::UnknownType => "UNKNOWN_TYPE",
            Self::InvalidMessage => "INVALID_MESSAGE",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::TokenExpired => "TOKEN_EXPIRED",
            Self::Forbidden => "FORBIDDEN",
            Self::NotFound => "NOT_FOUND",
            Self::Expired => "EXPIRED",
            Self::RateLimited => "RATE_LIMITED",
            Self::PayloadTooLarge => "PAYLOAD_TOO_LARGE",
            Self::AtCapacity => "AT_CAPACITY",
            Self::Draining => "DRAINING",
            Self::UpstreamUnavailable => "UPSTREAM_UNAVAILABLE",
            Self::UpstreamError => "UPSTREAM_ERROR",
            Self::StreamTimeout => "STREAM_TIMEOUT",
            Self::Interrupted => "INTERRUPTED",
            Self::StoreUnavailable => "STORE_UNAVAILABLE",
            Self::Reset => "RESET",
            Self::Internal => "INTERNAL",
            Self::StaleEpoch => "STALE_EPOCH",
        }
    }

    /// The status of an HTTP answer with this code.
    pub const fn http_status(self) -> u16 {
        match self {
            Self::InvalidJson | Self::UnknownType | Self::InvalidMessage => 400,
            Self::Unauthenticated | Self::TokenExpired => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Reset | Self::StaleEpoch => 409,
            Self::Expired => 410,
            Self::PayloadTooLarge => 413,
            Self::RateLimited => 429,
            Self::Internal => 500,
            Self::UpstreamUnavailable | Self::UpstreamError | Self::Interrupted => 502,
            Self::AtCapacity | Self::Draining | Self::StoreUnavailable => 503,
            Self::StreamTimeout => 504,
        }
    }

    /// Whether the same may succeed later.
    pub const fn retryable(self) -> bool {
        matches!(
            self,
            Self::TokenExpired
                | Self::RateLimited
                | Self::AtCapacity
                | Self::Draining
                | Self::UpstreamUnavailable
                | Self::StreamTimeout
                | Self::Interrupted
                | Self::StoreUnavailable
                | Self::Reset
                | Self::Internal
        )
    }

    /// The human text where nothing more exact is known.
    pub const fn text(self) -> &'static str {
        match self {
            Self::InvalidJson => "Invalid JSON format",
            Self::UnknownType => "Unknown message type",
            Self::InvalidMessage => "Invalid message format",
            Self::Unauthenticated => "Authentication failed",
            Self::TokenExpired => "The token has expired; get a new one",
            Self::Forbidden => "Not allowed",
            Self::NotFound => "Not found",
            Self::Expired => "The text of this message is no longer kept",
            Self::RateLimited => "Rate limit exceeded",
            Self::PayloadTooLarge => "The body is too large",
            Self::AtCapacity => "Server at capacity",
            Self::Draining => "This node is going away; ask another one",
            Self::UpstreamUnavailable => "The AI provider cannot be reached or broke off",
            Self::UpstreamError => "The AI provider refused the request",
            Self::StreamTimeout => "The answer took too long",
            Self::Interrupted => "The answer was interrupted; ask again",
            Self::StoreUnavailable => "The store is away; nothing is lost, try again",
            Self::Reset => "The cursor does not fit the log; follow again from the start",
            Self::Internal => "Internal error",
            Self::StaleEpoch => "A newer drain epoch was already accepted",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// WebSocket close codes (RFC 6455 section 7.4). 4000–4499: reconnect and resume; 4500–4999: do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum CloseCode {
    /// Done.
    Normal = 1000,
    /// No frame, pong included, for two minutes.
    Away = 1001,
    /// Invalid UTF-8.
    InvalidUtf8 = 1007,
    /// A frame over [`crate::MAX_FRAME_BYTES`].
    TooBig = 1009,
    /// Restart: reconnect (dialect basic).
    Restart = 1012,
    /// Overloaded.
    Overloaded = 1013,
    /// Drained: reconnect elsewhere.
    Drained = 4000,
    /// The token expired: get a new one and reconnect.
    TokenExpired = 4001,
    /// Rebalanced.
    Rebalanced = 4002,
    /// The handshake took too long.
    SlowHandshake = 4003,
    /// No or a bad token.
    Unauthenticated = 4500,
    /// Somebody else's session.
    Forbidden = 4501,
    /// More than 20 bad frames in 10 s.
    Abuse = 4502,
    /// Subprotocols offered without [`crate::SUBPROTOCOL`].
    UnsupportedVersion = 4503,
    /// Too many sockets of this user.
    TooManySockets = 4504,
}

impl CloseCode {
    /// Every code a server closes with.
    #[rustfmt::skip]
    pub const ALL: [Self; 15] = [
        Self::Normal, Self::Away, Self::InvalidUtf8, Self::TooBig, Self::Restart, Self::Overloaded,
        Self::Drained, Self::TokenExpired, Self::Rebalanced, Self::SlowHandshake,
        Self::Unauthenticated, Self::Forbidden, Self::Abuse, Self::UnsupportedVersion,
        Self::TooManySockets,
    ];

    /// The number on the wire.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// What a client does with a close code, its own or a proxy's: reconnect and resume, or stop.
    ///
    /// ```
    /// use protocol::CloseCode;
    /// assert!(CloseCode::reconnects(4000) && CloseCode::reconnects(1006));
    /// assert!(!CloseCode::reconnects(4500) && !CloseCode::reconnects(1000));
    /// ```
    pub const fn reconnects(number: u16) -> bool {
        !matches!(number, 1000 | 1002 | 1003 | 1007..=1010 | 4500..=4999)
    }
}
