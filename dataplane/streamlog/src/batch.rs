//! What one append writes: consecutive chunks of one epoch, never changed afterwards, shared by
//! every reader in the process.

use bytes::Bytes;
use jiff::Timestamp;
use protocol::{Chunk, Digest, Epoch, Index};
use smallvec::SmallVec;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Most bytes of chunk content an owner puts into one batch.
pub const MAX_BATCH_BYTES: usize = 64 * 1024;

/// Consecutive chunks, appended together.
#[derive(Debug)]
pub struct Batch {
    /// Epoch it was appended under.
    pub epoch: Epoch,
    /// Position of its first chunk.
    pub first: Index,
    /// When its owner made it.
    pub at: Timestamp,
    /// Digest of the log before it.
    pub before: Digest,
    /// Digest of the log up to its end.
    pub after: Digest,
    /// The chunks; never empty.
    pub chunks: Chunks,
    /// Somebody sent it.
    sent: AtomicBool,
    /// Encoded once for each dialect for all who send it; no engine reads these.
    frames: OnceLock<Box<Mutex<Frames>>>,
}

/// The chunks of a batch: without a window every chunk is a batch of its own, and lies in it.
pub type Chunks = SmallVec<[Chunk; 1]>;

type Frames = [Option<Bytes>; 2];

impl Batch {
    /// Chunks that stand at `first` in a log whose digest was `before`.
    pub fn new(
        epoch: Epoch,
        first: Index,
        at: Timestamp,
        before: Digest,
        chunks: impl Into<Chunks>,
    ) -> Self {
        let chunks = chunks.into();
        let after = before.with_all(&chunks);
        let (sent, frames) = (AtomicBool::new(false), OnceLock::new());
        Self { epoch, first, at, before, after, chunks, sent, frames }
    }

    /// The position after its last chunk.
    pub fn end(&self) -> Index {
        self.first.plus(self.chunks.len())
    }

    /// Bytes it counts for in pages and buffers.
    pub fn weight(&self) -> usize {
        self.chunks.iter().map(Chunk::weight).sum()
    }

    /// Digest of the log before `index`; `None` outside of this batch.
    pub fn digest_before(&self, index: Index) -> Option<Digest> {
        if index == self.first {
            return Some(self.before);
        }
        if index == self.end() {
            return Some(self.after);
        }
        let skip = (self.first..=self.end()).contains(&index).then(|| index.since(self.first))?;
        self.chunks.get(..skip).map(|chunks| self.before.with_all(chunks))
    }

    /// The encoded form for one dialect (0 or 1). Most batches are sent once, and their encoded form is
    /// nobody's afterwards; from the second time on it is shared.
    pub fn frame(&self, dialect: usize, encode: impl FnOnce(&Self) -> Bytes) -> Bytes {
        if !self.sent.swap(true, Ordering::Relaxed) {
            return encode(self);
        }
        match self.frames().get_mut(dialect) {
            Some(slot) => slot.get_or_insert_with(|| encode(self)).clone(),
            None => encode(self),
        }
    }

    /// Lets go of the encoded forms: those who followed live have them, and who comes later gets
    /// many batches as one message. They would be half of what an answer takes in memory.
    pub fn forget_frames(&self) {
        if self.frames.get().is_some() {
            *self.frames() = Frames::default();
        }
    }

    fn frames(&self) -> MutexGuard<'_, Frames> {
        let frames = self.frames.get_or_init(Box::default);
        frames.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether both hold the same chunks at the same place.
    pub fn same_bytes(&self, other: &Self) -> bool {
        self.first == other.first && self.chunks == other.chunks
    }
}

/// Which of these contiguous batches holds `index`, or would. Almost every reader is at the end, so
/// that is looked at first: a search touches memory that nobody else needs.
pub(crate) fn position(batches: &[Arc<Batch>], index: Index) -> usize {
    let Some((last, earlier)) = batches.split_last() else { return 0 };
    if index >= last.first {
        return if index >= last.end() { batches.len() } else { earlier.len() };
    }
    earlier.partition_point(|batch| batch.end() <= index)
}

/// The part of a batch from some chunk on.
#[derive(Clone, Debug)]
pub struct Slice {
    batch: Arc<Batch>,
    skip: usize,
}

impl Slice {
    /// The batch from `index` on; `None` where nothing of it is left.
    pub fn from(batch: Arc<Batch>, index: Index) -> Option<Self> {
        let skip = index.since(batch.first);
        (skip < batch.chunks.len()).then_some(Self { batch, skip })
    }

    /// The whole batch.
    pub fn whole(batch: Arc<Batch>) -> Self {
        Self { batch, skip: 0 }
    }

    /// Its batch.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// Whether nothing was skipped.
    pub fn is_whole(&self) -> bool {
        self.skip == 0
    }

    /// Position of its first chunk.
    pub fn first(&self) -> Index {
        self.batch.first.plus(self.skip)
    }

    /// Its chunks.
    pub fn chunks(&self) -> &[Chunk] {
        self.batch.chunks.get(self.skip..).unwrap_or_default()
    }
}
