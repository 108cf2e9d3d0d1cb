//! The life of a session's sockets: dial, welcome, heartbeat, make-before-break, loss.

use super::{Dial, DialError, Event, FAREWELL, LONGEST_SLEEP, Observer, Session, Stop};
use crate::connection::{CONNECT_TIMEOUT, Connection, Incoming, Target};
use crate::token::TokenError;
use crate::transcript::SocketNo;
use protocol::server_frame::Welcome;
use protocol::{ClientFrame, CloseCode, ErrorCode};
use rand::Rng;
use std::time::Duration;
use tokio::time::Instant;

/// Until WELCOME says otherwise.
const HEARTBEAT: Duration = Duration::from_secs(20);
/// How often a refused token is replaced before the session stops.
const MAX_TOKEN_TRIES: u32 = 2;

/// One open socket.
pub(super) struct Socket {
    pub(super) no: SocketNo,
    pub(super) connection: Box<Connection>,
    url: usize,
    dialled: Instant,
    welcomed: Option<Instant>,
    heartbeat: Duration,
    heard: Instant,
    beat_at: Instant,
    /// Closed by us; when it is dropped at the latest.
    leaving: Option<Instant>,
    /// GOAWAY came: a successor is wanted.
    pub(super) told_to_go: bool,
}

impl Socket {
    /// Whether frames may be sent.
    pub(super) fn is_usable(&self) -> bool {
        self.welcomed.is_some() && self.leaving.is_none()
    }

    fn lived(&self, now: Instant) -> Duration {
        self.welcomed.map_or(Duration::ZERO, |since| now - since)
    }

    /// When this socket needs attention next.
    fn wake_at(&self) -> Instant {
        let silent = self.heard + self.patience();
        self.leaving.unwrap_or_else(|| silent.min(self.beat_at))
    }

    /// Silence that means that the peer is gone.
    fn patience(&self) -> Duration {
        if self.welcomed.is_some() { self.heartbeat * 3 / 2 } else { CONNECT_TIMEOUT }
    }
}

impl<O: Observer> Session<O> {
    /// The newest socket that may be spoken to.
    pub(super) fn primary(&self) -> Option<usize> {
        self.sockets.iter().rposition(Socket::is_usable)
    }

    pub(super) fn wake_at(&self, now: Instant) -> Instant {
        let retries = self.follows.iter().filter_map(|follow| follow.retry_at);
        let requests = self.requests.iter().filter_map(|request| request.retry_at);
        let given_up = self.down_since.zip(self.options.give_up_after).map(|(t, d)| t + d);
        let dial_at = self.dial_at.filter(|_| self.dial.is_none());
        let sockets = self.sockets.iter().map(Socket::wake_at);
        let times = sockets.chain(retries).chain(requests).chain(given_up).chain(dial_at);
        times.min().unwrap_or(now + LONGEST_SLEEP).min(now + LONGEST_SLEEP)
    }

