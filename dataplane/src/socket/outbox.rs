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
    pieces: VecDeque<Bytes>,
    bytes: usize,
}

impl Outbox {
    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Gives room back that an idle socket does not need.
    pub fn shrink(&mut self) {
        if self.pieces.is_empty() {
            self.pieces = VecDeque::new();
        }
    }

    /// Appends whole frames.
    pub fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.bytes += piece.len();
            self.pieces.push_back(piece);
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
        while !self.pieces.is_empty() {
            if let ([piece], []) = self.pieces.as_slices() {
                let written = write(&[IoSlice::new(piece)])?;
                self.wrote(written)?;
                continue;
            }
            let mut slices = [IoSlice::new(&[]); MOST_SLICES];
            let mut used = 0;
            for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
                *slice = IoSlice::new(piece);
                used += 1;
            }
            let written = write(slices.get(..used).unwrap_or_default())?;
            self.wrote(written)?;
        }
        if self.pieces.capacity() > KEEP_PLACES {
            self.pieces = VecDeque::new();
        }
        Ok(())
    }

    fn wrote(&mut self, mut written: usize) -> io::Result<()> {
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.bytes = self.bytes.saturating_sub(written);
        while let Some(piece) = self.pieces.front_mut() {
            if written < piece.len() {
                piece.advance(written);
                break;
            }
            written -= piece.len();
            self.pieces.pop_front();
        }
        Ok(())
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
