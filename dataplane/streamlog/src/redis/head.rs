//! What is true of a stream and changes with every append: a short string that the scripts compare
//! and replace, and never read further than they must. Behind it stand the followers' nodes. Pure.
//!
//! ```text
//! version u8 · epoch u64 · incarnation 16 · state u8 · tail u64 · digest u32 · size u32 · life u32
//! ```
//! Big-endian. The scripts know these places: 1 version, 2–9 epoch, 26 state, 27–34 tail, 43–46 life.
//! A node registers as a follower by adding its name, whether or not there is a head: names alone are
//! no stream ([`is_absent`]) and expire soon.

use super::packing::{digest_bits, digest_of};
use crate::batch::Batch;
use protocol::{Digest, Epoch, Incarnation, Index};

/// Bytes of a head, followers not counted.
pub(super) const LENGTH: usize = 46;
const VERSION: u8 = 1;

/// Whether these are only names of followers, of a stream that is not there.
pub(super) fn is_absent(bytes: &[u8]) -> bool {
    bytes.first() == Some(&b':')
}

const CANCEL: u8 = 1;
const HAND_OVER: u8 = 2;
const SEALED: u8 = 4;

/// The hot part of a stream's meta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hot {
    pub(super) epoch: Epoch,
    pub(super) owner: Incarnation,
    pub(super) cancel: bool,
    pub(super) hand_over: bool,
    pub(super) sealed: bool,
    pub(super) tail: Index,
    pub(super) digest: Digest,
    /// Bytes of the text.
    pub(super) size: u32,
    /// Another one whenever the text was replaced: offsets of an earlier life mean nothing.
    pub(super) life: u32,
}

/// Order of what can be true of one life of a stream; all but the tail change rarely.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    epoch: u64,
    state: u8,
    tail: u64,
}

/// Changes whenever the rarely written part of the meta does.
pub(super) type Cold = [u8; 13];

impl Hot {
    pub(super) fn opened(owner: Incarnation, life: u32) -> Self {
        Self {
            epoch: Epoch::FIRST,
            owner,
            cancel: false,
            hand_over: false,
            sealed: false,
            tail: Index::ZERO,
            digest: Digest::EMPTY,
            size: 0,
            life,
        }
    }

    fn state(&self) -> u8 {
        let bit = |is, bit| if is { bit } else { 0 };
        bit(self.cancel, CANCEL) | bit(self.hand_over, HAND_OVER) | bit(self.sealed, SEALED)
    }

    pub(super) fn bytes(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        let parts: [&[u8]; 8] = [
            &[VERSION],
            &self.epoch.0.to_be_bytes(),
            self.owner.0.as_bytes(),
            &[self.state()],
            &self.tail.0.to_be_bytes(),
            &digest_bits(self.digest),
            &self.size.to_be_bytes(),
            &self.life.to_be_bytes(),
        ];
        for (place, byte) in bytes.iter_mut().zip(parts.into_iter().flatten()) {
            *place = *byte;
        }
        bytes
    }

    /// `None` for what is no head of ours.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (&[version], rest) = bytes.split_first_chunk::<1>()?;
        let (epoch, rest) = rest.split_first_chunk::<8>()?;
        let (owner, rest) = rest.split_first_chunk::<16>()?;
        let (&[state], rest) = rest.split_first_chunk::<1>()?;
        let (tail, rest) = rest.split_first_chunk::<8>()?;
        let (digest, rest) = rest.split_first_chunk::<4>()?;
        let (size, rest) = rest.split_first_chunk::<4>()?;
        let (life, rest) = rest.split_first_chunk::<4>()?;
        (version == VERSION && rest.is_empty()).then_some(Self {
            epoch: Epoch(u64::from_be_bytes(*epoch)),
            owner: Incarnation(uuid::Uuid::from_bytes(*owner)),
            cancel: state & CANCEL != 0,
            hand_over: state & HAND_OVER != 0,
            sealed: state & SEALED != 0,
            tail: Index(u64::from_be_bytes(*tail)),
            digest: digest_of(*digest),
            size: u32::from_be_bytes(*size),
            life: u32::from_be_bytes(*life),
        })
    }

    pub(super) fn version(&self) -> Version {
        Version { epoch: self.epoch.0, state: self.state(), tail: self.tail.0 }
    }

    pub(super) fn cold(&self) -> Cold {
        let mut cold = [0; 13];
        let (epoch, life) = (self.epoch.0.to_be_bytes(), self.life.to_be_bytes());
        for (place, byte) in cold.iter_mut().zip(epoch.iter().chain(&[self.state()]).chain(&life)) {
            *place = *byte;
        }
        cold
    }

    /// After an append of so many bytes.
    pub(super) fn with(&self, batch: &Batch, bytes: usize) -> Self {
        let size = self.size.saturating_add(bytes as u32);
        Self { tail: batch.end(), digest: batch.after, size, ..*self }
    }

    /// Whether this is later than `known`, as far as one can tell: of another life it may be.
    pub(super) fn is_news_after(&self, known: Option<&Self>) -> bool {
        known.is_none_or(|known| self.life != known.life || self.version() > known.version())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hot() -> impl Strategy<Value = Hot> {
        let numbers = (any::<u64>(), any::<u128>(), any::<u64>(), any::<u32>(), any::<u32>());
        (numbers, any::<u32>(), any::<[bool; 3]>()).prop_map(|(numbers, life, states)| {
            let (epoch, owner, tail, digest, size) = numbers;
            Hot {
                epoch: Epoch(epoch),
                owner: Incarnation(uuid::Uuid::from_u128(owner)),
                cancel: states[0],
                hand_over: states[1],
                sealed: states[2],
                tail: Index(tail),
                digest: digest_of(digest.to_be_bytes()),
                size,
                life,
            }
        })
    }

    proptest! {
        #[test]
        fn a_head_is_read_as_it_was_written(hot in hot()) {
            let bytes = hot.bytes();
            prop_assert_eq!(Hot::parse(&bytes), Some(hot));
            prop_assert_eq!(Hot::parse(&bytes[1..]), None);
            // Where the scripts look, counted from 1.
            prop_assert_eq!(&bytes[1..9], hot.epoch.0.to_be_bytes());
            prop_assert_eq!(bytes[25] >= 4, hot.sealed);
            prop_assert_eq!(&bytes[26..34], hot.tail.0.to_be_bytes());
            prop_assert_eq!(&bytes[42..46], hot.life.to_be_bytes());
            let cold = [&bytes[1..9], &bytes[25..26], &bytes[42..46]].concat();
            prop_assert_eq!(&hot.cold()[..], &cold[..]);
        }
    }

    #[test]
    fn what_comes_later_is_news() {
        let first = Hot::opened(Incarnation(uuid::Uuid::from_u128(1)), 7);
        let tail = Hot { tail: Index(3), ..first };
        let cancel = Hot { cancel: true, ..tail };
        let sealed = Hot { sealed: true, ..cancel };
        let restarted = Hot { epoch: Epoch(2), ..first };
        let order = [first, tail, cancel, sealed, restarted];
        for (at, later) in order.iter().enumerate() {
            for (before, earlier) in order.iter().enumerate() {
                assert_eq!(later.is_news_after(Some(earlier)), at > before);
            }
            assert!(later.is_news_after(None));
            let other = Hot { life: 8, ..*later };
            assert!(other.is_news_after(Some(later)) && later.is_news_after(Some(&other)));
        }
    }
}
