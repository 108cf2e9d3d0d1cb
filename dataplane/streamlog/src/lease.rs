//! How long a node's own lease is certainly alive, by its own monotonic clock.

use crate::clock::Clock;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A node may serve a live stream from its own memory only while this says so (invariant 2b).
/// Counted from before the renewal was sent, so that no delay of the answer can stretch it.
#[derive(Debug)]
pub struct Lease {
    clock: Clock,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    until: Instant,
    /// Renewals sent until then are void: the store may have applied them before the release.
    released: Option<Instant>,
    generation: u64,
}

impl Lease {
    /// Not held yet.
    pub fn new(clock: Clock) -> Self {
        let held = Mutex::new(Held { until: clock.now(), released: None, generation: 0 });
        Self { clock, held }
    }

    /// The store acknowledged a renewal that was sent at `sent` for `ttl`. After a lapse a new
    /// generation begins: what was owned before must be confirmed again. A renewal that was sent
    /// before a release proves nothing after it.
    pub fn renewed(&self, sent: Instant, ttl: Duration) {
        let now = self.clock.now();
        let mut held = self.lock();
        if held.released.is_some_and(|released| sent <= released) {
            return;
        }
        if now >= held.until {
            held.generation += 1;
        }
        held.until = held.until.max(sent + ttl);
    }

    /// Given up: nothing is certain any more. Called before the store is told.
    pub fn released(&self) {
        let now = self.clock.now();
        let mut held = self.lock();
        held.until = held.until.min(now);
        held.released = Some(now);
    }

    /// The generation in which the lease is certainly alive now.
    pub fn certain(&self) -> Option<u64> {
        let held = self.lock();
        (self.clock.now() < held.until).then_some(held.generation)
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
