//! How often: accept buckets of one node, and request rates of one user over all nodes.

use crate::metrics::Limited;
use crate::node::Node;
use crate::stream::Refusal;
use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use protocol::{ErrorCode, UserId, settings};
use std::num::NonZeroU32;
use std::time::Duration;
use streamlog::registry::Rate;
use streamlog::{Clock, Key, Space};
use tokio::time::Instant;

/// The node's clock as the bucket library wants it: time since the node began.
#[derive(Clone)]
pub(crate) struct BucketClock {
    clock: Clock,
    base: Instant,
}

impl BucketClock {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { base: clock.now(), clock }
    }
}

impl governor::clock::Clock for BucketClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.clock.now().saturating_duration_since(self.base)
    }
}

type Bucket = RateLimiter<NotKeyed, InMemoryState, BucketClock, NoOpMiddleware<Duration>>;

/// Two buckets, so that a crowd of new sockets cannot keep those out that only come back.
pub(super) struct Buckets {
    accepts: Bucket,
    resumes: Bucket,
    clock: BucketClock,
}

impl Buckets {
    pub(super) fn new(limits: &settings::Limits, clock: Clock) -> Self {
        let clock = BucketClock::new(clock);
        let bucket = |per_second| {
            let quota = Quota::per_second(at_least_one(per_second));
            let quota = quota.allow_burst(at_least_one(limits.accept_burst));
            Bucket::direct_with_clock(quota, clock.clone())
        };
        Self {
            accepts: bucket(limits.accepts_per_second),
            resumes: bucket(limits.resumes_per_second),
            clock,
        }
    }

    pub(super) fn enter(&self, resuming: bool) -> Result<(), Duration> {
        let bucket = if resuming { &self.resumes } else { &self.accepts };
        bucket.check().map_err(|not_until| not_until.wait_time_from(self.clock.now()))
    }
}

fn at_least_one(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN)
}

/// Counts one CHAT_REQUEST of a user, over all nodes.
///
/// # Errors
/// RATE_LIMITED with the time until the next is allowed, STORE_UNAVAILABLE.
pub async fn spend_request(node: &Node, user: &UserId) -> Result<(), Refusal> {
    spend(node, user, "requests", Limited::Requests).await
}

/// Counts one ticket of a user: each is a fact in the store. The same limits as of requests.
///
/// # Errors
/// As [`spend_request`].
pub async fn spend_ticket(node: &Node, user: &UserId) -> Result<(), Refusal> {
    spend(node, user, "tickets", Limited::Tickets).await
}

async fn spend(node: &Node, user: &UserId, name: &str, limit: Limited) -> Result<(), Refusal> {
    let current = node.hot.now();
    let limits = &current.limits;
    let period = Duration::from_secs(60) / at_least_one(limits.requests_per_minute).get();
    let rate = Rate { period, burst: at_least_one(limits.request_burst).get() };
    let key = Key::of(Space::Rate, user, name);
    node.registry.spend(&key, 1, rate).await?.map_err(|wait| {
        node.metrics.limited(limit);
        Refusal { code: ErrorCode::RateLimited, retry_after: Some(wait) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(burst: u32) -> Buckets {
        let limits = settings::Limits {
            accepts_per_second: 2,
            resumes_per_second: 10,
            accept_burst: burst,
            ..settings::Limits::default()
        };
        Buckets::new(&limits, Clock::system())
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_bucket_says_how_long_and_the_other_is_untouched() {
        let buckets = buckets(3);
        for _ in 0..3 {
            assert_eq!(buckets.enter(false), Ok(()));
        }
        assert_eq!(buckets.enter(false), Err(Duration::from_millis(500)));
        assert_eq!(buckets.enter(true), Ok(()));
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(buckets.enter(false), Ok(()));
        assert!(buckets.enter(false).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_of_none_still_lets_one_in() {
        let buckets = buckets(0);
        assert_eq!(buckets.enter(true), Ok(()));
        assert!(buckets.enter(true).is_err());
    }
}
