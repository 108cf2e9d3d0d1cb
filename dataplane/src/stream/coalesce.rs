//! When chunks are appended: the first at once, then one append in a window (to the nearest point of
//! the grid that windows end on), but never text held back behind a chunk of another kind. Pure; times
//! are milliseconds of any clock.

use protocol::{Chunk, ChunkType};
use streamlog::batch::MAX_BATCH_BYTES;

/// Windows of all answers end on one grid, of this part of a window: answers that end theirs at the
/// same moment share one wake-up of the node and one pipeline to the store.
const GRID_PARTS: u64 = 4;

/// Chunks that were read from the upstream and are not yet in the log.
#[derive(Debug)]
pub struct Coalescer {
    window_ms: u64,
    pending: Vec<Chunk>,
    bytes: usize,
    /// When the last batch was taken.
    last: Option<u64>,
    /// Pending chunks that must not wait for the window.
    urgent: usize,
}

impl Coalescer {
    /// With a window; 0: every chunk at once.
    pub fn new(window_ms: u64) -> Self {
        Self { window_ms, pending: Vec::new(), bytes: 0, last: None, urgent: 0 }
    }

    /// Adds a chunk.
    pub fn push(&mut self, chunk: Chunk) {
        let turns = self.pending.last().is_some_and(|last| last.kind != chunk.kind);
        if turns && chunk.kind != ChunkType::Text {
            self.urgent = self.pending.len();
        }
        self.bytes += chunk.weight();
        self.pending.push(chunk);
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Chunks held.
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// When the next batch is due; `None` while nothing is held.
    pub fn due(&self) -> Option<u64> {
        let now_or_before = self.urgent > 0 || self.bytes >= MAX_BATCH_BYTES;
        let due = match self.last {
            Some(last) if !now_or_before => self.end_of_window(last),
            _ => 0,
        };
        (!self.pending.is_empty()).then_some(due)
    }

    /// Until when nothing can be appended, whatever is read: the end of the window that the last
    /// batch began. `None`: at once.
    pub fn closed_until(&self, now_ms: u64) -> Option<u64> {
        let end = self.last.map_or(0, |last| self.end_of_window(last));
        (end > now_ms && self.urgent == 0 && self.bytes < MAX_BATCH_BYTES).then_some(end)
    }

    /// The point of the grid that is nearest to a whole window after `last`.
    fn end_of_window(&self, last: u64) -> u64 {
        let grid = (self.window_ms / GRID_PARTS).max(1);
        (last + self.window_ms + grid / 2) / grid * grid
    }

    /// Whether more may join the next batch before it is taken.
    pub fn gathers(&self) -> bool {
        self.window_ms > 0 && self.bytes < MAX_BATCH_BYTES
    }

    /// The next batch: everything held, up to the size of a batch.
    pub fn take(&mut self, now_ms: u64) -> Vec<Chunk> {
        self.last = Some(now_ms);
        if self.urgent == 0 && self.bytes < MAX_BATCH_BYTES {
            self.bytes = 0;
            // The next one will hold about as many.
            let next = Vec::with_capacity(self.pending.len());
            return std::mem::replace(&mut self.pending, next);
        }
        let count = if self.urgent > 0 { self.urgent } else { self.pending.len() };
        self.part(count)
    }

    /// The first `count` chunks, or fewer where they are too large.
    fn part(&mut self, count: usize) -> Vec<Chunk> {
        let mut batch = Vec::with_capacity(count);
        let mut bytes = 0;
        let fits = self.pending.iter().take(count).take_while(|chunk| {
            let room = bytes < MAX_BATCH_BYTES;
            bytes += if room { chunk.weight() } else { 0 };
            room
        });
        let fits = fits.count();
        batch.extend(self.pending.drain(..fits));
        self.bytes -= bytes;
        self.urgent = self.urgent.saturating_sub(batch.len());
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(s: &str) -> Chunk {
        Chunk::new(ChunkType::Text, s)
    }

    #[test]
    fn the_first_chunk_at_once_then_one_batch_a_window() {
        let mut c = Coalescer::new(40);
        assert_eq!(c.due(), None);
        c.push(text("a"));
        assert_eq!(c.due(), Some(0));
        assert_eq!(c.take(100).len(), 1);
        c.push(text("b"));
        c.push(text("c"));
        assert_eq!(c.due(), Some(140));
        assert_eq!(c.take(140).len(), 2);
        assert!(c.is_empty());
        assert_eq!(c.bytes(), 0);
    }

    #[test]
    fn text_is_not_held_behind_another_kind() {
        let mut c = Coalescer::new(40);
        c.push(text("a"));
        c.take(100);
        c.push(text("b"));
        c.push(Chunk::new(ChunkType::Code, "c"));
        c.push(Chunk::new(ChunkType::Code, "d"));
        assert_eq!(c.due(), Some(0), "the text before the code is urgent");
        assert_eq!(c.take(110).len(), 1);
        assert_eq!(c.due(), Some(150), "the code has the window for itself");
        assert_eq!(c.take(150).len(), 2);
    }

    #[test]
    fn a_window_is_closed_to_text_only_while_it_lasts() {
        let mut c = Coalescer::new(40);
        assert_eq!(c.closed_until(0), None, "the first chunk goes at once");
        c.push(text("a"));
        c.take(100);
        assert_eq!(c.closed_until(100), Some(140));
        assert_eq!(c.closed_until(140), None);
        c.push(text("b"));
        c.push(Chunk::new(ChunkType::Code, "c"));
        assert_eq!(c.closed_until(110), None, "the text is urgent");
        let mut c = Coalescer::new(0);
        c.push(text("a"));
        c.take(100);
        assert_eq!(c.closed_until(100), None);
        assert!(!c.gathers());
    }

    #[test]
    fn windows_end_on_a_grid_and_do_not_drift() {
        let mut c = Coalescer::new(40);
        for (late, due) in [(1, 140), (2, 140), (6, 150), (0, 140)] {
            c.push(text("a"));
            c.take(100 + late);
            assert_eq!(c.closed_until(100 + late), Some(due));
        }
        // Each a little late: still eight windows in 320 ms.
        let mut now = 100;
        for window in 1..=8 {
            c.push(text("a"));
            c.take(now + 1);
            now = c.closed_until(now + 1).unwrap();
            assert_eq!(now, 100 + window * 40);
        }
        let mut narrow = Coalescer::new(3);
        narrow.push(text("a"));
        narrow.take(7);
        assert_eq!(narrow.closed_until(7), Some(10));
    }

    #[test]
    fn no_window_no_waiting() {
        let mut c = Coalescer::new(0);
        c.push(text("a"));
        c.take(5);
        c.push(text("b"));
        assert_eq!(c.due(), Some(5));
    }

    #[test]
    fn a_batch_has_a_size() {
        let mut c = Coalescer::new(40);
        for _ in 0..100 {
            c.push(text(&"x".repeat(1_000)));
        }
        assert_eq!(c.due(), Some(0));
        let first = c.take(0);
        assert_eq!(first.len(), MAX_BATCH_BYTES.div_ceil(1_000));
        assert_eq!(c.bytes(), (100 - first.len()) * 1_000);
    }
}