    /// Does whatever is due.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.dial.is_none() && self.dial_at.is_some_and(|at| at <= now) {
            self.start_dial(now);
        }
        self.mind_sockets(now);
        self.retry_follows(now);
        if self.requests.iter().any(|request| request.retry_at.is_some_and(|at| at <= now)) {
            self.send_requests(now);
        }
        let over = self.down_since.zip(self.options.give_up_after);
        if over.is_some_and(|(since, limit)| since + limit <= now) && !self.stopped {
            let tried = self.options.urls.join(", ");
            self.stop(Stop::Unreachable(format!("no node answered at {tried}")));
        }
    }

    fn mind_sockets(&mut self, now: Instant) {
        let mut at = 0;
        while at < self.sockets.len() {
            let socket = &mut self.sockets[at];
            if socket.leaving.is_some_and(|until| until <= now) {
                self.forget_socket(at);
                continue;
            }
            if socket.leaving.is_none() && socket.heard + socket.patience() <= now {
                self.lose(at, 1006, "silence for 1.5 heartbeats");
                continue;
            }
            if socket.is_usable() && socket.beat_at <= now {
                socket.beat_at = now + socket.heartbeat;
                socket.connection.send(&ClientFrame::Heartbeat { t: None });
            }
            at += 1;
        }
    }

    fn start_dial(&mut self, now: Instant) {
        self.dial_at = None;
        let Some(base_url) = self.options.urls.get(self.url).cloned() else {
            self.stop(Stop::Unreachable("no URL was given".into()));
            return;
        };
        let (tokens, known) = (self.tokens.clone(), self.token.clone());
        let (resume, session) = (self.resume.clone(), self.options.session);
        let receive_buffer = self.options.receive_buffer;
        let opening = async move {
            let token = match known {
                Some(token) => token,
                None => tokens.token().await?,
            };
            let target = Target { base_url, token: token.clone(), resume, session, receive_buffer };
            Ok((Box::new(Connection::open(&target).await?), token))
        };
        self.dial = Some(Dial { url: self.url, since: now, opening: Box::pin(opening) });
    }

    pub(super) fn on_dialled(&mut self, result: Result<(Box<Connection>, String), DialError>) {
        let Some(dial) = self.dial.take() else { return };
        let now = Instant::now();
        let (connection, token) = match result {
            Ok(opened) => opened,
            Err(error) => return self.on_dial_failed(dial.url, &error),
        };
        self.token = Some(token);
        self.sockets.push(Socket {
            no: self.next_socket,
            connection,
            url: dial.url,
            dialled: dial.since,
            welcomed: None,
            heartbeat: HEARTBEAT,
            heard: now,
            beat_at: now + HEARTBEAT,
            leaving: None,
            told_to_go: false,
        });
        self.next_socket += 1;
    }

    fn on_dial_failed(&mut self, url: usize, error: &DialError) {
        let text = error.to_string();
        match error {
            DialError::Connect(refused) if refused.is_unauthenticated() => {
                self.token_tries += 1;
                if !self.tokens.can_renew() || self.token_tries > MAX_TOKEN_TRIES {
                    return self.stop(Stop::Unauthenticated(text));
                }
                self.token = None;
            }
            DialError::Connect(refused) if !refused.is_passing() => {
                return self.stop(Stop::Refused(text));
            }
            DialError::Token(TokenError::Refused(_)) => {
                return self.stop(Stop::Unauthenticated(text));
            }
            DialError::Connect(_) | DialError::Token(_) => {}
        }
        self.avoid(url);
        let delay = self.backoff.failed(Duration::ZERO, &mut self.rng);
        self.redial(delay, text);
    }

    pub(super) fn on_incoming(&mut self, at: usize, incoming: Incoming) {
        self.sockets[at].heard = Instant::now();
        match incoming {
            Incoming::Frame(frame) => self.on_frame(at, *frame),
            Incoming::Alive => {}
            Incoming::Broken(problem) => self.observer.on_broken(&problem),
            Incoming::Closed { code, reason } => self.lose(at, code, &reason),
        }
    }

    pub(super) fn on_welcome(&mut self, at: usize, body: Welcome) {
        let now = Instant::now();
        let socket = &mut self.sockets[at];
        let first = socket.welcomed.is_none();
        socket.welcomed.get_or_insert(now);
        self.options.session = Some(body.session_id);
        let mut node = String::new();
        if let Some(v1) = body.v1 {
            socket.heartbeat = Duration::from_millis(v1.heartbeat_ms.max(1));
            socket.beat_at = now + socket.heartbeat;
            self.resume = Some(v1.resume_token);
            node = v1.node;
        }
        if !first {
            return;
        }
        self.reconnects += u32::from(socket.no > 0);
        let (took, url) = (now - socket.dialled, self.options.urls[socket.url].clone());
        self.down_since = None;
        self.token_tries = 0;
        self.events.push_back(Event::Connected { node, url, took });
        self.send_follows();
        self.send_requests(now);
        self.release_old_sockets();
    }

    /// GOAWAY, or a token about to end: a successor is dialled while this socket goes on.
    pub(super) fn replace_socket(&mut self, at: usize, after: Duration) {
        let socket = &mut self.sockets[at];
        if std::mem::replace(&mut socket.told_to_go, true) || Some(at) != self.primary() {
            return;
        }
        let url = self.sockets[at].url;
        self.avoid(url);
        let due = Instant::now() + after;
        self.dial_at = Some(self.dial_at.map_or(due, |at| at.min(due)));
    }

    /// Closes every socket that a newer one has replaced in all follows.
    pub(super) fn release_old_sockets(&mut self) {
        let Some(newest) = self.primary() else { return };
        let goodbye = Instant::now() + FAREWELL;
        for socket in &mut self.sockets[..newest] {
            let listened = self.follows.iter().any(|follow| follow.source == Some(socket.no));
            if !listened && socket.leaving.is_none() {
                socket.leaving = Some(goodbye);
                socket.connection.close();
            }
        }
    }

    /// Removes a socket from every book.
    pub(super) fn forget_socket(&mut self, at: usize) -> Socket {
        let socket = self.sockets.remove(at);
        self.observer.on_closed(socket.no);
        self.follows.iter_mut().for_each(|follow| follow.lose(socket.no));
        for request in &mut self.requests {
            request.sent_on = request.sent_on.filter(|no| *no != socket.no);
        }
        socket
    }

    fn lose(&mut self, at: usize, code: u16, reason: &str) {
        let now = Instant::now();
        let socket = self.forget_socket(at);
        if socket.leaving.is_some() {
            return;
        }
        if code == CloseCode::TokenExpired.number() {
            self.token = None;
        }
        if self.primary().is_some() {
            // A newer or older socket is there: it carries what this one did.
            self.send_follows();
            self.send_requests(now);
            let wanted = self.sockets.iter().any(|socket| socket.told_to_go);
            if wanted && self.dial.is_none() {
                self.dial_at.get_or_insert(now);
            }
            return;
        }
        if !CloseCode::reconnects(code) {
            let text = format!("close code {code} {reason}");
            return self.stop(match code {
                4500 => Stop::Unauthenticated(text.trim_end().to_owned()),
                _ => Stop::Refused(text.trim_end().to_owned()),
            });
        }
        self.avoid(socket.url);
        if self.dial.is_none() {
            let delay = self.backoff.failed(socket.lived(now), &mut self.rng);
            self.redial(delay, format!("{code} {reason}"));
        }
    }

    /// Dials again after `delay`; the owner is told where nothing else is open.
    pub(super) fn redial(&mut self, delay: Duration, why: String) {
        let now = Instant::now();
        self.dial_at = Some(now + delay);
        if self.primary().is_some() {
            return;
        }
        self.down_since.get_or_insert(now);
        let attempt = self.backoff.failures();
        self.events.push_back(Event::Reconnecting { attempt, delay, why });
    }

    /// The next dial goes to another node, chosen by chance, where there is one.
    fn avoid(&mut self, url: usize) {
        let others = self.options.urls.len().saturating_sub(1);
        if others > 0 {
            let step = self.rng.random_range(1..=others);
            self.url = (url + step) % self.options.urls.len();
        }
    }

    /// A new token, on a new socket.
    pub(super) fn renew_token(&mut self, at: usize) {
        if self.tokens.can_renew() {
            self.token = None;
            self.replace_socket(at, Duration::ZERO);
        }
    }

    /// Whether a refusal of the whole socket is about the token.
    pub(super) fn is_about_token(code: ErrorCode) -> bool {
        matches!(code, ErrorCode::TokenExpired | ErrorCode::Unauthenticated)
    }
}
