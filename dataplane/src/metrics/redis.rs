//! What the Redis engine counts of itself, under its names.

use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use streamlog::redis::RedisStats;

/// Registers one reading.
pub(super) fn register(r: &mut Registry, stats: RedisStats) {
    let r = r.sub_registry_with_prefix("redis");
    for (name, help, count) in [
        ("calls", "Commands and scripts sent", stats.calls),
        ("pipelines", "Writes to a connection", stats.pipelines),
        ("errors", "Pipelines that failed", stats.errors),
        ("retries", "Pipelines tried again", stats.retries),
        ("connects", "Connections made", stats.connects),
        ("breaker_opens", "Times the breaker opened", stats.breaker_opens),
        ("subscriptions", "Subscriptions made", stats.subscriptions),
        ("hints", "Hints received", stats.hints),
        ("sweeps", "Sweeps over followed streams", stats.sweeps),
        ("backfills", "Changes that a sweep found, not a hint", stats.backfills),
        ("told_reads", "Reads answered with text that came with hints", stats.told_reads),
        ("shared_reads", "Reads that shared the answer of another one", stats.shared_reads),
    ] {
        r.register(name, help, ConstCounter::new(count));
    }
    for (name, help, value) in [
        ("breaker_open", "1 while calls are refused without asking", u64::from(stats.breaker_open)),
        ("subscribed", "1 while hints arrive", u64::from(stats.subscribed)),
        ("streams", "Streams remembered, followed or owned", stats.streams),
    ] {
        r.register(name, help, ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_its_line() {
        let mut registry = Registry::with_prefix("chatcluster");
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
