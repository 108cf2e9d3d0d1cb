//! Who may enter: tokens, tickets, resume tokens, rates.
//!
//! [`token`] reads JWTs, with shared secrets or with `public_keys`: [`key_set`] says which keys of a
//! document are good for what, [`key_source`] fetches it. [`resume`] makes and reads resume tokens,
//! [`ticket`] makes and redeems single-use tickets, [`credentials`] finds out of a request which of
//! them it carries, [`rate`] holds the buckets.

pub mod credentials;
pub mod key_set;
pub mod key_source;
mod public_keys;
pub mod rate;
pub mod resume;
pub mod ticket;
pub mod token;

pub use credentials::authenticate;
pub use rate::spend_request;
pub use token::mint;

use crate::node::Node;
use jsonwebtoken::DecodingKey;
use key_set::NotRead;
use protocol::drain::KeyIds;
use protocol::{ErrorCode, SessionId, Settings, UserId};
use public_keys::Unknown;
use std::sync::{Arc, Once, PoisonError, RwLock};
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
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// HS256 keys of users' tokens.
    pub jwt: Vec<Vec<u8>>,
    /// HMAC keys of resume tokens, shared by all nodes.
    pub resume: Vec<Vec<u8>>,
    /// Bearer of `/admin/*`; `None`: open.
    pub admin: Option<String>,
    /// Another bearer that is good, while the first is new.
    pub admin_previous: Option<String>,
}

/// Keys as they are used.
struct Ready {
    jwt: Vec<DecodingKey>,
    resumes: resume::Resumes,
    admin: Vec<String>,
    ids: KeyIds,
}

impl Ready {
    fn new(keys: &Keys) -> Self {
        let admin: Vec<_> = keys.admin.iter().chain(&keys.admin_previous).cloned().collect();
        // Anybody can sign with an empty key.
        let usable = keys.jwt.iter().filter(|secret| !secret.is_empty());
        Self {
            ids: KeyIds {
                jwt: keys.jwt.iter().map(|key| name(key)).collect(),
                resume: keys.resume.iter().map(|key| name(key)).collect(),
                admin: admin.iter().map(|key| name(key.as_bytes())).collect(),
            },
            jwt: usable.map(|secret| DecodingKey::from_secret(secret)).collect(),
            resumes: resume::Resumes::new(&keys.resume),
            admin,
        }
    }
}

/// What a key is called in reports.
fn name(key: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key);
    digest.as_ref().iter().take(5).map(|byte| format!("{byte:02x}")).collect()
}

/// A token names a key that is not here; [`Admit::verify_patiently`] asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownKey;

/// Keeps the public keys of the node fresh, until it stops.
pub async fn keep_keys(node: Arc<Node>) {
    if let Some(public) = &node.admit.tokens.public {
        node.stop.run_until_cancelled(public.keep(&node.metrics)).await;
    }
}

/// Chooses the crypto library of the JWT crate. Once a process, as often as you like.
pub fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Refused only where somebody installed one before, and then there is one.
        let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    });
}

/// Checks tokens and keeps the accept buckets of one node.
pub struct Admit {
    tokens: token::Tokens,
    keys: RwLock<Arc<Ready>>,
    buckets: rate::Buckets,
    clock: Clock,
    leeway: Duration,
}

impl Admit {
    /// For one node.
    pub fn new(settings: &Settings, keys: Keys, clock: Clock) -> Self {
        install_crypto();
        Self {
            tokens: token::Tokens::new(&settings.auth, &clock),
            keys: RwLock::new(Arc::new(Ready::new(&keys))),
            buckets: rate::Buckets::new(&settings.limits, clock.clone()),
            leeway: Duration::from_millis(settings.auth.leeway_ms),
            clock,
        }
    }

    /// Takes other keys up. Whoever was let in by an earlier one stays.
    pub fn take_up(&self, keys: &Keys) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Ready::new(keys));
    }

    fn ready(&self) -> Arc<Ready> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the keys are called that are good now.
    pub fn key_ids(&self) -> KeyIds {
        self.ready().ids.clone()
    }

    /// Checks a user's token with the keys that are here.
    ///
    /// # Errors
    /// [`UnknownKey`], where that decides nothing. Inside: TOKEN_EXPIRED where nothing but its time
    /// is wrong, else UNAUTHENTICATED.
    pub fn verify_at_once(&self, token: &str) -> Result<Result<Identity, ErrorCode>, UnknownKey> {
        match self.tokens.read(&self.ready().jwt, token, self.clock.wall(), self.leeway) {
            Ok(identity) => Ok(self.still_good(identity)),
            Err(NotRead::Refused) => Ok(Err(ErrorCode::Unauthenticated)),
            Err(NotRead::UnknownKey) => Err(UnknownKey),
        }
    }

    /// Checks a user's token. Of a key that is not here: waits for newer keys, where they may be
    /// asked for; a few seconds at most.
    ///
    /// # Errors
    /// TOKEN_EXPIRED where nothing but its time is wrong. STORE_UNAVAILABLE where its key is not here
    /// and the issuer's keys cannot be read: nobody knows. Else UNAUTHENTICATED.
    pub async fn verify_patiently(&self, token: &str) -> Result<Identity, ErrorCode> {
        if let Ok(decided) = self.verify_at_once(token) {
            return decided;
        }
        let answered = match &self.tokens.public {
            Some(public) => public.refresh().await,
            None => true,
        };
        if answered { self.verify(token) } else { Err(ErrorCode::StoreUnavailable) }
    }

    /// As [`Self::verify_patiently`], without the patience.
    ///
    /// # Errors
    /// As [`Self::verify_patiently`].
    pub fn verify(&self, token: &str) -> Result<Identity, ErrorCode> {
        self.verify_at_once(token).unwrap_or_else(|UnknownKey| {
            Err(match self.tokens.public.as_ref().map(public_keys::PublicKeys::unknown) {
                Some(Unknown::ToThisNode) => ErrorCode::StoreUnavailable,
                Some(Unknown::ToTheIssuer) | None => ErrorCode::Unauthenticated,
            })
        })
    }

    /// Public keys that are here: `None` where none are configured, 0 before they were read.
    pub fn public_keys(&self) -> Option<usize> {
        self.tokens.public.as_ref().map(|public| public.count().unwrap_or_default())
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
        self.ready().resumes.issue(identity, session, slot_ms, self.clock.wall())
    }

    /// Whether a resume token is good for this user and session.
    pub fn is_resume(&self, token: &str, user: &UserId, session: SessionId) -> bool {
        self.ready().resumes.is_good(token, user, session, self.clock.wall())
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
        let keys = &self.ready().admin;
        if keys.is_empty() {
            return true;
        }
        let given = match credentials::bearer(headers) {
            Some(Ok(given)) => given,
            None | Some(Err(_)) => return false,
        };
        let fits = |key: &String| {
            aws_lc_rs::constant_time::verify_slices_are_equal(given.as_bytes(), key.as_bytes())
                .is_ok()
        };
        keys.iter().any(fits)
    }
}
