//! The accepted log of one device: one text, and per index its epoch, type and digest.
//! Compact, so that thousands of simulated devices fit into one process.

use protocol::server_frame::WireChunk;
use protocol::{Chunk, ChunkType, Digest, Epoch, Index};

/// What a device holds of one message: the chunks from `base` on, contiguous.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    base: Index,
    /// Of everything before `base`; `None` until a RECOVERY told it.
    base_digest: Option<Digest>,
    text: String,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    epoch: Epoch,
    /// Where its text ends, in bytes.
    end: u32,
    digest: Digest,
    kind: ChunkType,
}

/// One accepted chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Accepted<'a> {
    pub(super) epoch: Epoch,
    pub(super) kind: ChunkType,
    pub(super) text: &'a str,
}

impl Log {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn base(&self) -> Index {
        self.base
    }

    /// First index not held.
    pub(super) fn end(&self) -> Index {
        self.base.plus(self.entries.len())
    }

    /// Starts at `base` instead of 0. Only an empty log moves.
    pub(super) fn start_at(&mut self, base: Index) {
        if self.is_empty() {
            self.base = base;
            self.base_digest = (base == Index::ZERO).then_some(Digest::EMPTY);
        }
    }

    /// What the server says of the part before `base`; kept where nothing was known.
    pub(super) fn learn_base_digest(&mut self, at: Index, digest: Digest) {
        if self.is_empty() && at == self.base && self.base_digest.is_none() {
            self.base_digest = Some(digest);
        }
    }

    fn base_digest(&self) -> Option<Digest> {
        if self.base == Index::ZERO { Some(Digest::EMPTY) } else { self.base_digest }
    }

    /// Digest of the prefix before `index`; `None` where it is not held or its base is unknown.
    pub(super) fn digest_at(&self, index: Index) -> Option<Digest> {
        let base = self.base_digest()?;
        if index == self.base {
            return Some(base);
        }
        let last = index.0.checked_sub(self.base.0 + 1)?;
        self.entries.get(last as usize).map(|entry| entry.digest)
    }

    pub(super) fn last_epoch(&self) -> Option<Epoch> {
        self.entries.last().map(|entry| entry.epoch)
    }

    pub(super) fn get(&self, index: Index) -> Option<Accepted<'_>> {
        let at = index.0.checked_sub(self.base.0)? as usize;
        let entry = self.entries.get(at)?;
        let start = at.checked_sub(1).map_or(0, |before| self.entries[before].end as usize);
        let text = &self.text[start..entry.end as usize];
        Some(Accepted { epoch: entry.epoch, kind: entry.kind, text })
    }

    /// Appends at [`Log::end`].
    pub(super) fn push(&mut self, epoch: Epoch, chunk: &WireChunk) {
        let before = self.entries.last().map(|entry| entry.digest);
        let before = before.or(self.base_digest()).unwrap_or_default();
        self.text.push_str(&chunk.content);
        self.entries.push(Entry {
            epoch,
            end: self.text.len() as u32,
            digest: before.with(&Chunk::new(chunk.kind, &chunk.content)),
            kind: chunk.kind,
        });
    }

    /// Drops indexes ≥ `to`; a log that began later begins at `to` now.
    pub(super) fn truncate(&mut self, to: Index) {
        let keep = to.since(self.base);
        if to < self.base {
            self.entries.clear();
            self.text.clear();
            self.start_at(to);
            return;
        }
        self.entries.truncate(keep);
        let end = self.entries.last().map_or(0, |entry| entry.end as usize);
        self.text.truncate(end);
    }

    /// TEXT and CODE chunks in order: the message's `content`.
    pub(super) fn content(&self) -> String {
        let mut content = String::with_capacity(self.text.len());
        let mut start = 0;
        for entry in &self.entries {
            let end = entry.end as usize;
            if entry.kind.is_content() {
                content.push_str(&self.text[start..end]);
            }
            start = end;
        }
        content
    }

    /// The first index that both hold and that differs.
    pub(super) fn first_difference(&self, other: &Self) -> Option<Index> {
        let from = self.base.max(other.base);
        let to = self.end().min(other.end());
        (from.0..to.0).map(Index).find(|index| self.get(*index) != other.get(*index))
    }
}
