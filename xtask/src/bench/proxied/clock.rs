//! One clock for the provider and the clients, which are threads of one process: a time in a text can
//! be compared with the time at which it was read.

use crate::process::now;
use std::time::{Duration, Instant};

/// Nanoseconds since it was made, of the machine's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    /// Begins at 0.
    pub(super) fn new() -> Self {
        Self(now())
    }

    pub(super) fn nanos(self) -> u64 {
        nanos(self.0.elapsed())
    }
}

/// A time as the clock counts it.
pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
