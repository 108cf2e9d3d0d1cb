//! The state machine: which inputs lead to which outputs (protocol sections 2 to 5).

use super::abuse::BadFrames;
use super::follow::{Follow, Next, Origin, send};
use super::{Control, FollowId, Input, Now, Output, Rules};
use crate::admit::Identity;
use crate::stream::Refusal;
use protocol::client_frame::BadFrame;
use protocol::server_frame::{
    Accepted, ErrorData, Goaway, HeartbeatAck, ServerFrame, Status, StreamState, TokenExpiring,
    Welcome, WelcomeV1,
};
use protocol::{
    ChatRequest, ClientFrame, CloseCode, Dialect, ErrorCode, MAX_CONTENT_CHARS, MessageId,
    Reconnect, RequestId, SUBPROTOCOL, SessionId,
};
use std::collections::VecDeque;
use std::sync::Arc;
use streamlog::{Cursor, Event, FollowError};

/// TOKEN_EXPIRING is sent this long before `exp`.
pub const EXPIRY_WARNING_MS: i64 = 60_000;
/// Look-ups that may wait on one socket; with more of them it is not read.
pub const MOST_JOBS: usize = 32;
/// A session looks at the clock at least this often: wall time may be set.
const LOOK_EVERY_MS: u64 = 30_000;
/// Where a refusal names no time.
const RETRY_AFTER_MS: u64 = 1_000;

/// A question to the node. They are asked one after another, so that answers keep the order of
/// their frames.
#[derive(Debug)]
enum Job {
    Accept(Box<ChatRequest>),
    Cancel(Option<MessageId>),
}

/// The job that runs.
#[derive(Debug)]
enum Running {
    Accept(Option<RequestId>),
    Cancel(Option<MessageId>),
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    rules: Arc<Rules>,
    dialect: Dialect,
    id: SessionId,
    identity: Identity,
    follows: Vec<Follow>,
    last_follow: u32,
    jobs: VecDeque<Job>,
    running: Option<Running>,
    bad: BadFrames,
    /// When the client was last heard.
    seen_ms: u64,
    pinged: bool,
    /// TOKEN_EXPIRING was sent for this token.
    warned: bool,
    close_at: Option<(u64, CloseCode)>,
    closed: bool,
    due_ms: u64,
}

impl Session {
    /// A session of an authenticated user.
    pub fn new(rules: Arc<Rules>, dialect: Dialect, id: SessionId, identity: Identity) -> Self {
        Self {
            rules,
            dialect,
            id,
            identity,
            follows: Vec::new(),
            last_follow: 0,
            jobs: VecDeque::new(),
            running: None,
            bad: BadFrames::default(),
            seen_ms: 0,
            pinged: false,
            warned: false,
            close_at: None,
            closed: false,
            due_ms: 0,
        }
    }

    /// What the client understands.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Whose it is, by the newest token.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// When it wants a [`Input::Tick`] at the latest, by the monotonic clock.
    pub fn due_ms(&self) -> u64 {
        self.due_ms
    }

    /// Live answers it follows.
    pub fn live_follows(&self) -> usize {
        self.follows.iter().filter(|follow| follow.is_live()).count()
    }

    /// The newest live answer it follows.
    pub fn newest_live(&self) -> Option<MessageId> {
        // Message ids are UUIDv7: the greatest is the newest.
        self.follows.iter().filter(|follow| follow.is_live()).map(|follow| follow.message).max()
    }

    /// Whether the client must wait before it is read again.
    pub fn is_busy(&self) -> bool {
        self.jobs.len() >= MOST_JOBS
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Vec<Output>) {
        if self.closed {
            return;
        }
        let chunks = matches!(input, Input::Event { event: Ok(Event::Batch(_)), .. });
        match input {
            Input::Opened => {
                self.seen(now);
                self.welcome(now, out);
            }
            Input::Text(text) => {
                self.seen(now);
                match ClientFrame::parse(text) {
                    Ok(frame) => self.frame(now, frame, out),
                    Err(bad) => self.bad_frame(now, &bad, out),
                }
            }
            Input::Binary => {
                self.seen(now);
                let (code, field) = (ErrorCode::InvalidMessage, Some("a text message is expected"));
                self.bad_frame(now, &BadFrame { code, field, request_id: None }, out);
            }
            Input::Seen => self.seen(now),
            Input::Event { follow, event } => self.event(now, follow, event, out),
            Input::Accepted(result) => self.accepted(now, result, out),
            Input::Cancelled { message, result } => self.cancelled(message, result, out),
            Input::Authenticated(result) => self.authenticated(now, result, out),
            Input::Content { follow, text } => self.content(follow, text, out),
            Input::Control(control) => self.control(now, &control, out),
            Input::Tick => self.tick(now, out),
        }
        if !chunks {
            self.due_ms = self.next_due(now);
        }
    }

