//! `dataplane run`: what it refuses, how it serves, and how signals end it. Real processes.

use crate::fixture::{Call, KEY, PATIENCE, Socket, texts};
use crate::playground::eventually;
use protocol::sim::Directive;
use protocol::{Epoch, Index, ServerFrame};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::{Duration, Instant};
use streamlog::Clock;
use streamlog::redis::server::RedisServer;
use tempfile::TempDir;

const ADMIN_KEY: &str = "an admin key for tests";

/// A file, an environment, and the program that is given both.
pub(crate) struct Setup {
    folder: TempDir,
    environment: Vec<(String, String)>,
}

impl Setup {
    /// With all secrets.
    pub(crate) fn new(yaml: &str) -> Self {
        let mut setup = Self::bare(yaml);
        let key = String::from_utf8(KEY.to_vec()).unwrap();
        for (name, value) in [
            ("CHAT_JWT_SECRET", key.as_str()),
            ("CHAT_RESUME_SECRET", &key),
            ("CHAT_ADMIN_KEY", ADMIN_KEY),
        ] {
            setup.set(name, value);
        }
        setup
    }

    fn bare(yaml: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("chat.yaml"), yaml).unwrap();
        Self { folder, environment: Vec::new() }
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.retain(|(key, _)| key != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dataplane"));
        command.env_clear().envs(self.environment.iter().map(|(key, value)| (key, value)));
        command.arg("run").arg("--config").arg(self.folder.path().join("chat.yaml"));
        command
    }

    /// Exit code, standard output, standard error.
    pub(crate) fn check(&self) -> (Option<i32>, String, String) {
        let Output { status, stdout, stderr } = self.command().arg("--check").output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code(), text(stdout), text(stderr))
    }

    /// Runs it until it serves.
    pub(crate) fn run(&self) -> Running {
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        Running::spawn(&mut command).serving()
    }
}

/// A process that serves; killed with its guard.
pub(crate) struct Running {
    child: Child,
    pub(crate) data: SocketAddr,
    pub(crate) admin: SocketAddr,
    log: BufReader<ChildStderr>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn spawn(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        Self { child, data: nowhere, admin: nowhere, log }
    }

    /// Waits until it serves.
    fn serving(mut self) -> Self {
        let told = self.hears("serving");
        let address = |key: &str| told[key].as_str().unwrap().parse().unwrap();
        (self.data, self.admin) = (address("data"), address("admin"));
        self
    }

    /// The line of its log with this message.
    pub(crate) fn hears(&mut self, message: &str) -> Value {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.log.read_line(&mut line).unwrap() > 0, "it ended without {message:?}");
            let told: Value = serde_json::from_str(&line).unwrap_or_default();
            if told["message"] == message {
                return told;
            }
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// The exit code and how long it took; `None` if it does not end.
    pub(crate) async fn ends(&mut self) -> (Option<i32>, Duration) {
        let began = now();
        while began.elapsed() < 3 * PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status.code(), began.elapsed());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut said = String::new();
        let _ = self.child.kill();
        let _ = self.log.read_to_string(&mut said);
        panic!("it does not end; it said\n{said}");
    }

    pub(crate) fn call(&self) -> Call {
        let ttl = Duration::from_secs(600);
        let token = dataplane::admit::token::mint(KEY, "alice", ttl, &Clock::system());
        Call {
            address: self.data,
            token: Some(token),
            protocols: Some("chatcluster.v1".to_owned()),
            query: String::new(),
            origin: None,
        }
    }

    /// A socket that follows an answer that takes minutes.
    pub(crate) async fn live(&self) -> Socket {
        eventually(async || self.ready().await == 200).await;
        let mut socket = self.call().welcomed().await;
        let content = "[sim tokens=10000 rate=20]";
        socket.say(json!({"type": "CHAT_REQUEST", "content": content})).await;
        loop {
            if let ServerFrame::Chunks(_) | ServerFrame::Chunk(_) = socket.frame().await {
                return socket;
            }
        }
    }

    pub(crate) async fn ready(&self) -> u16 {
        let url = format!("http://{}/readyz", self.admin);
        reqwest::get(url).await.unwrap().status().as_u16()
    }
}

fn now() -> Instant {
    Instant::now()
}

pub(crate) fn yaml(more: &str) -> String {
    format!("node:\n  name: solo\n  dataAddress: 127.0.0.1:0\n  adminAddress: 127.0.0.1:0\n{more}")
}

