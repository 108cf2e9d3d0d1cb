//! Read, attach, trim.

use super::{Fixture, Handles, Writer, claimed, seal, text};
use crate::directory::{Keep, Mark};
use crate::log::{BEYOND, TailWatch};
use protocol::{Digest, Index};
use std::time::Duration;

/// Bound on everything that must come by itself.
const SOON: Duration = Duration::from_secs(5);
/// Long enough to see a wake-up that must not come.
const A_WHILE: Duration = Duration::from_millis(100);

async fn written<F: Fixture>(sizes: &[usize]) -> (F, Writer, Handles) {
    let store = F::new().await;
    let (a, reader) = (store.incarnation("a").await, store.incarnation("r").await);
    let mut writer = Writer::open(&a).await;
    for n in sizes {
        writer.append(*n).await.unwrap();
    }
    (store, writer, reader)
}

pub async fn a_read_gives_the_suffix_and_its_digest_from_every_index<F: Fixture>() {
    let (_store, writer, reader) = written::<F>(&[1, 3, 2, 4]).await;
    let all = text(&writer.seen_by(&reader).await);
    assert_eq!(all.len(), 10);
    for log in [&writer.handles.log, &reader.log] {
        for from in 0..=10 {
            let page = log.read(writer.stream, Index(from), usize::MAX).await.unwrap();
            let (passed, rest) = all.split_at(from as usize);
            assert_eq!(page.from, Index(from));
            assert_eq!(text(&page), rest, "from {from}");
            assert_eq!(page.before, Some(Digest::EMPTY.with_all(passed)), "from {from}");
            for pair in page.batches.windows(2) {
                assert_eq!(pair[0].end(), pair[1].first);
                assert_eq!(pair[0].after, pair[1].before);
            }
            if let Some(first) = page.batches.first() {
                assert!(first.first <= Index(from) && first.end() > Index(from));
            }
        }
    }
}

pub async fn a_read_gives_about_as_much_as_asked_for_and_always_progress<F: Fixture>() {
    let (_store, writer, reader) = written::<F>(&[1; 20]).await;
    let whole: usize = writer.batches.iter().map(|batch| batch.weight()).sum();
    for limit in [0, 1, 12, 50, whole] {
        let mut from = Index::ZERO;
        let mut got = Vec::new();
        while from < writer.tail {
            let page = reader.log.read(writer.stream, from, limit).await.unwrap();
            assert_eq!(page.head.tail, writer.tail, "the head is whole on every page");
            let chunks = text(&page);
            assert!(!chunks.is_empty(), "no progress at {from} with {limit} bytes");
            let batches: usize = page.batches.iter().map(|batch| batch.weight()).sum();
            let most = page.batches.iter().map(|batch| batch.weight()).max().unwrap_or_default();
            assert!(batches <= limit + most, "{batches} bytes of {limit}");
            from = from.plus(chunks.len());
            got.extend(chunks);
        }
        assert_eq!(got, text(&writer.seen_by(&reader).await));
    }
}

pub async fn a_read_beyond_the_tail_is_no_error<F: Fixture>() {
    let (_store, writer, reader) = written::<F>(&[2]).await;
    for from in [Index(3), Index(1_000), BEYOND] {
        for limit in [0, usize::MAX] {
            let page = reader.log.read(writer.stream, from, limit).await.unwrap();
            assert_eq!((page.from, page.before, page.batches.len()), (from, None, 0));
            assert_eq!((page.head.tail, page.head.digest), (Index(2), writer.digest));
            let (page, _watch) = reader.log.attach(writer.stream, from, limit).await.unwrap();
            assert_eq!((page.from, page.before, page.batches.len()), (from, None, 0));
        }
    }
}

pub async fn a_page_carries_the_opening_and_the_whole_head<F: Fixture>() {
    let (store, writer, reader) = written::<F>(&[2]).await;
    let page = writer.seen_by(&reader).await;
    assert_eq!(page.opening, writer.opening);
    let mut opened = crate::log::Head::opened(writer.epoch);
    (opened.tail, opened.digest) = (writer.tail, writer.digest);
    assert_eq!(page.head, opened);
    let successor = store.incarnation("b").await;
    let taken = writer.taken_by(&successor, Keep::Tail).await.unwrap();
    taken.seal("stop").await.unwrap();
    let page = writer.seen_by(&reader).await;
    assert_eq!((page.head.epoch, page.head.seal), (taken.epoch, Some(seal("stop"))));
    assert_eq!(page.head.taken_over.map(|taken| taken.from), Some(Index(2)));
    for (kept, sent) in page.batches.iter().zip(&writer.batches) {
        assert_eq!((kept.epoch, kept.at), (sent.epoch, sent.at));
    }
}

