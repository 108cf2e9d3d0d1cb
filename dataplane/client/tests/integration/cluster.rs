//! A whole cluster in one process, as simple as it can be: nodes over one shared log, and the
//! playground's `/dev`. With a [`Bug`] it breaks one promise, so that the judges can be judged.

use futures_util::{SinkExt, StreamExt};
use protocol::dev::{DevNode, NodePhase, UpstreamCall};
use protocol::http::{MessageStatus, MessageView};
use protocol::server_frame::*;
use protocol::sim::Directive;
use protocol::{
    ChunkType, ClientFrame, ConversationId, Digest, Epoch, Index, MessageId, RequestId, SealStatus,
    ServerFrame, SessionId, Usage, UserId,
};
use serde_json::json;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const TICK: Duration = Duration::from_millis(10);

/// One promise broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    /// A resume begins one chunk too late.
    Skip,
    /// A resume begins one chunk too early.
    Repeat,
    /// Chunks claim another epoch than the one they were written under.
    Relabel,
    /// No answer is ever sealed.
    NoSeal,
    /// The same request starts a second answer.
    TwoAnswers,
    /// The provider is asked twice.
    AskTwice,
    /// GET gives another text.
    OtherText,
    /// A frame comes after the end.
    Babble,
}

struct Answer {
    directive: Directive,
    began: Instant,
    /// The epoch of each chunk.
    epochs: Vec<u64>,
    epoch: u64,
    owner: usize,
    sealed: Option<SealStatus>,
}

impl Answer {
    /// Writes what the provider has said by now.
    fn advance(&mut self, bug: Bug) {
        if self.sealed.is_some() {
            return;
        }
        let spoken = match self.directive.rate {
            0 => self.directive.tokens,
            rate => (self.began.elapsed().as_secs_f64() * f64::from(rate)) as u64,
        };
        let to = spoken.min(self.directive.tokens);
        while (self.epochs.len() as u64) < to {
            self.epochs.push(self.epoch);
        }
        if to == self.directive.tokens && bug != Bug::NoSeal {
            self.sealed = Some(SealStatus::Completed);
        }
    }

    fn chunk(&self, index: u64) -> WireChunk {
        let epoch = Epoch(self.epochs[index as usize]);
        let chunk = self.directive.chunk(Index(index), epoch);
        WireChunk { kind: chunk.kind, content: chunk.content, metadata: None }
    }

    fn digest(&self, to: u64) -> Digest {
        let chunks: Vec<_> = (0..to).map(|index| self.chunk(index).to_chunk()).collect();
        Digest::EMPTY.with_all(&chunks)
    }
}

struct World {
    bug: Bug,
    nodes: Vec<(String, String, NodePhase, CancellationToken)>,
    answers: HashMap<MessageId, Answer>,
    requests: HashMap<RequestId, MessageId>,
    calls: Vec<UpstreamCall>,
    next_id: u128,
}

type Shared = Arc<Mutex<World>>;

impl World {
    fn call(&mut self, message_id: MessageId, epoch: u64, request_id: Option<RequestId>) {
        let times = if self.bug == Bug::AskTwice { 2 } else { 1 };
        for _ in 0..times {
            self.calls.push(UpstreamCall {
                message_id,
                epoch: Epoch(epoch),
                request_id: request_id.clone(),
                node: "n".into(),
                from: Index(0),
                chunks: 0,
                started_at: crate::node::AT.parse().unwrap(),
                end: None,
            });
        }
    }

    /// The node is gone: another one goes on with its answers.
    fn fall(&mut self, node: usize, phase: NodePhase) {
        let bug = self.bug;
        let gone = std::mem::take(&mut self.nodes[node].3);
        gone.cancel();
        self.nodes[node].2 = phase;
        let heir = self.nodes.iter().position(|other| other.2 == NodePhase::Serving);
        let mut moved = Vec::new();
        for (id, answer) in &mut self.answers {
            answer.advance(bug);
            if answer.owner == node && answer.sealed.is_none() {
                answer.owner = heir.unwrap_or(node);
                answer.epoch += 1;
                moved.push((*id, answer.epoch));
            }
        }
        moved.into_iter().for_each(|(id, epoch)| self.call(id, epoch, None));
    }

