//! One node over a memory store that serves real sockets, a writer that appends to its log, and a
//! WebSocket client that sees every frame.

use crate::cluster::{Calls, Scripted};
use dataplane::admit::Keys;
use dataplane::node::{Engines, Node, NodeConfig, RunningNode};
use futures_util::{SinkExt, StreamExt};
use protocol::{
    ChatOptions, Chunk, ChunkType, ConversationId, Digest, Epoch, Incarnation, Index, MessageId,
    NodeName, OnDisconnect, Seal, SealStatus, ServerFrame, Settings, Usage, UserId,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use streamlog::memory::MemoryStore;
use streamlog::{Batch, Clock, Ids, Opened, Opening, Owner, StreamLog};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};
use uuid::Uuid;

pub(crate) const KEY: &[u8] = b"a key of at least thirty-two bytes, for tests";
/// Nothing here takes this long unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Fixture {
    pub(crate) running: RunningNode,
    pub(crate) node: Arc<Node>,
    store: MemoryStore,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.node.stop.cancel();
    }
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        Self::with(dataplane::playground::settings()).await
    }

    pub(crate) async fn with(settings: Settings) -> Self {
        Self::guarded(settings, None).await
    }

    /// With an admin key.
    pub(crate) async fn guarded(settings: Settings, admin: Option<&str>) -> Self {
        let store = MemoryStore::new(Clock::system(), Uuid::from_u128(1));
        Self::on(store, 1, settings, admin).await
    }

    /// Another node over the same store.
    pub(crate) async fn beside(&self) -> Self {
        Self::on(self.store.clone(), 2, self.node.settings.clone(), None).await
    }

    async fn on(store: MemoryStore, at: u64, settings: Settings, admin: Option<&str>) -> Self {
        let clock = Clock::system();
        let ids = Ids::seeded(clock.clone(), 10 + at);
        let name = NodeName::new(&format!("edge-{at}"));
        let owner = Owner { node: name, incarnation: Incarnation(ids.uuid()) };
        let handle = store.handle(owner.clone());
        let engines = Engines {
            log: Arc::new(handle.clone()),
            directory: Arc::new(handle.clone()),
            registry: Arc::new(handle.clone()),
            bus: Arc::new(handle),
        };
        let admin = admin.map(str::to_owned);
        let keys =
            Keys { jwt: vec![KEY.to_vec()], resume: vec![KEY.to_vec()], admin, ..Keys::default() };
        let upstream = Arc::new(Scripted { calls: Calls::default(), can_continue: true });
        let node = Node::new(NodeConfig { owner, settings, keys, engines, upstream, clock, ids });
        let data = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let running = node.serve(data, admin).unwrap();
        while node.lease.certain().is_none() {
            tokio::task::yield_now().await;
        }
        Self { running, node, store }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running.data
    }

    pub(crate) fn token(&self, user: &str, ttl: Duration) -> String {
        dataplane::admit::token::mint(KEY, user, ttl, &self.node.clock)
    }

    pub(crate) fn call(&self) -> Call {
        let token = Some(self.token("alice", Duration::from_secs(600)));
        Call {
            address: self.address(),
            token,
            protocols: Some("chatcluster.v1".to_owned()),
            query: String::new(),
            origin: None,
        }
    }

    /// A v1 socket of alice, after its WELCOME.
    pub(crate) async fn v1(&self) -> Socket {
        self.call().welcomed().await
    }

    /// A basic socket of alice, after its WELCOME.
    pub(crate) async fn basic(&self) -> Socket {
        Call { protocols: None, ..self.call() }.welcomed().await
    }

    /// Opens a stream of alice that only the test writes.
    pub(crate) async fn writer(&self) -> Writer {
        let uuid = || self.node.ids.uuid();
        let opening = Arc::new(Opening {
            message: MessageId(uuid()),
            user: UserId::new("alice"),
            conversation: ConversationId(uuid()),
            user_message: MessageId(uuid()),
            request_id: None,
            content: "hi".to_owned(),
            options: ChatOptions::default(),
            on_disconnect: OnDisconnect::Continue,
            context: Vec::new(),
            started_at: self.node.clock.wall(),
            trace: None,
        });
        let opened = self.node.log.open(opening.clone(), &self.node.owner).await.unwrap();
        let Opened::Yours(epoch) = opened else { panic!("{opened:?}") };
        let (message, node) = (opening.message, self.node.clone());
        Writer { node, message, epoch, tail: Index::ZERO, digest: Digest::EMPTY }
    }
}

/// Writes one stream.
pub(crate) struct Writer {
    node: Arc<Node>,
    pub(crate) message: MessageId,
    epoch: Epoch,
    pub(crate) tail: Index,
    pub(crate) digest: Digest,
}

impl Writer {
    /// Somebody else who takes himself for the owner of a stream of one chunk.
    pub(crate) fn beside(node: &Arc<Node>, message: MessageId, first: &Chunk) -> Self {
        let digest = Digest::EMPTY.with(first);
        Self { node: node.clone(), message, epoch: Epoch(1), tail: Index(1), digest }
    }

    pub(crate) async fn append(&mut self, texts: &[&str]) {
        let chunks: Vec<_> = texts.iter().map(|text| Chunk::new(ChunkType::Text, text)).collect();
        let at = self.node.clock.wall();
        let batch = Arc::new(Batch::new(self.epoch, self.tail, at, self.digest, chunks));
        (self.tail, self.digest) = (batch.end(), batch.after);
        self.node.log.append(self.message, &self.node.owner, batch).await.unwrap();
    }