    fn seen(&mut self, now: Now) {
        self.seen_ms = now.mono_ms;
        self.pinged = false;
    }

    fn welcome(&self, now: Now, out: &mut Vec<Output>) {
        let v1 = (self.dialect == Dialect::V1).then(|| WelcomeV1 {
            protocol: SUBPROTOCOL.to_owned(),
            node: self.rules.node.to_string(),
            heartbeat_ms: self.rules.heartbeat_ms,
            max_content_chars: MAX_CONTENT_CHARS,
            coalesce_ms: self.rules.coalesce_ms,
            token_expires_at: self.identity.expires_at,
            resume_token: String::new(),
        });
        let user_id = self.identity.user.clone();
        let frame = Welcome { session_id: self.id, user_id, server_time: now.wall, v1 };
        send(ServerFrame::Welcome(frame), out);
    }

    fn bad_frame(&mut self, now: Now, bad: &BadFrame, out: &mut Vec<Output>) {
        let request_id = bad.request_id.clone();
        refuse(ErrorData { error: bad.to_string(), request_id, ..ErrorData::new(bad.code) }, out);
        if self.bad.count(now.mono_ms) {
            self.close(CloseCode::Abuse, out);
        }
    }

    fn frame(&mut self, now: Now, frame: ClientFrame, out: &mut Vec<Output>) {
        match frame {
            ClientFrame::ChatRequest(request) => {
                self.jobs.push_back(Job::Accept(Box::new(request)));
                self.run_next(out);
            }
            ClientFrame::CancelStream { message_id } => {
                self.jobs.push_back(Job::Cancel(message_id));
                self.run_next(out);
            }
            ClientFrame::Reconnect(reconnect) => self.reconnect(now, &reconnect, out),
            ClientFrame::Unfollow { message_id } => self.drop_follow(message_id, out),
            ClientFrame::ToolResult { message_id } => {
                let message_id = Some(message_id);
                refuse(ErrorData { message_id, ..ErrorData::new(ErrorCode::NotFound) }, out);
            }
            ClientFrame::Auth { token } => out.push(Output::Verify(token)),
            ClientFrame::Heartbeat { t } => {
                send(ServerFrame::HeartbeatAck(HeartbeatAck { t }), out);
            }
        }
    }

    fn reconnect(&mut self, now: Now, wanted: &Reconnect, out: &mut Vec<Output>) {
        let (next, epoch, digest) = (wanted.from, wanted.epoch, wanted.digest);
        let cursor = Cursor { next, epoch, digest };
        let origin = Origin::Reconnect(next);
        self.follow(now, wanted.message_id, cursor, origin, false, out);
    }

    /// Ends an old follow of the message silently and begins a new one.
    fn follow(
        &mut self,
        now: Now,
        message: MessageId,
        cursor: Cursor,
        origin: Origin,
        live: bool,
        out: &mut Vec<Output>,
    ) {
        self.drop_follow(message, out);
        self.last_follow = self.last_follow.wrapping_add(1);
        let id = FollowId(self.last_follow);
        let follow = Follow::new(id, message, self.dialect, origin, live, now);
        if self.follows.len() >= self.rules.follows {
            return follow.fail(ErrorCode::RateLimited, out);
        }
        self.follows.push(follow);
        out.push(Output::Follow { follow: id, message, cursor });
    }

    fn drop_follow(&mut self, message: MessageId, out: &mut Vec<Output>) {
        if let Some(at) = self.follows.iter().position(|follow| follow.message == message) {
            self.forget(at, out);
        }
    }

    fn forget(&mut self, at: usize, out: &mut Vec<Output>) {
        let follow = self.follows.swap_remove(at);
        out.push(Output::Unfollow(follow.id));
        if self.follows.is_empty() {
            self.follows = Vec::new();
        }
    }

