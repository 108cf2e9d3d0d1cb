//! One batch as a record of the text: how chunks lie in the one string of a stream. Pure.
//!
//! ```text
//! record  length of the rest u32 · version u8 · first · chunks · epoch · at (ms) · digest before u32
//! chunk   type, bit 7: has metadata, u8 · length · content (· length · metadata)
//! ```
//! Fixed numbers are big-endian, all others LEB128.

use crate::batch::Batch;
use jiff::Timestamp;
use protocol::{Chunk, ChunkType, Digest, Epoch, Index};
use serde_json::value::RawValue;
use std::sync::Arc;

/// The only layout there is.
const VERSION: u8 = 1;
/// Bytes of a record's own length.
const LENGTH: usize = 4;
const HAS_METADATA: u8 = 0x80;
/// Chunks for which room is made before they were seen.
const MOST_ROOM: usize = 4_096;

/// The bytes are no record: written by a later version, or not by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text of a stream holds something that is no record")]
pub(super) struct Corrupt;

/// Digests are kept as four bytes; the protocol shows them as text only.
pub(super) fn digest_bits(digest: Digest) -> [u8; 4] {
    u32::from_str_radix(&digest.to_string(), 16).unwrap_or_default().to_be_bytes()
}

/// The digest of those four bytes.
pub(super) fn digest_of(bits: [u8; 4]) -> Digest {
    Digest::parse(&format!("{:08x}", u32::from_be_bytes(bits))).unwrap_or_default()
}

/// Adds a batch to a text.
pub(super) fn pack(batch: &Batch, text: &mut Vec<u8>) {
    let start = text.len();
    text.extend([0; LENGTH]);
    text.push(VERSION);
    put(text, batch.first.0);
    put(text, batch.chunks.len() as u64);
    put(text, batch.epoch.0);
    put(text, batch.at.as_millisecond().max(0) as u64);
    text.extend(digest_bits(batch.before));
    for chunk in &batch.chunks {
        pack_chunk(chunk, text);
    }
    let length = (text.len() - start - LENGTH) as u32;
    if let Some(place) = text.get_mut(start..start + LENGTH) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

fn pack_chunk(chunk: &Chunk, text: &mut Vec<u8>) {
    let kind = match chunk.kind {
        ChunkType::Text => 0,
        ChunkType::Code => 1,
        ChunkType::Thinking => 2,
        ChunkType::ToolUse => 3,
        ChunkType::Citation => 4,
    };
    text.push(if chunk.metadata.is_some() { kind | HAS_METADATA } else { kind });
    put(text, chunk.content.len() as u64);
    text.extend(chunk.content.as_bytes());
    if let Some(metadata) = &chunk.metadata {
        put(text, metadata.get().len() as u64);
        text.extend(metadata.get().as_bytes());
    }
}

fn put(text: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        text.push(number as u8 | 0x80);
        number >>= 7;
    }
    text.push(number as u8);
}

/// What was unpacked from a part of a text.
#[derive(Debug, Default)]
pub(super) struct Unpacked {
    /// Whole batches.
    pub(super) batches: Vec<Arc<Batch>>,
    /// Where the first of them begins.
    pub(super) starts: usize,
    /// Where the last of them ends.
    pub(super) ends: usize,
    /// Bytes of the next record that are not there, where it begins within the text.
    pub(super) lacks: usize,
}

/// The batches that overlap `from..`, until about `limit` bytes of content are there.
pub(super) fn unpack(text: &[u8], from: Index, limit: usize) -> Result<Unpacked, Corrupt> {
    let mut found = Unpacked::default();
    let (mut at, mut weight) = (0, 0);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if !found.batches.is_empty() && weight >= limit {
            break;
        }
        let Some(length) = rest.first_chunk::<LENGTH>() else {
            found.lacks = LENGTH - rest.len();
            break;
        };
        let length = u32::from_be_bytes(*length) as usize;
        let Some(record) = rest.get(LENGTH..LENGTH + length) else {
            found.lacks = LENGTH + length - rest.len();
            break;
        };
        let starts = at;
        at += LENGTH + length;
        if let Some(batch) = unpack_record(record, from)? {
            if found.batches.last().is_some_and(|last: &Arc<Batch>| last.end() != batch.first) {
                return Err(Corrupt);
            }
            if found.batches.is_empty() {
                found.starts = starts;
            }
            found.ends = at;
            weight += batch.weight();
            found.batches.push(Arc::new(batch));
        }
    }
    Ok(found)
}

