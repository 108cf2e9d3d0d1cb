//! Metrics as a scraper gets them: every figure after known work, every line well formed, no label
//! with anything of a user; and the document that describes them.

use crate::api::Caller;
use crate::fixture::{Fixture, PATIENCE, Writer};
use crate::playground::eventually;
use dataplane::metrics::catalog::{Description, GROUPS, Kind};
use dataplane::metrics::document::document;
use protocol::ServerFrame;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tokio::time::timeout;

/// One sample: its name, its labels, its value.
#[derive(Debug)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

/// What is said of a family before its samples.
#[derive(Debug, Default)]
struct Family {
    kind: Option<String>,
    help: Option<String>,
    unit: Option<String>,
    samples: Vec<Sample>,
}

/// An exposition, read line by line: anything that is not OpenMetrics text fails here.
struct Exposition(BTreeMap<String, Family>);

impl Exposition {
    async fn scrape(fixture: &Fixture) -> Self {
        let url = format!("http://{}/metrics", fixture.running.admin);
        let answer = timeout(PATIENCE, reqwest::get(url)).await.unwrap().unwrap();
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
        Self::parse(&answer.text().await.unwrap())
    }

    fn parse(text: &str) -> Self {
        let body = text.strip_suffix("# EOF\n").expect("ends with EOF");
        let (mut families, mut current) = (BTreeMap::<String, Family>::new(), String::new());
        for line in body.lines() {
            let Some(said) = line.strip_prefix("# ") else {
                let sample = sample(line);
                assert!(sample.name.starts_with(&current), "{line} is none of {current}");
                families.get_mut(&current).expect(line).samples.push(sample);
                continue;
            };
            let mut words = said.splitn(3, ' ');
            let (what, name) = (words.next().unwrap(), words.next().unwrap());
            let text = words.next().unwrap().to_owned();
            if name != current {
                assert!(!families.contains_key(name), "{name} in one place");
                name.clone_into(&mut current);
            }
            let family = families.entry(current.clone()).or_default();
            let place = match what {
                "TYPE" => &mut family.kind,
                "HELP" => &mut family.help,
                "UNIT" => &mut family.unit,
                _ => panic!("{line}"),
            };
            assert!(place.replace(text).is_none(), "{line} once");
        }
        Self(families)
    }

    /// The value of the sample with this name and these labels.
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let samples = self.0.values().flat_map(|family| &family.samples);
        let fits = |sample: &&Sample| {
            let mut pairs = sample.labels.iter().map(|(key, value)| (&**key, &**value));
            sample.name == name
                && labels.len() == sample.labels.len()
                && pairs.all(|pair| labels.contains(&pair))
        };
        let found: Vec<_> = samples.filter(fits).collect();
        assert_eq!(found.len(), 1, "{name} {labels:?}: {found:?}");
        found[0].value
    }
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').expect(line);
    let value = value.parse().expect(line);
    let Some((name, rest)) = series.split_once('{') else {
        return Sample { name: series.to_owned(), labels: Vec::new(), value };
    };
    let inner = rest.strip_suffix('}').expect(line);
    let labels = inner.split(',').map(|pair| {
        let (key, value) = pair.split_once('=').expect(line);
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        (key.to_owned(), value.expect(line).to_owned())
    });
    Sample { name: name.to_owned(), labels: labels.collect(), value }
}

fn all() -> impl Iterator<Item = &'static Description> {
    GROUPS.iter().flat_map(|(_, metrics)| *metrics)
}

/// Buckets are cumulative and end with one that holds everything.
fn assert_adds_up(name: &str, samples: &[Sample]) {
    let end = |what: &'static str| {
        samples.iter().filter(move |sample| sample.name == format!("{name}{what}"))
    };
    let buckets: Vec<_> = end("_bucket").map(|sample| sample.value).collect();
    assert!(buckets.is_sorted(), "{name}: {buckets:?}");
    let last = end("_bucket").next_back().unwrap();
    assert_eq!(last.labels, [("le".to_owned(), "+Inf".to_owned())], "{name}");
    assert_eq!(end("_count").map(|sample| sample.value).collect::<Vec<_>>(), [last.value]);
    assert_eq!(end("_sum").count(), 1, "{name}");
}

