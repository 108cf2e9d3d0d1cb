//! Live answers: accepting a request, the one task that owns each upstream call, leases, takeovers.
//!
//! Producers share no channel and no lock with sessions: the log is where they meet. Reading order:
//! [`accept`] → [`start`] → [`producer`] → [`coalesce`] → [`outcome`] → `watched` → [`lease`] →
//! [`contact`] → [`policy`] → [`takeover`] → [`repair`] → [`hints`] → [`context`].

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
pub mod repair;
pub mod start;
pub mod takeover;
mod watched;

use crate::node::Node;
use protocol::MessageId;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use streamlog::bell::{Bell, Listener};
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

pub use accept::Refusal;

/// A follower's node says every few seconds, in [`streamlog::Space::Followed`], that somebody
/// follows an answer that would else be cancelled; its word lasts this long.
pub const FOLLOWED_TTL: Duration = Duration::from_secs(10);

/// The live streams this node owns or is about to own.
pub struct Streams {
    limit: AtomicUsize,
    live: Arc<Mutex<Live>>,
    /// Wakes the takeover look before its time.
    pub(crate) look: Notify,
    /// The store came back as another run: what this node owns may be lost there.
    pub(crate) lost: Notify,
}

type Live = HashMap<MessageId, Arc<Call>>;

/// How a stream's owner is made to look at what does not come by itself.
#[derive(Default)]
struct Call {
    bell: Bell,
    /// Its marks may have changed: not only time has passed.
    marked: AtomicBool,
}

impl Streams {
    /// At most `limit`; takeovers may exceed it by half.
    pub fn new(limit: usize) -> Self {
        let limit = AtomicUsize::new(limit);
        Self { limit, live: Arc::default(), look: Notify::new(), lost: Notify::new() }
    }

    /// At most so many from now on; those that are there stay.
    pub fn bound(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
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
        self.reserve_within(stream, self.limit())
    }

    /// Whether this node owns the stream or is about to.
    pub fn has(&self, stream: MessageId) -> bool {
        self.lock().contains_key(&stream)
    }

    /// Takes a place for a takeover: half as many again.
    pub fn reserve_takeover(&self, stream: MessageId) -> Option<Place> {
        let limit = self.limit();
        self.reserve_within(stream, limit + limit / 2)
    }

    /// Takes a place for a stream that is only claimed to be sealed.
    pub fn reserve_unbounded(&self, stream: MessageId) -> Option<Place> {
        self.reserve_within(stream, usize::MAX)
    }

    /// Whether a new answer would find a place.
    pub fn has_place(&self) -> bool {
        self.len() < self.limit()
    }

    /// Makes the owner of a stream look at its marks now.
    pub fn nudge(&self, stream: MessageId) {
        if let Some(call) = self.lock().get(&stream) {
            call.marked.store(true, Ordering::Release);
            call.bell.ring();
        }
    }

    /// Makes every owner look around: one timer a node instead of one a stream.
    fn call_all(&self) {
        self.lock().values().for_each(|call| call.bell.ring());
    }

    fn reserve_within(&self, stream: MessageId, limit: usize) -> Option<Place> {
        let mut live = self.lock();
        if live.len() >= limit || live.contains_key(&stream) {
            return None;
        }
        let call = Arc::<Call>::default();
        live.insert(stream, call.clone());
        let called = call.bell.listen();
        Some(Place { stream, call, called, live: self.live.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the live streams; given back when dropped.
pub struct Place {
    stream: MessageId,
    call: Arc<Call>,
    called: Listener,
    live: Arc<Mutex<Live>>,
}

impl Place {
    /// Waits until the owner is to look around: every `ownership.lookMs`, or when it is nudged.
    pub async fn called(&mut self) {
        // The bell is there as long as the place.
        let _ = self.called.rung().await;
    }

    /// Whether somebody nudged since the last call.
    pub fn take_nudge(&self) -> bool {
        self.call.marked.swap(false, Ordering::AcqRel)
    }
}

/// Makes the owners of all live streams look around until the node stops, and then once more.
pub async fn call_owners(node: Arc<Node>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(node.settings.ownership.look_ms));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = node.stop.cancelled() => break,
            _ = ticks.tick() => node.streams.call_all(),
        }
    }
    node.streams.call_all();
}

impl Drop for Place {
    fn drop(&mut self) {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.stream);
    }
}
