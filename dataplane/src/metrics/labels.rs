//! Label sets, and the closed enums their values come from: no value ever comes from a request.

use super::upstream::BreakerState;
use crate::broadcast;
use prometheus_client::encoding::EncodeLabelSet;
use protocol::server_frame::{RecoveryStatus, ResetReason, Source, TakeoverMode};
use protocol::{CloseCode, Dialect, DrainPhase, ErrorCode, SealStatus};
use streamlog::BusEvent;

/// Something of which all values are known.
pub(super) trait Closed: Copy + 'static {
    fn all() -> Vec<Self>;
    /// Its text in a label.
    fn text(self) -> &'static str;
}

/// A label, as it is documented.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// Every value it can have; `None`: the names of the settings' providers.
    pub values: Option<fn() -> Vec<&'static str>>,
}

fn texts<T: Closed>() -> Vec<&'static str> {
    T::all().into_iter().map(T::text).collect()
}

macro_rules! closed {
    ($($type:ty { $($variant:ident => $text:literal),+ $(,)? })+) => {
        $(
            impl Closed for $type {
                fn all() -> Vec<Self> {
                    vec![$(<$type>::$variant),+]
                }

                fn text(self) -> &'static str {
                    match self { $(<$type>::$variant => $text),+ }
                }
            }
        )+
    };
}

macro_rules! label_sets {
    ($($name:ident { $($label:ident: $type:ty),+ })+) => {
        $(
            #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
            pub(super) struct $name { $($label: &'static str),+ }

            impl $name {
                pub(super) const LABELS: &'static [Label] =
                    &[$(Label { name: stringify!($label), values: Some(texts::<$type>) }),+];

                pub(super) fn of($($label: $type),+) -> Self {
                    Self { $($label: $label.text()),+ }
                }
            }
        )+
    };
}

label_sets! {
    ByDialect { dialect: Dialect }
    ByRefusal { reason: SocketRefusal }
    ByClose { code: Option<CloseCode> }
    ByStatus { status: SealStatus, code: Option<ErrorCode> }
    ByVia { via: Via }
    BySource { status: RecoveryStatus, source: Option<Source> }
    ByReset { reason: ResetReason }
    ByMode { mode: TakeoverMode }
    ByAuth { outcome: Auth }
    ByLimit { limit: Limited }
    ByPhase { phase: DrainPhase }
    ByBroadcast { event: broadcast::Kind, outcome: Bus }
    ByBus { event: Hinted, outcome: Bus }
    ByRead { level: Level, outcome: Read }
    ByMemory { level: Memory }
    ByOutcome { outcome: Success }
    ByCall { outcome: CallEnd }
    ByTokens { kind: Tokens }
}

/// One provider of the settings, and the state its breaker may be in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ByBreaker {
    pub(super) provider: String,
    pub(super) state: &'static str,
}

impl ByBreaker {
    pub(super) const LABELS: &'static [Label] = &[
        Label { name: "provider", values: None },
        Label { name: "state", values: Some(texts::<BreakerState>) },
    ];
}

/// One provider of the settings.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ByProvider {
    pub(super) provider: String,
}

impl ByProvider {
    pub(super) const LABELS: &'static [Label] = &[Label { name: "provider", values: None }];
}

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

/// How chunks reach a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// A socket.
    WebSocket,
    /// Server-sent events.
    Sse,
}

/// How a call of a provider ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallEnd {
    /// It said that it was finished.
    Finished,
    /// Not reached, overloaded, or broken off.
    Unavailable,
    /// It refused the request.
    Refused,
    /// It took too long to say anything, or to end.
    Timeout,
    /// Nobody wanted the rest: cancelled, too long, or another node's by now.
    Dropped,
}

/// What became of a token or ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Auth {
    Ok,
    Expired,
    Refused,
    Unavailable,
}

/// What became of something between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bus {
    Published,
    Failed,
    Received,
}

/// Of [`BusEvent`], without what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hinted {
    Cancel,
    HandOver,
    Goaway,
    Close,
    Broadcast,
}

/// Where reads of the log are answered, nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Own,
    Cached,
    Store,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    Hit,
    Miss,
}

