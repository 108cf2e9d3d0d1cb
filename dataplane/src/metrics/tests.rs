//! What is counted, and under which name.

use super::catalog::GROUPS;
use super::*;

fn scrape(metrics: &Metrics) -> String {
    scrape_with(metrics, Vec::new())
}

fn scrape_with(metrics: &Metrics, providers: Vec<ProviderStatistics>) -> String {
    let phase = DrainPhase::Refusing;
    let reads = ReadCounts {
        live: 5,
        own: 6,
        cached: 3,
        shared: 7,
        absent: 1,
        own_evicted: 8,
        cached_evicted: 9,
    };
    let (sockets, sessions, streams, lease) = (3, 2, 2, true);
    metrics.scrape(Gauges { sockets, sessions, streams, phase, lease, reads, providers })
}

fn assert_has(text: &str, line: &str) {
    assert!(text.lines().any(|found| found == line), "no line {line} in\n{text}");
}

#[test]
fn what_happened_is_counted_under_its_name() {
    let metrics = Metrics::default();
    metrics.socket_accepted(Dialect::V1);
    metrics.socket_refused(SocketRefusal::Draining);
    metrics.socket_closed(Some(CloseCode::Drained));
    metrics.socket_closed(None);
    metrics.chunks_appended(4, 100, Some(Duration::from_millis(40)));
    metrics.chunks_delivered(Via::Sse, 2, 60);
    metrics.recovered(RecoveryStatus::NotFound, None);
    metrics.recovered(RecoveryStatus::Recovered, Some(Source::Memory));
    metrics.told_reset(ResetReason::RolledBack);
    metrics.took_over(TakeoverMode::ProviderResume);
    metrics.authenticated::<()>(&Err(ErrorCode::TokenExpired));
    metrics.limited(Limited::Requests);
    metrics.key_set_read(true);
    metrics.lease_renewed(false);
    metrics.broadcast_sent(broadcast::Kind::NodeStartup, true);
    metrics.bus_received(&BusEvent::HandOver);
    metrics.bus_lost(4);
    metrics.sessions_orphaned(2);
    metrics.upstream_spoke(Duration::from_millis(300));
    metrics.upstream_ended(CallEnd::Timeout, None);
    let usage = Usage { prompt_tokens: 3, completion_tokens: 4 };
    metrics.upstream_ended(CallEnd::Finished, Some(usage));
    let text = scrape(&metrics);
    for line in [
        "chatcluster_sockets 3",
        "chatcluster_sessions 2",
        "chatcluster_streams 2",
        "chatcluster_drain_phase{phase=\"refusing\"} 1",
        "chatcluster_drain_phase{phase=\"serving\"} 0",
        "chatcluster_lease_certain 1",
        "chatcluster_lease_renewals_total{outcome=\"failed\"} 1",
        "chatcluster_lease_renewals_total{outcome=\"ok\"} 0",
        "chatcluster_streams_repaired_total 0",
        "chatcluster_sockets_accepted_total{dialect=\"v1\"} 1",
        "chatcluster_sockets_refused_total{reason=\"draining\"} 1",
        "chatcluster_sockets_closed_total{code=\"4000\"} 1",
        "chatcluster_sockets_closed_total{code=\"none\"} 1",
        "chatcluster_chunks_appended_total 4",
        "chatcluster_appended_bytes_total 100",
        "chatcluster_append_gap_seconds_count 1",
        "chatcluster_append_gap_seconds_bucket{le=\"0.05\"} 1",
        "chatcluster_chunks_delivered_total{via=\"sse\"} 2",
        "chatcluster_delivered_bytes_total{via=\"sse\"} 60",
        "chatcluster_recoveries_total{status=\"not_found\",source=\"none\"} 1",
        "chatcluster_recoveries_total{status=\"recovered\",source=\"memory\"} 1",
        "chatcluster_resets_total{reason=\"rolled_back\"} 1",
        "chatcluster_takeovers_total{mode=\"provider_resume\"} 1",
        "chatcluster_auth_attempts_total{outcome=\"expired\"} 1",
        "chatcluster_key_set_reads_total{outcome=\"ok\"} 1",
        "chatcluster_rate_limited_total{limit=\"requests\"} 1",
        "chatcluster_broadcasts_total{event=\"NODE_STARTUP\",outcome=\"published\"} 1",
        "chatcluster_bus_events_total{event=\"hand_over\",outcome=\"received\"} 1",
        "chatcluster_bus_events_lost_total 4",
        "chatcluster_sessions_orphaned_total 2",
        "chatcluster_upstream_calls_total{outcome=\"timeout\"} 1",
        "chatcluster_upstream_first_chunk_seconds_sum 0.3",
        "chatcluster_upstream_tokens_total{kind=\"completion\"} 4",
        "# EOF",
    ] {
        assert_has(&text, line);
    }
    assert!(text.contains("chatcluster_build_info{version=\""), "{text}");
}