    fn start(&mut self, node: usize, request: &protocol::ChatRequest) -> (MessageId, bool) {
        let id = request.request_id.clone().unwrap();
        if let Some(known) = self.requests.get(&id).filter(|_| self.bug != Bug::TwoAnswers) {
            return (*known, true);
        }
        self.next_id += 1;
        let message = MessageId(Uuid::from_u128(self.next_id));
        self.requests.insert(id.clone(), message);
        self.call(message, 1, Some(id));
        let answer = Answer {
            directive: Directive::parse(&request.content).unwrap(),
            began: Instant::now(),
            epochs: Vec::new(),
            epoch: 1,
            owner: node,
            sealed: None,
        };
        self.answers.insert(message, answer);
        (message, false)
    }

    fn view(&mut self, id: MessageId) -> Option<MessageView> {
        let bug = self.bug;
        let answer = self.answers.get_mut(&id)?;
        answer.advance(bug);
        let total = answer.epochs.len() as u64;
        let chunks = (0..total).map(|index| answer.chunk(index));
        let content = chunks.filter(|c| matches!(c.kind, ChunkType::Text | ChunkType::Code));
        let mut content: String = content.map(|chunk| chunk.content.to_string()).collect();
        if bug == Bug::OtherText {
            content.push('!');
        }
        Some(MessageView {
            message_id: id,
            conversation_id: ConversationId(id.0),
            role: "assistant".into(),
            status: MessageStatus::Completed,
            content,
            total_chunks: Index(total),
            digest: answer.digest(total),
            epoch: Epoch(answer.epoch),
        })
    }
}

/// The running cluster; dropped, everything ends.
pub(crate) struct Cluster {
    pub(crate) front: String,
    pub(crate) urls: Vec<String>,
    _tasks: JoinSet<()>,
}

impl Cluster {
    pub(crate) async fn start(bug: Bug) -> Self {
        let mut tasks = JoinSet::new();
        let mut listeners = Vec::new();
        let mut nodes = Vec::new();
        for n in 0..3 {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let name = format!("node-{n}");
            nodes.push((name, url, NodePhase::Serving, CancellationToken::new()));
            listeners.push(listener);
        }
        let urls = nodes.iter().map(|node| node.1.clone()).collect();
        let world = World {
            bug,
            nodes,
            answers: HashMap::new(),
            requests: HashMap::new(),
            calls: Vec::new(),
            next_id: 0,
        };
        let world: Shared = Arc::new(Mutex::new(world));
        for (node, listener) in listeners.into_iter().enumerate() {
            tasks.spawn(serve(listener, world.clone(), Some(node)));
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let front = format!("http://{}", listener.local_addr().unwrap());
        tasks.spawn(serve(listener, world, None));
        Self { front, urls, _tasks: tasks }
    }
}

async fn serve(listener: TcpListener, world: Shared, node: Option<usize>) {
    let mut peers = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let world = world.clone();
        peers.spawn(async move {
            let alive = {
                let world = world.lock().unwrap();
                node.map(|node| (world.nodes[node].2, world.nodes[node].3.clone()))
            };
            match alive {
                Some((NodePhase::Serving, gone)) => {
                    gone.run_until_cancelled(Box::pin(talk(stream, world, node))).await;
                }
                // Dead: the socket is dropped.
                Some(_) => {}
                None => talk(stream, world, None).await,
            }
        });
    }
}

