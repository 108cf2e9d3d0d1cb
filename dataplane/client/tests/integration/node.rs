//! A scripted node: accepts WebSockets on a free port and runs one script per connection.

use futures_util::{SinkExt, StreamExt};
use protocol::server_frame::*;
use protocol::sim::Directive;
use protocol::{
    ClientFrame, ConversationId, Digest, Epoch, Index, MessageId, Reconnect, RequestId, SealStatus,
    ServerFrame, SessionId, Usage, UserId,
};
use std::future::Future;
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

pub(crate) const AT: &str = "2026-01-01T00:00:00Z";
pub(crate) const TOKENS: u64 = 20;

pub(crate) fn message() -> MessageId {
    MessageId::parse("018f4d5e-0000-7000-8000-000000000001").unwrap()
}

pub(crate) fn directive() -> Directive {
    Directive::parse(&format!("[sim tokens={TOKENS} seed=3 vary=epoch]")).unwrap()
}

/// Dropped: the listener and every connection end.
pub(crate) struct Node {
    pub(crate) url: String,
    /// `Sec-WebSocket-Protocol` of each connection, in order.
    pub(crate) offered: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Node {
    /// Runs `script(n, peer)` for the n-th connection.
    pub(crate) async fn start<F, S>(script: S) -> Self
    where
        S: Fn(usize, Peer) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let offered = Arc::new(Mutex::new(Vec::new()));
        let seen = offered.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut peers = JoinSet::new();
            for n in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let seen = seen.clone();
                #[allow(clippy::result_large_err)] // The library's signature.
                let select = |request: &Request, mut response: Response| {
                    let Some(offer) = request.headers().get("Sec-WebSocket-Protocol") else {
                        return Ok(response);
                    };
                    let offer = offer.to_str().unwrap();
                    seen.lock().unwrap().push(offer.to_owned());
                    let chosen = protocol::SUBPROTOCOL.parse().unwrap();
                    response.headers_mut().insert("Sec-WebSocket-Protocol", chosen);
                    Ok(response)
                };
                let Ok(socket) = tokio_tungstenite::accept_hdr_async(stream, select).await else {
                    continue;
                };
                peers.spawn(script(n, Peer { socket }));
            }
        });
        Self { url, offered, _tasks: tasks }
    }

    /// A port where nobody listens.
    pub(crate) async fn nowhere() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    }
}

/// The server's end of one WebSocket.
pub(crate) struct Peer {
    socket: WebSocketStream<TcpStream>,
}

impl Peer {
    pub(crate) async fn send(&mut self, frame: ServerFrame) {
        let text = frame.encode(AT.parse().unwrap());
        // A client that is gone is seen by the next `recv`.
        let _ = self.socket.send(Message::text(text)).await;
    }

    /// What no node says.
    pub(crate) async fn raw(&mut self, text: &str) {
        let _ = self.socket.send(Message::text(text)).await;
    }

    pub(crate) async fn welcome(&mut self, node: &str, heartbeat_ms: u64) {
        self.send(ServerFrame::Welcome(Welcome {
            session_id: SessionId(message().0),
            user_id: UserId::new("alice"),
            server_time: AT.parse().unwrap(),
            v1: Some(WelcomeV1 {
                protocol: protocol::SUBPROTOCOL.into(),
                node: node.into(),
                heartbeat_ms,
                max_content_chars: 10_000,
                coalesce_ms: 40,
                token_expires_at: AT.parse().unwrap(),
                resume_token: format!("resume-{node}"),
            }),
        }))
        .await;
    }

    /// The next frame; `None` once the client is gone. Close codes of the client are not told.
    pub(crate) async fn recv(&mut self) -> Option<ClientFrame> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return Some(ClientFrame::parse(&text).unwrap()),
                Some(Ok(Message::Close(_))) | None | Some(Err(_)) => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    /// Waits for a CHAT_REQUEST and accepts it.
    pub(crate) async fn accept(&mut self, duplicate: bool) -> RequestId {
        loop {
            match self.recv().await {
                Some(ClientFrame::ChatRequest(request)) => {
                    let id = request.request_id.unwrap();
                    self.accepted(id.clone(), duplicate).await;
                    return id;
                }
                Some(_) => {}
                None => panic!("the client left before it asked"),
            }
        }
    }

    pub(crate) async fn accepted(&mut self, request_id: RequestId, duplicate: bool) {
        self.send(ServerFrame::Accepted(Accepted {
            request_id: Some(request_id),
            conversation_id: ConversationId(message().0),
            user_message_id: message(),
            message_id: message(),
            duplicate,
        }))
        .await;
    }

    /// Waits for a RECONNECT and answers with RECOVERY for what it asks.
    pub(crate) async fn recover(&mut self, tail: u64) -> Reconnect {
        loop {
            match self.recv().await {
                Some(ClientFrame::Reconnect(asked)) => {
                    self.recovery(asked.from.0, tail).await;
                    return asked;
                }
                Some(_) => {}
                None => panic!("the client left before it resumed"),
            }
        }
    }

    pub(crate) async fn recovery(&mut self, from: u64, tail: u64) {
        self.send(ServerFrame::Recovery(Recovery {
            message_id: message(),
            status: RecoveryStatus::Recovered,
            from: Index(from),
            tail: Index(tail),
            epoch: Epoch(1),
            live: true,
            digest: digest(from),
            source: Source::Memory,
        }))
        .await;
    }

    pub(crate) async fn chunks(&mut self, range: std::ops::Range<u64>) {
        for index in range {
            let chunk = directive().chunk(Index(index), Epoch(1));
            let chunk = WireChunk { kind: chunk.kind, content: chunk.content, metadata: None };
            let (message_id, epoch) = (message(), Epoch(1));
            let body = ChunkData { message_id, index: Index(index), chunk, epoch };
            self.send(ServerFrame::Chunk(body)).await;
        }
    }

    pub(crate) async fn complete(&mut self) {
        self.send(ServerFrame::Complete(Complete {
            message_id: message(),
            conversation_id: ConversationId(message().0),
            status: SealStatus::Completed,
            total_chunks: Index(TOKENS),
            digest: digest(TOKENS),
            finish_reason: "stop".into(),
            model: "sim".into(),
            usage: Usage::default(),
            latency_ms: 1,
            first_token_ms: None,
            code: None,
            retryable: None,
            content: None,
        }))
        .await;
    }

    pub(crate) async fn close(&mut self, code: u16) {
        let _ = self.socket.close(Some(CloseFrame { code: code.into(), reason: "".into() })).await;
        while self.recv().await.is_some() {}
    }

    /// Reads until the client leaves.
    pub(crate) async fn stay(&mut self) {
        while self.recv().await.is_some() {}
    }
}

pub(crate) fn digest(to: u64) -> Digest {
    let chunks: Vec<_> = (0..to).map(|i| directive().chunk(Index(i), Epoch(1))).collect();
    Digest::EMPTY.with_all(&chunks)
}
