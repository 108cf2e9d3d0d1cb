//! What a draining node reports; the operator reads it.

use crate::id::Incarnation;
use serde::{Deserialize, Serialize};

/// Where a node stands between serving and gone. Only ever moves forward, except that a drain may
/// be called off while Refusing or HandingOver.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrainPhase {
    /// Accepts everything.
    Serving,
    /// Accepts nothing new; told its clients.
    Refusing,
    /// Its live streams move to other nodes.
    HandingOver,
    /// Streams are gone; the last sockets leave.
    Flushing,
    /// Nothing is left.
    Done,
}

impl DrainPhase {
    /// The name in reports and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Refusing => "refusing",
            Self::HandingOver => "handing_over",
            Self::Flushing => "flushing",
            Self::Done => "done",
        }
    }
}

/// `POST /admin/drain`.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DrainRequest {
    /// How long live streams may take to finish or move, in milliseconds; the settings' if absent.
    #[serde(default)]
    pub deadline_ms: Option<u64>,
    /// A lower one than the last accepted is refused with STALE_EPOCH.
    #[serde(default)]
    pub epoch: u64,
    /// `finish` (wait for answers until the deadline) or `continue` (move them at once).
    #[serde(default)]
    pub policy: Option<DrainPolicy>,
}

/// What a drain does with live streams first.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DrainPolicy {
    /// Let them end by themselves until the deadline, then `continue`.
    #[default]
    Finish,
    /// Hand them over at once.
    Continue,
}

/// `GET /admin/drain`: the one report of a node about itself.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainReport {
    /// The node's name.
    pub node: String,
    /// Its boot.
    pub incarnation: Incarnation,
    /// Where it stands.
    pub phase: DrainPhase,
    /// Of the last accepted drain.
    pub epoch: u64,
    /// Sessions with a socket here: what `limits.sessions` bounds.
    pub sessions: usize,
    /// Live streams it owns.
    pub streams: usize,
    /// Milliseconds until the deadline, while draining.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_ms: Option<u64>,
    /// New sockets and streams are welcome.
    #[serde(default)]
    pub accepting: bool,
    /// Most sessions it takes: `limits.sessions`.
    #[serde(default)]
    pub capacity: usize,
    /// `generation` of the settings that were taken up last while running; 0: none were.
    #[serde(default)]
    pub settings_generation: u64,
    /// The keys that it accepts, the one that signs first.
    #[serde(default)]
    pub key_ids: KeyIds,
    /// What went wrong for clients since this boot.
    #[serde(default)]
    pub harm: Harm,
}

/// Names of keys: the first ten hexadecimal digits of each one's SHA-256, which tell nothing of it.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyIds {
    /// Users' tokens.
    #[serde(default)]
    pub jwt: Vec<String>,
    /// Resume tokens.
    #[serde(default)]
    pub resume: Vec<String>,
    /// Bearers of `/admin/*`.
    #[serde(default)]
    pub admin: Vec<String>,
}

/// Counts since a node's boot.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Harm {
    /// RESETs: somebody was told that what they had seen is not the answer.
    pub resets: u64,
    /// Answers that ended INTERRUPTED.
    pub interruptions: u64,
    /// Appends of an owner that the log refused, because it does not end where the owner's text does.
    pub index_conflicts: u64,
}
