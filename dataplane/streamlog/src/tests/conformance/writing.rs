//! Open, append, seal.

use super::{Fixture, Writer, chunks, opening, seal};
use crate::batch::Batch;
use crate::directory::{Keep, Mark};
use crate::error::LogError;
use crate::log::Opened;
use futures_util::future::join_all;
use jiff::Timestamp;
use protocol::{Epoch, Index};
use std::sync::Arc;

pub async fn opening_gives_the_stream_to_one_incarnation<F: Fixture>() {
    let store = F::new().await;
    let (a, b) = (store.incarnation("a").await, store.incarnation("b").await);
    let again = store.incarnation("a").await;
    let opening = opening();
    let opened = a.log.open(opening.clone(), &a.owner).await;
    assert_eq!(opened, Ok(Opened::Yours(Epoch::FIRST)));
    for other in [&b, &again] {
        let opened = other.log.open(opening.clone(), &other.owner).await;
        assert_eq!(opened, Ok(Opened::Exists(a.owner.clone(), opening.clone())));
    }
    let page = b.log.read(opening.message, Index::ZERO, 1).await.unwrap();
    assert_eq!((page.head.epoch, page.head.tail), (Epoch::FIRST, Index::ZERO));
}

pub async fn a_repeated_open_is_yours_again_until_something_was_written<F: Fixture>() {
    let store = F::new().await;
    let (a, b) = (store.incarnation("a").await, store.incarnation("b").await);
    let again = async |writer: &Writer| a.log.open(writer.opening.clone(), &a.owner).await.unwrap();
    let mut writer = Writer::open(&a).await;
    assert_eq!(again(&writer).await, Opened::Yours(Epoch::FIRST));
    writer.append(2).await.unwrap();
    let exists = Opened::Exists(a.owner.clone(), writer.opening.clone());
    assert_eq!(again(&writer).await, exists, "nothing starts over");
    assert_eq!(writer.seen_by(&b).await.head.tail, Index(2));
    let sealed = Writer::open(&a).await;
    sealed.seal("stop").await.unwrap();
    assert!(matches!(again(&sealed).await, Opened::Exists(..)));
    let taken = Writer::open(&a).await;
    taken.taken_by(&b, Keep::Tail).await.unwrap();
    assert_eq!(again(&taken).await, Opened::Exists(b.owner.clone(), taken.opening.clone()));
}

pub async fn of_many_racers_exactly_one_opens<F: Fixture>() {
    let store = F::new().await;
    let opening = opening();
    let mut racers = Vec::new();
    for at in 0..8 {
        racers.push(store.incarnation(&format!("n{at}")).await);
    }
    let races = racers.iter().map(|racer| racer.log.open(opening.clone(), &racer.owner));
    let opened = join_all(races).await;
    let won = |opened: &&Result<Opened, _>| matches!(opened, Ok(Opened::Yours(Epoch::FIRST)));
    assert_eq!(opened.iter().filter(won).count(), 1);
    let lost = |opened: &&Result<Opened, _>| matches!(opened, Ok(Opened::Exists(..)));
    assert_eq!(opened.iter().filter(lost).count(), 7);
}

pub async fn an_append_lands_only_at_the_tail<F: Fixture>() {
    let store = F::new().await;
    let (a, reader) = (store.incarnation("a").await, store.incarnation("r").await);
    let mut writer = Writer::open(&a).await;
    for (n, tail) in [(3, 3), (1, 4), (5, 9)] {
        writer.append(n).await.unwrap();
        let head = writer.seen_by(&reader).await.head;
        assert_eq!((head.tail, head.digest), (Index(tail), writer.digest));
    }
    let at = |first: Index, n| {
        let chunks = chunks(Epoch(77), first, n);
        Arc::new(Batch::new(Epoch::FIRST, first, Timestamp::UNIX_EPOCH, writer.digest, chunks))
    };
    for wrong in [at(Index(10), 1), at(Index(8), 1), at(Index(8), 4), at(Index::ZERO, 9)] {
        let refused = a.log.append(writer.stream, &a.owner, wrong).await;
        assert_eq!(refused, Err(LogError::Gap { tail: Index(9) }));
    }
    let page = writer.seen_by(&reader).await;
    assert_eq!((page.head.tail, page.head.digest), (Index(9), writer.digest));
}

pub async fn a_repeated_append_is_acknowledged_again<F: Fixture>() {
    let store = F::new().await;
    let (a, reader) = (store.incarnation("a").await, store.incarnation("r").await);
    let mut writer = Writer::open(&a).await;
    for n in [2, 3, 1] {
        let batch = writer.batch(n);
        writer.send(batch.clone()).await.unwrap();
        // As after a lost answer: an equal batch, not the same one.
        let chunks = batch.chunks.clone();
        let equal = Batch::new(batch.epoch, batch.first, batch.at, batch.before, chunks);
        a.log.append(writer.stream, &a.owner, Arc::new(equal)).await.unwrap();
    }
    let page = writer.seen_by(&reader).await;
    assert_eq!((page.head.tail, page.head.digest), (Index(6), writer.digest));
    assert_eq!(super::text(&page).len(), 6);
}

