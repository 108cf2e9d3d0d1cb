//! What each frame does to a session's follows and requests.

use super::follow::{Follow, Taken};
use super::{Event, Observer, Session};
use crate::transcript::{SocketNo, frame_message};
use protocol::server_frame::{
    Accepted, Complete, ErrorData, Goaway, Recovery, RecoveryStatus, Reset, ServerFrame, WireChunk,
};
use protocol::{ClientFrame, Epoch, ErrorCode, Index, MessageId};
use std::time::Duration;
use tokio::time::Instant;

impl<O: Observer> Session<O> {
    pub(super) fn on_frame(&mut self, at: usize, frame: ServerFrame) {
        let socket = self.sockets[at].no;
        self.observer.on_frame(socket, &frame);
        if let Some(message) = frame_message(&frame) {
            self.choose_source(socket, message);
        }
        match frame {
            ServerFrame::Welcome(body) => self.on_welcome(at, body),
            ServerFrame::Accepted(body) => self.on_accepted(socket, body),
            ServerFrame::Chunk(body) => {
                self.on_chunks(socket, body.message_id, body.index, body.epoch, vec![body.chunk]);
            }
            ServerFrame::Chunks(body) => {
                self.on_chunks(socket, body.message_id, body.index, body.epoch, body.chunks);
            }
            ServerFrame::Complete(body) => self.on_complete(socket, body),
            ServerFrame::Recovery(body) => self.on_recovery(socket, body),
            ServerFrame::Reset(body) => self.on_reset(socket, body),
            ServerFrame::Takeover(body) => {
                self.tell_of(socket, body.message_id, Event::Takeover(body));
            }
            ServerFrame::Status(body) => self.events.push_back(Event::Status(body)),
            ServerFrame::Goaway(body) => self.on_goaway(at, body),
            ServerFrame::TokenExpiring(_) => self.renew_token(at),
            ServerFrame::HeartbeatAck(_) => {}
            ServerFrame::Error(body) => self.on_error(at, body),
        }
    }

    /// The follow of `message`, if this socket is the one it listens to.
    fn heard(&mut self, socket: SocketNo, message: MessageId) -> Option<&mut Follow> {
        let follow = self.follows.iter_mut().find(|follow| follow.message == message)?;
        (follow.source == Some(socket)).then_some(follow)
    }

    /// The first frame on the socket that was asked makes it the source; older ones are let go.
    fn choose_source(&mut self, socket: SocketNo, message: MessageId) {
        let follow = self.follows.iter_mut().find(|follow| follow.message == message);
        let Some(follow) = follow.filter(|follow| follow.asked == Some(socket)) else { return };
        follow.asked = None;
        follow.source = Some(socket);
        self.release_old_sockets();
    }

    fn tell_of(&mut self, socket: SocketNo, message: MessageId, event: Event) {
        if self.heard(socket, message).is_some() {
            self.events.push_back(event);
        }
    }

    fn on_accepted(&mut self, socket: SocketNo, body: Accepted) {
        let mine = |id: &protocol::RequestId| body.request_id.as_ref() == Some(id);
        let Some(at) = self.requests.iter().position(|request| mine(&request.id)) else {
            return self.on_accepted_again(socket, body.message_id);
        };
        self.requests.remove(at);
        if !self.follows.iter().any(|follow| follow.message == body.message_id) {
            let mut follow = Follow::new(body.message_id, Index::ZERO);
            follow.source = Some(socket);
            self.follows.push(follow);
        }
        self.events.push_back(Event::Accepted(body));
    }

    /// The request had gone out on a newer socket as well: the answer comes there from its start, and that
    /// one is listened to from now on.
    fn on_accepted_again(&mut self, socket: SocketNo, message: MessageId) {
        let follow = self.follows.iter_mut().find(|follow| follow.message == message);
        let newer = follow.filter(|follow| follow.source < Some(socket) && follow.asked.is_none());
        if let Some(follow) = newer {
            follow.source = Some(socket);
            self.release_old_sockets();
        }
    }

    fn on_chunks(
        &mut self,
        socket: SocketNo,
        message_id: MessageId,
        index: Index,
        epoch: Epoch,
        chunks: Vec<WireChunk>,
    ) {
        let Some(follow) = self.heard(socket, message_id).filter(|follow| !follow.resyncing) else {
            return;
        };
        match follow.take(index, epoch, chunks) {
            Taken::Nothing => {}
            Taken::New(index, chunks) => {
                self.events.push_back(Event::Chunks { message_id, index, epoch, chunks });
            }
            Taken::Gap => {
                let expected = follow.next();
                // Not at once: a server that always skips would be asked without pause.
                follow.resyncing = true;
                follow.source = None;
                follow.retry_at = Some(Instant::now() + crate::backoff::FIRST);
                self.events.push_back(Event::Gap { message_id, expected, got: index });
            }
        }
    }

    fn on_complete(&mut self, socket: SocketNo, body: Complete) {
        if self.heard(socket, body.message_id).is_some_and(|follow| !follow.resyncing) {
            self.follows.retain(|follow| follow.message != body.message_id);
            self.events.push_back(Event::Complete(body));
            self.release_old_sockets();
        }
    }

