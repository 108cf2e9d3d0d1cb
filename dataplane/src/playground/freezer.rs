//! Stops a node's only thread for a while, as SIGSTOP stops a process.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Shared by a node's thread, which freezes, and by whoever asks for it.
#[derive(Default)]
pub(super) struct Freezer {
    until: Mutex<Option<Instant>>,
    thawed: Condvar,
    asked: Notify,
}

impl Freezer {
    /// Asks the thread to freeze; a later end replaces an earlier one.
    pub(super) fn freeze(&self, duration: Duration) {
        let end = Instant::now() + duration;
        let mut until = self.lock();
        *until = Some(until.map_or(end, |earlier| earlier.max(end)));
        self.asked.notify_one();
    }

    /// Ends the freeze at once.
    pub(super) fn thaw(&self) {
        *self.lock() = None;
        self.thawed.notify_all();
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.lock().is_some()
    }

    /// Waits until a freeze is asked for.
    pub(super) async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Blocks the calling thread, and with it everything that runs there, until the freeze is over.
    pub(super) fn hold(&self) {
        let mut until = self.lock();
        while let Some(end) = *until {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                *until = None;
                return;
            }
            let waited = self.thawed.wait_timeout(until, left);
            until = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