    pub(crate) async fn seal(&self, status: SealStatus) {
        let failed = status == SealStatus::Failed;
        let seal = Seal {
            status,
            finish_reason: "stop".to_owned(),
            model: "scripted".to_owned(),
            usage: Usage::default(),
            latency_ms: 5,
            first_token_ms: Some(1),
            code: failed.then_some(protocol::ErrorCode::UpstreamUnavailable),
        };
        let (owner, seal) = (&self.node.owner, Arc::new(seal));
        self.node.log.seal(self.message, owner, self.epoch, seal).await.unwrap();
    }
}

/// How to connect.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) address: SocketAddr,
    pub(crate) token: Option<String>,
    pub(crate) protocols: Option<String>,
    pub(crate) query: String,
    pub(crate) origin: Option<String>,
}

impl Call {
    /// Err: the status and body of the HTTP answer.
    pub(crate) async fn connect(&self) -> Result<Socket, (u16, serde_json::Value)> {
        let uri = format!("ws://{}/ws/chat{}", self.address, self.query);
        let mut request = uri.into_client_request().unwrap();
        let mut put = |name: &'static str, value: Option<String>| {
            if let Some(value) = value {
                request.headers_mut().insert(name, HeaderValue::from_str(&value).unwrap());
            }
        };
        put("authorization", self.token.as_ref().map(|token| format!("Bearer {token}")));
        put("sec-websocket-protocol", self.protocols.clone());
        put("origin", self.origin.clone());
        let tcp = TcpStream::connect(self.address).await.unwrap();
        match tokio_tungstenite::client_async(request, tcp).await {
            Ok((socket, _)) => Ok(Socket { socket }),
            Err(Error::Http(response)) => {
                let body = response.body().clone().unwrap_or_default();
                Err((response.status().as_u16(), serde_json::from_slice(&body).unwrap()))
            }
            // The library refuses a server that selects none of the offered subprotocols.
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) async fn welcomed(&self) -> Socket {
        let mut socket = self.connect().await.unwrap();
        let frame = socket.frame().await;
        assert!(matches!(frame, ServerFrame::Welcome(_)), "{frame:?}");
        socket
    }
}

/// A client's socket.
pub(crate) struct Socket {
    pub(crate) socket: WebSocketStream<TcpStream>,
}

impl Socket {
    pub(crate) async fn next(&mut self) -> Option<Result<Message, Error>> {
        timeout(PATIENCE, self.socket.next()).await.expect("nothing came")
    }

    /// The next frame, whatever it is.
    pub(crate) async fn frame(&mut self) -> ServerFrame {
        loop {
            match self.next().await {
                Some(Ok(Message::Text(text))) => return ServerFrame::parse(&text).unwrap().0,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("no frame: {other:?}"),
            }
        }
    }

    /// The code of the close frame that comes next, frames before it left out.
    pub(crate) async fn closed(&mut self) -> u16 {
        loop {
            match self.next().await {
                Some(Ok(Message::Close(Some(close)))) => return close.code.into(),
                Some(Ok(_)) => {}
                other => panic!("no close frame: {other:?}"),
            }
        }
    }

    pub(crate) async fn say(&mut self, frame: serde_json::Value) {
        self.raw(Message::text(frame.to_string())).await;
    }

    pub(crate) async fn raw(&mut self, message: Message) {
        timeout(PATIENCE, self.socket.send(message)).await.expect("not taken").unwrap();
    }

    pub(crate) async fn reconnect(&mut self, message: MessageId, last: i64) {
        let frame = serde_json::json!(
            {"type": "RECONNECT", "messageId": message, "lastChunkIndex": last}
        );
        self.say(frame).await;
    }

    /// Everything up to COMPLETE or a final ERROR.
    pub(crate) async fn until_end(&mut self) -> Vec<ServerFrame> {
        let mut frames = Vec::new();
        loop {
            let frame = self.frame().await;
            let last = match &frame {
                ServerFrame::Complete(_) => true,
                ServerFrame::Error(error) => error.last,
                _ => false,
            };
            frames.push(frame);
            if last {
                return frames;
            }
        }
    }
}

/// Texts of all chunks, after checking that their indexes are contiguous from `first`.
pub(crate) fn texts(frames: &[ServerFrame], first: u64) -> Vec<String> {
    let mut texts = Vec::new();
    let mut take = |index: Index, text: &str| {
        assert_eq!(index.0, first + texts.len() as u64, "contiguous");
        texts.push(text.to_owned());
    };
    for frame in frames {
        match frame {
            ServerFrame::Chunk(chunk) => take(chunk.index, &chunk.chunk.content),
            ServerFrame::Chunks(chunks) => {
                for (k, chunk) in chunks.chunks.iter().enumerate() {
                    take(chunks.index.plus(k), &chunk.content);
                }
            }
            _ => {}
        }
    }
    texts
}

/// The answer to a request, asked again while it is only refused for now: a busy machine may starve a
/// node's short lease.
pub(crate) async fn started(
    api: &client::api::Api,
    request: &protocol::ChatRequest,
) -> protocol::server_frame::Accepted {
    let asked = async {
        loop {
            match api.start(request).await {
                Err(refused) if refused.is_passing() => {
                    tokio::time::sleep(Duration::from_millis(50)).await
                }
                answer => return answer.unwrap(),
            }
        }
    };
    timeout(PATIENCE, asked).await.expect("accepted")
}
