//! Who may enter: tokens, tickets, resume tokens, rates.
//!
//! [`token`] reads JWTs, [`resume`] makes and reads resume tokens, [`ticket`] makes and redeems
//! single-use tickets, [`credentials`] finds out of a request which of them it carries, [`rate`]
//! holds the buckets.

pub mod credentials;
pub mod rate;
pub mod resume;
pub mod ticket;
pub mod token;

pub use credentials::authenticate;
pub use rate::spend_request;
pub use token::mint;

use protocol::{ErrorCode, SessionId, Settings, UserId};
use std::sync::Once;
use std::time::Duration;
use streamlog::Clock;

/// Who a token says its bearer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `sub`.
    pub user: UserId,
    /// `exp`, without any leeway.
    pub expires_at: jiff::Timestamp,
}

/// Secrets of a node. Several of a kind: the first signs, all verify (rotation). Not `Debug`, so
/// that no log can show one.
#[derive(Clone, Default)]
pub struct Keys {
    /// HS256 keys of users' tokens.
    pub jwt: Vec<Vec<u8>>,
    /// HMAC keys of resume tokens, shared by all nodes.
    pub resume: Vec<Vec<u8>>,
    /// Bearer of `/admin/*`; `None`: open.
    pub admin: Option<String>,
}

/// Chooses the crypto library of the JWT crate. Once a process, as often as you like.
pub fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Refused only where somebody installed one before, and then there is one.
        let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    });
}

/// Checks tokens and keeps the accept buckets of one node.
pub struct Admit {
    tokens: token::Tokens,
    resumes: resume::Resumes,
    buckets: rate::Buckets,
    admin: Option<String>,
    clock: Clock,
    leeway: Duration,
}

impl Admit {
    /// For one node.
    pub fn new(settings: &Settings, keys: Keys, clock: Clock) -> Self {
        install_crypto();
        Self {
            tokens: token::Tokens::new(&settings.auth, &keys.jwt),
            resumes: resume::Resumes::new(&keys.resume),
            buckets: rate::Buckets::new(&settings.limits, clock.clone()),
            admin: keys.admin,
            leeway: Duration::from_millis(settings.auth.leeway_ms),
            clock,
        }
    }

    /// Checks a user's token.
    ///
    /// # Errors
    /// TOKEN_EXPIRED where nothing but its time is wrong, else UNAUTHENTICATED.
    pub fn verify(&self, token: &str) -> Result<Identity, ErrorCode> {
        self.still_good(self.tokens.read(token, self.clock.wall(), self.leeway)?)
    }

    /// An identity that was good once, checked against the time.
    ///
    /// # Errors
    /// TOKEN_EXPIRED.
    pub fn still_good(&self, identity: Identity) -> Result<Identity, ErrorCode> {
        if self.time_left(&identity).is_zero() {
            return Err(ErrorCode::TokenExpired);
        }
        Ok(identity)
    }

    /// Time until what this identity opened must end: `exp` and the leeway.
    pub fn time_left(&self, identity: &Identity) -> Duration {
        let left = identity.expires_at.duration_since(self.clock.wall());
        let leeway = jiff::SignedDuration::try_from(self.leeway).unwrap_or_default();
        Duration::try_from(left.saturating_add(leeway)).unwrap_or_default()
    }

    /// A resume token (protocol section 1) for the slot that begins `slot_ms` from now. Good for
    /// ten minutes, and never longer than the user's own token. Empty where no key is set.
    pub fn issue_resume(&self, identity: &Identity, session: SessionId, slot_ms: u64) -> String {
        self.resumes.issue(identity, session, slot_ms, self.clock.wall())
    }

    /// Whether a resume token is good for this user and session.
    pub fn is_resume(&self, token: &str, user: &UserId, session: SessionId) -> bool {
        self.resumes.is_good(token, user, session, self.clock.wall())
    }

    /// Takes a place in the accept bucket of new or of resuming sockets.
    ///
    /// # Errors
    /// How long until there is one.
    pub fn enter(&self, resuming: bool) -> Result<(), Duration> {
        self.buckets.enter(resuming)
    }

    /// Whether a request of the admin port carries the admin key, or none is needed.
    pub fn is_admin(&self, headers: &http::HeaderMap) -> bool {
        let Some(key) = &self.admin else { return true };
        let given = match credentials::bearer(headers) {
            Some(Ok(given)) => given,
            None | Some(Err(_)) => return false,
        };
        aws_lc_rs::constant_time::verify_slices_are_equal(given.as_bytes(), key.as_bytes()).is_ok()
    }
}
