//! The oracle of every test: what one device received of one message, judged against the protocol.
//! Pure: no I/O, no clock. Fed with every server frame in order, and with the moments at which the
//! device asked to follow; it never trusts the client that it watches.

mod agree;
mod follow;
mod log;
#[cfg(test)]
mod tests;
mod verdict;

pub use agree::{agree, agree_as_far, agrees_with};
pub use verdict::{Allowed, MAX_PROBLEMS, Verdict};

use follow::{Follow, Position, State};
use log::Log;
use protocol::server_frame::{
    Complete, ErrorData, Recovery, RecoveryStatus, Reset, ResetReason, ServerFrame, StreamState,
    Takeover, WireChunk,
};
use protocol::sim::Directive;
use protocol::{Digest, Epoch, ErrorCode, Index, MessageId, SealStatus};

/// Names a socket of one device; a later socket has a larger number.
pub type SocketNo = u32;

/// How an answer ended for this device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// COMPLETE.
    Sealed {
        /// What the seal says.
        status: SealStatus,
        /// Its code, where it failed.
        code: Option<ErrorCode>,
        /// Chunks in the log.
        total: Index,
        /// Of the whole log.
        digest: Digest,
    },
    /// A final ERROR that no RECONNECT can mend.
    Refused(ErrorCode),
}

/// One device's view of one message.
#[derive(Clone, Debug)]
pub struct Transcript {
    message: MessageId,
    directive: Option<Directive>,
    log: Log,
    follows: Vec<Follow>,
    end: Option<End>,
    last_takeover: Epoch,
    found: Verdict,
}

impl Transcript {
    /// Nothing received yet. With the directive of the request the text itself is judged too.
    pub fn new(message: MessageId, directive: Option<Directive>) -> Self {
        Self {
            message,
            directive,
            log: Log::default(),
            follows: Vec::new(),
            end: None,
            last_takeover: Epoch(0),
            found: Verdict::default(),
        }
    }

    /// The message.
    pub fn message(&self) -> MessageId {
        self.message
    }

    /// First index not held.
    pub fn tail(&self) -> Index {
        self.log.end()
    }

    /// How it ended, if it did.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// TEXT and CODE chunks in order.
    pub fn content(&self) -> String {
        self.log.content()
    }

    /// Digest of everything held; `None` where the device joined later and was never told.
    pub fn digest(&self) -> Option<Digest> {
        self.log.digest_at(self.log.end())
    }

    /// ACCEPTED on `socket`: a follow from 0 that needs no RECOVERY.
    pub fn on_accepted(&mut self, socket: SocketNo) {
        match self.follows.iter_mut().find(|follow| follow.socket == socket) {
            Some(follow) => follow.restart(Index::ZERO),
            None => self.follows.push(Follow::new(socket, Index::ZERO)),
        }
    }

    /// The device asked `socket` for the chunks from `from` on.
    pub fn on_follow(&mut self, socket: SocketNo, from: Index) {
        if self.log.is_empty() && self.follows.is_empty() {
            self.log.start_at(from);
        }
        if from > self.log.end() {
            let end = self.log.end();
            self.malformed(|| format!("the device asks for {from} but holds only {end}"));
        }
        match self.follows.iter_mut().find(|follow| follow.socket == socket) {
            Some(follow) if follow.state == State::Open || follow.asked.is_some() => {
                follow.asked = Some(from);
            }
            Some(follow) => follow.restart(from),
            None => self.follows.push(Follow::new(socket, from)),
        }
    }

    /// The device sent UNFOLLOW.
    pub fn on_unfollow(&mut self, socket: SocketNo) {
        if let Some(follow) = self.follows.iter_mut().find(|follow| follow.socket == socket) {
            follow.state = State::Left;
        }
    }

    /// The socket is gone.
    pub fn on_closed(&mut self, socket: SocketNo) {
        self.follows.retain(|follow| follow.socket != socket);
    }