/// Families and labels are what the catalog says, and nothing else.
fn assert_described(exposition: &Exposition) {
    for (name, family) in &exposition.0 {
        let metric = all().find(|metric| metric.family() == *name).expect(name);
        assert_eq!(family.kind.as_deref(), Some(metric.kind.as_str()), "TYPE of {name}");
        assert_eq!(family.help, Some(format!("{}.", metric.help)), "HELP of {name}");
        assert_eq!(family.unit.as_deref(), metric.unit, "UNIT of {name}");
        assert!(!family.samples.is_empty(), "{name}");
        if metric.kind == Kind::Histogram {
            assert_adds_up(name, &family.samples);
        }
        for sample in &family.samples {
            let labels = sample.labels.iter().filter(|(key, _)| key != "le");
            for (key, value) in labels.filter(|_| metric.kind != Kind::Info) {
                let label = metric.labels.iter().find(|label| label.name == key).expect(key);
                let values = label.values.map(|values| values()).unwrap_or_default();
                assert!(values.contains(&&**value), "{value:?} of {key} in {sample:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_scrape_after_known_work_tells_just_that() {
    let fixture = Fixture::start().await;
    let mut socket = fixture.v1().await;
    let ask = |content: &str| json!({"type": "CHAT_REQUEST", "content": content});
    socket.say(ask("[sim tokens=6 rate=0]")).await;
    let frames = socket.until_end().await;
    let Some(ServerFrame::Complete(done)) = frames.last() else { panic!("{frames:?}") };
    socket.say(ask("[sim tokens=9 rate=0 fail=3]")).await;
    socket.until_end().await;
    socket.reconnect(done.message_id, 2).await;
    socket.until_end().await;
    let nobody = protocol::MessageId(fixture.node.ids.uuid());
    socket.reconnect(nobody, -1).await;
    socket.until_end().await;
    let alice = Caller::new(&fixture, "alice");
    let by_http = alice.ask("[sim tokens=5 rate=0]").await.message_id;
    alice.read_all(by_http).await;
    alice.read_all_after(by_http, 2).await;
    let bad = crate::fixture::Call { token: Some("x.y.z".to_owned()), ..fixture.call() };
    assert!(bad.connect().await.is_err());
    let sealed = async || {
        let exposition = Exposition::scrape(&fixture).await;
        let status = [("status", "completed"), ("code", "none")];
        exposition.value("chatcluster_streams_sealed_total", &status) == 2.0
    };
    eventually(sealed).await;

    let exposition = Exposition::scrape(&fixture).await;
    assert_described(&exposition);
    let failed = [("status", "failed"), ("code", "UPSTREAM_UNAVAILABLE")];
    for (name, labels, value) in [
        ("chatcluster_sockets", &[][..], 1.0),
        ("chatcluster_sessions", &[], 1.0),
        ("chatcluster_streams_started_total", &[], 3.0),
        ("chatcluster_streams_sealed_total", &failed, 1.0),
        ("chatcluster_chunks_appended_total", &[], 6.0 + 3.0 + 5.0),
        ("chatcluster_chunks_delivered_total", &[("via", "sse")], 5.0 + 2.0),
        ("chatcluster_sockets_accepted_total", &[("dialect", "v1")], 1.0),
        ("chatcluster_sockets_accepted_total", &[("dialect", "basic")], 0.0),
        ("chatcluster_sockets_refused_total", &[("reason", "unauthenticated")], 1.0),
        ("chatcluster_auth_attempts_total", &[("outcome", "refused")], 1.0),
        ("chatcluster_recoveries_total", &[("status", "completed"), ("source", "memory")], 2.0),
        ("chatcluster_recoveries_total", &[("status", "not_found"), ("source", "none")], 1.0),
        ("chatcluster_answer_chunks_count", &[], 3.0),
        ("chatcluster_answer_chunks_sum", &[], 14.0),
        ("chatcluster_answer_seconds_count", &[], 3.0),
        ("chatcluster_first_token_seconds_count", &[], 3.0),
        ("chatcluster_upstream_calls_total", &[("outcome", "finished")], 2.0),
        ("chatcluster_upstream_calls_total", &[("outcome", "unavailable")], 1.0),
        ("chatcluster_upstream_first_chunk_seconds_count", &[], 3.0),
        ("chatcluster_upstream_tokens_total", &[("kind", "completion")], 4.0),
        ("chatcluster_cache_reads_total", &[("level", "store"), ("outcome", "miss")], 1.0),
        ("chatcluster_cache_evictions_total", &[("level", "own")], 0.0),
        ("chatcluster_lease_certain", &[], 1.0),
        ("chatcluster_drain_phase", &[("phase", "serving")], 1.0),
        ("chatcluster_lease_renewals_total", &[("outcome", "failed")], 0.0),
        ("chatcluster_bus_events_total", &[("event", "broadcast"), ("outcome", "published")], 1.0),
    ] {
        assert_eq!(exposition.value(name, labels), value, "{name} {labels:?}");
    }
    let hits = [("level", "own"), ("outcome", "hit")];
    assert!(exposition.value("chatcluster_cache_reads_total", &hits) >= 1.0);
    let renewed = [("outcome", "ok")];
    assert!(exposition.value("chatcluster_lease_renewals_total", &renewed) >= 1.0);
}

#[tokio::test]
async fn a_socket_that_ends_is_counted_with_its_code() {
    let fixture = Fixture::start().await;
    let mut bad = fixture.v1().await;
    for _ in 0..21 {
        bad.raw(tokio_tungstenite::tungstenite::Message::text("{")).await;
    }
    assert_eq!(bad.closed().await, 4502);
    drop((bad, fixture.v1().await));
    let name = "chatcluster_sockets_closed_total";
    eventually(async || {
        let exposition = Exposition::scrape(&fixture).await;
        let of = |code| exposition.value(name, &[("code", code)]);
        (of("4502"), of("none"), of("1001")) == (1.0, 1.0, 0.0)
    })
    .await;
}

#[tokio::test]
async fn every_metric_of_the_catalog_is_there_but_for_those_of_parts_that_are_not() {
    let fixture = Fixture::start().await;
    let exposition = Exposition::scrape(&fixture).await;
    let absent: BTreeSet<String> = all()
        .map(Description::family)
        .filter(|name| !exposition.0.contains_key(name))
        .filter(|name| !name.starts_with("chatcluster_redis_"))
        .collect();
    let by_provider = ["breaker", "breaker_opens", "calls", "failures", "limited"];
    let by_provider = by_provider.map(|what| format!("chatcluster_provider_{what}"));
    assert_eq!(absent, by_provider.into());
}

#[test]
fn the_document_is_what_the_catalog_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let fresh = document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &fresh).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == fresh,
        "docs/metrics.md is not fresh; run\n  UPDATE_DOCS=1 cargo test --workspace --test integration metrics"
    );
}

#[tokio::test]
async fn another_writer_of_an_owners_text_is_counted_and_ends_the_answer() {
    let fixture = Fixture::start().await;
    let mut socket = fixture.v1().await;
    let content = "[sim tokens=2 rate=2 ttft=0]";
    socket.say(json!({"type": "CHAT_REQUEST", "requestId": "r", "content": content})).await;
    let (mut message, mut first) = (None, None);
    while first.is_none() {
        match socket.frame().await {
            ServerFrame::Accepted(body) => message = Some(body.message_id),
            ServerFrame::Chunk(body) => first = Some(body.chunk),
            ServerFrame::Chunks(body) => first = body.chunks.first().cloned(),
            _ => {}
        }
    }
    let first = first.unwrap();
    let first = protocol::Chunk::new(first.kind, &first.content);
    Writer::beside(&fixture.node, message.unwrap(), &first).append(&["not the owner's"]).await;
    socket.until_end().await;
    assert_eq!(fixture.node.metrics.harm().index_conflicts, 1);
    let exposition = Exposition::scrape(&fixture).await;
    let family = &exposition.0["chatcluster_index_conflicts"];
    assert!((family.samples[0].value - 1.0).abs() < f64::EPSILON, "{family:?}");
}