/// `None` where the whole record lies before `from`.
fn unpack_record(record: &[u8], from: Index) -> Result<Option<Batch>, Corrupt> {
    let mut rest = Rest(record);
    if rest.byte()? != VERSION {
        return Err(Corrupt);
    }
    let (first, count) = (Index(rest.number()?), rest.number()? as usize);
    if first.plus(count) <= from {
        return Ok(None);
    }
    let epoch = Epoch(rest.number()?);
    let at = i64::try_from(rest.number()?).map_err(|_| Corrupt)?;
    let at = Timestamp::from_millisecond(at).map_err(|_| Corrupt)?;
    let before = digest_of(*rest.take(4)?.first_chunk().ok_or(Corrupt)?);
    let mut chunks = Vec::with_capacity(count.min(MOST_ROOM));
    for _ in 0..count {
        chunks.push(rest.chunk()?);
    }
    let whole = rest.0.is_empty() && !chunks.is_empty();
    whole.then(|| Some(Batch::new(epoch, first, at, before, chunks))).ok_or(Corrupt)
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], Corrupt> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(Corrupt)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Corrupt> {
        self.take(1)?.first().copied().ok_or(Corrupt)
    }

    fn number(&mut self) -> Result<u64, Corrupt> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Corrupt)
    }

    fn text(&mut self) -> Result<&'a str, Corrupt> {
        let length = self.number()? as usize;
        std::str::from_utf8(self.take(length)?).map_err(|_| Corrupt)
    }

    fn chunk(&mut self) -> Result<Chunk, Corrupt> {
        let byte = self.byte()?;
        let kind = match byte & !HAS_METADATA {
            0 => ChunkType::Text,
            1 => ChunkType::Code,
            2 => ChunkType::Thinking,
            3 => ChunkType::ToolUse,
            4 => ChunkType::Citation,
            _ => return Err(Corrupt),
        };
        let mut chunk = Chunk::new(kind, self.text()?);
        if byte & HAS_METADATA != 0 {
            let raw = RawValue::from_string(self.text()?.to_owned()).map_err(|_| Corrupt)?;
            chunk.metadata = Some(Arc::from(raw));
        }
        Ok(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chunk() -> impl Strategy<Value = Chunk> {
        let kind = prop::sample::select(vec![
            ChunkType::Text,
            ChunkType::Code,
            ChunkType::Thinking,
            ChunkType::ToolUse,
            ChunkType::Citation,
        ]);
        let metadata = prop::option::of(any::<u32>());
        (kind, "\\PC{1,200}", metadata).prop_map(|(kind, content, metadata)| {
            let raw = metadata.map(|n| RawValue::from_string(format!("{{\"n\":{n}}}")).unwrap());
            Chunk { metadata: raw.map(Arc::from), ..Chunk::new(kind, &content) }
        })
    }

    fn log() -> impl Strategy<Value = Vec<Arc<Batch>>> {
        let sizes = prop::collection::vec(prop::collection::vec(chunk(), 1..6), 1..8);
        (sizes, 0..1u64 << 40, 1..1u64 << 40).prop_map(|(texts, first, epoch)| {
            let (mut first, mut digest) = (Index(first), Digest::EMPTY);
            let pack = texts.into_iter().enumerate().map(|(at, chunks)| {
                let at = Timestamp::from_millisecond(1_790_000_000_000 + at as i64).unwrap();
                let batch = Batch::new(Epoch(epoch), first, at, digest, chunks);
                (first, digest) = (batch.end(), batch.after);
                Arc::new(batch)
            });
            pack.collect()
        })
    }

    fn text(log: &[Arc<Batch>]) -> Vec<u8> {
        let mut text = Vec::new();
        log.iter().for_each(|batch| pack(batch, &mut text));
        text
    }

    fn shown(batch: &Batch) -> impl PartialEq + std::fmt::Debug + use<> {
        (batch.epoch, batch.first, batch.at, batch.before, batch.after, batch.chunks.clone())
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(log in log()) {
            let text = text(&log);
            let found = unpack(&text, Index::ZERO, usize::MAX).unwrap();
            prop_assert_eq!((found.starts, found.ends, found.lacks), (0, text.len(), 0));
            let all = |batches: &[Arc<Batch>]| batches.iter().map(|b| shown(b)).collect::<Vec<_>>();
            prop_assert_eq!(all(&found.batches), all(&log));
        }

        #[test]
        fn a_part_gives_whole_batches_from_the_right_place(
            log in log(), from in any::<prop::sample::Index>(), cut in any::<prop::sample::Index>(),
            limit in 0..500usize,
        ) {
            let whole = text(&log);
            let chunks: usize = log.iter().map(|batch| batch.chunks.len()).sum();
            let from = log[0].first.plus(from.index(chunks));
            let text = &whole[..cut.index(whole.len() + 1)];
            let found = unpack(text, from, limit).unwrap();
            if let Some(first) = found.batches.first() {
                prop_assert!(first.first <= from && first.end() > from);
                let again = unpack(&text[found.starts..found.ends], from, usize::MAX).unwrap();
                prop_assert_eq!(again.batches.len(), found.batches.len());
                let weights = found.batches.iter().map(|batch| batch.weight());
                let but_last: usize = weights.take(found.batches.len() - 1).sum();
                prop_assert!(found.batches.len() == 1 || but_last < limit);
            } else {
                prop_assert!(text.len() < whole.len(), "whole, yet without progress");
            }
            prop_assert!(text.len() + found.lacks <= whole.len());
        }

        #[test]
        fn fuzz_garbage_is_refused_and_never_a_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 0..200), from in any::<u64>(),
        ) {
            let _ = unpack(&bytes, Index(from), usize::MAX);
            let length = (bytes.len() as u32).to_be_bytes();
            bytes.splice(0..0, length.into_iter());
            let _ = unpack(&bytes, Index(from), usize::MAX);
        }
    }

    #[test]
    fn digests_are_four_bytes() {
        let digest = Digest::parse("c88d6113").unwrap();
        assert_eq!(digest_of(digest_bits(digest)), digest);
        assert_eq!(digest_bits(Digest::EMPTY), [0; 4]);
    }
}
