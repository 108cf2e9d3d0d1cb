//! Every metric, in one place: names, units, labels.
//!
//! Callers say what happened (`stream_sealed`, `took_over`, …); names and labels stay here. Label
//! values come from closed enums, never from a request: their number is bounded and none is an id.

mod labels;
mod redis;

pub use labels::{Limited, SocketRefusal, Via};

use crate::broadcast;
use labels::{
    ByDialect, ByEvent, ByLevel, ByLimit, ByMode, ByOutcome, ByPhase, ByReason, BySource, ByStatus,
    ByVia,
};
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use protocol::server_frame::{RecoveryStatus, ResetReason, Source, TakeoverMode};
use protocol::{Dialect, DrainPhase, ErrorCode, Seal};
use std::sync::OnceLock;
use std::time::Duration;
use streamlog::redis::RedisEngine;
use streamlog::tiered::ReadCounts;

/// Content type of what [`Metrics::scrape`] returns.
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds in seconds: from a fast answer of memory to the 300 s an answer may take.
const LATENCY_BOUNDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 100.0, 300.0];
/// Upper bounds in tokens of one answer.
const TOKEN_BOUNDS: [f64; 8] = [16.0, 64.0, 256.0, 1e3, 4e3, 16e3, 64e3, 256e3];

/// What is read when the metrics are asked for, instead of being counted up and down.
#[derive(Clone, Copy, Debug)]
pub struct Gauges {
    /// Open sockets.
    pub sockets: usize,
    /// Live streams the node owns.
    pub streams: usize,
    /// Where the node stands.
    pub phase: DrainPhase,
    /// Whether the node's lease is certainly alive.
    pub lease: bool,
    /// Where reads of the log were answered.
    pub reads: ReadCounts,
}

/// What was written to clients in one way.
struct Delivered {
    chunks: Counter,
    bytes: Counter,
}

impl Delivered {
    fn of(via: Via, chunks: &Family<ByVia, Counter>, bytes: &Family<ByVia, Counter>) -> Self {
        let chunks = chunks.get_or_create_owned(&via.into());
        Self { chunks, bytes: bytes.get_or_create_owned(&via.into()) }
    }
}

/// The metrics of one node.
pub struct Metrics {
    /// Streams accepted.
    pub streams_started: Counter,
    /// Streams written back into a store that had lost them.
    pub streams_repaired: Counter,
    sockets_accepted: Family<ByDialect, Counter>,
    sockets_refused: Family<ByReason, Counter>,
    streams_sealed: Family<ByStatus, Counter>,
    first_token: Histogram,
    answer: Histogram,
    tokens: Histogram,
    chunk_gap: Histogram,
    chunks_appended: Counter,
    appended_bytes: Counter,
    chunks_delivered: Family<ByVia, Counter>,
    delivered_bytes: Family<ByVia, Counter>,
    /// Of the two above, found once: they are counted with every chunk of every client.
    by_websocket: Delivered,
    by_sse: Delivered,
    recoveries: Family<BySource, Counter>,
    resets: Family<ByReason, Counter>,
    takeovers: Family<ByMode, Counter>,
    auth_attempts: Family<ByOutcome, Counter>,
    limited: Family<ByLimit, Counter>,
    lease_renewals_failed: Counter,
    broadcasts: Family<ByEvent, Counter>,
    sessions_orphaned: Counter,
    redis: OnceLock<RedisEngine>,
}

impl Default for Metrics {
    fn default() -> Self {
        let (chunks, bytes) = (Family::default(), Family::default());
        Self {
            by_websocket: Delivered::of(Via::WebSocket, &chunks, &bytes),
            by_sse: Delivered::of(Via::Sse, &chunks, &bytes),
            chunks_delivered: chunks,
            delivered_bytes: bytes,
            streams_started: Counter::default(),
            streams_repaired: Counter::default(),
            sockets_accepted: Family::default(),
            sockets_refused: Family::default(),
            streams_sealed: Family::default(),
            first_token: Histogram::new(LATENCY_BOUNDS),
            answer: Histogram::new(LATENCY_BOUNDS),
            tokens: Histogram::new(TOKEN_BOUNDS),
            chunk_gap: Histogram::new(LATENCY_BOUNDS),
            chunks_appended: Counter::default(),
            appended_bytes: Counter::default(),
            recoveries: Family::default(),
            resets: Family::default(),
            takeovers: Family::default(),
            auth_attempts: Family::default(),
            limited: Family::default(),
            lease_renewals_failed: Counter::default(),
            broadcasts: Family::default(),
            sessions_orphaned: Counter::default(),
            redis: OnceLock::new(),
        }
    }
}