    fn event(
        &mut self,
        now: Now,
        id: FollowId,
        event: Result<Event, FollowError>,
        out: &mut Vec<Output>,
    ) {
        let Some(at) = self.follows.iter().position(|follow| follow.id == id) else { return };
        let hold = matches!(event, Ok(Event::Sealed { .. })) && self.cancel_pends(at);
        let Some(follow) = self.follows.get_mut(at) else { return };
        let next = match event {
            Ok(event) => follow.event(event, hold, now, out),
            Err(error) => {
                follow.lost(error, out);
                Next::Ended
            }
        };
        self.after(at, &next, out);
    }

    fn after(&mut self, at: usize, next: &Next, out: &mut Vec<Output>) {
        match next {
            Next::Goes => {}
            Next::Ended => self.forget(at, out),
            Next::NeedsContent => {
                if let Some(follow) = self.follows.get(at) {
                    let (follow, message) = (follow.id, follow.message);
                    out.push(Output::ReadContent { follow, message });
                }
            }
        }
    }

    /// A CANCEL_STREAM of this message waits for its answer: the end comes after it.
    fn cancel_pends(&self, at: usize) -> bool {
        let Some(message) = self.follows.get(at).map(|follow| follow.message) else { return false };
        let runs = matches!(self.running, Some(Running::Cancel(Some(m))) if m == message);
        runs || self.jobs.iter().any(|job| matches!(job, Job::Cancel(Some(m)) if *m == message))
    }

    fn content(&mut self, id: FollowId, text: Result<String, FollowError>, out: &mut Vec<Output>) {
        let Some(at) = self.follows.iter().position(|follow| follow.id == id) else { return };
        if let Some(follow) = self.follows.get_mut(at) {
            match text {
                Ok(text) => follow.complete(Some(text), out),
                Err(error) => follow.lost(error, out),
            }
        }
        self.forget(at, out);
    }

    /// Asks the next question, if none is open.
    fn run_next(&mut self, out: &mut Vec<Output>) {
        while self.running.is_none()
            && let Some(job) = self.jobs.pop_front()
        {
            match job {
                Job::Accept(request) if self.follows.len() >= self.rules.follows => {
                    let error = ErrorData::new(ErrorCode::RateLimited);
                    let (request_id, retry) = (request.request_id, Some(RETRY_AFTER_MS));
                    refuse(ErrorData { request_id, retry_after_ms: retry, ..error }, out);
                }
                Job::Accept(request) => {
                    self.running = Some(Running::Accept(request.request_id.clone()));
                    out.push(Output::Accept(request));
                }
                Job::Cancel(message) => {
                    let message = message.or_else(|| self.newest_live());
                    self.running = Some(Running::Cancel(message));
                    out.push(Output::Cancel(message));
                }
            }
        }
        if self.jobs.is_empty() {
            self.jobs = VecDeque::new();
        }
    }

    fn accepted(&mut self, now: Now, result: Result<Accepted, Refusal>, out: &mut Vec<Output>) {
        let request_id = match self.running.take() {
            Some(Running::Accept(request_id)) => request_id,
            other => {
                self.running = other;
                return;
            }
        };
        match result {
            Ok(accepted) => {
                let (message, live) = (accepted.message_id, !accepted.duplicate);
                // The old follow must not speak after ACCEPTED announced the new one.
                self.drop_follow(message, out);
                if self.dialect == Dialect::V1 {
                    send(ServerFrame::Accepted(accepted), out);
                }
                self.follow(now, message, Cursor::START, Origin::Request, live, out);
            }
            Err(refusal) => {
                refuse(ErrorData { request_id, ..error_of(&refusal) }, out);
            }
        }
        self.run_next(out);
    }

    fn cancelled(
        &mut self,
        message: Option<MessageId>,
        result: Result<StreamState, Refusal>,
        out: &mut Vec<Output>,
    ) {
        if !matches!(self.running, Some(Running::Cancel(_))) {
            return;
        }
        self.running = None;
        match (result, message) {
            (Ok(state), Some(message_id)) => {
                if self.dialect == Dialect::V1 {
                    let frame = Status { message_id, state, reason: None };
                    send(ServerFrame::Status(frame), out);
                }
            }
            (Ok(_), None) => refuse(ErrorData::new(ErrorCode::NotFound), out),
            (Err(refusal), message_id) => {
                refuse(ErrorData { message_id, ..error_of(&refusal) }, out);
            }
        }
        self.run_next(out);
        self.release(message, out);
    }

