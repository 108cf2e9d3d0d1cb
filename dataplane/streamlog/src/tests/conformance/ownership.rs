//! Leases, claims, marks, orphans.

use super::{Fixture, Handles, Writer, opening, text};
use crate::batch::Batch;
use crate::directory::{Claim, Keep, Mark, NodeStats, Orphan, OrphanCause};
use crate::error::LogError;
use crate::log::{Cut, TakenOver};
use futures_util::future::join_all;
use jiff::Timestamp;
use protocol::server_frame::{ResetReason, TakeoverMode};
use protocol::{Chunk, ChunkType, Digest, Epoch, Index, MessageId};
use std::sync::Arc;
use std::time::Duration;

/// A lease no test outlives.
const LONG: Duration = Duration::from_secs(3_600);

async fn alive(handles: &Handles, ttl: Duration) {
    handles.directory.renew(&handles.owner, ttl, &NodeStats::default()).await.unwrap();
}

async fn living<F: Fixture>(store: &F, node: &str) -> Handles {
    let handles = store.incarnation(node).await;
    alive(&handles, LONG).await;
    handles
}

async fn orphan(by: &Handles, stream: MessageId) -> Option<Orphan> {
    let orphans = by.directory.orphans(usize::MAX).await.unwrap();
    orphans.into_iter().find(|orphan| orphan.stream == stream)
}

pub async fn a_claim_moves_the_epoch_once<F: Fixture>() {
    let store = F::new().await;
    let (a, b) = (living(&store, "a").await, living(&store, "b").await);
    let mut writer = Writer::open(&a).await;
    writer.append(3).await.unwrap();
    let claim = Claim { mode: TakeoverMode::ProviderResume, ..writer.claim(Keep::Tail) };
    let claimed = b.directory.claim(&claim, &b.owner).await.unwrap();
    assert_eq!((claimed.head.epoch, claimed.head.tail), (Epoch(2), Index(3)));
    assert_eq!(claimed.head.digest, writer.digest);
    let taken = TakenOver { from: Index(3), mode: TakeoverMode::ProviderResume };
    assert_eq!(claimed.head.taken_over, Some(taken));
    assert_eq!(claimed.opening, writer.opening);
    for expected in [Epoch(0), Epoch(1), Epoch(3)] {
        let claim = Claim { expected, ..claim.clone() };
        let refused = a.directory.claim(&claim, &a.owner).await;
        assert_eq!(refused, Err(LogError::Fenced { epoch: Epoch(2) }));
    }
}

pub async fn of_many_claims_exactly_one_wins<F: Fixture>() {
    let store = F::new().await;
    let writer = Writer::open(&living(&store, "a").await).await;
    let mut racers = Vec::new();
    for at in 0..8 {
        racers.push(living(&store, &format!("n{at}")).await);
    }
    let claim = writer.claim(Keep::Tail);
    let races = racers.iter().map(|racer| racer.directory.claim(&claim, &racer.owner));
    let claims = join_all(races).await;
    assert_eq!(claims.iter().filter(|claim| claim.is_ok()).count(), 1);
    let fenced = LogError::Fenced { epoch: Epoch(2) };
    assert_eq!(claims.iter().filter(|claim| claim.as_ref() == Err(&fenced)).count(), 7);
}

