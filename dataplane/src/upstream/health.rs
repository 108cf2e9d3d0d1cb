//! What a node knows of one provider: its breaker and what became of its calls. Read by whoever tells
//! statistics, written by the calls themselves.

use super::breaker::{Breaker, BreakerState, Permit};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use streamlog::Clock;
use tokio::time::Instant;

/// How one provider does, as one node sees it. Counts are of this incarnation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderStatistics {
    /// Its name in the settings: of a closed, short list.
    pub provider: String,
    /// What its breaker lets through.
    pub breaker: BreakerState,
    /// How often the breaker opened.
    pub opened: u64,
    /// Calls begun.
    pub calls: u64,
    /// Calls that failed: not reached, overloaded, too slow, broken off.
    pub failed: u64,
    /// Requests that did not wait for its limiter any longer.
    pub limited: u64,
}

/// Of one provider.
pub(super) struct Health {
    provider: String,
    clock: Clock,
    breaker: Mutex<Breaker>,
    calls: AtomicU64,
    failed: AtomicU64,
    limited: AtomicU64,
}

impl Health {
    pub(super) fn new(provider: &str, clock: Clock) -> Self {
        Self {
            provider: provider.to_owned(),
            clock,
            breaker: Mutex::default(),
            calls: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            limited: AtomicU64::new(0),
        }
    }

    /// Whether a call would be let through now.
    pub(super) fn would_admit(&self) -> bool {
        self.breaker().would_admit(self.clock.now())
    }

    /// Begins a call, if the breaker lets it through. Dropped while it waits for something that is
    /// nearly `patience` late, it has failed.
    pub(super) fn begin(self: &Arc<Self>, patience: Duration) -> Option<Attempt> {
        let now = self.clock.now();
        let permit = self.breaker().admit(now)?;
        self.calls.fetch_add(1, Ordering::Relaxed);
        let waits_since = Some(now);
        Some(Attempt { health: self.clone(), permit: Some(permit), waits_since, patience })
    }

    /// A request did not wait for the limiter any longer.
    pub(super) fn limited(&self) {
        self.limited.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn statistics(&self) -> ProviderStatistics {
        let breaker = self.breaker();
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        ProviderStatistics {
            provider: self.provider.clone(),
            breaker: breaker.state(self.clock.now()),
            opened: breaker.opened(),
            calls: count(&self.calls),
            failed: count(&self.failed),
            limited: count(&self.limited),
        }
    }

    fn report(&self, permit: Permit, failed: bool) {
        if failed {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        let now = self.clock.now();
        let mut breaker = self.breaker();
        let before = breaker.opened();
        breaker.report(permit, failed, now);
        if breaker.opened() > before {
            tracing::warn!(provider = %self.provider, "half of its last calls failed: its breaker opens");
        }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call, from the decision to make it to the end of its stream.
pub(super) struct Attempt {
    health: Arc<Health>,
    permit: Option<Permit>,
    /// Since when the provider is silent.
    waits_since: Option<Instant>,
    patience: Duration,
}

impl Attempt {
    /// Nothing is there to be read.
    pub(super) fn waits(&mut self) {
        if self.waits_since.is_none() {
            self.waits_since = Some(self.health.clock.now());
        }
    }

    /// The provider said something.
    pub(super) fn heard(&mut self) {
        self.waits_since = None;
    }

    /// From now on it may be silent for so long.
    pub(super) fn wait_at_most(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// It ended by itself.
    pub(super) fn succeeded(&mut self) {
        self.end(Some(false));
    }

    /// It failed, and the provider is to blame.
    pub(super) fn failed(&mut self) {
        self.end(Some(true));
    }

    /// It ended, which says nothing about the provider.
    pub(super) fn ended(&mut self) {
        self.end(None);
    }

    /// Only the first end counts.
    fn end(&mut self, failed: Option<bool>) {
        if let (Some(permit), Some(failed)) = (self.permit.take(), failed) {
            self.health.report(permit, failed);
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let since = |at| self.health.clock.now().saturating_duration_since(at);
        // Whoever lost patience looks at the clock a little earlier or later than this call did.
        let late = self.waits_since.is_some_and(|at| since(at) >= self.patience * 9 / 10);
        self.end(late.then_some(true));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn only_the_first_end_counts_and_only_a_late_provider_is_blamed_for_a_drop() {
        let health = Arc::new(Health::new("p", Clock::system()));
        let begin = || health.begin(PATIENCE).unwrap();
        let mut attempt = begin();
        attempt.succeeded();
        attempt.failed();
        drop(attempt);
        assert_eq!(health.statistics().failed, 0);
        begin().failed();
        begin().ended();
        drop(begin());
        assert_eq!(health.statistics().failed, 1, "cancelled at once, or a bad request");
        let silent = begin();
        let mut spoke = begin();
        tokio::time::advance(PATIENCE).await;
        spoke.heard();
        spoke.waits();
        drop(spoke);
        assert_eq!(health.statistics().failed, 1, "it waits only since it last spoke");
        drop(silent);
        let seen = health.statistics();
        assert_eq!((seen.calls, seen.failed, seen.opened), (6, 2, 0));
        (0..3).for_each(|_| begin().failed());
        let seen = health.statistics();
        assert_eq!((seen.breaker, seen.opened), (BreakerState::Open, 1));
        assert!(health.begin(PATIENCE).is_none() && !health.would_admit());
    }
}
