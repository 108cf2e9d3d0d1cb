//! One task a socket: it carries inputs to the session and does what the session says.

use super::registry::{Entered, Full, Sockets};
use super::upgrade::refuse;
use super::wire::{Heard, Wire};
use super::work::{Room, Work};
use super::{ask, encode, facts, now};
use crate::admit::{Identity, UnknownKey};
use crate::metrics::{SocketRefusal, Via};
use crate::node::Node;
use crate::session::{Input, Now, Output, Session};
use crate::telemetry::Span;
use protocol::server_frame::RecoveryStatus;
use protocol::{CloseCode, Dialect, MessageId, OnDisconnect, ServerFrame, SessionId};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use streamlog::follower::SWEEP_EVERY;
use streamlog::{Event, Slice};

/// Messages of the client handled in one go; then others have their turn.
const MOST_HEARD: usize = 32;
/// Rounds in one go.
const MOST_ROUNDS: usize = 8;
/// A socket that closes may take this long to shake hands.
const GOODBYE_MS: u64 = 5_000;
/// Followers look at the log this often: with the tick of the node's sweep within the follower's bound.
const SWEEP_MS: u64 = (SWEEP_EVERY.as_millis() - super::sweep::TICK.as_millis()) as u64;
/// From this many batches in a row on they are encoded anew as one message, up to
/// [`MERGED_BYTES`] of text; fewer go out as the shared bytes they are.
const MERGE_FROM: usize = 4;
/// Chunks of one socket that are counted together.
const COUNT_AT: usize = 64;
/// Most text of a merged message.
const MERGED_BYTES: usize = 64 * 1024;

/// See the module.
pub struct SocketTask {
    entered: Entered,
    wire: Wire,
    session: Session,
    session_id: SessionId,
    work: Option<Box<Work>>,
    /// When a closing socket is given up.
    give_up_ms: Option<u64>,
    /// When its followers look at the log unasked.
    sweep_ms: u64,
    /// What the registry was told last: when it is due, and what is queued.
    noted: (u64, usize),
    sent: Sent,
    span: Span,
    /// What the node closed it with.
    closed: Option<CloseCode>,
    /// A token's key is looked up: what the client says next is heard after it.
    verifying: bool,
}

/// Chunks not yet counted in the metrics: a counter for all sockets is not touched for each chunk.
#[derive(Clone, Copy, Default)]
struct Sent {
    chunks: usize,
    bytes: usize,
}

impl SocketTask {
    /// Serves an upgraded socket until it ends.
    pub async fn serve(
        node: Arc<Node>,
        wire: Wire,
        dialect: Dialect,
        session_id: SessionId,
        identity: Identity,
        span: Span,
    ) {
        let user = identity.user.clone();
        let entered = match Sockets::enter(&node, session_id, &user, dialect) {
            Ok(entered) => entered,
            Err(Full::User) => {
                node.metrics.socket_refused(SocketRefusal::TooManySockets);
                return Box::pin(refuse(&node, wire, None, CloseCode::TooManySockets)).await;
            }
            Err(Full::Node) => {
                node.metrics.socket_refused(SocketRefusal::Capacity);
                return Box::pin(refuse(&node, wire, None, CloseCode::Overloaded)).await;
            }
            Err(Full::Ended) => return,
        };
        let since = entered.handle.connected_at;
        Box::pin(facts::place(&node, session_id, &user, since)).await;
        let session = Session::new(node.sockets.rules(&node), dialect, session_id, identity);
        node.metrics.socket_accepted(dialect);
        let mut task = Self {
            entered,
            wire,
            session,
            session_id,
            work: None,
            give_up_ms: None,
            sweep_ms: 0,
            noted: (0, 0),
            sent: Sent::default(),
            span,
            closed: None,
            verifying: false,
        };
        task.open();
        poll_fn(|cx| {
            task.entered.handle.wake_with(cx.waker());
            Poll::Ready(())
        })
        .await;
        poll_fn(|cx| task.poll(cx)).await;
        task.leave();
        drop(task);
        Box::pin(facts::leave(&node, session_id, &user)).await;
    }

    fn node(&self) -> &Arc<Node> {
        &self.entered.node
    }

    /// Tells what is told of a socket in the end.
    fn leave(&mut self) {
        self.count();
        self.span.closed(self.closed);
        self.node().metrics.socket_closed(self.closed);
        tracing::debug!(code = self.closed.map(CloseCode::number), "socket ended");
    }

