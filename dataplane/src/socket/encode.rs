//! Outgoing messages as bytes on the wire: RFC 6455 header and JSON in one piece.
//!
//! A server's frames are unmasked, so equal messages have equal bytes: a batch is encoded once for
//! each dialect and the bytes are shared by every socket of the process.

use bytes::Bytes;
use jiff::Timestamp;
use protocol::server_frame::{ChunkData, ChunksData};
use protocol::{Chunk, Dialect, Epoch, Index, MessageId, ServerFrame};
use std::cell::RefCell;
use streamlog::{Batch, Slice};

/// FIN and opcode 1.
const TEXT: u8 = 0x81;
/// Longest header of an unmasked frame.
const MAX_HEADER: usize = 10;
/// Guess of what a frame's envelope takes, in bytes.
const ENVELOPE: usize = 136;
/// Guess of what a chunk takes beside its text, in bytes.
const CHUNK_FIELDS: usize = 32;

/// The header of a text message of `len` bytes: 2, 4 or 10 bytes.
fn header(len: usize) -> ([u8; MAX_HEADER], usize) {
    let mut header = [0; MAX_HEADER];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        for byte in bytes {
            if let Some(slot) = header.get_mut(at) {
                *slot = *byte;
            }
            at += 1;
        }
    };
    match len {
        0..=125 => put(&[TEXT, len as u8]),
        126..=0xFFFF => {
            put(&[TEXT, 126]);
            put(&(len as u16).to_be_bytes());
        }
        _ => {
            put(&[TEXT, 127]);
            put(&(len as u64).to_be_bytes());
        }
    }
    (header, at)
}

/// One text message around what `write` appends.
fn message(guess: usize, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    // The header's length is known last: leave room for the longest and cut.
    let mut out = Vec::with_capacity(MAX_HEADER + guess);
    out.extend_from_slice(&[0; MAX_HEADER]);
    write(&mut out);
    let (header, len) = header(out.len() - MAX_HEADER);
    let start = MAX_HEADER - len;
    for (slot, byte) in out.iter_mut().skip(start).zip(&header).take(len) {
        *slot = *byte;
    }
    Bytes::from(out).slice(start..)
}

/// A text message of this text.
pub fn text(text: &str) -> Bytes {
    message(text.len(), |out| out.extend_from_slice(text.as_bytes()))
}

/// A frame.
pub fn frame(frame: &ServerFrame, at: Timestamp) -> Bytes {
    text(&frame.encode(at))
}

thread_local! {
    /// The last timestamp and its text. Frames of one moment carry the same one, and to format it takes
    /// longer than all the rest of a frame.
    static STAMP: RefCell<(Timestamp, String)> = const { RefCell::new((Timestamp::MIN, String::new())) };
}

/// Calls `with` with the text of a timestamp.
fn stamped<T>(at: Timestamp, with: impl FnOnce(&str) -> T) -> T {
    STAMP.with_borrow_mut(|(last, text)| {
        if *last != at {
            *last = at;
            *text = at.to_string();
        }
        with(text)
    })
}

/// Chunks of one batch; shared where the whole batch is sent.
pub fn slice(dialect: Dialect, message: MessageId, slice: &Slice) -> Bytes {
    let batch = slice.batch();
    if slice.is_whole() {
        return whole(dialect, message, batch);
    }
    chunks(dialect, message, batch.epoch, batch.at, slice.first(), slice.chunks())
}

fn whole(dialect: Dialect, message: MessageId, batch: &Batch) -> Bytes {
    batch.frame(dialect as usize, |batch| {
        chunks(dialect, message, batch.epoch, batch.at, batch.first, &batch.chunks)
    })
}

/// Consecutive slices of one epoch in one message (v1 only).
pub fn merged(message_id: MessageId, run: &[Slice]) -> Bytes {
    let Some(first) = run.first() else { return Bytes::new() };
    let at = run.last().unwrap_or(first).batch().at;
    let guess = run.iter().map(|slice| guess(slice.chunks())).sum::<usize>() + ENVELOPE;
    message(guess, |out| {
        let all = run.iter().flat_map(Slice::chunks);
        let epoch = first.batch().epoch;
        stamped(at, |at| ChunksData::encode(out, at, message_id, epoch, first.first(), all));
    })
}

fn guess(chunks: &[Chunk]) -> usize {
    chunks.iter().map(|chunk| chunk.weight() + CHUNK_FIELDS).sum()
}

