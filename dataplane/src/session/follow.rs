//! One followed message: what it is told in which dialect, and that it ends exactly once.
//!
//! Order of one follow (protocol section 4): `(RECOVERY | TAKEOVER | RESET | STATUS | CHUNK(S))*`,
//! then exactly one COMPLETE or one final ERROR, and nothing after it.

use super::{FollowId, Now, Output};
use protocol::server_frame::{
    Complete, ErrorData, Recovery, RecoveryStatus, Reset, ServerFrame, Source, Status, StreamState,
    Takeover,
};
use protocol::{
    ConversationId, Dialect, Digest, Epoch, ErrorCode, Index, MessageId, Seal, SealStatus,
};
use std::sync::Arc;
use streamlog::{Attached, Event, FollowError, Head};

/// Why a message is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// ACCEPTED announced it; there is no RECOVERY.
    Request,
    /// RECONNECT asked for it from here.
    Reconnect(Index),
}

/// The end of a message, as its follower told it.
#[derive(Debug)]
pub(super) struct Sealed {
    seal: Arc<Seal>,
    tail: Index,
    digest: Digest,
}

/// What is left to do after an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It goes on.
    Goes,
    /// It was told its end.
    Ended,
    /// Its whole text must be read first.
    NeedsContent,
}

/// One followed message.
#[derive(Debug)]
pub(super) struct Follow {
    pub(super) id: FollowId,
    pub(super) message: MessageId,
    dialect: Dialect,
    origin: Origin,
    /// Known once the follower found the stream.
    conversation: Option<ConversationId>,
    live: bool,
    paused: bool,
    /// When something was last heard of it, or its silence last told.
    heard_ms: u64,
    /// Its end, while something else must be said or read before.
    held: Option<Box<Sealed>>,
    /// The whole text is being read.
    reading: bool,
}

impl Follow {
    pub(super) fn new(
        id: FollowId,
        message: MessageId,
        dialect: Dialect,
        origin: Origin,
        live: bool,
        now: Now,
    ) -> Self {
        Self {
            id,
            message,
            dialect,
            origin,
            conversation: None,
            live,
            paused: false,
            heard_ms: now.mono_ms,
            held: None,
            reading: false,
        }
    }

    pub(super) fn is_live(&self) -> bool {
        self.live
    }