/// Levels that have a bound of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    Own,
    Cached,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Success {
    Ok,
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tokens {
    Prompt,
    Completion,
}

closed! {
    SocketRefusal {
        Unauthenticated => "unauthenticated",
        TokenExpired => "token_expired",
        Origin => "origin",
        Session => "session",
        Malformed => "malformed",
        Version => "version",
        Draining => "draining",
        Capacity => "capacity",
        TooManySockets => "too_many_sockets",
        Store => "store",
    }
    Limited {
        Requests => "requests",
        Tickets => "tickets",
        Answers => "answers",
        Accepts => "accepts",
        Resumes => "resumes",
    }
    Via { WebSocket => "websocket", Sse => "sse" }
    CallEnd {
        Finished => "finished",
        Unavailable => "unavailable",
        Refused => "refused",
        Timeout => "timeout",
        Dropped => "dropped",
    }
    Auth { Ok => "ok", Expired => "expired", Refused => "refused", Unavailable => "unavailable" }
    Bus { Published => "published", Failed => "failed", Received => "received" }
    Hinted {
        Cancel => "cancel",
        HandOver => "hand_over",
        Goaway => "goaway",
        Close => "close",
        Broadcast => "broadcast",
    }
    Level { Own => "own", Cached => "cached", Store => "store" }
    Read { Hit => "hit", Miss => "miss" }
    Memory { Own => "own", Cached => "cached" }
    Success { Ok => "ok", Failed => "failed" }
    Tokens { Prompt => "prompt", Completion => "completion" }
    BreakerState { Closed => "closed", Open => "open", HalfOpen => "half_open" }
    Dialect { Basic => "basic", V1 => "v1" }
    SealStatus { Completed => "completed", Failed => "failed", Cancelled => "cancelled" }
    RecoveryStatus {
        Recovered => "recovered",
        Completed => "completed",
        NotFound => "not_found",
        Expired => "expired",
        Error => "error",
    }
    Source { Memory => "memory", Cache => "cache", Database => "database" }
    ResetReason { RolledBack => "rolled_back", Restarted => "restarted" }
    TakeoverMode {
        Finish => "finish",
        ProviderResume => "provider_resume",
        Continue => "continue",
        Restart => "restart",
        Fail => "fail",
    }
    DrainPhase {
        Serving => "serving",
        Refusing => "refusing",
        HandingOver => "handing_over",
        Flushing => "flushing",
        Done => "done",
    }
    broadcast::Kind {
        NodeStartup => "NODE_STARTUP",
        NodeShutdown => "NODE_SHUTDOWN",
        CacheInvalidate => "CACHE_INVALIDATE",
        ConfigUpdate => "CONFIG_UPDATE",
        HealthCheck => "HEALTH_CHECK",
    }
    CloseCode {
        Normal => "1000",
        Away => "1001",
        InvalidUtf8 => "1007",
        TooBig => "1009",
        Restart => "1012",
        Overloaded => "1013",
        Drained => "4000",
        TokenExpired => "4001",
        Rebalanced => "4002",
        SlowHandshake => "4003",
        Unauthenticated => "4500",
        Forbidden => "4501",
        Abuse => "4502",
        UnsupportedVersion => "4503",
        TooManySockets => "4504",
    }
}

impl Closed for ErrorCode {
    fn all() -> Vec<Self> {
        Self::ALL.to_vec()
    }

    fn text(self) -> &'static str {
        self.as_str()
    }
}

/// Absent: `none`.
impl<T: Closed> Closed for Option<T> {
    fn all() -> Vec<Self> {
        [None].into_iter().chain(T::all().into_iter().map(Some)).collect()
    }

    fn text(self) -> &'static str {
        self.map_or("none", T::text)
    }
}

impl From<&BusEvent> for Hinted {
    fn from(event: &BusEvent) -> Self {
        match event {
            BusEvent::Cancel(_) => Self::Cancel,
            BusEvent::HandOver => Self::HandOver,
            BusEvent::Goaway(_) => Self::Goaway,
            BusEvent::Close(..) => Self::Close,
            BusEvent::Broadcast(_) => Self::Broadcast,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_the_protocol() {
        for kind in broadcast::Kind::all() {
            assert_eq!(kind.text(), kind.as_str());
        }
        for phase in DrainPhase::all() {
            assert_eq!(phase.text(), phase.as_str());
        }
        for code in CloseCode::all() {
            assert_eq!(code.text(), code.number().to_string());
        }
    }
}