    /// Feeds one frame. Frames of other messages are ignored.
    pub fn on_frame(&mut self, socket: SocketNo, frame: &ServerFrame) {
        if frame_message(frame) != Some(self.message) {
            return;
        }
        if is_reply_to_cancel(frame) {
            return;
        }
        let Some(at) = self.open_follow(socket, frame) else { return };
        match frame {
            ServerFrame::Chunk(body) => self.on_chunk(at, body.index, body.epoch, &body.chunk),
            ServerFrame::Chunks(body) => {
                if body.chunks.is_empty() {
                    self.malformed(|| format!("CHUNKS at {} holds nothing", body.index));
                }
                for (k, chunk) in body.chunks.iter().enumerate() {
                    self.on_chunk(at, body.index.plus(k), body.epoch, chunk);
                }
            }
            ServerFrame::Recovery(body) => self.on_recovery(at, body),
            ServerFrame::Reset(body) => self.on_reset(at, body),
            ServerFrame::Takeover(body) => self.on_takeover(body),
            ServerFrame::Complete(body) => self.on_complete(at, body),
            ServerFrame::Error(body) => self.on_final_error(at, body),
            _ => {}
        }
    }

    /// Whether it was told a RESET.
    pub fn was_reset(&self) -> bool {
        self.found.resets_rolled_back + self.found.resets_restarted > 0
    }

    /// What was found so far, except how it ended.
    fn so_far(&self) -> Verdict {
        let mut verdict = self.found.clone();
        verdict.transcripts = 1;
        verdict.chunks = self.log.end().since(self.log.base()) as u64;
        verdict
    }

    /// As [`Self::verdict`], of an answer that the store lost together with its owner: being told
    /// so by NOT_FOUND, INTERRUPTED or RESET is no fault, being told nothing is.
    pub fn verdict_if_lost(&self) -> Verdict {
        let told = match &self.end {
            Some(End::Refused(code)) => *code == ErrorCode::NotFound,
            Some(End::Sealed { code, .. }) => *code == Some(ErrorCode::Interrupted),
            None => false,
        };
        let verdict = if told { self.so_far() } else { self.verdict() };
        Verdict { resets_rolled_back: 0, resets_restarted: 0, ..verdict }
    }

    /// What was found so far; counts a transcript that has not ended.
    pub fn verdict(&self) -> Verdict {
        let mut verdict = self.so_far();
        match &self.end {
            None => {
                verdict.without_end = 1;
                verdict.note(|| format!("{}: no end, tail {}", self.message, self.log.end()));
            }
            Some(End::Sealed { status: SealStatus::Completed, .. }) => verdict.completed = 1,
            Some(End::Sealed { status: SealStatus::Cancelled, .. }) => verdict.cancelled = 1,
            Some(End::Sealed { code: Some(ErrorCode::Interrupted), .. }) => verdict.interrupted = 1,
            Some(End::Sealed { code, .. }) => {
                verdict.failed = 1;
                verdict.note(|| format!("{}: sealed failed, {code:?}", self.message));
            }
            Some(End::Refused(code)) => {
                verdict.failed = 1;
                verdict.note(|| format!("{}: final ERROR {code}", self.message));
            }
        }
        verdict
    }

    /// The follow that `frame` belongs to; `None`, noted, where there is none that may get it.
    fn open_follow(&mut self, socket: SocketNo, frame: &ServerFrame) -> Option<usize> {
        let Some(at) = self.follows.iter().position(|follow| follow.socket == socket) else {
            self.malformed(|| format!("{} on a socket that does not follow", frame.kind()));
            return None;
        };
        let follow = &mut self.follows[at];
        let begins = matches!(frame, ServerFrame::Recovery(_));
        match (follow.state, follow.asked) {
            (_, Some(from)) if begins => follow.restart(from),
            (State::Ended, Some(from)) => follow.restart(from),
            (State::Left, _) => return None,
            (State::Ended, None) => {
                self.found.after_end += 1;
                self.note(|| format!("{} after the end", frame.kind()));
                return None;
            }
            (State::Open, _) => {}
        }
        if !std::mem::replace(&mut follow.begun, true) {
            for other in &mut self.follows {
                other.superseded |= other.socket < socket;
            }
        }
        let due = &mut self.follows[at].reset_due;
        if !matches!(frame, ServerFrame::Reset(_)) && due.take().is_some() {
            self.malformed(|| "RECOVERY began elsewhere and no RESET said so".to_owned());
        }
        Some(at)
    }