    fn on_recovery(&mut self, socket: SocketNo, body: Recovery) {
        let Some(follow) = self.heard(socket, body.message_id) else { return };
        follow.resyncing = false;
        if matches!(body.status, RecoveryStatus::Recovered | RecoveryStatus::Completed) {
            follow.learn(body.from, body.digest);
            self.events.push_back(Event::Recovered(body));
        }
    }

    fn on_reset(&mut self, socket: SocketNo, body: Reset) {
        let Some(follow) = self.heard(socket, body.message_id) else { return };
        follow.truncate(body.truncate_to);
        self.events.push_back(Event::Reset(body));
    }

    fn on_goaway(&mut self, at: usize, body: Goaway) {
        self.resume = Some(body.resume_token.clone());
        let after = Duration::from_millis(body.reconnect_after_ms);
        self.events.push_back(Event::Goaway(body));
        self.replace_socket(at, after);
    }

    fn on_error(&mut self, at: usize, body: ErrorData) {
        let socket = self.sockets[at].no;
        if body.last
            && let Some(message) = body.message_id
        {
            return self.on_final_error(socket, message, body);
        }
        if let Some(id) = &body.request_id
            && let Some(request) = self.requests.iter().position(|request| request.id == *id)
        {
            return self.on_request_refused(request, body);
        }
        if Self::is_about_token(body.code) {
            self.token = None;
        }
        self.events.push_back(Event::Warning(body));
    }

    fn on_final_error(&mut self, socket: SocketNo, message: MessageId, body: ErrorData) {
        let Some(follow) = self.heard(socket, message) else { return };
        if !body.retryable {
            self.follows.retain(|follow| follow.message != message);
            self.events.push_back(Event::Failed(body));
            return self.release_old_sockets();
        }
        if body.code == ErrorCode::Reset {
            follow.truncate(Index::ZERO);
        }
        let delay = self.patience(&body);
        if let Some(follow) = self.heard(socket, message) {
            follow.source = None;
            follow.resyncing = false;
            follow.retry_at = Some(Instant::now() + delay);
        }
        self.events.push_back(Event::Warning(body));
    }

    fn on_request_refused(&mut self, at: usize, body: ErrorData) {
        let delay = self.patience(&body);
        let now = Instant::now();
        let request = &mut self.requests[at];
        if !body.retryable || request.is_hopeless(now) {
            self.requests.remove(at);
            self.events.push_back(Event::Failed(body));
            return;
        }
        request.retry_at = Some(now + delay);
        self.events.push_back(Event::Warning(body));
    }

    /// What the server asked for, or a jittered delay.
    fn patience(&mut self, body: &ErrorData) -> Duration {
        let asked = body.retry_after_ms.map(Duration::from_millis);
        let jitter = crate::backoff::Backoff::default().failed(Duration::ZERO, &mut self.rng);
        asked.unwrap_or(crate::backoff::FIRST) + jitter
    }

    /// Sends RECONNECT for a follow on a socket.
    fn ask(&mut self, at: usize, message: MessageId) {
        let Some(follow) = self.follows.iter_mut().find(|follow| follow.message == message) else {
            return;
        };
        let socket = &mut self.sockets[at];
        let resume = follow.resume_point();
        follow.asked = Some(socket.no);
        follow.retry_at = None;
        self.observer.on_follow(socket.no, message, resume.from);
        socket.connection.send(&ClientFrame::Reconnect(resume));
        if follow.cancelling {
            let frame = ClientFrame::CancelStream { message_id: Some(message) };
            socket.connection.send(&frame);
        }
    }

    /// Asks the primary for every follow that is not asked for there and not heard from there.
    pub(super) fn send_follows(&mut self) {
        let Some(at) = self.primary() else { return };
        let no = Some(self.sockets[at].no);
        let wanted: Vec<MessageId> = self
            .follows
            .iter()
            .filter(|follow| follow.asked != no && follow.source != no)
            .filter(|follow| follow.retry_at.is_none())
            .map(|follow| follow.message)
            .collect();
        wanted.into_iter().for_each(|message| self.ask(at, message));
    }

    pub(super) fn retry_follows(&mut self, now: Instant) {
        let mut due = false;
        for follow in &mut self.follows {
            if follow.retry_at.is_some_and(|at| at <= now) {
                follow.retry_at = None;
                due = true;
            }
        }
        if due {
            self.send_follows();
        }
    }

    /// Sends every request that the primary has not got yet, or whose retry is due.
    pub(super) fn send_requests(&mut self, now: Instant) {
        let Some(at) = self.primary() else {
            // They go out with the next WELCOME.
            self.requests.iter_mut().for_each(|request| request.retry_at = None);
            return;
        };
        let socket = &mut self.sockets[at];
        for request in &mut self.requests {
            let waiting = request.retry_at.is_some_and(|at| at > now);
            let refused = request.retry_at.is_some();
            if waiting || (request.sent_on == Some(socket.no) && !refused) {
                continue;
            }
            request.retry_at = None;
            request.sent_on = Some(socket.no);
            request.first_sent.get_or_insert(now);
            request.tries += 1;
            self.observer.on_request(socket.no, &request.id);
            socket.connection.send(&ClientFrame::ChatRequest(request.request.clone()));
        }
    }
}
