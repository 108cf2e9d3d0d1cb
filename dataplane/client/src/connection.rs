//! One WebSocket in dialect v1: the handshake, typed frames in and out, the close code.
//! Driven by polling, so that its owner needs no task and loses nothing when it stops waiting.

use crate::wire;
use futures_util::{Sink, Stream};
use protocol::http::Problem;
use protocol::server_frame::ParseError;
use protocol::{ClientFrame, SUBPROTOCOL, ServerFrame, SessionId};
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::header::{RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue, Uri};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

/// Longest time from the first SYN to the upgrade.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Client frames that wait for a full socket; more means that it is dead.
pub const MAX_OUTBOX: usize = 256;
/// Read and write buffer of one socket, in bytes; small, because one process simulates thousands.
const BUFFER: usize = 4 * 1024;
/// Largest message taken from a server, in bytes: a page of chunks and its JSON.
const MAX_MESSAGE: usize = 8 * 1024 * 1024;

/// Where and as whom to connect.
#[derive(Clone)]
pub struct Target {
    /// `http://host:port` of a node.
    pub base_url: String,
    /// The JWT.
    pub token: String,
    /// Of an earlier WELCOME or GOAWAY.
    pub resume: Option<String>,
    /// Shared by the sockets of one session.
    pub session: Option<SessionId>,
    /// Receive buffer of the kernel, in bytes; small ones make a stalled reader felt.
    pub receive_buffer: Option<u32>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Tokens stay out of every log.
        f.debug_struct("Target").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answers there, or too slowly: try another node.
    #[error("{url} cannot be reached: {why}")]
    Unreachable {
        /// The base URL.
        url: String,
        /// The system's words.
        why: String,
    },
    /// An HTTP answer instead of the upgrade.
    #[error("{url} refused the WebSocket with HTTP {status}{}", detail(.problem.as_deref()))]
    Refused {
        /// The base URL.
        url: String,
        /// The HTTP status.
        status: u16,
        /// Its problem document, where there was one.
        problem: Option<Box<Problem>>,
        /// How long to leave this node alone.
        retry_after: Option<Duration>,
    },
    /// The URL cannot be used.
    #[error("{url} is no node's address: {why}")]
    BadUrl {
        /// As given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
}

fn detail(problem: Option<&Problem>) -> String {
    problem.map_or_else(String::new, |p| format!(" ({}: {})", p.code, p.title))
}

impl ConnectError {
    /// Whether another token, and nothing else, may help.
    pub fn is_unauthenticated(&self) -> bool {
        matches!(self, Self::Refused { status: 401, .. })
    }

    /// Whether another try, here or elsewhere, may help.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => *status == 429 || *status >= 500,
            Self::BadUrl { .. } => false,
        }
    }
}

/// What a connection gives to its owner.
#[derive(Debug)]
pub enum Incoming {
    /// A frame.
    Frame(Box<ServerFrame>),
    /// A sign of life without a frame of ours: ping, pong, or a type of a later version.
    Alive,
    /// A text that is no frame: the server is broken.
    Broken(String),
    /// The end. 1005: a close without code; 1006: no close at all.
    Closed {
        /// The close code.
        code: u16,
        /// The server's or the system's words.
        reason: String,
    },
}

/// One open WebSocket.
pub struct Connection {
    socket: WebSocketStream<TcpStream>,
    outbox: VecDeque<Message>,
    /// Something was written that may not have left yet.
    unflushed: bool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("outbox", &self.outbox.len()).finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects and upgrades; WELCOME is the first frame.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn open(target: &Target) -> Result<Self, ConnectError> {
        let url = &target.base_url;
        let request = request(target)?;
        let upgrade = async {
            let stream = dial(url, request.uri(), target.receive_buffer).await?;
            let config = WebSocketConfig::default()
                .read_buffer_size(BUFFER)
                .write_buffer_size(BUFFER)
                .max_write_buffer_size(protocol::MAX_FRAME_BYTES * 2)
                .max_message_size(Some(MAX_MESSAGE))
                .max_frame_size(Some(MAX_MESSAGE));
            tokio_tungstenite::client_async_with_config(request, stream, Some(config))
                .await
                .map_err(|error| refused(url, error))
        };
        let slow = || unreachable(url, format!("no answer within {CONNECT_TIMEOUT:?}"));
        let upgraded = tokio::time::timeout(CONNECT_TIMEOUT, Box::pin(upgrade)).await;
        let (socket, _) = upgraded.map_err(|_| slow())??;
        Ok(Self { socket, outbox: VecDeque::new(), unflushed: false })
    }

    /// Queues a frame; [`Connection::poll_incoming`] writes it. `false`: the outbox is full.
    pub fn send(&mut self, frame: &ClientFrame) -> bool {
        self.push(Message::text(wire::encode(frame)))
    }

    /// Queues a normal close; the peer's answer ends the connection.
    pub fn close(&mut self) {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        self.push(Message::Close(Some(frame)));
    }

