//! What the Redis engine counts of itself, under its names.

use super::catalog::{self, Registered as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use streamlog::redis::RedisStats;

/// Registers one reading.
pub(super) fn register(r: &mut Registry, stats: RedisStats) {
    for (description, count) in [
        (&catalog::REDIS_CALLS, stats.calls),
        (&catalog::REDIS_PIPELINES, stats.pipelines),
        (&catalog::REDIS_ERRORS, stats.errors),
        (&catalog::REDIS_RETRIES, stats.retries),
        (&catalog::REDIS_CONNECTS, stats.connects),
        (&catalog::REDIS_BREAKER_OPENS, stats.breaker_opens),
        (&catalog::REDIS_SUBSCRIPTIONS, stats.subscriptions),
        (&catalog::REDIS_HINTS, stats.hints),
        (&catalog::REDIS_SWEEPS, stats.sweeps),
        (&catalog::REDIS_BACKFILLS, stats.backfills),
        (&catalog::REDIS_TOLD_READS, stats.told_reads),
        (&catalog::REDIS_SHARED_READS, stats.shared_reads),
    ] {
        r.put(description, ConstCounter::new(count));
    }
    for (description, value) in [
        (&catalog::REDIS_BREAKER_OPEN, u64::from(stats.breaker_open)),
        (&catalog::REDIS_SUBSCRIBED, u64::from(stats.subscribed)),
        (&catalog::REDIS_STREAMS, stats.streams),
    ] {
        r.put(description, ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_its_line() {
        let mut registry = Registry::with_prefix(catalog::PREFIX);
        let stats =
            RedisStats { calls: 7, breaker_open: true, streams: 3, ..RedisStats::default() };
        register(&mut registry, stats);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "chatcluster_redis_calls_total 7",
            "chatcluster_redis_breaker_open 1",
            "chatcluster_redis_streams 3",
            "chatcluster_redis_backfills_total 0",
        ] {
            assert!(text.lines().any(|found| found == line), "no line {line} in\n{text}");
        }
    }
}