#[test]
fn check_refuses_what_cannot_be_used_and_says_what_to_do() {
    let cases: [(&str, &[&str]); 7] = [
        ("nodes: 3\n", &["chat.yaml:1:1", "nodes", "node, store"]),
        ("stream:\n  coalesceMs: soon\n", &["chat.yaml:2:", "stream.coalesceMs", "40"]),
        ("store: etcd\n", &["chat.yaml:1:", "etcd", "memory", "redis"]),
        ("store:\n  redis: {}\n", &["store.redis.url: is missing", "redis://redis:6379"]),
        ("node:\n  name: a b\n", &["node.name", "letters, digits"]),
        ("ownership:\n  renewMs: 4000\n", &["ownership.renewMs: 4000 must be less than half"]),
        (
            "limits:\n  streams: 0\ndrain:\n  sigtermMs: 0\n",
            &["problems with", "limits.streams", "drain.sigtermMs", "drain.lingerMs"],
        ),
    ];
    for (text, expected) in cases {
        let mut setup = Setup::new(text);
        setup.set("POD_NAME", "pod-0");
        let (code, out, said) = setup.check();
        assert_eq!((code, out.as_str()), (Some(2), ""), "{text:?}: {said}");
        for word in expected {
            assert!(said.contains(word), "{text:?}: no {word:?} in\n{said}");
        }
    }
}

#[test]
fn check_refuses_missing_and_short_secrets_and_names_both_ways() {
    let (code, _, said) = Setup::bare(&yaml("")).check();
    assert_eq!(code, Some(2), "{said}");
    for name in ["CHAT_JWT_SECRET", "CHAT_RESUME_SECRET", "CHAT_ADMIN_KEY"] {
        assert!(said.contains(&format!("{name}: is missing")), "{said}");
        assert!(said.contains(&format!("{name}_FILE")), "{said}");
    }
    let mut setup = Setup::new(&yaml(""));
    setup.set("CHAT_JWT_SECRET", "hunter2");
    let (code, _, said) = setup.check();
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("CHAT_JWT_SECRET: has 7 bytes") && !said.contains("hunter2"), "{said}");
}

#[test]
fn check_prints_the_effective_file_without_secrets() {
    let mut setup = Setup::new(&yaml("stream:\n  coalesceMs: 7\n"));
    let file = setup.folder.path().join("admin-key");
    std::fs::write(&file, format!("{ADMIN_KEY}\n")).unwrap();
    setup.set("CHAT_ADMIN_KEY", "");
    setup.set("CHAT_ADMIN_KEY_FILE", file.to_str().unwrap());
    let (code, out, said) = setup.check();
    assert_eq!((code, said.as_str()), (Some(0), ""));
    let again = dataplane::config::file::parse("printed", &out).unwrap();
    assert_eq!((again.stream.coalesce_ms, again.node.name.as_deref()), (7, Some("solo")));
    let key = std::str::from_utf8(KEY).unwrap();
    assert!(!out.contains(key) && !out.contains(ADMIN_KEY), "{out}");
    assert!(out.contains(&format!("CHAT_ADMIN_KEY: {} bytes", ADMIN_KEY.len())), "{out}");
}

#[test]
fn a_taken_port_and_a_missing_file_are_said_plainly() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    let file = format!(
        "node:\n  name: solo\n  dataAddress: 127.0.0.1:{port}\n  adminAddress: 127.0.0.1:0\n"
    );
    let output = Setup::new(&file).command().output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("127.0.0.1:{port} (node.dataAddress) is taken")), "{said}");
    let setup = Setup::new("");
    std::fs::remove_file(setup.folder.path().join("chat.yaml")).unwrap();
    let (code, _, said) = setup.check();
    assert!(code == Some(2) && said.contains("cannot read") && said.contains("No such"), "{said}");
}

#[tokio::test]
async fn it_serves_and_its_admin_port_wants_the_key() {
    let running = Setup::new(&yaml("")).run();
    eventually(async || running.ready().await == 200).await;
    let nodes = format!("http://{}/admin/nodes", running.admin);
    assert_eq!(reqwest::get(&nodes).await.unwrap().status(), 401);
    let answer = reqwest::Client::new().get(&nodes).bearer_auth(ADMIN_KEY).send().await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap()[0]["name"], "solo");
    running.call().welcomed().await;
}

