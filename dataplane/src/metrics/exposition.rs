//! What a scrape gets: every metric registered under its description.

use super::catalog::{self, Registered as _};
use super::labels::{ByMemory, ByPhase, ByRead, Closed as _, Level, Memory, Read};
use super::{Gauges, Metrics, redis, upstream};
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use protocol::DrainPhase;
use streamlog::tiered::ReadCounts;

/// The commit, where whoever built this said it.
const REVISION: Option<&str> = option_env!("CHAT_REVISION");

impl Metrics {
    /// Everything in OpenMetrics text ([`super::OPENMETRICS`]).
    pub fn scrape(&self, gauges: Gauges) -> String {
        let mut registry = Registry::with_prefix(catalog::PREFIX);
        self.register_node(&mut registry, &gauges);
        self.register_sockets(&mut registry, &gauges);
        self.register_streams(&mut registry, &gauges);
        self.register_upstream(&mut registry);
        upstream::register(&mut registry, &gauges.providers);
        register_reads(&mut registry, gauges.reads);
        self.register_doors(&mut registry);
        if let Some(redis) = self.redis.get() {
            redis::register(&mut registry, redis.stats());
        }
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = text::encode(&mut text, &registry);
        text
    }

    fn register_node(&self, r: &mut Registry, gauges: &Gauges) {
        let revision = REVISION.filter(|revision| !revision.is_empty()).unwrap_or("unknown");
        let version = env!("CARGO_PKG_VERSION");
        r.put(&catalog::BUILD, Info::new([("version", version), ("revision", revision)]));
        let phases = Family::<ByPhase, Gauge>::default();
        for phase in DrainPhase::all() {
            let is_it = i64::from(phase == gauges.phase);
            phases.get_or_create(&ByPhase::of(phase)).set(is_it);
        }
        r.put(&catalog::PHASE, phases);
        r.put(&catalog::LEASE, number(usize::from(gauges.lease)));
        r.put(&catalog::RENEWALS, self.lease_renewals.clone());
        r.put(&catalog::ORPHANED, self.sessions_orphaned.clone());
        r.put(&catalog::TRACE_EXPORTS, self.trace_exports.clone());
    }

    fn register_sockets(&self, r: &mut Registry, gauges: &Gauges) {
        r.put(&catalog::SOCKETS, number(gauges.sockets));
        r.put(&catalog::SESSIONS, number(gauges.sessions));
        r.put(&catalog::ACCEPTED, self.sockets_accepted.clone());
        r.put(&catalog::REFUSED, self.sockets_refused.clone());
        r.put(&catalog::CLOSED, self.sockets_closed.clone());
        r.put(&catalog::DELIVERED, self.chunks_delivered.clone());
        r.put(&catalog::DELIVERED_BYTES, self.delivered_bytes.clone());
        r.put(&catalog::RECOVERIES, self.recoveries.clone());
        r.put(&catalog::RESETS, self.resets.clone());
        r.put(&catalog::INDEX_CONFLICTS, self.index_conflicts.clone());
        r.put(&catalog::TAKEOVERS, self.takeovers.clone());
        r.put(&catalog::REPAIRED, self.streams_repaired.clone());
    }

    fn register_streams(&self, r: &mut Registry, gauges: &Gauges) {
        r.put(&catalog::STREAMS, number(gauges.streams));
        r.put(&catalog::STARTED, self.streams_started.clone());
        r.put(&catalog::SEALED, self.streams_sealed.clone());
        r.put(&catalog::APPENDED, self.chunks_appended.clone());
        r.put(&catalog::APPENDED_BYTES, self.appended_bytes.clone());
        r.put(&catalog::FIRST_TOKEN, self.first_token.clone());
        r.put(&catalog::ANSWER, self.answer.clone());
        r.put(&catalog::GAP, self.append_gap.clone());
        r.put(&catalog::ANSWER_TOKENS, self.answer_tokens.clone());
        r.put(&catalog::ANSWER_CHUNKS, self.answer_chunks.clone());
    }

    fn register_upstream(&self, r: &mut Registry) {
        r.put(&catalog::UPSTREAM_CALLS, self.upstream_calls.clone());
        r.put(&catalog::UPSTREAM_FIRST, self.upstream_first.clone());
        r.put(&catalog::UPSTREAM_TOKENS, self.upstream_tokens.clone());
    }

    fn register_doors(&self, r: &mut Registry) {
        r.put(&catalog::AUTH, self.auth_attempts.clone());
        r.put(&catalog::KEY_SET_READS, self.key_set_reads.clone());
        r.put(&catalog::LIMITED, self.limited.clone());
        r.put(&catalog::BUS, self.bus_events.clone());
        r.put(&catalog::BUS_LOST, self.bus_events_lost.clone());
        r.put(&catalog::BROADCASTS, self.broadcasts.clone());
    }
}

fn number(n: usize) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(n).unwrap_or(i64::MAX))
}

/// Each level is asked only for what the one before did not have.
fn register_reads(r: &mut Registry, reads: ReadCounts) {
    let (own, store) = (reads.live + reads.own, reads.shared + reads.absent);
    let counts = Family::<ByRead, Counter>::default();
    for (level, hits, misses) in [
        (Level::Own, own, reads.cached + store),
        (Level::Cached, reads.cached, store),
        (Level::Store, reads.shared, reads.absent),
    ] {
        counts.get_or_create(&ByRead::of(level, Read::Hit)).inc_by(hits);
        counts.get_or_create(&ByRead::of(level, Read::Miss)).inc_by(misses);
    }
    r.put(&catalog::READS, counts);
    let evictions = Family::<ByMemory, Counter>::default();
    evictions.get_or_create(&ByMemory::of(Memory::Own)).inc_by(reads.own_evicted);
    evictions.get_or_create(&ByMemory::of(Memory::Cached)).inc_by(reads.cached_evicted);
    r.put(&catalog::EVICTIONS, evictions);
}
