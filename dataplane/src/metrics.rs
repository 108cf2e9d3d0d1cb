//! Every metric of a node: callers say what happened (`stream_sealed`, `took_over`, …), and names,
//! units and labels stay here.
//!
//! [`catalog`] says what each metric is, `labels` which values its labels may have, `exposition` what
//! a scrape gets, [`document`](mod@document) what people read about it. Label values come from closed
//! enums, never from a request: their number is bounded and none is an id.

mod bus;
pub mod catalog;
pub mod document;
mod exposition;
mod histogram;
mod labels;
mod redis;
mod upstream;

pub use labels::{CallEnd, Label, Limited, SocketRefusal, Via};
pub use upstream::{BreakerState, ProviderStatistics};

use crate::broadcast;
use bus::CountedBus;
use histogram::{Histogram, Scale};
use labels::{
    Auth, Bus as BusOutcome, ByAuth, ByBroadcast, ByBus, ByCall, ByClose, ByDialect, ByLimit,
    ByMode, ByOutcome, ByRefusal, ByReset, BySource, ByStatus, ByTokens, ByVia, Closed, Hinted,
    Success, Tokens,
};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use protocol::drain::Harm;
use protocol::server_frame::{RecoveryStatus, ResetReason, Source, TakeoverMode};
use protocol::{CloseCode, Dialect, DrainPhase, ErrorCode, Seal, SealStatus, Usage};
use std::hash::Hash;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use streamlog::redis::RedisEngine;
use streamlog::tiered::ReadCounts;
use streamlog::{Bus, BusEvent};

/// Content type of what [`Metrics::scrape`] returns.
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Milliseconds, told in seconds: from a fast answer of memory to the 300 s an answer may take.
const LATENCY: Scale = Scale {
    bounds: &[5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 100_000, 300_000],
    per_unit: 1e3,
};
/// Tokens or chunks of one answer.
const LENGTH: Scale =
    Scale { bounds: &[16, 64, 256, 1_000, 4_000, 16_000, 64_000, 256_000], per_unit: 1.0 };

/// What is read when the metrics are asked for, instead of being counted up and down.
#[derive(Clone, Debug)]
pub struct Gauges {
    /// Open sockets.
    pub sockets: usize,
    /// Sessions that have one.
    pub sessions: usize,
    /// Live streams the node owns.
    pub streams: usize,
    /// Where the node stands.
    pub phase: DrainPhase,
    /// Whether the node's lease is certainly alive.
    pub lease: bool,
    /// Where reads of the log were answered.
    pub reads: ReadCounts,
    /// How the providers of the settings do; none where there is nothing to tell.
    pub providers: Vec<ProviderStatistics>,
}

/// What was written to clients in one way.
struct Delivered {
    chunks: Counter,
    bytes: Counter,
}

impl Delivered {
    fn of(via: Via, chunks: &Family<ByVia, Counter>, bytes: &Family<ByVia, Counter>) -> Self {
        let chunks = chunks.get_or_create_owned(&ByVia::of(via));
        Self { chunks, bytes: bytes.get_or_create_owned(&ByVia::of(via)) }
    }
}

/// The metrics of one node.
pub struct Metrics {
    /// Streams accepted.
    pub streams_started: Counter,
    /// Streams written back into a store that had lost them.
    pub streams_repaired: Counter,
    sockets_accepted: Family<ByDialect, Counter>,
    sockets_refused: Family<ByRefusal, Counter>,
    sockets_closed: Family<ByClose, Counter>,
    streams_sealed: Family<ByStatus, Counter>,
    first_token: Histogram,
    answer: Histogram,
    answer_tokens: Histogram,
    answer_chunks: Histogram,
    append_gap: Histogram,
    chunks_appended: Counter,
    appended_bytes: Counter,
    chunks_delivered: Family<ByVia, Counter>,
    delivered_bytes: Family<ByVia, Counter>,
    /// Of the two above, found once: they are counted with every chunk of every client.
    by_websocket: Delivered,
    by_sse: Delivered,
    recoveries: Family<BySource, Counter>,
    resets: Family<ByReset, Counter>,
    index_conflicts: Counter,
    takeovers: Family<ByMode, Counter>,
    auth_attempts: Family<ByAuth, Counter>,
    key_set_reads: Family<ByOutcome, Counter>,
    limited: Family<ByLimit, Counter>,
    lease_renewals: Family<ByOutcome, Counter>,
    broadcasts: Family<ByBroadcast, Counter>,
    bus_events: Family<ByBus, Counter>,
    bus_events_lost: Counter,
    sessions_orphaned: Counter,
    trace_exports: Family<ByOutcome, Counter>,
    upstream_calls: Family<ByCall, Counter>,
    upstream_first: Histogram,
    upstream_tokens: Family<ByTokens, Counter>,
    redis: OnceLock<RedisEngine>,
}

