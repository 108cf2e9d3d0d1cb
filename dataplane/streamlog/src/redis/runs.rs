//! Which run of the store this engine talks to, and since when: a store that came back as another run
//! may not have everything back yet.

use crate::clock::Clock;
use crate::error::LogError;
use crate::log::{RUN_GRACE, RUN_RETRY};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;
use uuid::Uuid;

/// Shared by all connections of an engine: whichever comes first learns of a new run, before it
/// carries any command.
#[derive(Clone)]
pub(super) struct Runs {
    clock: Clock,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    run: Option<Uuid>,
    changed: Option<Instant>,
}

impl Runs {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, seen: Arc::default() }
    }

    /// A connection found this run at its other end.
    pub(super) fn saw(&self, run: Uuid) {
        let mut seen = self.lock();
        if seen.run.replace(run).is_some_and(|known| known != run) {
            seen.changed = Some(self.clock.now());
        }
    }

    /// What a stream, or a promise, is that the store does not have: gone, or perhaps about to be
    /// written back.
    pub(super) fn absent(&self) -> LogError {
        let changed = self.lock().changed;
        let since = changed.map(|at| self.clock.now().saturating_duration_since(at));
        match since {
            Some(since) if since < RUN_GRACE => LogError::Unavailable { retry: RUN_RETRY },
            _ => LogError::NotFound,
        }
    }

    /// `Unavailable` while what is absent may only be on its way back.
    pub(super) fn settled(&self) -> Result<(), LogError> {
        match self.absent() {
            LogError::NotFound => Ok(()),
            away => Err(away),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_another_run_makes_absence_doubtful_and_not_for_long() {
        let runs = Runs::new(Clock::system());
        runs.saw(Uuid::from_u128(1));
        runs.saw(Uuid::from_u128(1));
        assert_eq!(runs.absent(), LogError::NotFound);
        runs.saw(Uuid::from_u128(2));
        assert_eq!(runs.absent(), LogError::Unavailable { retry: RUN_RETRY });
        assert!(runs.settled().is_err());
        tokio::time::sleep(RUN_GRACE / 2).await;
        // The other connections come later.
        runs.saw(Uuid::from_u128(2));
        tokio::time::sleep(RUN_GRACE / 2).await;
        assert_eq!(runs.absent(), LogError::NotFound);
        assert!(runs.settled().is_ok());
    }
}
