//! The playground: the `/dev` contract, deaths and pauses as scripts see them, and the program.

use crate::fixture::started;
use client::api::Api;
use dataplane::playground::{Fleet, FleetOptions};
use protocol::dev::{DevNode, DevToken, NodePhase, UpstreamCall};
use protocol::http::MessageStatus;
use protocol::sim::Directive;
use protocol::{ChatOptions, ChatRequest, Epoch, Index, OnDisconnect};
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use streamlog::{Directory, log::Owner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

/// Anything that takes longer is broken.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Dev {
    pub(crate) fleet: Fleet,
    pub(crate) http: Client,
}

impl Dev {
    async fn start(nodes: usize) -> Self {
        Self::with(FleetOptions { nodes, ..FleetOptions::default() }).await
    }

    pub(crate) async fn with(options: FleetOptions) -> Self {
        let fleet = Fleet::start(options).await.unwrap();
        // Every request opens its own connection: a pooled one would not notice a dead port.
        Self { fleet, http: Client::builder().pool_max_idle_per_host(0).build().unwrap() }
    }

    pub(crate) async fn ask(&self, method: Method, path: &str, body: &str) -> Response {
        let url = format!("{}{path}", self.fleet.front_url());
        let request = self.http.request(method, url).body(body.to_owned());
        timeout(PATIENCE, request.send()).await.unwrap().unwrap()
    }

