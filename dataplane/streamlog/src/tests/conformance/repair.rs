//! Restore: an owner writes a stream back into a store that lost it, or a part of it.

use super::{Fixture, Handles, Writer, chunks, seal, text};
use crate::batch::Batch;
use crate::directory::{Keep, Mark, Restore};
use crate::error::LogError;
use crate::log::Head;
use jiff::Timestamp;
use protocol::{Digest, Epoch, Index};
use std::sync::Arc;
use std::time::Duration;

/// Bound on everything that must come by itself.
const SOON: Duration = Duration::from_secs(5);

/// A store that holds a stream, one that lost everything, and the owner, who reaches both.
struct Lost<F> {
    _full: F,
    /// Who sees the full one without a memory of its own.
    reader: Handles,
    empty: F,
    writer: Writer,
    /// The owner's way to the empty store.
    again: Handles,
}

impl<F: Fixture> Lost<F> {
    async fn with(sizes: &[usize]) -> Self {
        let (full, empty) = (F::new().await, F::new().await);
        let mut writer = Writer::open(&full.incarnation("a").await).await;
        for n in sizes {
            writer.append(*n).await.unwrap();
        }
        let reader = full.incarnation("r").await;
        let again = empty.incarnation("a").await;
        let again = Handles { owner: writer.handles.owner.clone(), ..again };
        Self { _full: full, reader, empty, writer, again }
    }

    async fn restore(&self, restore: &Restore) -> Result<(), LogError> {
        self.again.directory.restore(restore, &self.again.owner).await
    }

    async fn head(&self) -> Head {
        self.writer.seen_by(&self.again).await.head
    }
}

/// The first `n` batches of what is to be restored.
fn prefix(whole: &Restore, n: usize) -> Restore {
    let batches = whole.batches[..n].to_vec();
    let (tail, digest) = (batches[n - 1].end(), batches[n - 1].after);
    let head = Head { tail, digest, seal: None, ..whole.head.clone() };
    Restore { head, batches, ..whole.clone() }
}

pub async fn a_store_that_lost_a_stream_gets_it_back<F: Fixture>() {
    let mut lost = Lost::<F>::with(&[2, 3]).await;
    let lacks = lost.again.log.append(lost.writer.stream, &lost.again.owner, lost.writer.batch(1));
    assert_eq!(lacks.await, Err(LogError::Gap { tail: Index::ZERO }));
    let b = lost.empty.incarnation("b").await;
    lost.writer = lost.writer.taken_by(&lost.writer.handles, Keep::Tail).await.unwrap();
    let whole = lost.writer.restore(&lost.reader).await;
    for _ in 0..2 {
        assert_eq!(lost.restore(&whole).await, Ok(()), "and the same again");
        let page = lost.writer.seen_by(&b).await;
        assert_eq!((&page.head, &page.opening), (&whole.head, &whole.opening));
        let all: Vec<_> = whole.batches.iter().flat_map(|batch| batch.chunks.clone()).collect();
        assert_eq!(text(&page), all);
        let epochs: Vec<_> = page.batches.iter().map(|batch| (batch.epoch, batch.at)).collect();
        assert_eq!(epochs, [(Epoch(1), Timestamp::UNIX_EPOCH); 2]);
    }
    lost.writer.seal("stop").await.unwrap();
    let whole = lost.writer.restore(&lost.reader).await;
    assert_eq!(lost.restore(&whole).await, Ok(()), "and its end");
    assert_eq!(lost.head().await.seal, Some(seal("stop")));
    assert_eq!(b.directory.orphans(9).await.unwrap().len(), 0, "what is sealed wants nobody");
}

pub async fn a_restored_stream_goes_on_as_before<F: Fixture>() {
    let mut lost = Lost::<F>::with(&[2]).await;
    let whole = Restore { barren: 2, used_tools: true, ..lost.writer.restore(&lost.reader).await };
    let whole = Restore { head: Head { cancel: true, ..whole.head.clone() }, ..whole };
    lost.restore(&whole).await.unwrap();
    let b = lost.empty.incarnation("b").await;
    let found = b.directory.orphans(9).await.unwrap().pop().expect("its owner has no lease there");
    assert_eq!((found.barren, found.used_tools, found.cancel), (2, true, true));
    assert_eq!((found.owner, found.opening), (lost.again.owner.clone(), whole.opening));
    lost.writer.handles = lost.again.clone();
    assert!(lost.writer.append(1).await.unwrap().cancel);
    let mut taken = lost.writer.taken_by(&b, Keep::Tail).await.unwrap();
    assert_eq!(taken.seen_by(&b).await.head.cuts.len(), 0, "nothing was lost in the end");
    taken.append(1).await.unwrap();
    assert_eq!(text(&taken.seen_by(&lost.again).await).len(), 4);
}

pub async fn a_prefix_is_completed_and_its_followers_wake<F: Fixture>() {
    let lost = Lost::<F>::with(&[2, 3, 1]).await;
    let whole = lost.writer.restore(&lost.reader).await;
    lost.restore(&prefix(&whole, 1)).await.unwrap();
    lost.again.directory.mark(lost.writer.stream, Mark::Cancel).await.unwrap();
    let b = lost.empty.incarnation("b").await;
    let attach = b.log.attach(lost.writer.stream, Index(2), usize::MAX).await;
    let (page, mut watch) = attach.unwrap();
    assert_eq!(text(&page).len(), 0);
    lost.restore(&prefix(&whole, 2)).await.unwrap();
    tokio::time::timeout(SOON, watch.changed()).await.expect("a wake-up").unwrap();
    assert_eq!(lost.head().await.tail, Index(5));
    lost.restore(&whole).await.unwrap();
    let head = lost.head().await;
    assert_eq!((head.tail, head.digest, head.cancel), (Index(6), lost.writer.digest, true));
    assert_eq!(text(&lost.writer.seen_by(&b).await).len(), 6);
}