/// What happened.
impl Metrics {
    /// The node's store is this engine: what it counts is told from now on.
    pub fn read_redis(&self, engine: RedisEngine) {
        // A node has one store for its whole life.
        let _ = self.redis.set(engine);
    }

    /// A socket was upgraded and welcomed.
    pub fn socket_accepted(&self, dialect: Dialect) {
        self.sockets_accepted.get_or_create(&dialect.into()).inc();
    }

    /// A socket was refused, before or right after the upgrade.
    pub fn socket_refused(&self, reason: SocketRefusal) {
        self.sockets_refused.get_or_create(&ByReason { reason: reason.as_str() }).inc();
    }

    /// A stream got its terminal record here.
    pub fn stream_sealed(&self, seal: &Seal) {
        self.streams_sealed.get_or_create(&seal.into()).inc();
        self.answer.observe(seal.latency_ms as f64 / 1e3);
        if let Some(first) = seal.first_token_ms {
            self.first_token.observe(first as f64 / 1e3);
        }
        self.tokens.observe(seal.usage.completion_tokens as f64);
    }

    /// The log acknowledged chunks; `gap` is the time since the append before.
    pub fn chunks_appended(&self, chunks: usize, bytes: usize, gap: Option<Duration>) {
        self.chunks_appended.inc_by(chunks as u64);
        self.appended_bytes.inc_by(bytes as u64);
        if let Some(gap) = gap {
            self.chunk_gap.observe(gap.as_secs_f64());
        }
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
        self.recoveries.get_or_create(&(status, source).into()).inc();
    }

    /// A follower was told to start over.
    pub fn told_reset(&self, reason: ResetReason) {
        self.resets.get_or_create(&reason.into()).inc();
    }

    /// This node claimed a stream.
    pub fn took_over(&self, mode: TakeoverMode) {
        self.takeovers.get_or_create(&mode.into()).inc();
    }

    /// A token or ticket was checked.
    pub fn authenticated<T>(&self, result: &Result<T, ErrorCode>) {
        let outcome = match result {
            Ok(_) => "ok",
            Err(ErrorCode::TokenExpired) => "expired",
            Err(ErrorCode::StoreUnavailable) => "unavailable",
            Err(_) => "refused",
        };
        self.auth_attempts.get_or_create(&ByOutcome { outcome }).inc();
    }

    /// Somebody was told to wait.
    pub fn limited(&self, limit: Limited) {
        self.limited.get_or_create(&ByLimit { limit: limit.as_str() }).inc();
    }

    /// This node told the others something, or could not.
    pub fn broadcast_sent(&self, kind: broadcast::Kind, sent: bool) {
        self.broadcast(kind, if sent { "sent" } else { "failed" });
    }

    /// Another node told this one something.
    pub fn broadcast_received(&self, kind: broadcast::Kind) {
        self.broadcast(kind, "received");
    }

    fn broadcast(&self, kind: broadcast::Kind, outcome: &'static str) {
        self.broadcasts.get_or_create(&ByEvent { event: kind.as_str(), outcome }).inc();
    }

    /// Sessions of a dead node were removed from the registry.
    pub fn sessions_orphaned(&self, sessions: usize) {
        self.sessions_orphaned.inc_by(sessions as u64);
    }

    /// The store did not acknowledge a renewal of the node's lease.
    pub fn lease_not_renewed(&self) {
        self.lease_renewals_failed.inc();
    }
}

