//! One device: a transcript for each message that it follows, fed by the session that it observes.

use crate::session::Observer;
use crate::transcript::{SocketNo, Transcript, Verdict, frame_message};
use protocol::sim::Directive;
use protocol::{ErrorCode, Index, MessageId, RequestId, ServerFrame};
use std::collections::HashMap;

/// Records one device. A frame about a message that was neither accepted nor asked for is a
/// violation of its own.
#[derive(Debug, Default)]
pub struct Recorder {
    directives: HashMap<RequestId, Directive>,
    known: HashMap<MessageId, Directive>,
    transcripts: HashMap<MessageId, Transcript>,
    stray: Verdict,
}

impl Recorder {
    /// Tells what the text of an answer to `request` must be.
    pub fn expect_request(&mut self, request: RequestId, directive: Directive) {
        self.directives.insert(request, directive);
    }

    /// Tells what the text of `message` must be.
    pub fn expect_message(&mut self, message: MessageId, directive: Directive) {
        self.known.insert(message, directive);
    }

    /// What was received of `message`.
    pub fn transcript(&self, message: MessageId) -> Option<&Transcript> {
        self.transcripts.get(&message)
    }

    /// Takes the transcript of `message` out; an empty one where nothing was ever asked.
    pub fn take(&mut self, message: MessageId) -> Transcript {
        let known = self.known.remove(&message);
        self.transcripts.remove(&message).unwrap_or_else(|| Transcript::new(message, known))
    }

    /// Frames that belong to no follow.
    pub fn stray(&self) -> &Verdict {
        &self.stray
    }

    fn transcript_mut(&mut self, message: MessageId) -> &mut Transcript {
        let known = &self.known;
        self.transcripts
            .entry(message)
            .or_insert_with(|| Transcript::new(message, known.get(&message).cloned()))
    }

    fn on_accepted(&mut self, socket: SocketNo, body: &protocol::server_frame::Accepted) {
        let asked = body.request_id.as_ref().and_then(|request| self.directives.get(request));
        if let Some(directive) = asked {
            self.known.insert(body.message_id, directive.clone());
        }
        self.transcript_mut(body.message_id).on_accepted(socket);
    }
}

impl Observer for Recorder {
    fn on_follow(&mut self, socket: SocketNo, message: MessageId, from: Index) {
        self.transcript_mut(message).on_follow(socket, from);
    }

    fn on_unfollow(&mut self, socket: SocketNo, message: MessageId) {
        self.transcript_mut(message).on_unfollow(socket);
    }

    fn on_frame(&mut self, socket: SocketNo, frame: &ServerFrame) {
        if let ServerFrame::Accepted(body) = frame {
            self.on_accepted(socket, body);
        }
        let Some(message) = frame_message(frame) else { return };
        match self.transcripts.get_mut(&message) {
            Some(transcript) => transcript.on_frame(socket, frame),
            // Refusals name messages that this device may only have asked to cancel.
            None if is_refusal(frame) => {}
            None => {
                self.stray.malformed += 1;
                self.stray.note(|| format!("{message}: {} before any follow", frame.kind()));
            }
        }
    }

    fn on_broken(&mut self, problem: &str) {
        self.stray.malformed += 1;
        self.stray.note(|| problem.to_owned());
    }

    fn on_closed(&mut self, socket: SocketNo) {
        self.transcripts.values_mut().for_each(|transcript| transcript.on_closed(socket));
    }
}

fn is_refusal(frame: &ServerFrame) -> bool {
    match frame {
        ServerFrame::Error(body) => !body.last || body.code == ErrorCode::NotFound,
        ServerFrame::Status(_) => true,
        _ => false,
    }
}
