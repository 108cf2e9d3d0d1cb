//! What the provider was asked, read from the files that node processes append to. The files of
//! dead processes still tell.

use crate::upstream::calls::{Line, MAX_CALLS};
use protocol::dev::UpstreamCall;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One file an incarnation.
#[derive(Default)]
pub(super) struct CallFiles(Mutex<Vec<Source>>);

struct Source {
    path: PathBuf,
    /// Whole lines up to here were read.
    read: u64,
    calls: BTreeMap<u64, UpstreamCall>,
    /// Whoever wrote it is dead: a call without an end has lost its process.
    ended: bool,
}

impl CallFiles {
    /// A process begins to write this file.
    pub(super) fn add(&self, path: PathBuf) {
        self.lock().push(Source { path, read: 0, calls: BTreeMap::new(), ended: false });
    }

    /// The process that wrote this file is dead.
    pub(super) fn ended(&self, path: &PathBuf) {
        for source in self.lock().iter_mut().filter(|source| source.path == *path) {
            source.ended = true;
        }
    }

    /// All calls, the newest [`MAX_CALLS`] of them, oldest first.
    pub(super) fn list(&self) -> Vec<UpstreamCall> {
        let mut calls = Vec::new();
        for source in self.lock().iter_mut() {
            if let Err(error) = source.catch_up() {
                tracing::warn!(%error, file = %source.path.display(), "calls cannot be read");
            }
            calls.extend(source.views());
        }
        calls.sort_by_key(|call| (call.started_at, call.epoch));
        calls.split_off(calls.len().saturating_sub(MAX_CALLS))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Source>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    fn catch_up(&mut self) -> io::Result<()> {
        let mut file = match File::open(&self.path) {
            // Its process has not come so far yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        file.seek(SeekFrom::Start(self.read))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        // The last line may still be on its way.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        for line in bytes[..whole].split(|byte| *byte == b'\n') {
            if let Ok(Line { call, view }) = serde_json::from_slice(line) {
                self.calls.insert(call, view);
            }
        }
        self.read += whole as u64;
        Ok(())
    }

    fn views(&self) -> impl Iterator<Item = UpstreamCall> {
        let lost = self.ended.then(|| "dropped".to_owned());
        self.calls.values().cloned().map(move |call| {
            let end = call.end.clone().or_else(|| lost.clone());
            UpstreamCall { end, ..call }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{Epoch, Index, MessageId};
    use std::io::Write as _;
    use uuid::Uuid;

    fn line(call: u64, chunks: u64, end: Option<&str>) -> Vec<u8> {
        let view = UpstreamCall {
            message_id: MessageId(Uuid::from_u128(call.into())),
            epoch: Epoch(1),
            request_id: None,
            node: "node-1".to_owned(),
            from: Index::ZERO,
            chunks,
            started_at: jiff::Timestamp::from_second(1_800_000_000 + call as i64).unwrap(),
            end: end.map(str::to_owned),
        };
        let mut line = serde_json::to_vec(&Line { call, view }).unwrap();
        line.push(b'\n');
        line
    }

    fn told(files: &CallFiles) -> Vec<(u64, Option<String>)> {
        files.list().into_iter().map(|call| (call.chunks, call.end)).collect()
    }

    #[test]
    fn the_last_line_of_a_call_counts_and_a_dead_writer_ends_what_has_no_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls.jsonl");
        let files = CallFiles::default();
        files.add(path.clone());
        assert_eq!(told(&files), []);
        let mut file = File::create(&path).unwrap();
        let half = line(1, 7, None);
        file.write_all(&[line(0, 0, None), line(1, 0, None), line(0, 9, Some("stop"))].concat())
            .unwrap();
        file.write_all(&half[..10]).unwrap();
        assert_eq!(told(&files), [(9, Some("stop".to_owned())), (0, None)]);
        file.write_all(&half[10..]).unwrap();
        assert_eq!(told(&files), [(9, Some("stop".to_owned())), (7, None)]);
        files.ended(&path);
        assert_eq!(told(&files)[1], (7, Some("dropped".to_owned())));
    }
}