    fn push(&mut self, message: Message) -> bool {
        let room = self.outbox.len() < MAX_OUTBOX;
        if room {
            self.outbox.push_back(message);
        }
        room
    }

    /// Makes the drop of this connection look like a cut cable: RST instead of a close.
    pub fn cut(self) {
        let _ = self.socket.get_ref().set_zero_linger();
    }

    /// Writes what is queued and reads what came. After [`Incoming::Closed`] nothing follows.
    pub fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        if let Poll::Ready(Err(error)) = self.poll_write(cx) {
            // The peer's close may still be unread: it says more than a failed write.
            if !matches!(error, WsError::ConnectionClosed | WsError::Protocol(_)) {
                return Poll::Ready(broken_off(&error));
            }
        }
        match Pin::new(&mut self.socket).poll_next(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => Poll::Ready(Incoming::Closed { code: 1006, reason: "cut".into() }),
            Poll::Ready(Some(Err(error))) => Poll::Ready(broken_off(&error)),
            Poll::Ready(Some(Ok(message))) => {
                if message.is_close() {
                    // Its echo is written with the next flush.
                    let _ = Pin::new(&mut self.socket).poll_flush(cx);
                }
                Poll::Ready(read(message))
            }
        }
    }

    /// The next frame, sign of life, or the end.
    pub async fn next(&mut self) -> Incoming {
        std::future::poll_fn(|cx| self.poll_incoming(cx)).await
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WsError>> {
        let mut socket = Pin::new(&mut self.socket);
        while !self.outbox.is_empty() {
            std::task::ready!(socket.as_mut().poll_ready(cx))?;
            if let Some(message) = self.outbox.pop_front() {
                socket.as_mut().start_send(message)?;
                self.unflushed = true;
            }
        }
        if self.unflushed {
            std::task::ready!(socket.poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

fn read(message: Message) -> Incoming {
    match message {
        Message::Text(text) => match ServerFrame::parse(&text) {
            Ok((frame, _)) => Incoming::Frame(Box::new(frame)),
            Err(ParseError::UnknownType(_)) => Incoming::Alive,
            Err(error @ ParseError::Shape(_)) => Incoming::Broken(error.to_string()),
        },
        Message::Binary(_) => Incoming::Broken("a binary message".into()),
        Message::Close(frame) => {
            let (code, reason) = frame.map_or((1005, String::new()), |frame| {
                (u16::from(frame.code), frame.reason.to_string())
            });
            Incoming::Closed { code, reason }
        }
        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Incoming::Alive,
    }
}

fn broken_off(error: &WsError) -> Incoming {
    Incoming::Closed { code: 1006, reason: error.to_string() }
}

/// `http://host:port` → the upgrade's request.
fn request(target: &Target) -> Result<Request, ConnectError> {
    let bad = |why: String| ConnectError::BadUrl { url: target.base_url.clone(), why };
    let Some(rest) = target.base_url.strip_prefix("http://") else {
        return Err(bad("this build speaks http:// only; end TLS in front of it".into()));
    };
    let mut url = format!("ws://{}/ws/chat", rest.trim_end_matches('/'));
    if let Some(session) = target.session {
        url.push_str(&format!("?sessionId={session}"));
    }
    let mut offered = format!("{SUBPROTOCOL}, bearer.{}", target.token);
    if let Some(resume) = &target.resume {
        offered.push_str(&format!(", resume.{resume}"));
    }
    let mut offered =
        HeaderValue::try_from(offered).map_err(|_| bad("the token has bad characters".into()))?;
    offered.set_sensitive(true);
    let mut request = url.into_client_request().map_err(|error| bad(error.to_string()))?;
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, offered);
    Ok(request)
}

async fn dial(url: &str, uri: &Uri, buffer: Option<u32>) -> Result<TcpStream, ConnectError> {
    let cannot = |error: std::io::Error| unreachable(url, error.to_string());
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let addresses = lookup_host((host, uri.port_u16().unwrap_or(80))).await.map_err(cannot)?;
    let mut failure = unreachable(url, "the name has no address".into());
    for address in addresses {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let socket = socket.map_err(cannot)?;
        if let Some(bytes) = buffer {
            socket.set_recv_buffer_size(bytes).map_err(cannot)?;
        }
        match socket.connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true).map_err(cannot)?;
                return Ok(stream);
            }
            Err(error) => failure = cannot(error),
        }
    }
    Err(failure)
}

fn refused(url: &str, error: WsError) -> ConnectError {
    let WsError::Http(response) = error else { return unreachable(url, error.to_string()) };
    let body = response.body().as_deref().unwrap_or_default();
    ConnectError::Refused {
        url: url.to_owned(),
        status: response.status().as_u16(),
        problem: serde_json::from_slice(body).ok().map(Box::new),
        retry_after: retry_after(response.headers()),
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn unreachable(url: &str, why: String) -> ConnectError {
    ConnectError::Unreachable { url: url.to_owned(), why }
}