    fn open(&mut self) {
        let now = now(self.node());
        self.handle(now, Input::Opened);
        if !self.node().drain.is_serving() {
            // Told at once; whoever drains may give it a better slot later.
            let deadline_ms = self.node().settings.drain.ignore_ms;
            let goaway =
                super::Control::Goaway { reason: "drain", deadline_ms, reconnect_after_ms: 0 };
            self.handle(now, Input::Control(goaway));
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.entered.handle.is_ended() || self.wire.is_killed() {
            return Poll::Ready(());
        }
        let now = now(self.node());
        for _ in 0..MOST_ROUNDS {
            self.take_controls(now);
            let mut again = self.hear(now, cx);
            let held = self.wire.queued() > self.queue_bytes();
            if !held {
                again |= self.take_work(now, cx);
            }
            match self.wire.poll_flush(cx) {
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) if self.wire.is_done() => return Poll::Ready(()),
                _ => {}
            }
            if self.give_up_ms.is_some_and(|at| at <= now.mono_ms) {
                return Poll::Ready(());
            }
            // What was written made room for the followers.
            let room = held && self.wire.queued() <= self.queue_bytes();
            if !(again || room) {
                if self.work.is_none() {
                    self.wire.shrink();
                }
                self.set_due();
                return Poll::Pending;
            }
        }
        self.set_due();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn queue_bytes(&self) -> usize {
        self.node().settings.socket.queue_bytes
    }

    fn set_due(&mut self) {
        let mut due_ms = self.give_up_ms.unwrap_or_else(|| self.session.due_ms());
        if self.work.as_ref().is_some_and(|work| work.follows()) {
            due_ms = due_ms.min(self.sweep_ms);
        }
        let note = (due_ms, self.wire.queued());
        if self.noted != note {
            self.noted = note;
            self.entered.handle.note(due_ms, note.1);
        }
    }

    fn take_controls(&mut self, now: Now) {
        for control in self.entered.handle.controls() {
            self.handle(now, Input::Control(control));
        }
        if self.wire.is_open() && self.session.due_ms() <= now.mono_ms {
            self.handle(now, Input::Tick);
            self.count();
        }
        if self.sweep_ms <= now.mono_ms
            && let Some(work) = &mut self.work
        {
            self.sweep_ms = now.mono_ms + SWEEP_MS;
            work.sweep();
        }
    }

    /// Reads what the client says. `true`: there may be more.
    fn hear(&mut self, now: Now, cx: &mut Context<'_>) -> bool {
        for _ in 0..MOST_HEARD {
            // A client that does not read what it asked for is not read either.
            let full = self.wire.queued() > 2 * self.queue_bytes();
            let busy = self.session.is_busy() || self.verifying;
            if self.wire.is_open() && (full || busy) {
                return false;
            }
            match self.wire.poll_hear(cx) {
                Poll::Pending => return false,
                Poll::Ready(Heard::Over) => {
                    self.stop(now);
                    return false;
                }
                Poll::Ready(Heard::Text(text)) => self.handle(now, Input::Text(&text)),
                Poll::Ready(Heard::Binary) => self.handle(now, Input::Binary),
                Poll::Ready(Heard::Seen) => self.handle(now, Input::Seen),
                Poll::Ready(Heard::Broken) => self.stop(now),
            }
        }
        true
    }

    /// Takes answers of the node and events of followers. `true`: what they led to is to be polled.
    fn take_work(&mut self, now: Now, cx: &mut Context<'_>) -> bool {
        let Some(work) = &mut self.work else { return false };
        let mut room = Room::take();
        let answers = work.poll(cx, &mut room.told);
        let mut verified = false;
        for answer in answers {
            verified |= matches!(answer, Input::Authenticated(_));
            self.note(&answer);
            self.handle(now, answer);
        }
        self.verifying &= !verified;
        if !room.told.is_empty() {
            self.tell(now, &mut room);
        }
        room.give_back();
        if self.work.as_ref().is_some_and(|work| work.is_idle()) {
            self.work = None;
        }
        verified || self.work.as_ref().is_some_and(|work| work.is_fresh())
    }

    /// All events of one round together: batches in a row become one write.
    fn tell(&mut self, now: Now, room: &mut Room) {
        for (follow, event) in room.told.drain(..) {
            if let Ok(Event::Attached(found)) = &event
                && found.opening.on_disconnect == OnDisconnect::Cancel
                && found.head.seal.is_none()
            {
                let followed = Sockets::follows(&self.entered.node, found.opening.message);
                if let Some(work) = &mut self.work {
                    work.keep(follow, followed);
                }
            }
            self.session.handle(now, Input::Event { follow, event }, &mut room.outputs);
        }
        self.perform(now, &mut room.outputs);
    }

    /// An accepted request is the session's newest answer.
    fn note(&mut self, answer: &Input<'_>) {
        if let Input::Accepted(Ok(accepted)) = answer
            && !accepted.duplicate
        {
            let (node, message) = (self.node().clone(), accepted.message_id);
            let session = self.session_id;
            self.work().ask(Box::pin(async move {
                facts::note_newest(&node, session, message).await;
                None
            }));
        }
    }

    fn handle(&mut self, now: Now, input: Input<'_>) {
        let mut out = Vec::new();
        self.session.handle(now, input, &mut out);
        self.perform(now, &mut out);
    }

    fn work(&mut self) -> &mut Work {
        self.work.get_or_insert_with(Box::default)
    }

    fn perform(&mut self, now: Now, out: &mut Vec<Output>) {
        let mut run: Option<Run> = None;
        let mut only_chunks = true;
        for output in out.drain(..) {
            match output {
                Output::SendBatch { message, slice } => match &mut run {
                    Some(run) if run.continues(message, &slice) => run.push(slice),
                    _ => self.send_run(run.replace(Run::new(message, slice))),
                },
                other => {
                    only_chunks = false;
                    self.send_run(run.take());
                    self.act(now, other);
                }
            }
        }
        self.send_run(run);
        if !only_chunks {
            let (live, newest) = (self.session.live_follows(), self.session.newest_live());
            self.entered.handle.set_live(live, newest);
        }
    }

    fn send_run(&mut self, run: Option<Run>) {
        let Some(run) = run else { return };
        let (dialect, before) = (self.session.dialect(), self.wire.queued());
        self.wire.push(encode::slice(dialect, run.message, &run.first));
        if dialect == Dialect::V1 && run.more.len() >= MERGE_FROM {
            self.wire.push(encode::merged(run.message, &run.more));
        } else {
            for slice in &run.more {
                self.wire.push(encode::slice(dialect, run.message, slice));
            }
        }
        let more: usize = run.more.iter().map(|slice| slice.chunks().len()).sum();
        self.sent.chunks += run.first.chunks().len() + more;
        self.sent.bytes += self.wire.queued() - before;
        if self.sent.chunks >= COUNT_AT {
            self.count();
        }
    }

    fn count(&mut self) {
        let Sent { chunks, bytes } = std::mem::take(&mut self.sent);
        if chunks > 0 {
            self.node().metrics.chunks_delivered(Via::WebSocket, chunks, bytes);
        }
    }

    fn act(&mut self, now: Now, output: Output) {
        let (node, user) = (self.node().clone(), self.session.identity().user.clone());
        match output {
            Output::Send(frame) => self.send(now, *frame),
            Output::SendBatch { message, slice } => self.send_run(Some(Run::new(message, slice))),
            Output::Accept(request) => {
                let trace = self.span.context().clone();
                self.work().ask(ask::accept(node, user, request, trace));
            }
            Output::Cancel(message) => {
                let session = self.session_id;
                self.work().ask(ask::cancel(node, user, session, message));
            }
            Output::Follow { follow, message, cursor } => {
                let follower = node.follow(&user, message, cursor);
                self.work().follow(follow, follower);
            }
            Output::Unfollow(follow) => self.work().unfollow(follow),
            Output::ReadContent { follow, message } => {
                self.work().ask(ask::content(&node, &user, follow, message));
            }
            Output::Verify(token) => match node.admit.verify_at_once(&token) {
                Ok(result) => self.handle(now, Input::Authenticated(result)),
                Err(UnknownKey) => {
                    self.verifying = true;
                    self.work().ask(ask::verify(node, token));
                }
            },
            Output::Ping => self.wire.ping(),
            Output::Close(code) => {
                self.closed.get_or_insert(code);
                self.wire.close(code);
                self.stop(now);
            }
        }
    }

    /// Nothing more is said; what is left is the handshake.
    fn stop(&mut self, now: Now) {
        self.work = None;
        self.give_up_ms.get_or_insert(now.mono_ms + GOODBYE_MS);
    }

    fn send(&mut self, now: Now, mut frame: ServerFrame) {
        let metrics = &self.entered.node.metrics;
        let (admit, identity) = (&self.entered.node.admit, self.session.identity());
        match &mut frame {
            ServerFrame::Recovery(found) => {
                let read =
                    matches!(found.status, RecoveryStatus::Recovered | RecoveryStatus::Completed);
                metrics.recovered(found.status, read.then_some(found.source));
            }
            ServerFrame::Reset(reset) => metrics.told_reset(reset.reason),
            ServerFrame::Welcome(welcome) => {
                if let Some(v1) = &mut welcome.v1 {
                    v1.resume_token = admit.issue_resume(identity, self.session_id, 0);
                }
            }
            ServerFrame::Goaway(goaway) => {
                let slot = goaway.reconnect_after_ms;
                goaway.resume_token = admit.issue_resume(identity, self.session_id, slot);
            }
            _ => {}
        }
        self.wire.push(encode::frame(&frame, now.wall));
    }
}

/// Consecutive batches of one message and epoch.
struct Run {
    message: MessageId,
    /// Sent as the shared bytes it is; so a single batch costs no allocation here.
    first: Slice,
    /// Those behind it, which may be encoded anew as one message.
    more: Vec<Slice>,
    bytes: usize,
}

impl Run {
    fn new(message: MessageId, first: Slice) -> Self {
        Self { message, first, more: Vec::new(), bytes: 0 }
    }

    fn continues(&self, message: MessageId, slice: &Slice) -> bool {
        let last = self.more.last().unwrap_or(&self.first).batch();
        self.message == message
            && last.epoch == slice.batch().epoch
            && last.end() == slice.first()
            && self.bytes < MERGED_BYTES
    }

    fn push(&mut self, slice: Slice) {
        self.bytes += slice.batch().weight();
        self.more.push(slice);
    }
}
