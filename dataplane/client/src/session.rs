//! The reconnecting client. It follows messages over a list of nodes and gives every chunk exactly
//! once, whatever happens to sockets and nodes. It has no task of its own: it lives while its owner
//! waits in [`Session::next`], and an owner that stops waiting is a slow reader.
//!
//! Reading order: this file (state, the loop) → `sockets` (dial, welcome, loss) → `frames`
//! (what a frame does) → `follow` (cursor and duplicates of one message).

mod event;
mod follow;
mod frames;
mod sockets;

pub use event::{Event, Observer, Stop};

use crate::backoff::Backoff;
use crate::connection::{ConnectError, Connection, Incoming};
use crate::token::{TokenError, TokenSource};
use crate::transcript::SocketNo;
use follow::Follow;
use futures_util::future::BoxFuture;
use protocol::{ChatRequest, ClientFrame, Digest, Index, MessageId, RequestId, SessionId};
use rand::Rng;
use rand::rngs::SmallRng;
use sockets::Socket;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// Requests and follows of one session at a time.
pub const MAX_FOLLOWS: usize = 1_024;
/// A request that is refused for now counts as failed after it was sent so often,
pub const REQUEST_TRIES: u32 = 30;
/// and not before this time has passed since it was first sent: a store may be away for a minute.
pub const REQUEST_PATIENCE: Duration = Duration::from_secs(90);
/// How long a closing socket may take to say goodbye.
const FAREWELL: Duration = Duration::from_secs(1);
/// The loop wakes at least so often.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// How a session connects.
#[derive(Clone, Debug)]
pub struct Options {
    /// Base URLs of the nodes, `http://host:port`; at least one.
    pub urls: Vec<String>,
    /// The node to begin with; later ones are chosen by chance.
    pub first: usize,
    /// Whose session; absent: the server makes one.
    pub session: Option<SessionId>,
    /// Give up when no socket was open for so long; `None`: never.
    pub give_up_after: Option<Duration>,
    /// See [`crate::connection::Target::receive_buffer`].
    pub receive_buffer: Option<u32>,
}

impl Options {
    /// Over these nodes, beginning with the first, giving up after a minute without any.
    pub fn new(urls: Vec<String>) -> Self {
        let give_up_after = Some(Duration::from_secs(60));
        Self { urls, first: 0, session: None, give_up_after, receive_buffer: None }
    }
}

/// A request that has not been accepted yet.
#[derive(Debug)]
struct Pending {
    id: RequestId,
    request: ChatRequest,
    sent_on: Option<SocketNo>,
    first_sent: Option<Instant>,
    retry_at: Option<Instant>,
    tries: u32,
}

impl Pending {
    /// Whether it was refused so often and for so long that trying again is no use.
    fn is_hopeless(&self, now: Instant) -> bool {
        let waited = self.first_sent.map_or(Duration::ZERO, |first| now - first);
        self.tries >= REQUEST_TRIES && waited >= REQUEST_PATIENCE
    }
}

/// A dial under way.
struct Dial {
    url: usize,
    since: Instant,
    opening: BoxFuture<'static, Result<(Box<Connection>, String), DialError>>,
}

#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// The client side of a session: see the module.
pub struct Session<O: Observer = ()> {
    options: Options,
    tokens: TokenSource,
    token: Option<String>,
    token_tries: u32,
    resume: Option<String>,
    rng: SmallRng,
    observer: O,
    sockets: Vec<Socket>,
    next_socket: SocketNo,
    url: usize,
    dial: Option<Dial>,
    dial_at: Option<Instant>,
    down_since: Option<Instant>,
    backoff: Backoff,
    follows: Vec<Follow>,
    requests: Vec<Pending>,
    events: VecDeque<Event>,
    stopped: bool,
    sleep: Pin<Box<Sleep>>,
    reconnects: u32,
}

enum Step {
    Socket(usize, Incoming),
    Dialled(Result<(Box<Connection>, String), DialError>),
    Timer,
}

impl<O: Observer> Session<O> {
    /// A session that dials when it is first awaited. Needs a Tokio runtime.
    pub fn new(options: Options, tokens: TokenSource, rng: SmallRng, observer: O) -> Self {
        let now = Instant::now();
        let url = options.first % options.urls.len().max(1);
        Self {
            options,
            tokens,
            token: None,
            token_tries: 0,
            resume: None,
            rng,
            observer,
            sockets: Vec::new(),
            next_socket: 0,
            url,
            dial: None,
            dial_at: Some(now),
            down_since: Some(now),
            backoff: Backoff::default(),
            follows: Vec::new(),
            requests: Vec::new(),
            events: VecDeque::new(),
            stopped: false,
            sleep: Box::pin(sleep_until(now)),
            reconnects: 0,
        }
    }

    /// Starts an answer and follows it. Without a `requestId` one is made; the request is repeated
    /// with it until it is accepted or refused for good. `None`: [`MAX_FOLLOWS`] requests wait.
    pub fn chat(&mut self, mut request: ChatRequest) -> Option<RequestId> {
        if self.requests.len() >= MAX_FOLLOWS {
            return None;
        }
        let made = RequestId::parse(&format!("{:032x}", self.rng.random::<u128>()));
        let id = request.request_id.take().or(made)?;
        request.request_id = Some(id.clone());
        let pending = Pending {
            id: id.clone(),
            request,
            sent_on: None,
            first_sent: None,
            retry_at: None,
            tries: 0,
        };
        self.requests.push(pending);
        self.send_requests(Instant::now());
        Some(id)
    }

