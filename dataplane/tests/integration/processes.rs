//! A fleet of node processes: the same `/dev` contract as of threads, with real signals.

use crate::fixture::started;
use crate::playground::{Dev, eventually, request};
use client::api::Api;
use dataplane::playground::{FleetOptions, Kind};
use protocol::dev::{NodePhase, UpstreamCall};
use protocol::http::MessageStatus;
use protocol::sim::Directive;
use protocol::{Epoch, Index};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
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
    let short = started(&node, &request("[sim tokens=5 rate=0]")).await.message_id;
    let ended = async || node.message(short).await.unwrap().status == MessageStatus::Completed;
    eventually(ended).await;
    started(&node, &request("[sim tokens=1000 rate=50]")).await;
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

/// The text that a directive makes.
fn whole(content: &str) -> String {
    let directive = Directive::parse(content).unwrap();
    (0..directive.tokens)
        .map(|at| directive.chunk(Index(at), Epoch(1)).content.to_string())
        .collect()
}

/// Nodes over Redis that take over soon.
async fn over_redis(nodes: usize) -> Dev {
    let mut options = options(nodes, true);
    let ownership = &mut options.settings.ownership;
    (ownership.lease_ms, ownership.renew_ms, ownership.look_ms) = (1_000, 300, 50);
    Dev::with(options).await
}

