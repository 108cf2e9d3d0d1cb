//! What waits to be written to one socket, in order. Every entry is whole WebSocket frames, so that
//! the library's control frames and ours never mix.

use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::io::{self, IoSlice};

/// Most pieces handed to the kernel at once.
const MOST_SLICES: usize = 32;
/// An empty queue keeps room for this many pieces.
const KEEP_PLACES: usize = 8;

/// See the module. Its bound is kept by the socket's task: over `socket.queueBytes` no follower is
/// asked for more, over twice that the client is not read.
#[derive(Debug, Default)]
pub struct Outbox {
    /// The first one: most of the time the only one, and at hand.
    first: Bytes,
    more: VecDeque<Bytes>,
    bytes: usize,
}

impl Outbox {
    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Gives room back that an idle socket does not need.
    pub fn shrink(&mut self) {
        if self.more.is_empty() {
            self.more = VecDeque::new();
        }
    }

    /// Appends whole frames.
    pub fn push(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        self.bytes += piece.len();
        if self.first.is_empty() {
            self.first = piece;
        } else {
            self.more.push_back(piece);
        }
    }

    /// Writes until nothing waits or `write` would block.
    ///
    /// # Errors
    /// `WouldBlock`, or the connection's end.
    pub fn flush(
        &mut self,
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<()> {
        while !self.first.is_empty() {
            let written = if self.more.is_empty() {
                write(&[IoSlice::new(&self.first)])?
            } else {
                let mut slices = [IoSlice::new(&[]); MOST_SLICES];
                let pieces = std::iter::once(&self.first).chain(&self.more);
                let used = slices.iter_mut().zip(pieces).fold(0, |used, (slice, piece)| {
                    *slice = IoSlice::new(piece);
                    used + 1
                });
                write(slices.get(..used).unwrap_or_default())?
            };
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.advance(written);
        }
        if self.more.capacity() > KEEP_PLACES {
            self.more = VecDeque::new();
        }
        Ok(())
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes = self.bytes.saturating_sub(written);
        while written >= self.first.len() && !self.first.is_empty() {
            written -= self.first.len();
            self.first = self.more.pop_front().unwrap_or_default();
        }
        if !self.first.is_empty() {
            self.first.advance(written);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_byte_leaves_once_and_in_order(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..80),
            steps in proptest::collection::vec(0_usize..100, 1..50),
        ) {
            let mut outbox = Outbox::default();
            pieces.iter().for_each(|piece| outbox.push(Bytes::from(piece.clone())));
            let (mut got, mut steps) = (Vec::<u8>::new(), steps.into_iter());
            // A step of 0 is a kernel that would block; after the last step it takes everything.
            loop {
                let done = outbox.flush(|slices| {
                    let most = steps.next().unwrap_or(usize::MAX);
                    let all: Vec<u8> = slices.iter().flat_map(|s| s.iter().copied()).collect();
                    let n = all.len().min(most);
                    got.extend(&all[..n]);
                    if n == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(n) }
                });
                prop_assert_eq!(outbox.bytes() + got.len(), pieces.iter().map(Vec::len).sum::<usize>());
                if done.is_ok() { break }
            }
            prop_assert_eq!(got, pieces.concat());
            prop_assert!(outbox.is_empty());
        }
    }
}