pub async fn more_or_other_text_is_never_overwritten<F: Fixture>() {
    let lost = Lost::<F>::with(&[2, 3]).await;
    let whole = lost.writer.restore(&lost.reader).await;
    lost.restore(&whole).await.unwrap();
    let gap = Err(LogError::Gap { tail: Index(5) });
    assert_eq!(lost.restore(&prefix(&whole, 1)).await, gap, "it holds more");
    let other = chunks(Epoch(77), Index::ZERO, 9);
    let at = Timestamp::UNIX_EPOCH;
    let other = Arc::new(Batch::new(Epoch(1), Index::ZERO, at, Digest::EMPTY, other));
    let head = Head { tail: other.end(), digest: other.after, ..whole.head.clone() };
    let other = Restore { head, batches: vec![other], ..whole.clone() };
    assert_eq!(lost.restore(&other).await, gap, "it holds something else");
    let head = lost.head().await;
    assert_eq!((head.tail, head.digest), (Index(5), lost.writer.digest));
}

pub async fn a_higher_epoch_or_another_owner_fences_a_restore<F: Fixture>() {
    let lost = Lost::<F>::with(&[2]).await;
    let whole = lost.writer.restore(&lost.reader).await;
    lost.restore(&whole).await.unwrap();
    let b = lost.empty.incarnation("b").await;
    let fenced = Err(LogError::Fenced { epoch: Epoch(1) });
    assert_eq!(b.directory.restore(&whole, &b.owner).await, fenced, "another owner");
    lost.writer.taken_by(&b, Keep::Tail).await.unwrap();
    assert_eq!(lost.restore(&whole).await, Err(LogError::Fenced { epoch: Epoch(2) }));
}

pub async fn a_lower_epoch_is_replaced<F: Fixture>() {
    let lost = Lost::<F>::with(&[4, 2]).await;
    lost.restore(&prefix(&lost.writer.restore(&lost.reader).await, 1)).await.unwrap();
    let successor = lost.writer.taken_by(&lost.writer.handles, Keep::Nothing).await;
    let mut successor = successor.unwrap();
    successor.append(1).await.unwrap();
    let whole = successor.restore(&lost.reader).await;
    let b = lost.empty.incarnation("b").await;
    b.directory.restore(&whole, &b.owner).await.unwrap();
    let page = successor.seen_by(&b).await;
    assert_eq!(page.head, whole.head);
    assert_eq!(page.head.cuts.len(), 1, "what a client may have had before is known");
    assert_eq!(text(&page), successor.batches[0].chunks.to_vec());
    assert_eq!(lost.restore(&whole).await, Err(LogError::Fenced { epoch: Epoch(2) }));
}

pub async fn a_seal_that_stands_is_the_only_one<F: Fixture>() {
    let lost = Lost::<F>::with(&[2]).await;
    let live = lost.writer.restore(&lost.reader).await;
    lost.restore(&live).await.unwrap();
    let sealed = |reason| {
        let head = Head { seal: Some(seal(reason)), ..live.head.clone() };
        Restore { head, ..live.clone() }
    };
    lost.restore(&sealed("stop")).await.unwrap();
    lost.restore(&sealed("stop")).await.unwrap();
    assert_eq!(lost.restore(&sealed("length")).await, Err(LogError::Sealed));
    assert_eq!(lost.restore(&live).await, Err(LogError::Sealed), "nothing is unsealed");
    let mut higher = live.clone();
    higher.head.epoch = Epoch(2);
    assert_eq!(lost.restore(&higher).await, Err(LogError::Sealed), "under no epoch");
}

pub async fn a_trimmed_or_large_text_is_written_back<F: Fixture>() {
    let mut lost = Lost::<F>::with(&[2]).await;
    for _ in 0..40 {
        lost.writer.append(500).await.unwrap();
    }
    let whole = lost.writer.restore(&lost.reader).await;
    lost.restore(&whole).await.unwrap();
    for from in [0, 1, 2, 1_000, 9_999, 20_001] {
        let page = lost.again.log.read(lost.writer.stream, Index(from), 1).await.unwrap();
        assert_eq!(page.before, whole.digest_before(Index(from)), "from {from}");
        assert!(page.batches[0].end() > Index(from) && page.batches[0].first <= Index(from));
    }
    lost.writer.seal("stop").await.unwrap();
    let mut cut = lost.writer.restore(&lost.reader).await;
    cut.batches.clear();
    let empty = F::new().await.incarnation("a").await;
    empty.directory.restore(&cut, &lost.again.owner).await.unwrap();
    let page = lost.writer.seen_by(&empty).await;
    assert_eq!((page.head.first, page.head.tail), (cut.head.tail, cut.head.tail));
    assert_eq!((page.head.digest, page.head.seal), (cut.head.digest, Some(seal("stop"))));
}