    /// Takes one event. `hold`: the end is kept until [`Follow::release`].
    pub(super) fn event(
        &mut self,
        event: Event,
        hold: bool,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Next {
        self.heard_ms = now.mono_ms;
        match event {
            Event::Batch(slice) => {
                out.push(Output::SendBatch { message: self.message, slice });
            }
            Event::Attached(found) => {
                self.live = found.head.seal.is_none();
                self.attached(&found, out);
            }
            Event::TakenOver { epoch, from, mode } => {
                let frame = Takeover { message_id: self.message, epoch, from, mode };
                self.tell(ServerFrame::Takeover(frame), out);
            }
            Event::Reset { reason, epoch } => {
                if self.dialect == Dialect::Basic {
                    self.fail(ErrorCode::Reset, out);
                    return Next::Ended;
                }
                let truncate_to = Index::ZERO;
                let frame = Reset { message_id: self.message, reason, truncate_to, epoch };
                self.tell(ServerFrame::Reset(frame), out);
            }
            Event::Paused => {
                self.paused = true;
                self.status(StreamState::Paused, out);
            }
            Event::Live => {
                self.paused = false;
                self.status(StreamState::Live, out);
            }
            Event::Sealed { seal, tail, digest } => {
                self.live = false;
                self.held = Some(Box::new(Sealed { seal, tail, digest }));
                return if hold { Next::Goes } else { self.release(out) };
            }
        }
        Next::Goes
    }

    /// Tells the end, if it is known.
    pub(super) fn release(&mut self, out: &mut Vec<Output>) -> Next {
        let Some(sealed) = &self.held else { return Next::Goes };
        let failed = sealed.seal.status == SealStatus::Failed;
        match self.dialect {
            Dialect::V1 => self.complete(None, out),
            Dialect::Basic if failed => {
                self.fail(sealed.seal.code.unwrap_or(ErrorCode::Internal), out);
            }
            Dialect::Basic if std::mem::replace(&mut self.reading, true) => return Next::Goes,
            Dialect::Basic => return Next::NeedsContent,
        }
        Next::Ended
    }

    /// Tells the end with the whole text (basic).
    pub(super) fn complete(&mut self, content: Option<String>, out: &mut Vec<Output>) {
        let (Some(sealed), Some(conversation)) = (self.held.take(), self.conversation) else {
            // A seal without a stream that was found: the follower never says that.
            return self.fail(ErrorCode::Internal, out);
        };
        let Sealed { seal, tail, digest } = *sealed;
        let frame = Complete::new(self.message, conversation, tail, digest, &seal);
        send(ServerFrame::Complete(Complete { content, ..frame }), out);
    }

    /// There is nothing (more) to follow.
    pub(super) fn lost(&self, error: FollowError, out: &mut Vec<Output>) {
        self.fail(code_of(error), out);
    }

    /// The one final ERROR; a failed recovery announces it in v1 and explains it in basic.
    pub(super) fn fail(&self, code: ErrorCode, out: &mut Vec<Output>) {
        let mut error = ErrorData::last(code, self.message);
        if let (None, Origin::Reconnect(from)) = (self.conversation, self.origin) {
            let status = match code {
                ErrorCode::NotFound => RecoveryStatus::NotFound,
                ErrorCode::Expired => RecoveryStatus::Expired,
                _ => RecoveryStatus::Error,
            };
            match self.dialect {
                Dialect::V1 => send(ServerFrame::Recovery(self.nothing(status, from)), out),
                Dialect::Basic => {
                    error.status = Some(status);
                    error.should_reconnect = Some(code.retryable());
                }
            }
        }
        send(ServerFrame::Error(error), out);
    }

    /// Tells the silence of a live answer, every `every_ms` of it.
    pub(super) fn tick(&mut self, every_ms: u64, now: Now, out: &mut Vec<Output>) {
        if self.waiting_at(every_ms).is_some_and(|at| at <= now.mono_ms) {
            self.heard_ms = now.mono_ms;
            self.status(StreamState::Waiting, out);
        }
    }

    /// When its silence is to be told next.
    pub(super) fn waiting_at(&self, every_ms: u64) -> Option<u64> {
        let silent = self.live && !self.paused && self.conversation.is_some();
        (silent && self.dialect == Dialect::V1).then(|| self.heard_ms + every_ms)
    }

    fn attached(&mut self, found: &Attached, out: &mut Vec<Output>) {
        let Attached { opening, head: Head { tail, epoch, .. }, from, before, source } = found;
        let (tail, epoch, from, digest, source) = (*tail, *epoch, *from, *before, *source);
        self.conversation = Some(opening.conversation);
        if self.origin == Origin::Request {
            return;
        }
        let live = self.live;
        let status = if live { RecoveryStatus::Recovered } else { RecoveryStatus::Completed };
        let message_id = self.message;
        let frame = Recovery { message_id, status, from, tail, epoch, live, digest, source };
        self.tell(ServerFrame::Recovery(frame), out);
    }

    fn nothing(&self, status: RecoveryStatus, from: Index) -> Recovery {
        Recovery {
            message_id: self.message,
            status,
            from,
            tail: Index::ZERO,
            epoch: Epoch::default(),
            live: false,
            digest: Digest::EMPTY,
            source: Source::Memory,
        }
    }

    fn status(&self, state: StreamState, out: &mut Vec<Output>) {
        let reason = (state == StreamState::Paused).then_some(ErrorCode::StoreUnavailable);
        self.tell(ServerFrame::Status(Status { message_id: self.message, state, reason }), out);
    }

    /// Sends what only v1 knows.
    fn tell(&self, frame: ServerFrame, out: &mut Vec<Output>) {
        if self.dialect == Dialect::V1 {
            send(frame, out);
        }
    }
}

fn code_of(error: FollowError) -> ErrorCode {
    match error {
        FollowError::NotFound => ErrorCode::NotFound,
        FollowError::Expired => ErrorCode::Expired,
    }
}

pub(super) fn send(frame: ServerFrame, out: &mut Vec<Output>) {
    out.push(Output::Send(Box::new(frame)));
}