pub async fn a_claim_keeps_the_tail_or_nothing<F: Fixture>() {
    let store = F::new().await;
    let (a, b) = (living(&store, "a").await, living(&store, "b").await);
    let reader = living(&store, "r").await;
    let mut writer = Writer::open(&a).await;
    writer.append(3).await.unwrap();
    let mut second = writer.taken_by(&b, Keep::Tail).await.unwrap();
    assert_eq!(second.seen_by(&reader).await.head.cuts.len(), 0, "nothing was shortened");
    second.append(2).await.unwrap();
    let page = second.seen_by(&reader).await;
    let epochs: Vec<_> = page.batches.iter().map(|batch| batch.epoch).collect();
    assert_eq!(epochs, [Epoch(1), Epoch(2)], "chunks keep the epoch they were appended under");
    assert_eq!((page.head.tail, page.head.digest), (Index(5), second.digest));

    let mut third = second.taken_by(&a, Keep::Nothing).await.unwrap();
    assert_eq!((third.tail, third.digest), (Index::ZERO, Digest::EMPTY));
    let cut = |epoch| Cut { epoch, keep: Index::ZERO, reason: ResetReason::Restarted };
    let page = third.seen_by(&reader).await;
    assert_eq!((&*page.head.cuts, page.batches.len()), (&[cut(Epoch(3))][..], 0));
    assert_eq!(page.head.taken_over.map(|taken| taken.from), Some(Index::ZERO));
    third.append(1).await.unwrap();
    assert_eq!(text(&third.seen_by(&reader).await), third.batches[0].chunks.to_vec());
    let fourth = third.taken_by(&b, Keep::Nothing).await.unwrap();
    let page = fourth.seen_by(&reader).await;
    assert_eq!(*page.head.cuts, [cut(Epoch(4))], "an equal later cut replaces the earlier");
}

pub async fn a_restart_of_an_empty_log_makes_no_cut<F: Fixture>() {
    let store = F::new().await;
    let (a, b) = (living(&store, "a").await, living(&store, "b").await);
    let writer = Writer::open(&a).await;
    let mut taken = writer.taken_by(&b, Keep::Nothing).await.unwrap();
    assert_eq!(taken.seen_by(&a).await.head.cuts.len(), 0);
    taken.append(1).await.unwrap();
}

pub async fn a_repeated_claim_is_granted_again<F: Fixture>() {
    let store = F::new().await;
    let (a, b) = (living(&store, "a").await, living(&store, "b").await);
    let mut writer = Writer::open(&a).await;
    writer.append(3).await.unwrap();
    let claim = writer.claim(Keep::Nothing);
    let first = b.directory.claim(&claim, &b.owner).await.unwrap();
    let again = b.directory.claim(&claim, &b.owner).await.unwrap();
    assert_eq!(first, again);
    let mut taken = writer.taken_by(&b, Keep::Nothing).await.unwrap();
    taken.append(2).await.unwrap();
    let late = b.directory.claim(&claim, &b.owner).await.unwrap();
    assert_eq!((late.head.epoch, late.head.tail), (Epoch(2), Index(2)), "and truncates once");
    let fenced = Err(LogError::Fenced { epoch: Epoch(2) });
    assert_eq!(a.directory.claim(&claim, &a.owner).await, fenced);
}

pub async fn a_claimed_stream_fences_its_old_owner<F: Fixture>() {
    let store = F::new().await;
    let (a, b) = (living(&store, "a").await, living(&store, "b").await);
    let mut writer = Writer::open(&a).await;
    writer.append(2).await.unwrap();
    let repeat = writer.batches[0].clone();
    let mut taken = writer.taken_by(&b, Keep::Tail).await.unwrap();
    let fenced = LogError::Fenced { epoch: Epoch(2) };
    assert_eq!(writer.append(1).await, Err(fenced.clone()));
    assert_eq!(writer.send(repeat).await, Err(fenced.clone()), "even a repeat");
    assert_eq!(writer.seal("stop").await, Err(fenced));
    taken.append(1).await.unwrap();
    assert_eq!(taken.seen_by(&a).await.head.tail, Index(3));
}

pub async fn a_sealed_or_unknown_stream_cannot_be_claimed<F: Fixture>() {
    let store = F::new().await;
    let (a, b) = (living(&store, "a").await, living(&store, "b").await);
    let writer = Writer::open(&a).await;
    writer.seal("stop").await.unwrap();
    let refused = b.directory.claim(&writer.claim(Keep::Tail), &b.owner).await;
    assert_eq!(refused, Err(LogError::Sealed));
    let claim = Claim { stream: opening().message, ..writer.claim(Keep::Tail) };
    assert_eq!(b.directory.claim(&claim, &b.owner).await, Err(LogError::NotFound));
    let read = a.log.read(claim.stream, Index::ZERO, 1).await.map(|_| ());
    assert_eq!(read, Err(LogError::NotFound), "a refused claim creates no stream");
}