    /// Follows a message from `from` on, until it ends or [`Session::unfollow`].
    pub fn follow(&mut self, message: MessageId, from: Index) {
        let known = self.follows.iter().any(|follow| follow.message == message);
        if known || self.follows.len() >= MAX_FOLLOWS {
            return;
        }
        self.follows.push(Follow::new(message, from));
        self.send_follows();
    }

    /// Stops following; the answer goes on.
    pub fn unfollow(&mut self, message: MessageId) {
        self.follows.retain(|follow| follow.message != message);
        for socket in self.sockets.iter_mut().filter(|socket| socket.is_usable()) {
            self.observer.on_unfollow(socket.no, message);
            socket.connection.send(&ClientFrame::Unfollow { message_id: message });
        }
    }

    /// Asks for the end of an answer, again on every new socket until it has ended.
    pub fn cancel(&mut self, message: MessageId) {
        let frame = ClientFrame::CancelStream { message_id: Some(message) };
        if let Some(follow) = self.follows.iter_mut().find(|follow| follow.message == message) {
            follow.cancelling = true;
        }
        if let Some(socket) = self.primary() {
            self.sockets[socket].connection.send(&frame);
        }
    }

    /// Drops every socket without a word, as a broken cable does; the session reconnects.
    pub fn cut(&mut self) {
        while !self.sockets.is_empty() {
            let lived = self.forget_socket(0);
            lived.connection.cut();
        }
        if self.dial.is_none() {
            self.redial(Duration::ZERO, "cut by its owner".into());
        }
    }

    /// Whether a welcomed socket is there.
    pub fn is_connected(&self) -> bool {
        self.primary().is_some()
    }

    /// Sockets opened after the first.
    pub fn reconnects(&self) -> u32 {
        self.reconnects
    }

    /// The session id in use.
    pub fn id(&self) -> Option<SessionId> {
        self.options.session
    }

    /// First index not received of a followed message, and the digest up to it.
    pub fn position(&self, message: MessageId) -> Option<(Index, Option<Digest>)> {
        let follow = self.follows.iter().find(|follow| follow.message == message)?;
        Some((follow.next(), follow.digest()))
    }

    /// What watches this session.
    pub fn observer(&mut self) -> &mut O {
        &mut self.observer
    }

    /// The next event; `None` after [`Event::Stopped`]. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            if self.stopped {
                return None;
            }
            self.tick(Instant::now());
            if !self.events.is_empty() {
                continue;
            }
            let wake = self.wake_at(Instant::now());
            self.sleep.as_mut().reset(wake);
            match std::future::poll_fn(|cx| self.poll_step(cx)).await {
                Step::Socket(at, incoming) => self.on_incoming(at, incoming),
                Step::Dialled(result) => self.on_dialled(result),
                Step::Timer => {}
            }
        }
    }

    /// Says goodbye on every socket and gives the observer back.
    pub async fn close(mut self) -> O {
        for socket in &mut self.sockets {
            socket.connection.close();
        }
        let goodbye = async {
            for socket in &mut self.sockets {
                while !matches!(socket.connection.next().await, Incoming::Closed { .. }) {}
            }
        };
        // A peer that does not answer is left to its own time-outs.
        let _ = tokio::time::timeout(FAREWELL, goodbye).await;
        for socket in &self.sockets {
            self.observer.on_closed(socket.no);
        }
        self.observer
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        for (at, socket) in self.sockets.iter_mut().enumerate() {
            if let Poll::Ready(incoming) = socket.connection.poll_incoming(cx) {
                return Poll::Ready(Step::Socket(at, incoming));
            }
        }
        if let Some(dial) = &mut self.dial
            && let Poll::Ready(result) = dial.opening.as_mut().poll(cx)
        {
            return Poll::Ready(Step::Dialled(result));
        }
        self.sleep.as_mut().poll(cx).map(|()| Step::Timer)
    }

    fn stop(&mut self, why: Stop) {
        self.stopped = true;
        self.dial = None;
        self.events.push_back(Event::Stopped(why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{ChatOptions, OnDisconnect};

    #[test]
    fn a_request_is_given_up_only_when_refused_often_and_for_long() {
        let first = Instant::now();
        let id = RequestId::parse("r-1").unwrap();
        let request = ChatRequest {
            content: "hello".into(),
            conversation_id: None,
            request_id: Some(id.clone()),
            options: ChatOptions::default(),
            on_disconnect: OnDisconnect::Continue,
        };
        let pending = |tries| Pending {
            id: id.clone(),
            request: request.clone(),
            sent_on: None,
            first_sent: Some(first),
            retry_at: None,
            tries,
        };
        let minute = first + Duration::from_secs(60);
        assert!(!pending(10 * REQUEST_TRIES).is_hopeless(minute), "a store may be away so long");
        assert!(!pending(REQUEST_TRIES - 1).is_hopeless(first + 2 * REQUEST_PATIENCE));
        assert!(pending(REQUEST_TRIES).is_hopeless(first + REQUEST_PATIENCE));
    }
}