fn chunks(
    dialect: Dialect,
    id: MessageId,
    epoch: Epoch,
    at: Timestamp,
    first: Index,
    chunks: &[Chunk],
) -> Bytes {
    match (dialect, chunks) {
        (_, [chunk]) => message(ENVELOPE + guess(chunks), |out| {
            stamped(at, |at| ChunkData::encode(out, at, id, epoch, first, chunk));
        }),
        (Dialect::V1, _) => message(ENVELOPE + guess(chunks), |out| {
            stamped(at, |at| ChunksData::encode(out, at, id, epoch, first, chunks));
        }),
        (Dialect::Basic, _) => one_by_one(id, epoch, at, first, chunks),
    }
}

/// A message for each chunk, back to back.
fn one_by_one(id: MessageId, epoch: Epoch, at: Timestamp, first: Index, chunks: &[Chunk]) -> Bytes {
    let mut all = Vec::with_capacity(chunks.len() * ENVELOPE + guess(chunks));
    let mut json = Vec::new();
    for (k, chunk) in chunks.iter().enumerate() {
        json.clear();
        stamped(at, |at| ChunkData::encode(&mut json, at, id, epoch, first.plus(k), chunk));
        let (header, len) = header(json.len());
        all.extend(header.iter().take(len));
        all.extend_from_slice(&json);
    }
    all.shrink_to_fit();
    Bytes::from(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{ChunkType, Digest};
    use std::sync::Arc;

    fn batch(first: u64, texts: &[&str]) -> Arc<Batch> {
        let chunks: Vec<_> = texts.iter().map(|text| Chunk::new(ChunkType::Text, text)).collect();
        let at = "2026-01-01T00:00:00Z".parse().unwrap();
        Arc::new(Batch::new(Epoch(1), Index(first), at, Digest::EMPTY, chunks))
    }

    fn id() -> MessageId {
        MessageId::parse("018f4d5e-0000-7000-8000-000000000001").unwrap()
    }

    /// Cuts bytes into text messages by RFC 6455's own words.
    fn parse(mut bytes: &[u8]) -> Vec<ServerFrame> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            assert_eq!(bytes[0], 0x81);
            let (len, skip) = match bytes[1] {
                126 => (u16::from_be_bytes([bytes[2], bytes[3]]) as usize, 4),
                127 => (u64::from_be_bytes(bytes[2..10].try_into().unwrap()) as usize, 10),
                len => (len as usize, 2),
            };
            let text = std::str::from_utf8(&bytes[skip..skip + len]).unwrap();
            frames.push(ServerFrame::parse(text).unwrap().0);
            bytes = &bytes[skip + len..];
        }
        frames
    }

    #[test]
    fn header_lengths_change_where_rfc_6455_says() {
        for (len, head) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let bytes = text(&"x".repeat(len));
            assert_eq!(bytes.len(), head + len, "{len}");
            assert!(bytes[head..].iter().all(|b| *b == b'x'), "{len}");
        }
        assert_eq!(text(&"x".repeat(65_536))[..10], [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_batch_is_one_message_in_v1_and_one_for_each_chunk_in_basic() {
        let batch = batch(5, &["a", "b", "ü"]);
        let v1 = parse(&slice(Dialect::V1, id(), &Slice::whole(batch.clone())));
        let [ServerFrame::Chunks(chunks)] = &v1[..] else { panic!("{v1:?}") };
        assert_eq!((chunks.index, chunks.chunks.len()), (Index(5), 3));
        let basic = parse(&slice(Dialect::Basic, id(), &Slice::whole(batch)));
        let indexes = basic.iter().map(|frame| match frame {
            ServerFrame::Chunk(chunk) => chunk.index.0,
            other => panic!("{other:?}"),
        });
        assert_eq!(indexes.collect::<Vec<_>>(), [5, 6, 7]);
    }

    #[test]
    fn whole_batches_share_their_bytes_and_parts_have_their_own() {
        let batch = batch(0, &["a", "b"]);
        let whole = Slice::whole(batch.clone());
        let first = slice(Dialect::V1, id(), &whole);
        let once = slice(Dialect::V1, id(), &whole);
        assert_eq!(once, first, "from the second on it is kept");
        assert_eq!(once.as_ptr(), slice(Dialect::V1, id(), &whole).as_ptr());
        let part = Slice::from(batch, Index(1)).unwrap();
        let frames = parse(&slice(Dialect::V1, id(), &part));
        assert!(matches!(&frames[..], [ServerFrame::Chunk(c)] if c.index == Index(1)));
    }

    #[test]
    fn a_run_of_batches_is_one_message() {
        let run = [Slice::whole(batch(0, &["a"])), Slice::whole(batch(1, &["b", "c"]))];
        let frames = parse(&merged(id(), &run));
        let [ServerFrame::Chunks(chunks)] = &frames[..] else { panic!("{frames:?}") };
        assert_eq!((chunks.index, chunks.chunks.len()), (Index(0), 3));
    }
}