/// What is told.
impl Metrics {
    /// Everything in OpenMetrics text ([`OPENMETRICS`]).
    pub fn scrape(&self, gauges: Gauges) -> String {
        let mut registry = Registry::with_prefix("chatcluster");
        self.register_state(&mut registry, gauges);
        self.register_sockets(&mut registry);
        self.register_streams(&mut registry);
        self.register_doors(&mut registry);
        if let Some(redis) = self.redis.get() {
            redis::register(&mut registry, redis.stats());
        }
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = text::encode(&mut text, &registry);
        text
    }

    fn register_state(&self, r: &mut Registry, gauges: Gauges) {
        let gauge = |n: usize| ConstGauge::new(n as i64);
        r.register("sockets", "Open sockets", gauge(gauges.sockets));
        r.register("streams", "Live streams this node owns", gauge(gauges.streams));
        let phases = Family::<ByPhase, Gauge>::default();
        for phase in labels::PHASES {
            let label = ByPhase { phase: phase.as_str() };
            phases.get_or_create(&label).set(i64::from(phase == gauges.phase));
        }
        r.register("drain_phase", "1 for the phase the node is in", phases);
        let lease = gauge(usize::from(gauges.lease));
        r.register("lease_certain", "1 while the node's lease is certainly alive", lease);
        let failed = self.lease_renewals_failed.clone();
        r.register("lease_renewals_failed", "Renewals the store did not acknowledge", failed);
        let reads = Family::<ByLevel, Counter>::default();
        let ReadCounts { live, finished, shared } = gauges.reads;
        for (level, count) in [("live", live), ("finished", finished), ("store", shared)] {
            reads.get_or_create(&ByLevel { level }).inc_by(count);
        }
        let help = "Reads of the log: from memory of a live or finished answer, or from the store";
        r.register("log_reads", help, reads);
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        r.register("build", "What is running", build);
    }

    fn register_sockets(&self, r: &mut Registry) {
        let accepted = self.sockets_accepted.clone();
        r.register("sockets_accepted", "Sockets that were welcomed", accepted);
        r.register("sockets_refused", "Sockets that were not", self.sockets_refused.clone());
        let delivered = self.chunks_delivered.clone();
        r.register("chunks_delivered", "Chunks written to clients", delivered);
        let bytes = self.delivered_bytes.clone();
        r.register_with_unit("delivered", "Bytes of chunks as sent", Unit::Bytes, bytes);
        r.register("recoveries", "Follows from a position, by answer", self.recoveries.clone());
        r.register("resets", "Followers told to start over", self.resets.clone());
    }

    fn register_streams(&self, r: &mut Registry) {
        r.register("streams_started", "Requests accepted", self.streams_started.clone());
        r.register("streams_sealed", "Answers that ended here", self.streams_sealed.clone());
        r.register("takeovers", "Streams claimed from other nodes", self.takeovers.clone());
        let repaired = self.streams_repaired.clone();
        r.register(
            "streams_repaired",
            "Streams written back into a store that lost them",
            repaired,
        );
        r.register("chunks_appended", "Chunks in the log", self.chunks_appended.clone());
        let bytes = self.appended_bytes.clone();
        r.register_with_unit("appended", "Bytes of chunks in the log", Unit::Bytes, bytes);
        let mut seconds = |name: &str, help: &str, histogram: &Histogram| {
            r.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        };
        seconds("first_token", "From acceptance to the first chunk", &self.first_token);
        seconds("answer", "From acceptance to the end", &self.answer);
        seconds("append_gap", "Between two appends of one answer", &self.chunk_gap);
        r.register("answer_tokens", "Tokens of one answer", self.tokens.clone());
    }