#[test]
fn a_level_is_asked_for_what_the_one_before_did_not_have() {
    let text = scrape(&Metrics::default());
    for (labels, count) in [
        ("level=\"own\",outcome=\"hit\"", 11),
        ("level=\"own\",outcome=\"miss\"", 11),
        ("level=\"cached\",outcome=\"hit\"", 3),
        ("level=\"cached\",outcome=\"miss\"", 8),
        ("level=\"store\",outcome=\"hit\"", 7),
        ("level=\"store\",outcome=\"miss\"", 1),
    ] {
        assert_has(&text, &format!("chatcluster_cache_reads_total{{{labels}}} {count}"));
    }
    assert_has(&text, "chatcluster_cache_evictions_total{level=\"own\"} 8");
    assert_has(&text, "chatcluster_cache_evictions_total{level=\"cached\"} 9");
}

#[test]
fn a_seal_counts_with_its_latencies() {
    let metrics = Metrics::default();
    let seal = Seal {
        status: SealStatus::Failed,
        finish_reason: "error".to_owned(),
        model: "m".to_owned(),
        usage: Usage { prompt_tokens: 1, completion_tokens: 20 },
        latency_ms: 1_500,
        first_token_ms: Some(100),
        code: Some(ErrorCode::Interrupted),
    };
    metrics.stream_sealed(&seal, 17);
    let text = scrape(&metrics);
    assert_has(&text, "chatcluster_streams_sealed_total{status=\"failed\",code=\"INTERRUPTED\"} 1");
    assert_has(&text, "chatcluster_answer_seconds_sum 1.5");
    assert_has(&text, "chatcluster_first_token_seconds_bucket{le=\"0.1\"} 1");
    assert_has(&text, "chatcluster_answer_tokens_sum 20.0");
    assert_has(&text, "chatcluster_answer_chunks_bucket{le=\"64.0\"} 1");
}

#[test]
fn a_new_node_already_says_what_it_is() {
    assert_has(&scrape(&Metrics::default()), "chatcluster_streams_started_total 0");
}

#[test]
fn each_provider_of_the_settings_has_its_series() {
    let one = |provider: &str, breaker, opened| ProviderStatistics {
        provider: provider.to_owned(),
        breaker,
        opened,
        calls: 20,
        failed: 6,
        limited: 1,
    };
    let providers = [one("first", BreakerState::Open, 2), one("second", BreakerState::Closed, 0)];
    let text = scrape_with(&Metrics::default(), providers.into());
    for line in [
        "chatcluster_provider_breaker{provider=\"first\",state=\"open\"} 1",
        "chatcluster_provider_breaker{provider=\"first\",state=\"closed\"} 0",
        "chatcluster_provider_breaker{provider=\"second\",state=\"closed\"} 1",
        "chatcluster_provider_breaker_opens_total{provider=\"first\"} 2",
        "chatcluster_provider_calls_total{provider=\"second\"} 20",
        "chatcluster_provider_failures_total{provider=\"first\"} 6",
        "chatcluster_provider_limited_total{provider=\"first\"} 1",
    ] {
        assert_has(&text, line);
    }
}

#[test]
fn names_are_unique_and_end_with_their_unit() {
    let all = GROUPS.iter().flat_map(|(_, metrics)| *metrics);
    let mut names: Vec<String> = all.clone().map(|metric| metric.family()).collect();
    for metric in all {
        let unit = metric.unit.unwrap_or_default();
        assert!(metric.family().ends_with(unit), "{}", metric.family());
        assert!(!metric.help.ends_with('.') && !metric.look.is_empty(), "{}", metric.family());
    }
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
}