pub async fn an_append_of_another_epoch_or_owner_is_fenced<F: Fixture>() {
    let store = F::new().await;
    let (a, b) = (store.incarnation("a").await, store.incarnation("b").await);
    let next_boot = store.incarnation("a").await;
    let mut writer = Writer::open(&a).await;
    writer.append(1).await.unwrap();
    let fenced = Err(LogError::Fenced { epoch: Epoch::FIRST });
    for other in [&b, &next_boot] {
        let batch = writer.batch(1);
        assert_eq!(b.log.append(writer.stream, &other.owner, batch).await, fenced, "owner");
    }
    for epoch in [Epoch(0), Epoch(2)] {
        let chunks = chunks(epoch, writer.tail, 1);
        let at = Timestamp::UNIX_EPOCH;
        let batch = Batch::new(epoch, writer.tail, at, writer.digest, chunks);
        let refused = a.log.append(writer.stream, &a.owner, Arc::new(batch)).await;
        assert_eq!(refused, fenced, "epoch");
    }
    assert_eq!(writer.seen_by(&b).await.head.tail, Index(1));
}

pub async fn nothing_is_written_to_a_sealed_or_unknown_stream<F: Fixture>() {
    let store = F::new().await;
    let a = store.incarnation("a").await;
    let mut writer = Writer::open(&a).await;
    writer.append(1).await.unwrap();
    writer.seal("stop").await.unwrap();
    assert_eq!(writer.append(1).await, Err(LogError::Sealed));
    let unknown = opening().message;
    let append = a.log.append(unknown, &a.owner, writer.batch(1)).await;
    assert_eq!(append, Err(LogError::Gap { tail: Index::ZERO }), "lost, or never there");
    let sealed = a.log.seal(unknown, &a.owner, Epoch::FIRST, seal("stop")).await;
    assert_eq!(sealed, Err(LogError::NotFound));
    assert_eq!(a.log.trim(unknown, Index::ZERO).await, Err(LogError::NotFound));
    let read = a.log.read(unknown, Index::ZERO, 1).await.map(|_| ());
    assert_eq!(read, Err(LogError::NotFound));
    let attach = a.log.attach(unknown, Index::ZERO, 1).await.map(|_| ());
    assert_eq!(attach, Err(LogError::NotFound));
    let read = a.log.read(unknown, Index::ZERO, 1).await.map(|_| ());
    assert_eq!(read, Err(LogError::NotFound), "no refused write creates a stream");
}

pub async fn an_append_tells_of_a_cancel<F: Fixture>() {
    let store = F::new().await;
    let (a, b) = (store.incarnation("a").await, store.incarnation("b").await);
    let mut writer = Writer::open(&a).await;
    assert!(!writer.append(1).await.unwrap().cancel);
    b.directory.mark(writer.stream, Mark::Cancel).await.unwrap();
    assert!(writer.append(1).await.unwrap().cancel);
    let mut taken = writer.taken_by(&b, Keep::Tail).await.unwrap();
    assert!(taken.append(1).await.unwrap().cancel, "a takeover forgets no cancel");
}

pub async fn a_stream_is_sealed_once<F: Fixture>() {
    let store = F::new().await;
    let (a, reader) = (store.incarnation("a").await, store.incarnation("r").await);
    let mut writer = Writer::open(&a).await;
    writer.append(2).await.unwrap();
    assert_eq!(writer.seen_by(&reader).await.head.seal, None);
    assert_eq!(writer.seal("stop").await, Ok(()));
    assert_eq!(writer.seal("stop").await, Ok(()), "the same seal again");
    assert_eq!(writer.seal("length").await, Err(LogError::Sealed), "another seal");
    let head = writer.seen_by(&reader).await.head;
    assert_eq!((head.seal, head.tail), (Some(seal("stop")), Index(2)));
    let empty = Writer::open(&a).await;
    assert_eq!(empty.seal("error").await, Ok(()), "an answer without a chunk ends as well");
    assert_eq!(empty.seen_by(&reader).await.head.seal, Some(seal("error")));
}

pub async fn a_seal_of_another_epoch_or_owner_is_fenced<F: Fixture>() {
    let store = F::new().await;
    let (a, b) = (store.incarnation("a").await, store.incarnation("b").await);
    let writer = Writer::open(&a).await;
    let fenced = Err(LogError::Fenced { epoch: Epoch::FIRST });
    let by_other = b.log.seal(writer.stream, &b.owner, Epoch::FIRST, seal("stop")).await;
    assert_eq!(by_other, fenced);
    let other_epoch = a.log.seal(writer.stream, &a.owner, Epoch(2), seal("stop")).await;
    assert_eq!(other_epoch, fenced);
    let taken = writer.taken_by(&b, Keep::Tail).await.unwrap();
    assert_eq!(writer.seal("stop").await, Err(LogError::Fenced { epoch: Epoch(2) }));
    assert_eq!(taken.seen_by(&a).await.head.seal, None);
    taken.seal("stop").await.unwrap();
}