/// A family that shows all its series from the start, so that the first event is seen as a change.
fn zeroed<T: Closed, S: Clone + Hash + Eq>(of: impl Fn(T) -> S) -> Family<S, Counter> {
    let family = Family::default();
    for value in T::all() {
        drop(family.get_or_create(&of(value)));
    }
    family
}

impl Default for Metrics {
    fn default() -> Self {
        let (chunks, bytes) = (Family::default(), Family::default());
        let streams_sealed = Family::default();
        for status in [SealStatus::Completed, SealStatus::Cancelled] {
            drop(streams_sealed.get_or_create(&ByStatus::of(status, None)));
        }
        Self {
            by_websocket: Delivered::of(Via::WebSocket, &chunks, &bytes),
            by_sse: Delivered::of(Via::Sse, &chunks, &bytes),
            chunks_delivered: chunks,
            delivered_bytes: bytes,
            streams_started: Counter::default(),
            streams_repaired: Counter::default(),
            sockets_accepted: zeroed(ByDialect::of),
            sockets_refused: zeroed(ByRefusal::of),
            sockets_closed: zeroed(ByClose::of),
            streams_sealed,
            first_token: Histogram::new(&LATENCY),
            answer: Histogram::new(&LATENCY),
            answer_tokens: Histogram::new(&LENGTH),
            answer_chunks: Histogram::new(&LENGTH),
            append_gap: Histogram::new(&LATENCY),
            chunks_appended: Counter::default(),
            appended_bytes: Counter::default(),
            recoveries: zeroed(|status| BySource::of(status, None)),
            resets: zeroed(ByReset::of),
            index_conflicts: Counter::default(),
            takeovers: zeroed(ByMode::of),
            auth_attempts: zeroed(ByAuth::of),
            key_set_reads: zeroed(ByOutcome::of),
            limited: zeroed(ByLimit::of),
            lease_renewals: zeroed(ByOutcome::of),
            broadcasts: zeroed(|kind| ByBroadcast::of(kind, BusOutcome::Received)),
            bus_events: zeroed(|kind| ByBus::of(kind, BusOutcome::Received)),
            bus_events_lost: Counter::default(),
            sessions_orphaned: Counter::default(),
            trace_exports: zeroed(ByOutcome::of),
            upstream_calls: zeroed(ByCall::of),
            upstream_first: Histogram::new(&LATENCY),
            upstream_tokens: zeroed(ByTokens::of),
            redis: OnceLock::new(),
        }
    }
}

/// Who is asked as well whenever the metrics are.
impl Metrics {
    /// The node's store is this engine: what it counts is told from now on.
    pub fn read_redis(&self, engine: RedisEngine) {
        // A node has one store for its whole life.
        let _ = self.redis.set(engine);
    }

    /// The same bus, with everything published on it counted.
    pub fn counted(&self, bus: Arc<dyn Bus>) -> Arc<dyn Bus> {
        Arc::new(CountedBus { bus, events: self.bus_events.clone() })
    }
}

/// What happened at the doors and on sockets.
impl Metrics {
    /// A socket was upgraded and welcomed.
    pub fn socket_accepted(&self, dialect: Dialect) {
        self.sockets_accepted.get_or_create(&ByDialect::of(dialect)).inc();
    }

    /// A socket was refused, before or right after the upgrade.
    pub fn socket_refused(&self, reason: SocketRefusal) {
        self.sockets_refused.get_or_create(&ByRefusal::of(reason)).inc();
    }

    /// A welcomed socket ended; `code` is what the node closed it with.
    pub fn socket_closed(&self, code: Option<CloseCode>) {
        self.sockets_closed.get_or_create(&ByClose::of(code)).inc();
    }

    /// Chunks were written to one client; `bytes` as they were sent.
    pub fn chunks_delivered(&self, via: Via, chunks: usize, bytes: usize) {
        let delivered = match via {
            Via::WebSocket => &self.by_websocket,
            Via::Sse => &self.by_sse,
        };
        delivered.chunks.inc_by(chunks as u64);
        delivered.bytes.inc_by(bytes as u64);
    }

    /// A follow from a position was answered; `None` where nothing was read.
    pub fn recovered(&self, status: RecoveryStatus, source: Option<Source>) {
        self.recoveries.get_or_create(&BySource::of(status, source)).inc();
    }

    /// A follower was told to start over.
    pub fn told_reset(&self, reason: ResetReason) {
        self.resets.get_or_create(&ByReset::of(reason)).inc();
    }

    /// What went wrong for clients since the node's boot.
    pub fn harm(&self) -> Harm {
        let resets = ResetReason::all().into_iter().map(ByReset::of);
        let resets = resets.map(|reason| self.resets.get_or_create(&reason).get());
        let interrupted = ByStatus::of(SealStatus::Failed, Some(ErrorCode::Interrupted));
        Harm {
            resets: resets.sum(),
            interruptions: self.streams_sealed.get(&interrupted).map_or(0, |counter| counter.get()),
            index_conflicts: self.index_conflicts.get(),
        }
    }