async fn talk(mut stream: TcpStream, world: Shared, node: Option<usize>) {
    let mut head = vec![0; 8_192];
    let length = loop {
        let length = stream.peek(&mut head).await.unwrap_or(0);
        if length == 0 || head[..length].windows(4).any(|w| w == b"\r\n\r\n") {
            break length;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    if length == 0 {
        return;
    }
    let text = String::from_utf8_lossy(&head[..length]).to_string();
    if text.to_ascii_lowercase().contains("upgrade: websocket") {
        return converse(stream, world, node.unwrap()).await;
    }
    let mut words = text.split_whitespace();
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or("").to_owned());
    let (status, kind, body) = match node {
        Some(_) if path.ends_with("/stream") && method == "GET" => {
            return sse(stream, world, &path).await;
        }
        Some(_) => api(&world, method, &path),
        None => dev(&world, &path),
    };
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
    drain(stream).await;
}

/// Reads the request away, so that the close is no reset.
async fn drain(mut stream: TcpStream) {
    let mut rest = [0; 1_024];
    while tokio::io::AsyncReadExt::read(&mut stream, &mut rest).await.is_ok_and(|n| n > 0) {}
}

type Answered = (&'static str, &'static str, String);

fn api(world: &Shared, method: &str, path: &str) -> Answered {
    let mut world = world.lock().unwrap();
    let id = path.split('/').nth(4).and_then(MessageId::parse).unwrap();
    if method == "DELETE" {
        let bug = world.bug;
        let answer = world.answers.get_mut(&id).unwrap();
        answer.advance(bug);
        answer.sealed.get_or_insert(SealStatus::Cancelled);
        return ("204 No Content", "text/plain", String::new());
    }
    let view = world.view(id).unwrap();
    ("200 OK", "application/json", serde_json::to_string(&view).unwrap())
}

fn dev(world: &Shared, path: &str) -> Answered {
    let mut world = world.lock().unwrap();
    let parts: Vec<&str> = path.split(['/', '?']).collect();
    let body = match parts[2] {
        "token" => json!({"token": "t"}),
        "upstream" => json!(world.calls),
        _ if parts.len() == 3 => {
            let nodes = world.nodes.iter().map(|(name, url, phase, _)| DevNode {
                name: name.clone(),
                base_url: url.clone(),
                ws_url: String::new(),
                admin_url: String::new(),
                phase: *phase,
                sessions: 0,
                streams: 0,
            });
            json!(nodes.collect::<Vec<_>>())
        }
        _ => {
            let node = world.nodes.iter().position(|node| node.0 == parts[3]).unwrap();
            match parts[4] {
                "kill" => world.fall(node, NodePhase::Dead),
                "drain" => world.fall(node, NodePhase::Done),
                "start" => world.nodes[node].2 = NodePhase::Serving,
                _ => {}
            }
            return ("202 Accepted", "text/plain", String::new());
        }
    };
    ("200 OK", "application/json", body.to_string())
}

/// One message from the start, as events.
async fn sse(mut stream: TcpStream, world: Shared, path: &str) {
    let id = path.split('/').nth(4).and_then(MessageId::parse).unwrap();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    let mut follow = Follow { message: id, next: 0, over: false };
    let mut text = head.to_owned();
    while !follow.over {
        for frame in follow.frames(&world) {
            let whole: serde_json::Value =
                serde_json::from_str(&frame.encode(crate::node::AT.parse().unwrap())).unwrap();
            let kind = frame.kind().to_lowercase();
            text.push_str(&format!("event: {kind}\ndata: {}\n\n", whole["data"]));
        }
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
        text.clear();
        tokio::time::sleep(TICK).await;
    }
    let _ = stream.shutdown().await;
    drain(stream).await;
}

struct Follow {
    message: MessageId,
    next: u64,
    over: bool,
}

impl Follow {
    /// What has come since the last call.
    fn frames(&mut self, world: &Shared) -> Vec<ServerFrame> {
        let mut world = world.lock().unwrap();
        let bug = world.bug;
        let message_id = self.message;
        let answer = world.answers.get_mut(&message_id).unwrap();
        answer.advance(bug);
        let mut frames = Vec::new();
        while self.next < answer.epochs.len() as u64 {
            let index = Index(self.next);
            let mut epoch = Epoch(answer.epochs[self.next as usize]);
            if bug == Bug::Relabel {
                epoch = epoch.next();
            }
            let chunk = answer.chunk(self.next);
            frames.push(ServerFrame::Chunk(ChunkData { message_id, index, chunk, epoch }));
            self.next += 1;
        }
        if let Some(status) = answer.sealed {
            self.over = true;
            let total = answer.epochs.len() as u64;
            frames.push(ServerFrame::Complete(Complete {
                message_id,
                conversation_id: ConversationId(message_id.0),
                status,
                total_chunks: Index(total),
                digest: answer.digest(total),
                finish_reason: "stop".into(),
                model: "sim".into(),
                usage: Usage::default(),
                latency_ms: 1,
                first_token_ms: None,
                code: None,
                retryable: None,
                content: None,
            }));
            if bug == Bug::Babble {
                let last = frames[frames.len() - 1].clone();
                frames.push(last);
            }
        }
        frames
    }
}

struct Talk {
    socket: WebSocketStream<TcpStream>,
    world: Shared,
    node: usize,
    follows: Vec<Follow>,
}

async fn converse(stream: TcpStream, world: Shared, node: usize) {
    #[allow(clippy::result_large_err)] // The library's signature.
    let select = |_: &Request, mut response: Response| {
        let chosen = protocol::SUBPROTOCOL.parse().unwrap();
        response.headers_mut().insert("Sec-WebSocket-Protocol", chosen);
        Ok(response)
    };
    let Ok(socket) = tokio_tungstenite::accept_hdr_async(stream, select).await else { return };
    let mut talk = Talk { socket, world, node, follows: Vec::new() };
    talk.send(ServerFrame::Welcome(Welcome {
        session_id: SessionId(Uuid::nil()),
        user_id: UserId::new("u"),
        server_time: crate::node::AT.parse().unwrap(),
        v1: Some(WelcomeV1 {
            protocol: protocol::SUBPROTOCOL.into(),
            node: format!("node-{node}"),
            heartbeat_ms: 20_000,
            max_content_chars: 10_000,
            coalesce_ms: 10,
            token_expires_at: crate::node::AT.parse().unwrap(),
            resume_token: "r".into(),
        }),
    }))
    .await;
    let mut tick = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            message = talk.socket.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    talk.on_frame(ClientFrame::parse(&text).unwrap()).await;
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            },
            _ = tick.tick() => talk.deliver().await,
        }
    }
}

