//! How often one node asks one provider, and how long it leaves it alone when it was told to.

use crate::admit::rate::BucketClock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use streamlog::Clock;
use tokio::time::{Instant, sleep_until};

type Bucket = RateLimiter<NotKeyed, InMemoryState, BucketClock, NoOpMiddleware<Duration>>;

/// One provider's bucket of calls.
pub(super) struct Limiter {
    bucket: Bucket,
    bucket_clock: BucketClock,
    clock: Clock,
    /// The provider asked to be left alone until then.
    held: Mutex<Option<Instant>>,
}

impl Limiter {
    pub(super) fn new(calls_per_minute: u32, burst: u32, clock: Clock) -> Self {
        let least = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_minute(least(calls_per_minute)).allow_burst(least(burst));
        let bucket_clock = BucketClock::new(clock.clone());
        let bucket = Bucket::direct_with_clock(quota, bucket_clock.clone());
        Self { bucket, bucket_clock, clock, held: Mutex::default() }
    }

    /// Takes the right to one call, waiting for it until `deadline`.
    ///
    /// # Errors
    /// How long it would have taken from now on; nothing was waited for where that was known.
    pub(super) async fn take(&self, deadline: Instant) -> Result<(), Duration> {
        loop {
            let Err(wait) = self.try_take() else { return Ok(()) };
            let at = self.clock.now() + wait;
            if at > deadline {
                return Err(wait);
            }
            sleep_until(at).await;
        }
    }

    fn try_take(&self) -> Result<(), Duration> {
        let held = *self.lock();
        let held = held.map_or(Duration::ZERO, |at| at.saturating_duration_since(self.clock.now()));
        if !held.is_zero() {
            return Err(held);
        }
        let taken = self.bucket.check();
        taken.map_err(|not_until| {
            let now = governor::clock::Clock::now(&self.bucket_clock);
            // The timer counts whole milliseconds: one too few would look for nothing.
            not_until.wait_time_from(now).max(Duration::from_millis(1))
        })
    }

    /// Leaves the provider alone for so long; never shorter than was asked before.
    pub(super) fn hold(&self, wait: Duration) {
        let until = self.clock.now() + wait;
        let mut held = self.lock();
        *held = Some(held.map_or(until, |before| before.max(until)));
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn a_call_waits_for_its_turn_and_not_for_one_that_comes_too_late() {
        let clock = Clock::system();
        let limiter = Limiter::new(30, 2, clock.clone());
        let start = clock.now();
        let take = async || limiter.take(clock.now() + PATIENCE).await;
        for waited in [0, 0, 2, 4] {
            assert_eq!(take().await, Ok(()));
            assert_eq!((clock.now() - start).as_secs(), waited);
        }
        let slow = Limiter::new(6, 1, clock.clone());
        slow.take(clock.now()).await.unwrap();
        let before = clock.now();
        assert!(slow.take(clock.now() + PATIENCE).await.unwrap_err() > PATIENCE);
        assert_eq!(clock.now(), before, "known in advance");
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_is_left_alone_as_long_as_it_asked() {
        let clock = Clock::system();
        let limiter = Limiter::new(6_000, 100, clock.clone());
        limiter.hold(Duration::from_secs(3));
        limiter.hold(Duration::from_secs(1));
        let start = clock.now();
        limiter.take(start + PATIENCE).await.unwrap();
        assert_eq!((clock.now() - start).as_secs(), 3);
        limiter.hold(Duration::from_secs(6));
        assert_eq!(limiter.take(clock.now() + PATIENCE).await, Err(Duration::from_secs(6)));
    }
}