    pub(crate) async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> T {
        let answer = self.ask(Method::GET, path, "").await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        answer.json().await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> StatusCode {
        self.ask(Method::POST, path, body).await.status()
    }

    /// Status, code and detail of a refusal.
    pub(crate) async fn refused(
        &self,
        method: Method,
        path: &str,
        body: &str,
    ) -> (u16, String, String) {
        let answer = self.ask(method, path, body).await;
        let status = answer.status().as_u16();
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{path}");
        let problem: Value = answer.json().await.unwrap();
        let text = |key: &str| problem[key].as_str().unwrap_or_default().to_owned();
        (status, text("code"), text("detail"))
    }

    pub(crate) async fn node(&self, at: usize) -> DevNode {
        self.get::<Vec<DevNode>>("/dev/nodes").await.swap_remove(at)
    }

    pub(crate) async fn becomes(&self, at: usize, phase: NodePhase) {
        eventually(async || self.node(at).await.phase == phase).await;
    }

    pub(crate) async fn connect(&self, at: usize) -> std::io::Result<TcpStream> {
        let url = self.fleet.node_urls()[at].clone();
        TcpStream::connect(url.trim_start_matches("http://")).await
    }

    /// Whether a node answers anything at all.
    pub(crate) async fn answers(&self, at: usize) -> bool {
        self.http.get(&self.fleet.node_urls()[at]).send().await.is_ok()
    }

    /// Boots of a node that the store has heard of.
    async fn incarnations(&self, at: usize) -> usize {
        let nobody = Owner {
            node: protocol::NodeName::new("observer"),
            incarnation: protocol::Incarnation(Uuid::nil()),
        };
        let (name, _) = self.fleet.admin_urls().swap_remove(at);
        let nodes = self.fleet.store().unwrap().handle(nobody).nodes().await.unwrap();
        let own = nodes.into_iter().filter(|node| node.owner.node.as_str() == name);
        own.map(|node| node.owner.incarnation).collect::<HashSet<_>>().len()
    }

    async fn has_incarnations(&self, at: usize, count: usize) {
        eventually(async || self.incarnations(at).await == count).await;
    }
}

#[track_caller]
pub(crate) fn eventually(is_so: impl AsyncFn() -> bool) -> impl Future<Output = ()> {
    let from = std::panic::Location::caller();
    async move {
        let wait = async {
            while !is_so().await {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("not so in time, asked at {from}"));
    }
}

#[tokio::test]
async fn dev_says_what_there_is() {
    let dev = Dev::start(2).await;
    let nodes: Vec<Value> = dev.get("/dev/nodes").await;
    let base = &dev.fleet.node_urls()[1];
    let expected = json!({
        "name": "node-2", "baseUrl": base, "wsUrl": format!("{}/ws/chat", base.replace("http", "ws")),
        "adminUrl": nodes[1]["adminUrl"], "phase": "serving", "sessions": 0, "streams": 0,
    });
    assert_eq!((nodes.len(), &nodes[1]), (2, &expected));
    assert!(dev.get::<Vec<UpstreamCall>>("/dev/upstream/calls").await.is_empty());
    assert_eq!(dev.get::<Value>("/dev/upstream").await, json!({"simulated": true}));
    let token: DevToken = dev.get("/dev/token?user=alice").await;
    assert_eq!(token.token.split('.').count(), 3);
    let page = dev.ask(Method::GET, "/", "").await;
    assert!(page.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
}

#[tokio::test]
async fn dev_refuses_with_problems_that_say_why() {
    let dev = Dev::start(1).await;
    let large = "x".repeat(256 * 1024 + 1);
    let cases = [
        (Method::POST, "/dev/nodes/node-7/kill", "", 404, "NOT_FOUND", "no node node-7"),
        (Method::POST, "/dev/nodes/node-1/eat", "", 404, "NOT_FOUND", "but not eat"),
        (Method::GET, "/dev/nodes/node-1/kill", "", 405, "INVALID_MESSAGE", ""),
        (Method::POST, "/dev/nodes/node-1/pause", "{", 400, "INVALID_JSON", "{\"ms\": 3000}"),
        (Method::POST, "/dev/nodes/node-1/pause", "{}", 400, "INVALID_MESSAGE", "`ms`"),
        (Method::POST, "/dev/nodes/node-1/pause", "{\"ms\":-1}", 400, "INVALID_MESSAGE", "-1"),
        (Method::POST, "/dev/nodes/node-1/pause", "{\"ms\":1e9}", 400, "INVALID_MESSAGE", ""),
        (Method::POST, "/dev/nodes/node-1/drain", "{\"x\":1}", 400, "INVALID_MESSAGE", "`x`"),
        (Method::GET, "/dev/token", "", 400, "INVALID_MESSAGE", "user"),
        (Method::GET, "/dev/token?user=", "", 400, "INVALID_MESSAGE", "user"),
        (Method::POST, "/dev/redis/restart", "", 404, "NOT_FOUND", "STORES=redis"),
        (Method::GET, "/dev/redis", "", 404, "NOT_FOUND", "STORES=redis"),
        (Method::GET, "/elsewhere", "", 404, "NOT_FOUND", ""),
        (Method::POST, "/dev/nodes/%ff/kill", "", 404, "NOT_FOUND", "no such path"),
        (Method::POST, "/dev/redis/%ff", "", 404, "NOT_FOUND", "no such path"),
        (Method::POST, "/dev/nodes/node-1/pause", &large, 413, "PAYLOAD_TOO_LARGE", ""),
    ];
    for (method, path, body, status, code, detail) in cases {
        let refused = dev.refused(method, path, body).await;
        assert_eq!((refused.0, refused.1.as_str()), (status, code), "{path}");
        assert!(refused.2.contains(detail), "{path}: {}", refused.2);
    }
    assert_eq!(dev.node(0).await.phase, NodePhase::Serving);
}

#[tokio::test]
async fn a_killed_node_refuses_until_a_new_incarnation_has_its_ports() {
    let dev = Dev::start(2).await;
    dev.has_incarnations(0, 1).await;
    let mut open = dev.connect(0).await.unwrap();
    open.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert!(open.read_u8().await.is_ok(), "the node answers on an open connection");
    for _ in 0..2 {
        assert_eq!(dev.post("/dev/nodes/node-1/kill", "").await, 202, "kill is idempotent");
        dev.becomes(0, NodePhase::Dead).await;
    }
    let refused = dev.connect(0).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    let mut rest = Vec::new();
    let reset = timeout(PATIENCE, open.read_to_end(&mut rest)).await.unwrap().unwrap_err();
    assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(dev.answers(1).await, "the other node lives");
    for _ in 0..2 {
        assert_eq!(dev.post("/dev/nodes/node-1/start", "").await, 202, "start is idempotent");
        dev.becomes(0, NodePhase::Serving).await;
    }
    assert!(dev.answers(0).await);
    dev.has_incarnations(0, 2).await;
}

#[tokio::test]
async fn a_paused_node_answers_nothing_and_then_goes_on() {
    let dev = Dev::start(1).await;
    assert_eq!(dev.post("/dev/nodes/node-1/pause", "{\"ms\":400}").await, 202);
    assert_eq!(dev.node(0).await.phase, NodePhase::Paused);
    let asked = dev.answers(0);
    tokio::pin!(asked);
    assert!(timeout(Duration::from_millis(100), &mut asked).await.is_err(), "it hangs");
    assert_eq!(dev.node(0).await.phase, NodePhase::Paused);
    assert!(timeout(PATIENCE, asked).await.unwrap(), "it goes on where it stopped");
    dev.becomes(0, NodePhase::Serving).await;
    dev.has_incarnations(0, 1).await;
}

#[tokio::test]
async fn a_pause_ends_by_start_or_by_death() {
    let dev = Dev::start(1).await;
    let hour = "{\"ms\":3600000}";
    assert_eq!(dev.post("/dev/nodes/node-1/pause", hour).await, 202);
    assert_eq!(dev.post("/dev/nodes/node-1/start", "").await, 202);
    assert!(timeout(PATIENCE, dev.answers(0)).await.unwrap());
    assert_eq!(dev.node(0).await.phase, NodePhase::Serving);
    assert_eq!(dev.post("/dev/nodes/node-1/pause", hour).await, 202);
    assert_eq!(dev.post("/dev/nodes/node-1/kill", "").await, 202);
    dev.becomes(0, NodePhase::Dead).await;
    assert!(dev.connect(0).await.is_err());
}

#[tokio::test]
async fn a_drained_node_starts_again_as_a_new_incarnation() {
    let dev = Dev::start(2).await;
    dev.has_incarnations(0, 1).await;
    let request = "{\"deadlineMs\":2000,\"policy\":\"continue\"}";
    for _ in 0..2 {
        assert_eq!(dev.post("/dev/nodes/node-1/drain", request).await, 202, "drain is idempotent");
    }
    dev.becomes(0, NodePhase::Done).await;
    assert_eq!(dev.post("/dev/nodes/node-1/start", "").await, 202);
    dev.becomes(0, NodePhase::Serving).await;
    dev.has_incarnations(0, 2).await;
}

#[tokio::test]
async fn start_right_after_drain_waits_for_it() {
    let dev = Dev::start(1).await;
    dev.has_incarnations(0, 1).await;
    assert_eq!(dev.post("/dev/nodes/node-1/drain", "").await, 202);
    assert_eq!(dev.post("/dev/nodes/node-1/start", "").await, 202);
    dev.has_incarnations(0, 2).await;
    dev.becomes(0, NodePhase::Serving).await;
}

#[tokio::test]
async fn a_stopped_fleet_leaves_no_port_behind() {
    let dev = Dev::start(2).await;
    dev.fleet.pause(1, Duration::from_secs(3_600)).await;
    let urls = [dev.fleet.front_url()].into_iter().chain(dev.fleet.node_urls());
    let addresses: Vec<_> = urls.map(|url| url.trim_start_matches("http://").to_owned()).collect();
    drop(dev);
    for address in addresses {
        let refused = TcpStream::connect(&address).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{address}");
    }
}

#[tokio::test]
async fn a_killed_owners_answer_goes_on_elsewhere_and_the_calls_tell() {
    let mut settings = dataplane::playground::settings();
    settings.ownership.lease_ms = 600;
    settings.ownership.renew_ms = 200;
    settings.ownership.look_ms = 50;
    let dev = Dev::with(FleetOptions { nodes: 2, settings, ..FleetOptions::default() }).await;
    let token = dev.fleet.token("alice");
    let node = |at: usize| Api::new(dev.http.clone(), &dev.fleet.node_urls()[at], &token);
    let directive = "[sim tokens=60 rate=100 seed=9 pause=20:1000]";
    let accepted = started(&node(0), &request(directive)).await;
    eventually(async || dev.fleet.calls().first().is_some_and(|call| call.chunks == 20)).await;
    assert_eq!(dev.node(0).await.streams, 1);
    dev.fleet.kill(0).await;
    eventually(async || dev.fleet.calls().last().unwrap().end.as_deref() == Some("stop")).await;
    let calls: Vec<UpstreamCall> = dev.get("/dev/upstream/calls").await;
    let told: Vec<_> =
        calls.iter().map(|call| (call.node.as_str(), call.epoch.0, call.end.as_deref())).collect();
    assert_eq!(told, [("node-1", 1, Some("dropped")), ("node-2", 2, Some("stop"))]);
    // A chunk that the provider sent may have missed the log; one in the log is never asked for.
    assert!(calls[1].from.0 <= 20 && calls[1].from.0 + calls[1].chunks == 60, "{calls:?}");
    let whole = Directive::parse(directive).unwrap();
    let text = (0..60).map(|i| whole.chunk(Index(i), Epoch(1)).content.to_string());
    let text = text.collect::<String>();
    let read = async || node(1).message(accepted.message_id).await.unwrap();
    eventually(async || read().await.status == MessageStatus::Completed).await;
    assert_eq!(read().await.content, text);
}

pub(crate) fn request(content: &str) -> ChatRequest {
    ChatRequest {
        content: content.to_owned(),
        conversation_id: None,
        request_id: None,
        options: ChatOptions::default(),
        on_disconnect: OnDisconnect::Continue,
    }
}

/// The program itself, ended with its guard.
struct Program(Child);

impl Program {
    fn start(environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dataplane"));
        command.arg("playground").stdout(Stdio::piped()).stderr(Stdio::piped());
        command.envs(environment.iter().copied());
        Self(command.spawn().unwrap())
    }

    /// Exit code and what it said on stderr.
    fn end(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.0.wait().unwrap().code(), said)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_busy_port_is_said_plainly() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port().to_string();
    let (code, said) = Program::start(&[("CHAT_DEV_PORT", &port)]).end();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("port {port}")) && said.contains("CHAT_DEV_PORT="), "{said}");
}

#[test]
fn what_cannot_be_used_is_said_plainly() {
    for (key, value) in [("STORES", "mongo"), ("CHAT_UPSTREAM_URL", "localhost:9/v1")] {
        let (code, said) = Program::start(&[("CHAT_DEV_PORT", "1"), (key, value)]).end();
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(key), "{said}");
    }
}

#[test]
fn sigterm_ends_the_program_well() {
    // A port below this process's ephemeral range may be free or not: try until one is.
    let mut program = (0..50)
        .find_map(|n| {
            let port = (20_011 + 211 * n).to_string();
            let mut program = Program::start(&[("CHAT_DEV_PORT", &port), ("CHAT_DEV_NODES", "2")]);
            let mut out = BufReader::new(program.0.stdout.take().unwrap());
            let mut banner = String::new();
            while !banner.contains("Ctrl-C") && out.read_line(&mut banner).unwrap() > 0 {}
            banner.contains(&format!("http://127.0.0.1:{port}/")).then_some(program)
        })
        .expect("a free port");
    let pid = program.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(program.0.wait().unwrap().code(), Some(0));
}