/// Asks node 1, and whatever happens then: the answer is complete on node 2, with these calls.
async fn survives(dev: &Dev, content: &str, happen: impl AsyncFnOnce()) -> Vec<UpstreamCall> {
    let token = dev.fleet.token("alice");
    let node = |at: usize| Api::new(dev.http.clone(), &dev.fleet.node_urls()[at], &token);
    let accepted = started(&node(0), &request(content)).await;
    eventually(async || dev.fleet.calls().first().is_some_and(|call| call.chunks >= 10)).await;
    happen().await;
    let read = async || node(1).message(accepted.message_id).await.ok();
    let patience = 3 * PATIENCE;
    let completed = async {
        while read().await.is_none_or(|view| view.status != MessageStatus::Completed) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(patience, completed).await.expect("it does not complete");
    assert_eq!(read().await.unwrap().content, whole(content));
    dev.get("/dev/upstream/calls").await
}

#[tokio::test]
async fn a_killed_processes_answer_goes_on_in_another_one() {
    let dev = over_redis(2).await;
    let kill = async || dev.fleet.kill(0).await;
    let calls = survives(&dev, "[sim tokens=60 rate=40 seed=9]", kill).await;
    let told: Vec<_> =
        calls.iter().map(|call| (call.node.as_str(), call.epoch.0, call.end.as_deref())).collect();
    assert_eq!(told, [("node-1", 1, Some("dropped")), ("node-2", 2, Some("stop"))]);
    assert!(calls[1].from.0 >= 1 && calls[1].from.0 + calls[1].chunks == 60, "{calls:?}");
}

#[tokio::test]
async fn a_paused_owner_comes_back_and_writes_nothing_more() {
    let dev = over_redis(2).await;
    let pause = async || dev.fleet.pause(0, Duration::from_secs(3)).await;
    let calls = survives(&dev, "[sim tokens=80 rate=20 seed=9]", pause).await;
    assert_eq!(
        calls.iter().map(|call| call.node.as_str()).collect::<Vec<_>>(),
        ["node-1", "node-2"]
    );
    dev.becomes(0, NodePhase::Serving).await;
    eventually(async || dev.node(0).await.streams == 0).await;
}

#[tokio::test]
async fn a_draining_process_hands_over_and_starts_again() {
    let dev = over_redis(2).await;
    let before = incarnation(&dev, 0).await;
    let drain = async || {
        let body = "{\"deadlineMs\":5000,\"policy\":\"continue\"}";
        assert_eq!(dev.post("/dev/nodes/node-1/drain", body).await, 202);
        assert_eq!(dev.post("/dev/nodes/node-1/start", "").await, 202);
    };
    let calls = survives(&dev, "[sim tokens=80 rate=20 seed=9]", drain).await;
    assert_eq!(calls.len(), 2, "{calls:?}");
    dev.becomes(0, NodePhase::Serving).await;
    assert_ne!(incarnation(&dev, 0).await, before);
}

#[tokio::test]
async fn a_redis_that_stalls_costs_no_takeover() {
    let dev = over_redis(2).await;
    let stall = async || {
        assert_eq!(dev.post("/dev/redis/pause", "{\"ms\":3000}").await, 202);
    };
    let calls = survives(&dev, "[sim tokens=120 rate=30 seed=9]", stall).await;
    assert_eq!(calls.len(), 1, "{calls:?}");
}

#[tokio::test]
async fn lost_subscribers_cost_nothing() {
    let dev = over_redis(2).await;
    let fail = async || assert_eq!(dev.post("/dev/redis/kill-pubsub", "").await, 202);
    let calls = survives(&dev, "[sim tokens=100 rate=40 seed=9]", fail).await;
    assert_eq!(calls.len(), 1, "{calls:?}");
}

#[tokio::test]
async fn an_empty_redis_costs_nothing_while_the_owner_lives() {
    let dev = over_redis(2).await;
    let fail = async || assert_eq!(dev.post("/dev/redis/restart", "").await, 202);
    let calls = survives(&dev, "[sim tokens=100 rate=40 seed=9]", fail).await;
    assert_eq!(calls.len(), 1, "{calls:?}");
}

#[tokio::test]
async fn redis_knows_its_faults_only_and_is_counted() {
    let dev = over_redis(1).await;
    let place = dev.http.get(format!("{}/dev/redis", dev.fleet.front_url())).send().await.unwrap();
    let place: serde_json::Value = place.json().await.unwrap();
    let address = place["url"].as_str().unwrap().strip_prefix("redis://").unwrap().to_owned();
    tokio::net::TcpStream::connect(address).await.unwrap();
    let (_, admin) = dev.fleet.admin_urls().swap_remove(0);
    let metrics = dev.http.get(format!("{admin}/metrics")).send().await.unwrap();
    assert!(metrics.text().await.unwrap().contains("chatcluster_redis_connects_total"));
    for (path, body, status, detail) in [
        ("/dev/redis/eat", "", 404, "but not eat"),
        ("/dev/redis/pause", "", 400, "{\"ms\": 3000}"),
        ("/dev/redis/pause", "{\"ms\":1e9}", 400, ""),
    ] {
        let refused = dev.refused(reqwest::Method::POST, path, body).await;
        assert_eq!(refused.0, status, "{path}");
        assert!(refused.2.contains(detail), "{path}: {}", refused.2);
    }
}

#[tokio::test]
async fn a_plain_client_gets_its_whole_answer_through_haproxy_over_redis() {
    let mut options = options(3, true);
    let ownership = &mut options.settings.ownership;
    (ownership.lease_ms, ownership.renew_ms, ownership.look_ms) = (1_000, 300, 50);
    crate::haproxy::an_answer_survives_a_death(options).await;
}

/// The program with its processes, as `make dev STORES=redis` starts it.
struct Program {
    child: Child,
    front: String,
    /// A killed program cannot clean up its own.
    _folder: tempfile::TempDir,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    /// A port below this process's ephemeral range may be free or not: tries until one is.
    fn start() -> Self {
        (0..50)
            .find_map(|n| {
                let port = (21_013 + 211 * n).to_string();
                let mut command = Command::new(env!("CARGO_BIN_EXE_dataplane"));
                command.arg("playground").env("STORES", "redis").env("CHAT_DEV_NODES", "2");
                let folder = tempfile::tempdir().unwrap();
                command.env("TMPDIR", folder.path());
                command.env("CHAT_DEV_PORT", &port).stdout(Stdio::piped()).stderr(Stdio::piped());
                let mut child = command.spawn().unwrap();
                let mut out = BufReader::new(child.stdout.take().unwrap());
                let mut banner = String::new();
                while !banner.contains("Ctrl-C") && out.read_line(&mut banner).unwrap() > 0 {}
                let front = format!("http://127.0.0.1:{port}");
                let program = Self { child, front, _folder: folder };
                banner.contains(&format!("{}/", program.front)).then_some(program)
            })
            .expect("a free port")
    }

    /// Everything it started: its nodes, its Redis, what stands between.
    fn descendants(&self) -> Vec<u32> {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let parents: Vec<(u32, u32)> =
            pids.filter_map(|pid: u32| Some((pid, stat(pid)?.1))).collect();
        let mut found = vec![self.child.id()];
        let mut at = 0;
        while let Some(parent) = found.get(at).copied() {
            found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
            at += 1;
        }
        found.split_off(1)
    }
}

/// State and parent of a process.
fn stat(pid: u32) -> Option<(String, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

/// A zombie that nobody reaps (process 1 of a container) does not run.
fn runs(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != "Z" && state != "X")
}

#[tokio::test]
async fn the_program_leaves_no_process_behind_however_it_ends() {
    for signal in ["INT", "TERM", "KILL"] {
        let mut program = Program::start();
        let children = program.descendants();
        assert!(children.len() >= 3, "two nodes and Redis: {children:?}");
        // A stopped process hears nothing but the kernel.
        let paused = format!("{}/dev/nodes/node-2/pause", program.front);
        let request = reqwest::Client::new().post(paused).body("{\"ms\":600000}");
        assert_eq!(request.send().await.unwrap().status(), 202);
        let pid = program.child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        let code = program.child.wait().unwrap().code();
        assert_eq!(code, (signal != "KILL").then_some(0), "{signal}");
        eventually(async || !children.iter().any(|pid| runs(*pid))).await;
    }
}

#[test]
fn a_machine_without_redis_is_told_what_to_install() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dataplane"));
    command.arg("playground").env("STORES", "redis").env("PATH", "/nonexistent");
    let mut said = String::new();
    // Another port where this one is taken.
    for port in ["22013", "22317", "22621"] {
        let output = command.env("CHAT_DEV_PORT", port).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        said = String::from_utf8(output.stderr).unwrap();
        if !said.contains("is taken") {
            break;
        }
    }
    assert!(said.contains("apt-get install -y redis-server"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}
