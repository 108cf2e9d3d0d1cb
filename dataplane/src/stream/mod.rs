//! Live answers: accepting a request, the one task that owns each upstream call, leases, takeovers.
//!
//! Producers share no channel and no lock with sessions: the log is where they meet.

pub mod accept;
pub mod lease;
pub mod takeover;

use protocol::{Epoch, MessageId};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use accept::Refusal;

/// The live streams this node owns.
pub struct Streams {
    limit: usize,
    live: Mutex<HashMap<MessageId, Epoch>>,
}

impl Streams {
    /// At most `limit`; takeovers may exceed it by half.
    pub fn new(limit: usize) -> Self {
        Self { limit, live: Mutex::new(HashMap::new()) }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether none.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Whether one more may be accepted.
    pub fn has_place(&self) -> bool {
        self.len() < self.limit
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<MessageId, Epoch>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a refused client should wait where nothing better is known.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);