    fn register_doors(&self, r: &mut Registry) {
        r.register("auth_attempts", "Tokens and tickets checked", self.auth_attempts.clone());
        r.register("broadcasts", "Events between nodes", self.broadcasts.clone());
        let orphaned = self.sessions_orphaned.clone();
        r.register("sessions_orphaned", "Sessions of dead nodes cleaned up", orphaned);
        r.register("rate_limited", "Times somebody was told to wait", self.limited.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{SealStatus, Usage};

    fn scrape(metrics: &Metrics) -> String {
        let phase = DrainPhase::Refusing;
        let reads = ReadCounts { live: 5, finished: 6, shared: 7 };
        metrics.scrape(Gauges { sockets: 3, streams: 2, phase, lease: true, reads })
    }

    fn assert_has(text: &str, line: &str) {
        assert!(text.lines().any(|found| found == line), "no line {line} in\n{text}");
    }

    #[test]
    fn what_happened_is_counted_under_its_name() {
        let metrics = Metrics::default();
        metrics.socket_accepted(Dialect::V1);
        metrics.socket_refused(SocketRefusal::Draining);
        metrics.chunks_appended(4, 100, Some(Duration::from_millis(40)));
        metrics.chunks_delivered(Via::Sse, 2, 60);
        metrics.recovered(RecoveryStatus::NotFound, None);
        metrics.recovered(RecoveryStatus::Recovered, Some(Source::Memory));
        metrics.told_reset(ResetReason::RolledBack);
        metrics.took_over(TakeoverMode::ProviderResume);
        metrics.authenticated::<()>(&Err(ErrorCode::TokenExpired));
        metrics.limited(Limited::Requests);
        metrics.lease_not_renewed();
        metrics.broadcast_sent(broadcast::Kind::NodeStartup, true);
        metrics.sessions_orphaned(2);
        let text = scrape(&metrics);
        for line in [
            "chatcluster_sockets 3",
            "chatcluster_streams 2",
            "chatcluster_drain_phase{phase=\"refusing\"} 1",
            "chatcluster_log_reads_total{level=\"live\"} 5",
            "chatcluster_log_reads_total{level=\"store\"} 7",
            "chatcluster_streams_repaired_total 0",
            "chatcluster_drain_phase{phase=\"serving\"} 0",
            "chatcluster_lease_certain 1",
            "chatcluster_sockets_accepted_total{dialect=\"v1\"} 1",
            "chatcluster_sockets_refused_total{reason=\"draining\"} 1",
            "chatcluster_chunks_appended_total 4",
            "chatcluster_appended_bytes_total 100",
            "chatcluster_append_gap_seconds_count 1",
            "chatcluster_chunks_delivered_total{via=\"sse\"} 2",
            "chatcluster_delivered_bytes_total{via=\"sse\"} 60",
            "chatcluster_recoveries_total{status=\"not_found\",source=\"none\"} 1",
            "chatcluster_recoveries_total{status=\"recovered\",source=\"memory\"} 1",
            "chatcluster_resets_total{reason=\"rolled_back\"} 1",
            "chatcluster_takeovers_total{mode=\"provider_resume\"} 1",
            "chatcluster_auth_attempts_total{outcome=\"expired\"} 1",
            "chatcluster_rate_limited_total{limit=\"requests\"} 1",
            "chatcluster_lease_renewals_failed_total 1",
            "chatcluster_broadcasts_total{event=\"NODE_STARTUP\",outcome=\"sent\"} 1",
            "chatcluster_sessions_orphaned_total 2",
            "# EOF",
        ] {
            assert_has(&text, line);
        }
        assert!(text.contains("chatcluster_build_info{version=\""), "{text}");
    }

    #[test]
    fn a_seal_counts_with_its_latencies() {
        let metrics = Metrics::default();
        metrics.stream_sealed(&Seal {
            status: SealStatus::Failed,
            finish_reason: "error".to_owned(),
            model: "m".to_owned(),
            usage: Usage { prompt_tokens: 1, completion_tokens: 20 },
            latency_ms: 1_500,
            first_token_ms: Some(100),
            code: Some(ErrorCode::Interrupted),
        });
        let text = scrape(&metrics);
        assert_has(
            &text,
            "chatcluster_streams_sealed_total{status=\"failed\",code=\"INTERRUPTED\"} 1",
        );
        assert_has(&text, "chatcluster_answer_seconds_sum 1.5");
        assert_has(&text, "chatcluster_first_token_seconds_bucket{le=\"0.1\"} 1");
        assert_has(&text, "chatcluster_answer_tokens_sum 20.0");
    }

    #[test]
    fn a_new_node_already_says_what_it_is() {
        assert_has(&scrape(&Metrics::default()), "chatcluster_streams_started_total 0");
    }
}