pub async fn takeovers_without_a_chunk_are_counted<F: Fixture>() {
    let store = F::new().await;
    // None of these is alive: the stream is an orphan all the time.
    let (a, b) = (store.incarnation("a").await, store.incarnation("b").await);
    let writer = Writer::open(&a).await;
    let barren = async || orphan(&b, writer.stream).await.unwrap().barren;
    assert_eq!(barren().await, 0);
    let writer2 = writer.taken_by(&b, Keep::Tail).await.unwrap();
    let mut writer3 = writer2.taken_by(&a, Keep::Tail).await.unwrap();
    assert_eq!(barren().await, 2);
    writer3.append(1).await.unwrap();
    assert_eq!(barren().await, 0);
    writer3.taken_by(&b, Keep::Tail).await.unwrap();
    assert_eq!(barren().await, 1);
}

pub async fn a_mark_stays_and_comes_too_late_for_a_sealed_stream<F: Fixture>() {
    let store = F::new().await;
    let (a, b) = (living(&store, "a").await, living(&store, "b").await);
    let writer = Writer::open(&a).await;
    for _ in 0..3 {
        b.directory.mark(writer.stream, Mark::Cancel).await.unwrap();
        assert!(writer.seen_by(&b).await.head.cancel);
    }
    b.directory.mark(writer.stream, Mark::HandOver).await.unwrap();
    writer.seal("cancelled").await.unwrap();
    for mark in [Mark::Cancel, Mark::HandOver] {
        assert_eq!(b.directory.mark(writer.stream, mark).await, Err(LogError::Sealed));
        assert_eq!(b.directory.mark(opening().message, mark).await, Err(LogError::NotFound));
    }
    assert_eq!(orphan(&b, writer.stream).await, None, "a sealed stream wants nobody");
}

pub async fn the_streams_of_the_dead_are_orphans<F: Fixture>() {
    let store = F::new().await;
    let (a, b) = (store.incarnation("a").await, living(&store, "b").await);
    let ttl = store.ttl();
    alive(&a, ttl).await;
    let writer = Writer::open(&a).await;
    assert_eq!(orphan(&b, writer.stream).await, None, "its owner is alive");
    store.advance(ttl * 3).await;
    let found = orphan(&b, writer.stream).await.expect("its owner is dead");
    assert_eq!(found.cause, OrphanCause::Dead);
    assert!(found.since >= ttl && found.since <= ttl * 3, "since {:?}", found.since);
    let taken = writer.taken_by(&b, Keep::Tail).await.unwrap();
    assert_eq!(orphan(&b, writer.stream).await, None, "its new owner is alive");
    taken.seal("stop").await.unwrap();
}

pub async fn a_released_lease_orphans_at_once<F: Fixture>() {
    let store = F::new().await;
    let (a, b) = (living(&store, "a").await, living(&store, "b").await);
    let (writer, others) = (Writer::open(&a).await, Writer::open(&b).await);
    a.directory.release(&a.owner).await.unwrap();
    let found = orphan(&b, writer.stream).await.expect("given up");
    assert_eq!((found.cause, found.owner), (OrphanCause::Dead, a.owner.clone()));
    assert_eq!(orphan(&b, others.stream).await, None);
    a.directory.release(&a.owner).await.unwrap();
}

pub async fn a_renewal_revives<F: Fixture>() {
    let store = F::new().await;
    let (a, b) = (store.incarnation("a").await, living(&store, "b").await);
    let ttl = store.ttl();
    alive(&a, ttl).await;
    let mut writer = Writer::open(&a).await;
    store.advance(ttl * 2).await;
    assert!(orphan(&b, writer.stream).await.is_some());
    alive(&a, LONG).await;
    assert_eq!(orphan(&b, writer.stream).await, None);
    writer.append(1).await.unwrap();
    // Another boot of the same node is another owner, and does not keep this one alive.
    a.directory.release(&a.owner).await.unwrap();
    living(&store, "a").await;
    assert!(orphan(&b, writer.stream).await.is_some());
}

