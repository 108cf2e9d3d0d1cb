//! Label sets, and the closed enums their values come from.

use prometheus_client::encoding::EncodeLabelSet;
use protocol::server_frame::{RecoveryStatus, ResetReason, Source, TakeoverMode};
use protocol::{Dialect, DrainPhase, ErrorCode, Seal, SealStatus};

macro_rules! label_sets {
    ($($name:ident { $($label:ident),+ })+) => {
        $(
            #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
            pub(super) struct $name { $(pub(super) $label: &'static str),+ }
        )+
    };
}

label_sets! {
    ByDialect { dialect }
    ByReason { reason }
    ByStatus { status, code }
    ByVia { via }
    BySource { status, source }
    ByMode { mode }
    ByOutcome { outcome }
    ByLimit { limit }
    ByPhase { phase }
    ByEvent { event, outcome }
    ByLevel { level }
}

/// All phases, so that each has its own series from the start.
pub(super) const PHASES: [DrainPhase; 5] = [
    DrainPhase::Serving,
    DrainPhase::Refusing,
    DrainPhase::HandingOver,
    DrainPhase::Flushing,
    DrainPhase::Done,
];

/// Why a socket was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketRefusal {
    /// No or a bad token.
    Unauthenticated,
    /// A token whose time is over.
    TokenExpired,
    /// An origin that is not allowed.
    Origin,
    /// Another user's session.
    Session,
    /// A session id or upgrade that cannot be read.
    Malformed,
    /// Subprotocols without ours.
    Version,
    /// The node is going away.
    Draining,
    /// The accept bucket is empty, or the node is full.
    Capacity,
    /// The user has too many sockets.
    TooManySockets,
    /// The store is away.
    Store,
}

impl SocketRefusal {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::TokenExpired => "token_expired",
            Self::Origin => "origin",
            Self::Session => "session",
            Self::Malformed => "malformed",
            Self::Version => "version",
            Self::Draining => "draining",
            Self::Capacity => "capacity",
            Self::TooManySockets => "too_many_sockets",
            Self::Store => "store",
        }
    }
}

/// Which limit told somebody to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    /// Requests a minute of one user.
    Requests,
    /// Tickets a minute of one user.
    Tickets,
    /// Live answers of one user.
    Answers,
    /// New sockets a second of this node.
    Accepts,
    /// Resuming sockets a second of this node.
    Resumes,
}

impl Limited {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tickets => "tickets",
            Self::Answers => "answers",
            Self::Accepts => "accepts",
            Self::Resumes => "resumes",
        }
    }
}

/// How chunks reach a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// A socket.
    WebSocket,
    /// Server-sent events.
    Sse,
}

impl From<Via> for ByVia {
    fn from(via: Via) -> Self {
        let via = match via {
            Via::WebSocket => "websocket",
            Via::Sse => "sse",
        };
        Self { via }
    }
}

impl From<Dialect> for ByDialect {
    fn from(dialect: Dialect) -> Self {
        let dialect = match dialect {
            Dialect::Basic => "basic",
            Dialect::V1 => "v1",
        };
        Self { dialect }
    }
}

impl From<&Seal> for ByStatus {
    fn from(seal: &Seal) -> Self {
        let status = match seal.status {
            SealStatus::Completed => "completed",
            SealStatus::Failed => "failed",
            SealStatus::Cancelled => "cancelled",
        };
        Self { status, code: seal.code.map_or("none", ErrorCode::as_str) }
    }
}

impl From<(RecoveryStatus, Option<Source>)> for BySource {
    fn from((status, source): (RecoveryStatus, Option<Source>)) -> Self {
        let status = match status {
            RecoveryStatus::Recovered => "recovered",
            RecoveryStatus::Completed => "completed",
            RecoveryStatus::NotFound => "not_found",
            RecoveryStatus::Expired => "expired",
            RecoveryStatus::Error => "error",
        };
        let source = match source {
            None => "none",
            Some(Source::Memory) => "memory",
            Some(Source::Cache) => "cache",
            Some(Source::Database) => "database",
        };
        Self { status, source }
    }
}

impl From<ResetReason> for ByReason {
    fn from(reason: ResetReason) -> Self {
        let reason = match reason {
            ResetReason::RolledBack => "rolled_back",
            ResetReason::Restarted => "restarted",
        };
        Self { reason }
    }
}

impl From<TakeoverMode> for ByMode {
    fn from(mode: TakeoverMode) -> Self {
        let mode = match mode {
            TakeoverMode::Finish => "finish",
            TakeoverMode::ProviderResume => "provider_resume",
            TakeoverMode::Continue => "continue",
            TakeoverMode::Restart => "restart",
            TakeoverMode::Fail => "fail",
        };
        Self { mode }
    }
}
