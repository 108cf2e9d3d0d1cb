//! When a store that does not answer is not asked: after some failures in a row, but for one probe a
//! second.

use crate::clock::Clock;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Failures in a row after which the breaker opens.
const FAILURES: u32 = 5;
/// While it is open, one call in this time goes through.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// Counts the calls of one node; no call waits in it.
#[derive(Debug)]
pub(super) struct Breaker {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// Open; the next probe may go then.
    probe_at: Option<Instant>,
    opens: u64,
}

impl Breaker {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, state: Mutex::default() }
    }

    /// Whether a call may go through now.
    pub(super) fn admits(&self) -> bool {
        let now = self.clock.now();
        let mut state = self.lock();
        match state.probe_at {
            None => true,
            Some(at) if now >= at => {
                state.probe_at = Some(now + PROBE_EVERY);
                true
            }
            Some(_) => false,
        }
    }

    pub(super) fn succeeded(&self) {
        let mut state = self.lock();
        (state.failures, state.probe_at) = (0, None);
    }

    pub(super) fn failed(&self) {
        let now = self.clock.now();
        let mut state = self.lock();
        state.failures = state.failures.saturating_add(1);
        if state.failures >= FAILURES && state.probe_at.is_none() {
            state.probe_at = Some(now + PROBE_EVERY);
            state.opens += 1;
        }
    }

    /// Whether it is open, and how often it opened.
    pub(super) fn snapshot(&self) -> (bool, u64) {
        let state = self.lock();
        (state.probe_at.is_some(), state.opens)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn opens_after_failures_in_a_row_and_lets_one_probe_a_second_through() {
        let breaker = Breaker::new(Clock::system());
        for _ in 0..FAILURES - 1 {
            breaker.failed();
        }
        breaker.succeeded();
        for _ in 0..FAILURES - 1 {
            breaker.failed();
            assert!(breaker.admits());
        }
        breaker.failed();
        assert_eq!(breaker.snapshot(), (true, 1));
        for _ in 0..3 {
            assert!(!breaker.admits());
            tokio::time::sleep(PROBE_EVERY).await;
            assert!(breaker.admits(), "half open");
            assert!(!breaker.admits(), "for one");
            breaker.failed();
        }
        breaker.succeeded();
        assert!(breaker.admits() && breaker.admits());
        assert_eq!(breaker.snapshot(), (false, 1));
    }
}