pub async fn a_mark_orphans_the_stream_of_the_living<F: Fixture>() {
    let store = F::new().await;
    let (a, b) = (living(&store, "a").await, living(&store, "b").await);
    let mut writer = Writer::open(&a).await;
    a.directory.mark(writer.stream, Mark::HandOver).await.unwrap();
    store.advance(store.ttl()).await;
    a.directory.mark(writer.stream, Mark::HandOver).await.unwrap();
    let found = orphan(&b, writer.stream).await.expect("marked");
    assert_eq!(found.cause, OrphanCause::HandOver);
    assert!(found.since >= store.ttl(), "since the first mark, not {:?}", found.since);
    writer.append(1).await.expect("its owner goes on until it is fenced");
    writer.taken_by(&b, Keep::Tail).await.unwrap();
    assert_eq!(orphan(&b, writer.stream).await, None, "a claim clears the mark");
    a.directory.mark(writer.stream, Mark::HandOver).await.unwrap();
    assert_eq!(orphan(&b, writer.stream).await, None, "who owns it no more cannot offer it");
    a.directory.release(&a.owner).await.unwrap();
}

pub async fn orphans_tell_all_a_successor_needs<F: Fixture>() {
    let store = F::new().await;
    let (a, b) = (living(&store, "a").await, living(&store, "b").await);
    let mut plain = Writer::open(&a).await;
    plain.append(1).await.unwrap();
    let mut tools = Writer::open(&a).await;
    let chunk = Chunk::new(ChunkType::ToolUse, "{}");
    let at = Timestamp::UNIX_EPOCH;
    let batch = Batch::new(tools.epoch, Index::ZERO, at, Digest::EMPTY, vec![chunk]);
    tools.send(Arc::new(batch)).await.unwrap();
    b.directory.mark(tools.stream, Mark::Cancel).await.unwrap();
    let third = Writer::open(&a).await;
    a.directory.release(&a.owner).await.unwrap();

    let found = orphan(&b, plain.stream).await.unwrap();
    assert_eq!((found.epoch, found.owner, found.barren), (Epoch::FIRST, a.owner.clone(), 0));
    assert_eq!((found.cancel, found.used_tools), (false, false));
    assert_eq!(found.opening, plain.opening);
    let found = orphan(&b, tools.stream).await.unwrap();
    assert_eq!((found.cancel, found.used_tools), (true, true));
    assert_eq!(b.directory.orphans(2).await.unwrap().len(), 2, "at most the limit");
    assert_eq!(b.directory.orphans(0).await.unwrap().len(), 0);
    third.taken_by(&b, Keep::Tail).await.unwrap();
    assert_eq!(b.directory.orphans(10).await.unwrap().len(), 2);
}

pub async fn nodes_are_listed_with_what_they_said<F: Fixture>() {
    let store = F::new().await;
    let (a, b) = (store.incarnation("a").await, store.incarnation("b").await);
    let stats = |sessions| NodeStats { accepting: true, sessions, streams: 2 };
    a.directory.renew(&a.owner, LONG, &stats(1)).await.unwrap();
    a.directory.renew(&a.owner, LONG, &stats(7)).await.unwrap();
    b.directory.renew(&b.owner, store.ttl(), &stats(3)).await.unwrap();
    store.advance(store.ttl() * 2).await;
    let nodes = a.directory.nodes().await.unwrap();
    let said = |of: &Handles| {
        let node = nodes.iter().find(|node| node.owner == of.owner).expect("listed");
        (node.alive, node.stats.clone())
    };
    assert_eq!(said(&a), (true, stats(7)), "what it said last");
    assert_eq!(said(&b), (false, stats(3)), "whose lease ended lately");
    assert_eq!(nodes.len(), 2);
}

pub async fn renewals_name_one_run_of_the_store<F: Fixture>() {
    let store = F::new().await;
    let (a, b) = (store.incarnation("a").await, store.incarnation("b").await);
    let run = async |handles: &Handles| {
        handles.directory.renew(&handles.owner, LONG, &NodeStats::default()).await.unwrap().run
    };
    assert_eq!(run(&a).await, run(&b).await);
    assert_eq!(run(&a).await, run(&a).await);
}