impl Talk {
    async fn send(&mut self, frame: ServerFrame) {
        let text = frame.encode(crate::node::AT.parse().unwrap());
        let _ = self.socket.send(Message::text(text)).await;
    }

    async fn deliver(&mut self) {
        let mut frames = Vec::new();
        for follow in &mut self.follows {
            frames.extend(follow.frames(&self.world));
        }
        self.follows.retain(|follow| !follow.over);
        for frame in frames {
            self.send(frame).await;
        }
    }

    async fn on_frame(&mut self, frame: ClientFrame) {
        match frame {
            ClientFrame::ChatRequest(request) => {
                let (message, duplicate) = self.world.lock().unwrap().start(self.node, &request);
                self.send(ServerFrame::Accepted(Accepted {
                    request_id: request.request_id,
                    conversation_id: ConversationId(message.0),
                    user_message_id: message,
                    message_id: message,
                    duplicate,
                }))
                .await;
                self.follows.push(Follow { message, next: 0, over: false });
            }
            ClientFrame::Reconnect(asked) => {
                let recovery = {
                    let mut world = self.world.lock().unwrap();
                    let bug = world.bug;
                    let answer = world.answers.get_mut(&asked.message_id).unwrap();
                    answer.advance(bug);
                    Recovery {
                        message_id: asked.message_id,
                        status: RecoveryStatus::Recovered,
                        from: asked.from,
                        tail: Index(answer.epochs.len() as u64),
                        epoch: Epoch(answer.epoch),
                        live: answer.sealed.is_none(),
                        digest: answer.digest(asked.from.0),
                        source: Source::Memory,
                    }
                };
                self.send(ServerFrame::Recovery(recovery)).await;
                let next = match self.world.lock().unwrap().bug {
                    Bug::Skip if asked.from.0 > 0 => asked.from.0 + 1,
                    Bug::Repeat => asked.from.0.saturating_sub(1),
                    _ => asked.from.0,
                };
                self.follows.retain(|follow| follow.message != asked.message_id);
                self.follows.push(Follow { message: asked.message_id, next, over: false });
            }
            _ => {}
        }
    }
}
