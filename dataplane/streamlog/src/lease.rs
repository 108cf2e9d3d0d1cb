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

    /// The last generation, whether it is alive or not. To confirm something under one that has lapsed
    /// proves nothing, and harms nothing: it is never the certain one again.
    pub fn generation(&self) -> Option<u64> {
        Some(self.lock().generation)
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    const TTL: Duration = Duration::from_secs(5);
    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn counts_from_before_the_renewal_was_sent() {
        let clock = Clock::system();
        let lease = Lease::new(clock.clone());
        assert_eq!(lease.certain(), None, "not held yet");
        let sent = clock.now();
        sleep(SECOND * 2).await;
        lease.renewed(sent, TTL);
        let first = lease.certain();
        assert!(first.is_some());
        sleep(SECOND * 3 - Duration::from_millis(1)).await;
        assert_eq!(lease.certain(), first);
        sleep(Duration::from_millis(1)).await;
        assert_eq!(lease.certain(), None, "at its end it is over");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lapse_begins_a_new_generation_and_a_renewal_in_time_does_not() {
        let clock = Clock::system();
        let lease = Lease::new(clock.clone());
        lease.renewed(clock.now(), TTL);
        let first = lease.certain();
        for _ in 0..5 {
            sleep(SECOND * 4).await;
            lease.renewed(clock.now(), TTL);
            assert_eq!(lease.certain(), first);
        }
        // Sent in time, but known too late: in between nothing was certain.
        sleep(SECOND * 4).await;
        let sent = clock.now();
        sleep(SECOND * 2).await;
        assert_eq!(lease.certain(), None);
        lease.renewed(sent, TTL);
        assert!(lease.certain() > first);
    }

    #[tokio::test(start_paused = true)]
    async fn an_older_answer_shortens_nothing_and_a_very_late_one_gives_nothing() {
        let clock = Clock::system();
        let lease = Lease::new(clock.clone());
        let early = clock.now();
        sleep(SECOND).await;
        lease.renewed(clock.now(), TTL);
        lease.renewed(early, TTL);
        sleep(SECOND * 5 - Duration::from_millis(1)).await;
        assert!(lease.certain().is_some());
        sleep(SECOND).await;
        lease.renewed(early, TTL);
        assert_eq!(lease.certain(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_on_its_way_does_not_undo_a_release() {
        let clock = Clock::system();
        let lease = Lease::new(clock.clone());
        lease.renewed(clock.now(), TTL);
        let sent = clock.now();
        sleep(SECOND).await;
        lease.released();
        assert_eq!(lease.certain(), None);
        lease.renewed(sent, TTL);
        assert_eq!(lease.certain(), None);
        sleep(SECOND).await;
        lease.renewed(clock.now(), TTL);
        assert!(lease.certain().is_some(), "a later one takes it again");
    }
}