    /// Lets the end of a message go that waited for the answer to its CANCEL_STREAM.
    fn release(&mut self, message: Option<MessageId>, out: &mut Vec<Output>) {
        let at = self.follows.iter().position(|follow| Some(follow.message) == message);
        let Some(at) = at.filter(|at| !self.cancel_pends(*at)) else { return };
        if let Some(follow) = self.follows.get_mut(at) {
            let next = follow.release(out);
            self.after(at, &next, out);
        }
    }

    fn authenticated(
        &mut self,
        now: Now,
        result: Result<Identity, ErrorCode>,
        out: &mut Vec<Output>,
    ) {
        match result {
            Ok(identity) if identity.user == self.identity.user => {
                self.identity = identity;
                self.warned = false;
                self.welcome(now, out);
            }
            Ok(_) => refuse(ErrorData::new(ErrorCode::Forbidden), out),
            Err(code) => refuse(ErrorData::new(code), out),
        }
    }

    fn control(&mut self, now: Now, control: &Control, out: &mut Vec<Output>) {
        match control {
            Control::Goaway { reason, deadline_ms, reconnect_after_ms } => {
                let rebalance = *reason == "rebalance";
                let code = if rebalance { CloseCode::Rebalanced } else { CloseCode::Drained };
                self.close_at = Some((now.mono_ms.saturating_add(*deadline_ms), code));
                if self.dialect == Dialect::V1 {
                    let frame = Goaway {
                        reason: (*reason).to_owned(),
                        deadline_ms: *deadline_ms,
                        reconnect_after_ms: *reconnect_after_ms,
                        resume_token: String::new(),
                    };
                    send(ServerFrame::Goaway(frame), out);
                }
            }
            Control::Close(code) => self.close(*code, out),
        }
    }

    fn close(&mut self, code: CloseCode, out: &mut Vec<Output>) {
        let code = match (self.dialect, code) {
            (Dialect::Basic, CloseCode::Drained | CloseCode::Rebalanced) => CloseCode::Restart,
            (_, code) => code,
        };
        self.closed = true;
        out.push(Output::Close(code));
    }

    fn tick(&mut self, now: Now, out: &mut Vec<Output>) {
        let left_ms = self.identity.expires_at.as_millisecond() - now.wall.as_millisecond();
        let silent_ms = now.mono_ms.saturating_sub(self.seen_ms);
        if left_ms + self.rules.leeway_ms as i64 <= 0 {
            return self.close(CloseCode::TokenExpired, out);
        }
        if let Some((at, code)) = self.close_at
            && at <= now.mono_ms
        {
            return self.close(code, out);
        }
        if silent_ms >= self.rules.idle_ms {
            return self.close(CloseCode::Away, out);
        }
        if silent_ms >= self.rules.idle_ms / 2 && !std::mem::replace(&mut self.pinged, true) {
            out.push(Output::Ping);
        }
        if self.dialect == Dialect::V1
            && left_ms <= EXPIRY_WARNING_MS
            && !std::mem::replace(&mut self.warned, true)
        {
            let expires_at = self.identity.expires_at;
            send(ServerFrame::TokenExpiring(TokenExpiring { expires_at }), out);
        }
        for follow in &mut self.follows {
            follow.tick(self.rules.waiting_ms, now, out);
        }
    }

    fn next_due(&self, now: Now) -> u64 {
        let left_ms = self.identity.expires_at.as_millisecond() - now.wall.as_millisecond();
        let warning = self.dialect == Dialect::V1 && !self.warned;
        let token = if warning {
            left_ms - EXPIRY_WARNING_MS
        } else {
            left_ms + self.rules.leeway_ms as i64
        };
        let idle = if self.pinged { self.rules.idle_ms } else { self.rules.idle_ms / 2 };
        let waiting = self.follows.iter().filter_map(|f| f.waiting_at(self.rules.waiting_ms)).min();
        [
            Some(now.mono_ms.saturating_add(token.max(0) as u64)),
            Some(self.seen_ms.saturating_add(idle)),
            self.close_at.map(|(at, _)| at),
            waiting,
        ]
        .into_iter()
        .flatten()
        .fold(now.mono_ms.saturating_add(LOOK_EVERY_MS), u64::min)
    }
}

fn refuse(error: ErrorData, out: &mut Vec<Output>) {
    send(ServerFrame::Error(error), out);
}

fn error_of(refusal: &Refusal) -> ErrorData {
    let retry_after_ms = refusal.retry_after.map(|after| after.as_millis() as u64);
    ErrorData { retry_after_ms, ..ErrorData::new(refusal.code) }
}