#[tokio::test]
async fn sigterm_and_ctrl_c_let_newcomers_in_for_a_while_and_end_with_0() {
    for name in ["TERM", "INT"] {
        let mut running = Setup::new(&yaml("drain:\n  lingerMs: 1500\n")).run();
        let mut early = running.call().welcomed().await;
        running.signal(name);
        let ServerFrame::Goaway(goaway) = early.frame().await else { panic!("no GOAWAY") };
        assert_eq!(goaway.reason, "drain");
        assert_eq!(running.ready().await, 503);
        let mut late = running.call().welcomed().await;
        assert!(matches!(late.frame().await, ServerFrame::Goaway(_)), "told at once");
        late.say(json!({"type": "CHAT_REQUEST", "content": "hello"})).await;
        let ServerFrame::Error(error) = late.frame().await else { panic!("no ERROR") };
        assert_eq!(error.code.as_str(), "DRAINING");
        drop((early, late));
        let (code, took) = running.ends().await;
        assert_eq!(code, Some(0), "{name}");
        assert!(took < Duration::from_secs(4), "{name}: {took:?}");
    }
}

#[tokio::test]
async fn a_drain_that_nobody_helps_ends_within_its_budget() {
    let mut running = Setup::new(&yaml("drain:\n  sigtermMs: 2000\n  lingerMs: 100\n")).run();
    let mut socket = running.live().await;
    let began = now();
    running.signal("TERM");
    let code = socket.closed().await;
    assert_eq!(code, 4000, "reconnect and resume");
    drop(socket);
    let (code, _) = running.ends().await;
    assert_eq!(code, Some(0));
    assert!(began.elapsed() < Duration::from_millis(4_000), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_second_sigterm_ends_it_within_three_seconds() {
    let mut running = Setup::new(&yaml("")).run();
    let mut socket = running.live().await;
    running.signal("TERM");
    loop {
        if matches!(socket.frame().await, ServerFrame::Goaway(_)) {
            break;
        }
    }
    assert!(running.child.try_wait().unwrap().is_none(), "the first one drains");
    running.signal("TERM");
    let (code, took) = running.ends().await;
    assert_eq!(code, Some(0));
    assert!(took <= Duration::from_secs(3), "{took:?}");
    assert_eq!(socket.closed().await, 4000);
}

#[tokio::test]
async fn it_ends_with_whoever_started_it() {
    let setup = Setup::new(&yaml(""));
    let mut command = setup.command();
    command.arg("--exit-with-stdin").stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running::spawn(&mut command).serving();
    let input = running.child.stdin.take();
    drop(input);
    let (code, took) = running.ends().await;
    assert!(code.is_some() && took < PATIENCE, "{code:?} {took:?}");
}

#[tokio::test]
async fn sigterm_hands_a_live_answer_to_another_process_over_redis() {
    let server = tokio::task::spawn_blocking(RedisServer::start).await.unwrap().unwrap();
    let file = |name: &str| {
        let url = server.url();
        let text = yaml(&format!(
            "store:\n  redis:\n    url: {url}\ndrain:\n  lingerMs: 500\n\
             ownership:\n  leaseMs: 1000\n  renewMs: 300\n  lookMs: 50\n"
        ));
        text.replace("solo", name)
    };
    let mut first = Setup::new(&file("first")).run();
    let second = Setup::new(&file("second")).run();
    eventually(async || first.ready().await == 200 && second.ready().await == 200).await;
    // Long enough for a second one that a busy machine has kept from the store for a moment.
    let content = "[sim tokens=400 rate=50 seed=4]";
    let mut socket = first.call().welcomed().await;
    socket.say(json!({"type": "CHAT_REQUEST", "content": content})).await;
    let message = loop {
        if let ServerFrame::Accepted(accepted) = socket.frame().await {
            break accepted.message_id;
        }
    };
    // By then the second one has been in touch with the store long enough to be trusted.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    first.signal("TERM");
    let mut elsewhere = second.call().welcomed().await;
    elsewhere.reconnect(message, -1).await;
    let frames = elsewhere.until_end().await;
    let directive = Directive::parse(content).unwrap();
    let whole = (0..400).map(|at| directive.chunk(Index(at), Epoch(1)).content.to_string());
    assert_eq!(texts(&frames, 0), whole.collect::<Vec<_>>());
    let moved = frames.iter().any(|frame| matches!(frame, ServerFrame::Takeover(_)));
    assert!(moved || first.child.try_wait().unwrap().is_some(), "it was handed over");
    drop(socket);
    let (code, _) = first.ends().await;
    assert_eq!(code, Some(0));
}
