//! The client's own state of one followed message: where it stands, and which socket it listens to.
//! Pure.

use crate::transcript::SocketNo;
use protocol::server_frame::WireChunk;
use protocol::{Digest, Epoch, Index, MessageId, Reconnect};
use tokio::time::Instant;

/// One followed message.
#[derive(Debug)]
pub(super) struct Follow {
    pub(super) message: MessageId,
    base: Index,
    base_digest: Option<Digest>,
    /// Epoch and digest after each chunk from `base` on.
    marks: Vec<(Epoch, Digest)>,
    /// The socket whose frames count.
    pub(super) source: Option<SocketNo>,
    /// RECONNECT was sent there; its first frame makes it the source.
    pub(super) asked: Option<SocketNo>,
    /// Chunks are dropped until the RECOVERY of a repeated RECONNECT on the same socket.
    pub(super) resyncing: bool,
    /// When to send RECONNECT again after a retryable final ERROR.
    pub(super) retry_at: Option<Instant>,
    /// CANCEL_STREAM was asked for and is repeated on every new socket.
    pub(super) cancelling: bool,
}

/// What a run of chunks was.
#[derive(Debug, PartialEq)]
pub(super) enum Taken {
    /// All of them were there already.
    Nothing,
    /// The new ones begin at this index.
    New(Index, Vec<WireChunk>),
    /// Chunks before them are missing.
    Gap,
}

impl Follow {
    /// From the start, or from the middle where the part before is not wanted.
    pub(super) fn new(message: MessageId, from: Index) -> Self {
        Self {
            message,
            base: from,
            base_digest: (from == Index::ZERO).then_some(Digest::EMPTY),
            marks: Vec::new(),
            source: None,
            asked: None,
            resyncing: false,
            retry_at: None,
            cancelling: false,
        }
    }

    /// First index not received.
    pub(super) fn next(&self) -> Index {
        self.base.plus(self.marks.len())
    }

    /// Digest of everything received, where it is known.
    pub(super) fn digest(&self) -> Option<Digest> {
        self.marks.last().map(|mark| mark.1).or(self.base_digest).filter(|_| {
            // Rolled on from an unknown base it would be of another text.
            self.base_digest.is_some()
        })
    }

    /// The cursor to resume with.
    pub(super) fn resume_point(&self) -> Reconnect {
        Reconnect {
            message_id: self.message,
            from: self.next(),
            epoch: self.marks.last().map(|mark| mark.0),
            digest: self.digest().filter(|_| self.next() > Index::ZERO),
        }
    }

    /// RECOVERY tells the digest of the part before a follow that began in the middle.
    pub(super) fn learn(&mut self, from: Index, digest: Digest) {
        if self.marks.is_empty() && from == self.base && self.base_digest.is_none() {
            self.base_digest = Some(digest);
        }
    }

    /// Takes consecutive chunks and drops those that are there.
    pub(super) fn take(&mut self, index: Index, epoch: Epoch, mut chunks: Vec<WireChunk>) -> Taken {
        let next = self.next();
        if index > next {
            return Taken::Gap;
        }
        let known = next.since(index);
        if known >= chunks.len() {
            return Taken::Nothing;
        }
        let new = if known == 0 { chunks } else { chunks.split_off(known) };
        let mut digest = self.marks.last().map(|mark| mark.1).or(self.base_digest);
        for chunk in &new {
            let after = digest.unwrap_or_default().with(&chunk.to_chunk());
            self.marks.push((epoch, after));
            digest = Some(after);
        }
        Taken::New(next, new)
    }

    /// RESET: indexes ≥ `to` are void.
    pub(super) fn truncate(&mut self, to: Index) {
        if to < self.base {
            *self = Self {
                source: self.source,
                asked: self.asked,
                cancelling: self.cancelling,
                ..Self::new(self.message, to)
            };
        }
        self.marks.truncate(to.since(self.base));
    }

    /// Forgets a socket that is gone.
    pub(super) fn lose(&mut self, socket: SocketNo) {
        self.source = self.source.filter(|source| *source != socket);
        self.asked = self.asked.filter(|asked| *asked != socket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::ChunkType;

    fn follow(from: u64) -> Follow {
        let id = MessageId::parse("018f4d5e-0000-7000-8000-000000000001").unwrap();
        Follow::new(id, Index(from))
    }

    fn chunks(n: usize) -> Vec<WireChunk> {
        let chunk = WireChunk { kind: ChunkType::Text, content: "a".into(), metadata: None };
        vec![chunk; n]
    }

    #[test]
    fn only_what_is_new_is_taken() {
        let mut follow = follow(0);
        assert_eq!(follow.take(Index(0), Epoch(1), chunks(3)), Taken::New(Index(0), chunks(3)));
        assert_eq!(follow.take(Index(1), Epoch(1), chunks(2)), Taken::Nothing);
        assert_eq!(follow.take(Index(2), Epoch(2), chunks(3)), Taken::New(Index(3), chunks(2)));
        assert_eq!(follow.take(Index(6), Epoch(2), chunks(1)), Taken::Gap);
        assert_eq!(follow.next(), Index(5));
    }

    #[test]
    fn the_cursor_names_epoch_and_digest_of_the_last_chunk() {
        let mut follow = follow(0);
        let start = follow.resume_point();
        assert_eq!((start.from, start.epoch, start.digest), (Index(0), None, None));
        follow.take(Index(0), Epoch(3), chunks(2));
        let at = follow.resume_point();
        let two: Vec<_> = chunks(2).iter().map(WireChunk::to_chunk).collect();
        let digest = Digest::EMPTY.with_all(&two);
        assert_eq!((at.from, at.epoch, at.digest), (Index(2), Some(Epoch(3)), Some(digest)));
        follow.truncate(Index(0));
        assert_eq!(follow.resume_point(), start);
    }

    #[test]
    fn a_follow_from_the_middle_has_a_digest_once_it_was_told() {
        let mut follow = follow(4);
        follow.take(Index(4), Epoch(1), chunks(1));
        assert_eq!(follow.resume_point().digest, None);
        let mut told = super::tests::follow(4);
        told.learn(Index(4), Digest::EMPTY);
        told.take(Index(4), Epoch(1), chunks(1));
        assert!(told.resume_point().digest.is_some());
        told.truncate(Index(0));
        assert_eq!(told.next(), Index(0));
        assert_eq!(told.digest(), Some(Digest::EMPTY));
    }
}