    fn on_chunk(&mut self, at: usize, index: Index, epoch: Epoch, chunk: &WireChunk) {
        let chars = chunk.content.chars().count();
        if chars == 0 || chars > protocol::chunk::MAX_CHUNK_CHARS {
            self.malformed(|| format!("chunk {index} has {chars} characters"));
        }
        self.check_text(index, epoch, chunk);
        let place = self.follows[at].place(index);
        let socket = self.follows[at].socket;
        match place {
            Position::Next => {}
            Position::Twice => {
                self.found.twice += 1;
                self.note(|| format!("chunk {index} twice on socket {socket}"));
            }
            Position::Late => {
                self.found.out_of_order += 1;
                self.found.lost -= 1;
                self.note(|| format!("chunk {index} after a later one on socket {socket}"));
            }
            Position::Gap(gap) => {
                self.found.lost += gap;
                self.note(|| format!("{gap} chunks before {index} missing on socket {socket}"));
            }
        }
        if !self.follows[at].superseded {
            self.accept(index, epoch, chunk, matches!(place, Position::Next));
        }
    }

    /// No phantom, and the text of the epoch that it claims.
    fn check_text(&mut self, index: Index, epoch: Epoch, chunk: &WireChunk) {
        let Some(directive) = &self.directive else { return };
        let wanted = directive.chunk(index, epoch);
        let fits = wanted.kind == chunk.kind && wanted.content == chunk.content;
        if !fits || index.0 >= directive.tokens {
            self.found.phantom += 1;
            self.note(|| format!("chunk {index} of epoch {epoch} was never written so"));
        }
    }

    fn accept(&mut self, index: Index, epoch: Epoch, chunk: &WireChunk, in_order: bool) {
        if let Some(held) = self.log.get(index) {
            let same =
                held.epoch == epoch && held.kind == chunk.kind && held.text == &*chunk.content;
            if !same {
                self.found.mixed += 1;
                let was = held.epoch;
                self.note(|| format!("chunk {index} of epochs {was} and {epoch} differs"));
            } else if in_order {
                self.found.redelivered += 1;
            }
            return;
        }
        if index != self.log.end() {
            return;
        }
        if let Some(before) = self.log.last_epoch().filter(|before| *before > epoch) {
            self.found.mixed += 1;
            self.note(|| format!("chunk {index} of epoch {epoch} follows epoch {before}"));
        }
        self.log.push(epoch, chunk);
    }

    fn on_recovery(&mut self, at: usize, body: &Recovery) {
        let found = matches!(body.status, RecoveryStatus::Recovered | RecoveryStatus::Completed);
        if !found {
            return;
        }
        if body.from != self.follows[at].next {
            self.follows[at].reset_due = Some(body.from);
            return;
        }
        if body.tail < body.from {
            self.malformed(|| format!("RECOVERY from {} behind tail {}", body.from, body.tail));
        }
        self.log.learn_base_digest(body.from, body.digest);
        let own = self.log.digest_at(body.from);
        if own.is_some_and(|own| own != body.digest) {
            // A server that finds this must answer RESET to 0; then nothing was mixed.
            self.found.digest_mismatch += 1;
            self.note(|| format!("RECOVERY's digest before {} does not fit", body.from));
        }
    }

    fn on_reset(&mut self, at: usize, body: &Reset) {
        match body.reason {
            ResetReason::RolledBack => self.found.resets_rolled_back += 1,
            ResetReason::Restarted => self.found.resets_restarted += 1,
        }
        let follow = &mut self.follows[at];
        let due = follow.reset_due.take();
        let (next, to) = (follow.next, body.truncate_to);
        follow.next = to;
        follow.missing.clear();
        follow.asked = follow.asked.map(|from| from.min(to));
        if !follow.superseded {
            self.log.truncate(to);
        }
        if to > next || due.is_some_and(|due| due != to) {
            self.malformed(|| format!("RESET to {to} at {next}"));
        }
        if body.reason == ResetReason::RolledBack {
            self.note(|| format!("RESET ROLLED_BACK to {to} at {next}"));
        }
    }