    /// A token or ticket was checked.
    pub fn authenticated<T>(&self, result: &Result<T, ErrorCode>) {
        let outcome = match result {
            Ok(_) => Auth::Ok,
            Err(ErrorCode::TokenExpired) => Auth::Expired,
            Err(ErrorCode::StoreUnavailable) => Auth::Unavailable,
            Err(_) => Auth::Refused,
        };
        self.auth_attempts.get_or_create(&ByAuth::of(outcome)).inc();
    }

    /// The issuer's keys were read, or could not be.
    pub fn key_set_read(&self, good: bool) {
        self.key_set_reads.get_or_create(&ByOutcome::of(good.into())).inc();
    }

    /// Somebody was told to wait.
    pub fn limited(&self, limit: Limited) {
        self.limited.get_or_create(&ByLimit::of(limit)).inc();
    }
}

/// What happened to streams.
impl Metrics {
    /// A stream got its terminal record here, after so many chunks.
    pub fn stream_sealed(&self, seal: &Seal, chunks: u64) {
        self.streams_sealed.get_or_create(&ByStatus::of(seal.status, seal.code)).inc();
        self.answer.observe(seal.latency_ms);
        if let Some(first) = seal.first_token_ms {
            self.first_token.observe(first);
        }
        self.answer_tokens.observe(seal.usage.completion_tokens);
        self.answer_chunks.observe(chunks);
    }

    /// The log acknowledged chunks; `gap` is the time since the append before.
    pub fn chunks_appended(&self, chunks: usize, bytes: usize, gap: Option<Duration>) {
        self.chunks_appended.inc_by(chunks as u64);
        self.appended_bytes.inc_by(bytes as u64);
        if let Some(gap) = gap {
            self.append_gap.observe(millis(gap));
        }
    }

    /// The log does not end where the text of its owner does.
    pub fn index_conflict(&self) {
        self.index_conflicts.inc();
    }

    /// This node claimed a stream.
    pub fn took_over(&self, mode: TakeoverMode) {
        self.takeovers.get_or_create(&ByMode::of(mode)).inc();
    }

    /// A provider said its first word, so long after the call.
    pub fn upstream_spoke(&self, after: Duration) {
        self.upstream_first.observe(millis(after));
    }

    /// A call of a provider ended; `usage` where it told.
    pub fn upstream_ended(&self, end: CallEnd, usage: Option<Usage>) {
        self.upstream_calls.get_or_create(&ByCall::of(end)).inc();
        let Some(Usage { prompt_tokens, completion_tokens }) = usage else { return };
        self.upstream_tokens.get_or_create(&ByTokens::of(Tokens::Prompt)).inc_by(prompt_tokens);
        let completion = &ByTokens::of(Tokens::Completion);
        self.upstream_tokens.get_or_create(completion).inc_by(completion_tokens);
    }
}

/// What happened between nodes.
impl Metrics {
    /// This node told the others something, or could not.
    pub fn broadcast_sent(&self, kind: broadcast::Kind, sent: bool) {
        let outcome = if sent { BusOutcome::Published } else { BusOutcome::Failed };
        self.broadcasts.get_or_create(&ByBroadcast::of(kind, outcome)).inc();
    }

    /// Another node told this one something.
    pub fn broadcast_received(&self, kind: broadcast::Kind) {
        let received = ByBroadcast::of(kind, BusOutcome::Received);
        self.broadcasts.get_or_create(&received).inc();
    }

    /// A hint arrived that is for this node.
    pub fn bus_received(&self, event: &BusEvent) {
        let received = ByBus::of(Hinted::from(event), BusOutcome::Received);
        self.bus_events.get_or_create(&received).inc();
    }

    /// Hints were lost because this node was too slow.
    pub fn bus_lost(&self, hints: u64) {
        self.bus_events_lost.inc_by(hints);
    }

    /// Sessions of a dead node were removed from the registry.
    pub fn sessions_orphaned(&self, sessions: usize) {
        self.sessions_orphaned.inc_by(sessions as u64);
    }

    /// The store was asked to renew the node's lease.
    pub fn lease_renewed(&self, acknowledged: bool) {
        self.lease_renewals.get_or_create(&ByOutcome::of(acknowledged.into())).inc();
    }

    /// Where exporters of spans count what the collector said.
    pub(crate) fn trace_exports(&self) -> Exports {
        let of = |outcome| self.trace_exports.get_or_create_owned(&ByOutcome::of(outcome));
        Exports { ok: of(Success::Ok), failed: of(Success::Failed) }
    }
}

/// Batches of spans that were taken by the collector, and that were not.
#[derive(Clone, Debug)]
pub(crate) struct Exports {
    pub(crate) ok: Counter,
    pub(crate) failed: Counter,
}

impl From<bool> for Success {
    fn from(good: bool) -> Self {
        if good { Self::Ok } else { Self::Failed }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
