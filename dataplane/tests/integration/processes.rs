//! A fleet of node processes: the same `/dev` contract as of threads, with real signals.

use crate::playground::{Dev, eventually, request};
use client::api::Api;
use dataplane::playground::{FleetOptions, Kind};
use protocol::dev::{NodePhase, UpstreamCall};
use protocol::http::MessageStatus;
use std::time::Duration;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(10);

fn options(nodes: usize, redis: bool) -> FleetOptions {
    let program = env!("CARGO_BIN_EXE_dataplane").into();
    let kind = Kind::Processes { program, redis };
    FleetOptions { nodes, kind, ..FleetOptions::default() }
}

#[tokio::test]
async fn a_killed_process_refuses_until_a_new_one_has_its_ports() {
    let dev = Dev::with(options(2, false)).await;
    let before = incarnation(&dev, 0).await;
    for _ in 0..2 {
        assert_eq!(dev.post("/dev/nodes/node-1/kill", "").await, 202, "kill is idempotent");
        dev.becomes(0, NodePhase::Dead).await;
    }
    let refused = dev.connect(0).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(dev.answers(1).await, "the other node lives");
    for _ in 0..2 {
        assert_eq!(dev.post("/dev/nodes/node-1/start", "").await, 202, "start is idempotent");
        dev.becomes(0, NodePhase::Serving).await;
    }
    assert!(dev.answers(0).await);
    assert_ne!(incarnation(&dev, 0).await, before);
}

#[tokio::test]
async fn a_paused_process_answers_nothing_and_then_goes_on() {
    let dev = Dev::with(options(1, false)).await;
    let before = incarnation(&dev, 0).await;
    assert_eq!(dev.post("/dev/nodes/node-1/pause", "{\"ms\":600}").await, 202);
    assert_eq!(dev.node(0).await.phase, NodePhase::Paused);
    let asked = dev.answers(0);
    tokio::pin!(asked);
    assert!(timeout(Duration::from_millis(200), &mut asked).await.is_err(), "it hangs");
    assert!(timeout(PATIENCE, asked).await.unwrap(), "it goes on where it stopped");
    dev.becomes(0, NodePhase::Serving).await;
    assert_eq!(incarnation(&dev, 0).await, before);
}

#[tokio::test]
async fn a_process_pause_ends_by_start_or_by_death() {
    let dev = Dev::with(options(1, false)).await;
    let hour = "{\"ms\":3600000}";
    assert_eq!(dev.post("/dev/nodes/node-1/pause", hour).await, 202);
    assert_eq!(dev.post("/dev/nodes/node-1/start", "").await, 202);
    assert!(timeout(PATIENCE, dev.answers(0)).await.unwrap());
    dev.becomes(0, NodePhase::Serving).await;
    assert_eq!(dev.post("/dev/nodes/node-1/pause", hour).await, 202);
    assert_eq!(dev.post("/dev/nodes/node-1/kill", "").await, 202);
    dev.becomes(0, NodePhase::Dead).await;
    assert!(dev.connect(0).await.is_err());
}

#[tokio::test]
async fn a_drained_process_starts_again_as_a_new_one() {
    let dev = Dev::with(options(1, false)).await;
    let before = incarnation(&dev, 0).await;
    let request = "{\"deadlineMs\":2000,\"policy\":\"continue\"}";
    for _ in 0..2 {
        assert_eq!(dev.post("/dev/nodes/node-1/drain", request).await, 202, "drain is idempotent");
    }
    dev.becomes(0, NodePhase::Done).await;
    assert_eq!(dev.post("/dev/nodes/node-1/start", "").await, 202);
    dev.becomes(0, NodePhase::Serving).await;
    assert_ne!(incarnation(&dev, 0).await, before);
}

#[tokio::test]
async fn the_calls_of_a_killed_process_survive_it() {
    let dev = Dev::with(options(1, false)).await;
    let node = Api::new(dev.http.clone(), &dev.fleet.node_urls()[0], &dev.fleet.token("alice"));
    let short = node.start(&request("[sim tokens=5 rate=0]")).await.unwrap().message_id;
    let ended = async || node.message(short).await.unwrap().status == MessageStatus::Completed;
    eventually(ended).await;
    node.start(&request("[sim tokens=1000 rate=50]")).await.unwrap();
    eventually(async || dev.fleet.calls().last().is_some_and(|call| call.chunks >= 10)).await;
    assert_eq!(dev.node(0).await.streams, 1);
    dev.fleet.kill(0).await;
    let calls: Vec<UpstreamCall> = dev.get("/dev/upstream/calls").await;
    let told: Vec<_> = calls.iter().map(|call| (call.node.as_str(), call.end.as_deref())).collect();
    assert_eq!(told, [("node-1", Some("stop")), ("node-1", Some("dropped"))]);
    assert_eq!(calls[0].chunks, 5);
    assert!(calls[1].chunks >= 10);
}

/// Which boot answers on the admin port.
async fn incarnation(dev: &Dev, at: usize) -> String {
    let (_, admin) = dev.fleet.admin_urls().swap_remove(at);
    let report = dev.http.get(format!("{admin}/admin/drain")).send().await.unwrap();
    let report: protocol::DrainReport = report.json().await.unwrap();
    report.incarnation.to_string()
}
