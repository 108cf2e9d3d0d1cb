//! Text that came with hints: what was appended last, for followers that are woken by it. It spares
//! the store a read for each append and each node that follows. Pure.

use super::head::Hot;
use crate::batch::{self, Batch};
use protocol::{Digest, Index};
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes of text kept for one stream. Whoever is further behind reads the store.
const MOST_BYTES: usize = 16 * 1024;

/// The last batches of one life of a text, contiguous.
#[derive(Debug, Default)]
pub(super) struct Told {
    life: u32,
    batches: VecDeque<Arc<Batch>>,
    bytes: usize,
}

impl Told {
    /// A hint brought this batch and the head right after it.
    pub(super) fn push(&mut self, hot: &Hot, batch: Arc<Batch>) {
        if batch.end() != hot.tail || batch.after != hot.digest {
            return;
        }
        let continues = self.life == hot.life
            && self
                .batches
                .back()
                .is_some_and(|last| last.end() == batch.first && last.after == batch.before);
        if !continues {
            *self = Self { life: hot.life, ..Self::default() };
        }
        self.bytes += batch.weight();
        self.batches.push_back(batch);
        while self.bytes > MOST_BYTES && self.batches.len() > 1 {
            self.bytes -= self.batches.pop_front().map_or(0, |first| first.weight());
        }
    }

    /// The text from `from` up to this head, about `limit` bytes of it, and the digest before it;
    /// `None` where it is not all here.
    pub(super) fn page(
        &self,
        hot: &Hot,
        from: Index,
        limit: usize,
    ) -> Option<(Digest, Vec<Arc<Batch>>)> {
        let (first, last) = (self.batches.front()?, self.batches.back()?);
        let is_the_end =
            self.life == hot.life && last.end() == hot.tail && last.after == hot.digest;
        if !is_the_end || from < first.first || from >= hot.tail {
            return None;
        }
        let mut bytes = 0;
        let rest = self.batches.iter().skip_while(|batch| batch.end() <= from);
        let page: Vec<_> = rest
            .take_while(|batch| {
                let room = bytes == 0 || bytes < limit;
                bytes += batch.weight();
                room
            })
            .cloned()
            .collect();
        Some((page.first()?.digest_before(from)?, page))
    }
}

/// The one batch of a hint.
pub(super) fn unpacked(record: &[u8]) -> Option<Arc<batch::Batch>> {
    let mut found = super::packing::unpack(record, Index::ZERO, usize::MAX).ok()?;
    (found.batches.len() == 1 && found.lacks == 0).then(|| found.batches.pop()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::chunks;
    use jiff::Timestamp;
    use protocol::{Epoch, Incarnation};
    use uuid::Uuid;

    /// So many batches of three chunks, with the head after each.
    fn log(n: usize, life: u32) -> Vec<(Hot, Arc<Batch>)> {
        let mut hot = Hot::opened(Incarnation(Uuid::from_u128(1)), life);
        let appended = (0..n).map(|_| {
            let text = chunks(Epoch::FIRST, hot.tail, 3);
            let at = Timestamp::UNIX_EPOCH;
            let batch = Arc::new(Batch::new(Epoch::FIRST, hot.tail, at, hot.digest, text));
            hot = hot.with(&batch, 40);
            (hot, batch)
        });
        appended.collect()
    }

    #[test]
    fn gives_what_was_told_up_to_the_head_and_nothing_else() {
        let (log, mut told) = (log(5, 1), Told::default());
        log[1..4].iter().for_each(|(hot, batch)| told.push(hot, batch.clone()));
        let hot = &log[3].0;
        for from in 3..12 {
            let (before, page) = told.page(hot, Index(from), usize::MAX).unwrap();
            let skipped = (from as usize) / 3;
            assert_eq!(before, log[skipped].1.digest_before(Index(from)).unwrap());
            let want = log[skipped..4].iter().map(|(_, batch)| batch.first);
            assert!(page.iter().map(|batch| batch.first).eq(want), "from {from}");
        }
        assert_eq!(told.page(hot, Index(4), 1).unwrap().1.len(), 1, "progress, and no more");
        assert!(told.page(hot, Index(2), 9).is_none(), "before the first one");
        assert!(told.page(hot, Index(12), 9).is_none(), "at the tail the store is asked");
        assert!(told.page(&log[4].0, Index(4), 9).is_none(), "one is missing");
        let other = Hot { life: 2, ..*hot };
        assert!(told.page(&other, Index(4), 9).is_none(), "another life");
    }

    #[test]
    fn a_hole_or_another_life_starts_anew_and_the_size_is_bounded() {
        let (log, other, mut told) = (log(9, 1), log(2, 2), Told::default());
        told.push(&log[0].0, log[0].1.clone());
        told.push(&log[2].0, log[2].1.clone());
        assert!(told.page(&log[2].0, Index(0), 9).is_none());
        assert!(told.page(&log[2].0, Index(6), 9).is_some());
        told.push(&other[0].0, other[0].1.clone());
        assert!(told.page(&other[0].0, Index(0), 9).is_some());
        told.push(&log[5].0, other[1].1.clone());
        assert!(told.page(&log[5].0, Index(15), 9).is_none(), "not of this head");
        let long = super::super::told::tests::log(3_000, 3);
        long.iter().for_each(|(hot, batch)| told.push(hot, batch.clone()));
        assert!(told.bytes <= MOST_BYTES && told.batches.len() > 100);
        assert!(told.page(&long[2_999].0, Index(8_997), 9).is_some());
    }
}