    fn on_takeover(&mut self, body: &Takeover) {
        if body.epoch > self.last_takeover {
            self.last_takeover = body.epoch;
            self.found.takeovers += 1;
        }
    }

    fn on_complete(&mut self, at: usize, body: &Complete) {
        let follow = &mut self.follows[at];
        follow.state = State::Ended;
        let (next, superseded) = (follow.next, follow.superseded);
        let total = body.total_chunks;
        if total > next {
            self.found.lost += total.0 - next.0;
            self.note(|| format!("COMPLETE counts {total}, received up to {next}"));
        }
        if total < next {
            self.found.phantom += next.0 - total.0;
            self.note(|| format!("COMPLETE counts {total}, received up to {next}"));
        }
        if !superseded {
            let own = self.log.digest_at(total);
            if own.is_some_and(|own| own != body.digest) {
                self.found.digest_mismatch += 1;
                self.note(|| format!("COMPLETE's digest of {total} chunks does not fit"));
            }
        }
        self.check_length(body);
        let end = End::Sealed { status: body.status, code: body.code, total, digest: body.digest };
        if self.end.as_ref().is_some_and(|before| *before != end) {
            self.malformed(|| "two ends that differ".to_owned());
        }
        self.end = Some(end);
    }

    /// A provider that was heard to its end wrote all its tokens.
    fn check_length(&mut self, body: &Complete) {
        let Some(directive) = &self.directive else { return };
        let whole = body.status == SealStatus::Completed && body.finish_reason == "stop";
        let (wrote, wanted) = (body.total_chunks.0, directive.tokens);
        if whole && wrote < wanted {
            self.found.lost += wanted - wrote;
            self.note(|| format!("sealed completed after {wrote} of {wanted} chunks"));
        }
    }

    fn on_final_error(&mut self, at: usize, body: &ErrorData) {
        if !body.last {
            return;
        }
        self.follows[at].state = State::Ended;
        if !body.retryable {
            self.end.get_or_insert(End::Refused(body.code));
        }
    }

    fn malformed(&mut self, problem: impl FnOnce() -> String) {
        self.found.malformed += 1;
        self.note(problem);
    }

    fn note(&mut self, problem: impl FnOnce() -> String) {
        let message = self.message;
        self.found.note(|| format!("{message}: {}", problem()));
    }
}

/// The message that a frame is about.
pub fn frame_message(frame: &ServerFrame) -> Option<MessageId> {
    match frame {
        ServerFrame::Accepted(body) => Some(body.message_id),
        ServerFrame::Chunk(body) => Some(body.message_id),
        ServerFrame::Chunks(body) => Some(body.message_id),
        ServerFrame::Complete(body) => Some(body.message_id),
        ServerFrame::Recovery(body) => Some(body.message_id),
        ServerFrame::Reset(body) => Some(body.message_id),
        ServerFrame::Takeover(body) => Some(body.message_id),
        ServerFrame::Status(body) => Some(body.message_id),
        ServerFrame::Error(body) => body.message_id,
        ServerFrame::Welcome(_)
        | ServerFrame::Goaway(_)
        | ServerFrame::TokenExpiring(_)
        | ServerFrame::HeartbeatAck(_) => None,
    }
}

/// Answers to CANCEL_STREAM and errors that end nothing are no part of a follow; ACCEPTED begins one.
fn is_reply_to_cancel(frame: &ServerFrame) -> bool {
    match frame {
        ServerFrame::Status(body) => {
            matches!(body.state, StreamState::Cancelling | StreamState::Sealed)
        }
        ServerFrame::Error(body) => !body.last,
        ServerFrame::Accepted(_) => true,
        _ => false,
    }
}