async fn wakes(watch: &mut TailWatch) -> bool {
    tokio::time::timeout(SOON, watch.changed()).await.is_ok()
}

pub async fn an_attach_wakes_for_every_kind_of_change<F: Fixture>() {
    let (store, mut writer, reader) = written::<F>(&[1]).await;
    let (_, mut watch) = reader.log.attach(writer.stream, Index(1), 1).await.unwrap();
    let (_, mut own) = writer.handles.log.attach(writer.stream, Index(1), 1).await.unwrap();
    writer.append(1).await.unwrap();
    assert!(wakes(&mut watch).await, "append");
    assert!(wakes(&mut own).await, "append, on its owner's node");
    reader.directory.mark(writer.stream, Mark::Cancel).await.unwrap();
    assert!(wakes(&mut watch).await, "cancel");
    let successor = store.incarnation("b").await;
    let taken = writer.taken_by(&successor, Keep::Nothing).await.unwrap();
    assert!(wakes(&mut watch).await, "claim");
    let (_, mut own) = successor.log.attach(writer.stream, Index::ZERO, 1).await.unwrap();
    taken.seal("stop").await.unwrap();
    assert!(wakes(&mut watch).await, "seal");
    assert!(wakes(&mut own).await, "seal, on its owner's node");
}

pub async fn nothing_falls_between_an_attach_and_its_watch<F: Fixture>() {
    let (_store, mut writer, reader) = written::<F>(&[]).await;
    let stream = writer.stream;
    for round in 0..50 {
        let write = async {
            tokio::task::yield_now().await;
            writer.append(1).await.unwrap();
        };
        let attach = reader.log.attach(stream, Index(round), usize::MAX);
        let (attached, ()) = tokio::join!(attach, write);
        let (page, mut watch) = attached.unwrap();
        if page.head.tail <= Index(round) {
            assert!(wakes(&mut watch).await, "what the page lacks wakes");
            let page = reader.log.read(stream, Index(round), usize::MAX).await.unwrap();
            assert_eq!(text(&page).len(), 1);
        }
    }
}

pub async fn an_atomic_attach_never_wakes_for_what_it_read<F: Fixture>() {
    let (_store, mut writer, reader) = written::<F>(&[1]).await;
    if !claimed("atomic_attach", reader.log.guarantees().atomic_attach) {
        return;
    }
    for _ in 0..3 {
        writer.append(1).await.unwrap();
        let (page, mut watch) = reader.log.attach(writer.stream, Index::ZERO, 1).await.unwrap();
        assert_eq!(page.head.tail, writer.tail);
        assert!(tokio::time::timeout(A_WHILE, watch.changed()).await.is_err());
    }
}

pub async fn the_text_of_a_sealed_stream_can_be_trimmed<F: Fixture>() {
    let (_store, writer, reader) = written::<F>(&[2, 3, 4]).await;
    reader.log.trim(writer.stream, writer.tail).await.unwrap();
    let page = writer.seen_by(&reader).await;
    assert_eq!((page.head.first, text(&page).len()), (Index::ZERO, 9), "not while it is live");
    writer.seal("stop").await.unwrap();
    reader.log.trim(writer.stream, Index(4)).await.unwrap();
    let page = reader.log.read(writer.stream, Index(3), usize::MAX).await.unwrap();
    assert_eq!(page.head.first, Index(2), "whole batches only");
    assert_eq!(text(&page).len(), 6);
    assert_eq!(page.before, Some(writer.batches[1].digest_before(Index(3)).unwrap()));
    let inside = reader.log.read(writer.stream, Index(1), usize::MAX).await.unwrap();
    assert_eq!(inside.before, None);
    reader.log.trim(writer.stream, writer.tail).await.unwrap();
    let page = reader.log.read(writer.stream, writer.tail, usize::MAX).await.unwrap();
    assert_eq!((page.head.first, page.head.tail), (Index(9), Index(9)));
    assert_eq!((page.before, page.batches.len()), (Some(writer.digest), 0));
    assert_eq!((page.head.seal, page.head.digest), (Some(seal("stop")), writer.digest));
}

pub async fn what_was_acknowledged_survives_a_crash<F: Fixture>() {
    let (store, mut writer, reader) = written::<F>(&[2, 3]).await;
    if !claimed("durable", reader.log.guarantees().durable) {
        return;
    }
    store.crash().await;
    let page = writer.seen_by(&reader).await;
    assert_eq!((page.head.tail, page.head.digest), (writer.tail, writer.digest));
    assert_eq!(text(&page).len(), 5);
    writer.append(1).await.unwrap();
    writer.seal("stop").await.unwrap();
    store.crash().await;
    assert_eq!(writer.seen_by(&reader).await.head.seal, Some(seal("stop")));
}
