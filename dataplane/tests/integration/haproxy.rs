//! The shipped HAProxy configuration before a fleet: any plain client, any node, and a death between.

use crate::fixture::{Call, Socket};
use crate::playground::{Dev, eventually};
use dataplane::playground::FleetOptions;
use protocol::sim::Directive;
use protocol::{Epoch, Index, MessageId, ServerFrame};
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;
use uuid::Uuid;

/// Slow enough that a node dies in the middle of it.
const ANSWER: &str = "[sim tokens=80 rate=40 seed=5]";

fn shipped() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/haproxy.cfg")
}

/// HAProxy itself, ended with its guard.
struct Haproxy {
    child: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Haproxy {
    /// The shipped file, with the fleet's addresses in place of those of `make dev`.
    async fn before(dev: &Dev) -> Self {
        let mut text = std::fs::read_to_string(shipped()).unwrap();
        let port = |url: &str| url.rsplit(':').next().unwrap().to_owned();
        let (nodes, admins) = (dev.fleet.node_urls(), dev.fleet.admin_urls());
        for (n, (base, (name, admin))) in (1..).zip(nodes.iter().zip(&admins)) {
            let line = format!("server {name} 127.0.0.1:808{n} port 818{n}");
            assert!(text.contains(&line), "no {line}");
            let ours = format!("server {name} 127.0.0.1:{} port {}", port(base), port(admin));
            text = text.replace(&line, &ours);
        }
        // Somebody else may take a port that was free a moment ago: try again then.
        for _ in 0..5 {
            let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let (address, stats) = (free(), free());
            let text = text.replace("bind :8000", &format!("bind {address}"));
            let text = text.replace("bind 127.0.0.1:8404", &format!("bind {stats}"));
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("haproxy.cfg");
            std::fs::write(&file, text).unwrap();
            let mut command = Command::new("haproxy");
            command.arg("-q").arg("-db").arg("-f").arg(&file).stdout(Stdio::null());
            let child = command.spawn().expect("haproxy, of Debian's package of that name");
            let mut haproxy = Self { child, address, _folder: folder };
            if haproxy.listens().await {
                return haproxy;
            }
        }
        panic!("haproxy found no free port");
    }

    /// `false`: it has ended.
    async fn listens(&mut self) -> bool {
        loop {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if tokio::net::TcpStream::connect(self.address).await.is_ok() {
                return true;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// A plain WebSocket client of the original design: basic, its token in the query.
    async fn basic(&self, dev: &Dev, session: Uuid) -> Socket {
        let token = dev.fleet.token("alice");
        let query = format!("?sessionId={session}&token={token}");
        let address = self.address;
        Call { address, token: None, protocols: None, query, origin: None }.welcomed().await
    }
}

/// What a client of the original design keeps: texts in order, and the last index.
#[derive(Default)]
struct Kept {
    message: Option<MessageId>,
    texts: Vec<String>,
    complete: Option<String>,
}

impl Kept {
    /// Reads until so many chunks are there, or the end. `false`: the socket broke.
    async fn read(&mut self, socket: &mut Socket, until: usize) -> bool {
        while self.texts.len() < until && self.complete.is_none() {
            let Some(Ok(message)) = socket.next().await else { return false };
            let Ok(text) = message.into_text() else { return false };
            match ServerFrame::parse(&text).map(|(frame, _)| frame) {
                Ok(ServerFrame::Chunk(chunk)) => {
                    assert_eq!(chunk.index, Index(self.texts.len() as u64), "once and in order");
                    self.message = Some(chunk.message_id);
                    self.texts.push(chunk.chunk.content.to_string());
                }
                Ok(ServerFrame::Complete(_)) => self.complete = Some(text.to_string()),
                Ok(ServerFrame::Error(error)) => panic!("{error:?}"),
                // Pings and closing frames.
                _ if text.is_empty() => {}
                other => panic!("not of dialect basic: {other:?}"),
            }
        }
        true
    }
}

fn whole() -> String {
    let directive = Directive::parse(ANSWER).unwrap();
    (0..directive.tokens)
        .map(|at| directive.chunk(Index(at), Epoch(1)).content.to_string())
        .collect()
}

/// The node that holds the only socket.
async fn holder(dev: &Dev) -> usize {
    let mut found = None;
    eventually(async || {
        let nodes = dev.fleet.nodes().await;
        nodes.iter().filter(|node| node.sessions == 1).count() == 1
    })
    .await;
    for (at, node) in dev.fleet.nodes().await.iter().enumerate() {
        found = if node.sessions == 1 { Some(at) } else { found };
    }
    found.unwrap()
}

/// Asks through HAProxy, loses its node in the middle, comes back, and has everything once.
pub(crate) async fn an_answer_survives_a_death(options: FleetOptions) {
    let dev = Dev::with(options).await;
    let haproxy = Haproxy::before(&dev).await;
    let session = Uuid::from_u128(0x0193_0000_0000_7000_8000_0000_0000_0001);
    let mut kept = Kept::default();
    let mut socket = haproxy.basic(&dev, session).await;
    socket.say(json!({"type": "CHAT_REQUEST", "content": ANSWER})).await;
    assert!(kept.read(&mut socket, 20).await);
    let node = holder(&dev).await;
    dev.fleet.kill(node).await;
    assert!(!kept.read(&mut socket, usize::MAX).await, "its socket broke");
    drop(socket);
    let mut socket = haproxy.basic(&dev, session).await;
    let last = kept.texts.len() as i64 - 1;
    socket.reconnect(kept.message.unwrap(), last).await;
    assert!(kept.read(&mut socket, usize::MAX).await, "the answer goes on elsewhere");
    assert_eq!(kept.texts.concat(), whole());
    assert!(kept.complete.unwrap().contains("\"content\""), "basic is told the whole text");
    assert_ne!(holder(&dev).await, node);
}

fn quick() -> FleetOptions {
    let mut settings = dataplane::playground::settings();
    settings.ownership.lease_ms = 600;
    settings.ownership.renew_ms = 200;
    settings.ownership.look_ms = 50;
    FleetOptions { settings, ..FleetOptions::default() }
}

#[test]
fn the_shipped_file_is_valid() {
    let mut command = Command::new("haproxy");
    let output = command.arg("-c").arg("-f").arg(shipped()).output().expect("haproxy");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("WARNING"), "{said}");
}

#[tokio::test]
async fn a_plain_client_gets_its_whole_answer_through_haproxy_and_a_death() {
    an_answer_survives_a_death(quick()).await;
}

#[tokio::test]
async fn a_session_comes_back_to_its_node_and_a_draining_node_gets_nothing_new() {
    let dev = Dev::with(quick()).await;
    let haproxy = Haproxy::before(&dev).await;
    let session = Uuid::from_u128(0x0193_0000_0000_7000_8000_0000_0000_0002);
    let first = haproxy.basic(&dev, session).await;
    let node = holder(&dev).await;
    drop(first);
    for _ in 0..4 {
        eventually(async || dev.fleet.nodes().await.iter().all(|node| node.sessions == 0)).await;
        let again = haproxy.basic(&dev, session).await;
        assert_eq!(holder(&dev).await, node);
        drop(again);
    }
    let long = protocol::drain::DrainRequest { deadline_ms: Some(60_000), ..Default::default() };
    dev.fleet.drain(node, long).await;
    eventually(async || {
        let _socket = haproxy.basic(&dev, session).await;
        holder(&dev).await != node
    })
    .await;
}
