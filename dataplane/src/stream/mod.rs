//! Live answers: accepting a request, the one task that owns each upstream call, leases, takeovers.
//!
//! Producers share no channel and no lock with sessions: the log is where they meet. Reading order:
//! [`accept`] → [`producer`] → [`coalesce`] → [`outcome`] → [`lease`] → [`contact`] → [`policy`] →
//! [`takeover`] → [`hints`] → [`context`].

pub mod accept;
pub mod coalesce;
pub mod contact;
pub mod context;
pub mod hints;
pub mod lease;
pub mod outcome;
pub mod policy;
mod presence;
pub mod producer;
pub mod takeover;

use protocol::MessageId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

pub use accept::Refusal;

/// A follower's node says every few seconds, in [`streamlog::Space::Followed`], that somebody
/// follows an answer that would else be cancelled; its word lasts this long.
pub const FOLLOWED_TTL: Duration = Duration::from_secs(10);

/// The live streams this node owns or is about to own.
pub struct Streams {
    limit: usize,
    live: Arc<Mutex<Live>>,
    /// Wakes the takeover look before its time.
    pub(crate) look: Notify,
}

type Live = HashMap<MessageId, Arc<Notify>>;

impl Streams {
    /// At most `limit`; takeovers may exceed it by half.
    pub fn new(limit: usize) -> Self {
        Self { limit, live: Arc::default(), look: Notify::new() }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether none.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Their names.
    pub fn ids(&self) -> Vec<MessageId> {
        self.lock().keys().copied().collect()
    }

    /// Takes a place for a new answer; `None` when the node is full or has that stream already.
    pub fn reserve(&self, stream: MessageId) -> Option<Place> {
        self.reserve_within(stream, self.limit)
    }

    /// Whether this node owns the stream or is about to.
    pub fn has(&self, stream: MessageId) -> bool {
        self.lock().contains_key(&stream)
    }

    /// Takes a place for a takeover: half as many again.
    pub fn reserve_takeover(&self, stream: MessageId) -> Option<Place> {
        self.reserve_within(stream, self.limit + self.limit / 2)
    }

    /// Takes a place for a stream that is only claimed to be sealed.
    pub fn reserve_unbounded(&self, stream: MessageId) -> Option<Place> {
        self.reserve_within(stream, usize::MAX)
    }

    /// Whether a new answer would find a place.
    pub fn has_place(&self) -> bool {
        self.len() < self.limit
    }

    /// Makes the owner of a stream look at its marks now.
    pub fn nudge(&self, stream: MessageId) {
        if let Some(nudge) = self.lock().get(&stream) {
            nudge.notify_one();
        }
    }

    fn reserve_within(&self, stream: MessageId, limit: usize) -> Option<Place> {
        let mut live = self.lock();
        if live.len() >= limit || live.contains_key(&stream) {
            return None;
        }
        let nudge = Arc::new(Notify::new());
        live.insert(stream, nudge.clone());
        Some(Place { stream, nudge, live: self.live.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the live streams; given back when dropped.
pub struct Place {
    stream: MessageId,
    nudge: Arc<Notify>,
    live: Arc<Mutex<Live>>,
}

impl Place {
    /// Waits until somebody asks the owner to look at the stream's marks.
    pub async fn nudged(&self) {
        self.nudge.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.stream);
    }
}
