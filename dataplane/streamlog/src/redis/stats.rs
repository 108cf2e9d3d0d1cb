//! What the engine counts about itself.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counters since the start, and the state now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RedisStats {
    /// Calls of the store, pipelines counted once for each command in them.
    pub calls: u64,
    /// Pipelines, each one write to a socket.
    pub pipelines: u64,
    /// Pipelines that failed.
    pub errors: u64,
    /// Pipelines tried again after a connection broke.
    pub retries: u64,
    /// Connections made.
    pub connects: u64,
    /// Whether calls are refused without asking the store.
    pub breaker_open: bool,
    /// How often that began.
    pub breaker_opens: u64,
    /// Whether hints arrive.
    pub subscribed: bool,
    /// Subscriptions made; all but the first after a loss.
    pub subscriptions: u64,
    /// Hints received.
    pub hints: u64,
    /// Sweeps over the followed streams.
    pub sweeps: u64,
    /// Streams whose change a sweep found, not a hint.
    pub backfills: u64,
    /// Reads answered with text that came with hints.
    pub told_reads: u64,
    /// Reads that shared the answer of another one.
    pub shared_reads: u64,
    /// Streams remembered here, followed or owned.
    pub streams: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) calls: AtomicU64,
    pub(super) pipelines: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) connects: AtomicU64,
    pub(super) subscribed: AtomicBool,
    pub(super) subscriptions: AtomicU64,
    pub(super) hints: AtomicU64,
    pub(super) sweeps: AtomicU64,
    pub(super) backfills: AtomicU64,
    pub(super) shared_reads: AtomicU64,
    pub(super) told_reads: AtomicU64,
}

pub(super) fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}

impl Counters {
    pub(super) fn snapshot(&self) -> RedisStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RedisStats {
            calls: get(&self.calls),
            pipelines: get(&self.pipelines),
            errors: get(&self.errors),
            retries: get(&self.retries),
            connects: get(&self.connects),
            subscribed: self.subscribed.load(Ordering::Relaxed),
            subscriptions: get(&self.subscriptions),
            hints: get(&self.hints),
            sweeps: get(&self.sweeps),
            backfills: get(&self.backfills),
            shared_reads: get(&self.shared_reads),
            told_reads: get(&self.told_reads),
            ..RedisStats::default()
        }
    }
}
