//! Who may enter: tokens, tickets, resume tokens, rates.

pub mod credentials;
pub mod rate;

use protocol::{ErrorCode, SessionId, Settings, UserId};
use std::time::Duration;
use streamlog::Clock;

/// Who a token says its bearer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `sub`.
    pub user: UserId,
    /// `exp`.
    pub expires_at: jiff::Timestamp,
}

/// Secrets of a node. Several of a kind: the first signs, all verify (rotation).
#[derive(Clone, Default)]
pub struct Keys {
    /// HS256 keys of users' tokens.
    pub jwt: Vec<Vec<u8>>,
    /// HMAC keys of resume tokens, shared by all nodes.
    pub resume: Vec<Vec<u8>>,
    /// Bearer of `/admin/*`; `None`: open.
    pub admin: Option<String>,
}

/// Checks tokens and keeps the accept buckets of one node.
pub struct Admit {}

impl Admit {
    /// For one node.
    pub fn new(settings: &Settings, keys: Keys, clock: Clock) -> Self {
        let _ = (settings, keys, clock);
        Self {}
    }

    /// Checks a user's token.
    ///
    /// # Errors
    /// UNAUTHENTICATED or TOKEN_EXPIRED.
    pub fn verify(&self, token: &str) -> Result<Identity, ErrorCode> {
        let _ = token;
        Err(ErrorCode::Unauthenticated)
    }

    /// A resume token (protocol section 1).
    pub fn issue_resume(&self, identity: &Identity, session: SessionId, slot_ms: u64) -> String {
        let _ = (identity, session, slot_ms);
        String::new()
    }

    /// Whether a resume token is good for this user and session.
    pub fn is_resume(&self, token: &str, user: &UserId, session: SessionId) -> bool {
        let _ = (token, user, session);
        false
    }

    /// Takes a place in the accept bucket of new or of resuming sockets.
    ///
    /// # Errors
    /// How long until there is one.
    pub fn enter(&self, resuming: bool) -> Result<(), Duration> {
        let _ = resuming;
        Ok(())
    }
}
