//! Redis dies, freezes, loses its memory or its subscribers; each test has a server of its own.

use super::super::RedisEngine;
use super::{SOON, Stage, handles, until};
use crate::conformance::{Writer, text, user};
use crate::cursor::Cursor;
use crate::directory::{Directory, Keep, NodeStats};
use crate::error::LogError;
use crate::follower::{Event, follow};
use crate::log::{Cut, StreamLog};
use crate::redis::server::RedisServer;
use crate::{Lease, Tiered};
use protocol::server_frame::ResetReason;
use protocol::{Epoch, Index, MessageId};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

const TTL: Duration = Duration::from_secs(60);
const NOTHING: NodeStats = NodeStats { accepting: false, sessions: 0, streams: 0 };

/// Repeats a call until the store answers.
async fn persist<T, F>(mut call: impl FnMut() -> F) -> Result<T, LogError>
where
    F: Future<Output = Result<T, LogError>>,
{
    let persist = async {
        loop {
            match call().await {
                Err(LogError::Unavailable { retry }) => tokio::time::sleep(retry).await,
                answer => return answer,
            }
        }
    };
    timeout(SOON, persist).await.expect("it comes back by itself")
}

/// All chunks that a follower delivers up to the seal.
async fn followed(engine: &RedisEngine, writer: &Writer) -> Vec<protocol::Chunk> {
    let log = Arc::new(engine.clone());
    let mut follower = follow(log, writer.stream, user(), Cursor::START, 1 << 20);
    let mut got = Vec::new();
    while let Some(event) = follower.next().await {
        match event.expect("no error") {
            Event::Batch(slice) => {
                assert_eq!(slice.first(), Index(got.len() as u64));
                got.extend_from_slice(slice.chunks());
            }
            Event::Reset { reason, .. } => panic!("a RESET: {reason:?}"),
            _ => {}
        }
    }
    got
}

async fn restart_empty(server: &mut RedisServer) {
    tokio::task::block_in_place(|| server.restart_empty()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_comes_back_empty_gets_everything_back_from_the_owner() {
    let mut server = RedisServer::start().unwrap();
    let stage = Stage::on(&server);
    let (a, b) = (stage.node("a").await, stage.node("b").await);
    let mut writer = Writer::open(&handles(&a)).await;
    writer.append(3).await.unwrap();
    let whole = writer.restore(&handles(&a)).await;
    let run = a.renew(a.owner(), TTL, &NodeStats::default()).await.unwrap().run;
    let (_, mut watch) = b.attach(writer.stream, Index(3), 1).await.unwrap();

    restart_empty(&mut server).await;
    let next = writer.batch(1);
    let lost = persist(|| a.append(writer.stream, a.owner(), next.clone())).await;
    assert_eq!(lost, Err(LogError::Gap { tail: Index::ZERO }));
    let absent = persist(|| b.read(writer.stream, Index::ZERO, 1)).await.map(drop);
    assert_eq!(absent, Err(LogError::NotFound));
    let renewed = persist(|| a.renew(a.owner(), TTL, &NOTHING)).await.unwrap();
    assert_ne!(renewed.run, run, "and everybody sees that it is another run");

    persist(|| a.restore(&whole, a.owner())).await.unwrap();
    writer.send(next).await.unwrap();
    assert_eq!(text(&writer.seen_by(&handles(&b)).await).len(), 4);
    // A follower from before is told to attach again, and wakes from then on.
    let closed = async { while watch.changed().await.is_ok() {} };
    timeout(SOON, closed).await.expect("woken");
    assert!(persist(|| b.orphans(9)).await.unwrap().is_empty(), "its owner has its lease again");
    a.release(a.owner()).await.unwrap();
    assert_eq!(b.orphans(9).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_as_new_as_the_store_waits_for_what_is_being_written_back() {
    let mut server = RedisServer::start().unwrap();
    let stage = Stage::on(&server);
    let a = stage.node("a").await;
    let mut writer = Writer::open(&handles(&a)).await;
    writer.append(3).await.unwrap();
    let whole = writer.restore(&handles(&a)).await;
    restart_empty(&mut server).await;
    // Like any node that starts at this moment, it never knew another run.
    let new = stage.idle("new");
    let read = async |stream| new.read(stream, Index::ZERO, 1).await.map(drop);
    assert!(matches!(read(writer.stream).await, Err(LogError::Unavailable { .. })));
    let younger = MessageId(stage.ids.uuid());
    assert_eq!(read(younger).await, Err(LogError::NotFound));
    persist(|| a.restore(&whole, a.owner())).await.unwrap();
    assert_eq!(read(writer.stream).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_in_another_run_of_the_store_notes_a_cut() {
    let mut server = RedisServer::start().unwrap();
    let stage = Stage::on(&server);
    let (a, b) = (stage.node("a").await, stage.node("b").await);
    let mut writer = Writer::open(&handles(&a)).await;
    writer.append(3).await.unwrap();
    let [head, text, meta] = a.inner.keys.stream(writer.stream);
    // What a store would read from its disk: the keys as they are, under a later run.
    let mut dump = redis::Pipeline::new();
    for key in [&head, &text, &meta] {
        dump.cmd("DUMP").arg(key);
    }
    let dumped = a.inner.writes.send(&dump).await.unwrap();
    restart_empty(&mut server).await;
    let mut restore = redis::Pipeline::new();
    for (key, value) in [head, text, meta].iter().zip(dumped) {
        restore.cmd("RESTORE").arg(key).arg(0).arg(super::super::reply::bytes(value).unwrap());
    }
    persist(|| a.inner.writes.send(&restore)).await.unwrap();
    let taken = writer.taken_by(&handles(&b), Keep::Tail).await.unwrap();
    let cut = Cut { epoch: Epoch(2), keep: Index(3), reason: ResetReason::RolledBack };
    assert_eq!(*taken.seen_by(&handles(&b)).await.head.cuts, [cut]);
    let again = taken.taken_by(&handles(&a), Keep::Tail).await.unwrap();
    assert_eq!(again.seen_by(&handles(&b)).await.head.cuts.len(), 1, "once for each run");
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_subscriptions_lose_no_chunk() {
    let server = RedisServer::start().unwrap();
    let stage = Stage::on(&server);
    let (a, b) = (stage.node("a").await, stage.node("b").await);
    let mut writer = Writer::open(&handles(&a)).await;
    let reader = Writer { handles: handles(&b), batches: Vec::new(), ..copy(&writer) };
    let write = async {
        for round in 0..100 {
            writer.append(2).await.unwrap();
            if round % 20 == 7 {
                server.command("CLIENT KILL TYPE pubsub").unwrap();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        writer.seal("stop").await.unwrap();
        (writer.stream, text(&writer.seen_by(&handles(&a)).await))
    };
    let follow = timeout(SOON, followed(&b, &reader));
    let ((_, written), got) = tokio::join!(write, follow);
    assert_eq!(got.expect("the end is told"), written);
    until(|| b.stats().subscribed).await;
    assert!(b.stats().subscriptions > 1, "{:?}", b.stats());
}

fn copy(writer: &Writer) -> Writer {
    Writer {
        handles: writer.handles.clone(),
        opening: writer.opening.clone(),
        batches: writer.batches.clone(),
        ..*writer
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_store_is_unavailable_in_time_and_goes_on_by_itself() {
    let server = RedisServer::start().unwrap();
    let stage = Stage::on(&server);
    let (a, b) = (stage.node("a").await, stage.node("b").await);
    let mut writer = Writer::open(&handles(&a)).await;
    writer.append(1).await.unwrap();
    let bound = stage.config.response_timeout + Duration::from_secs(1);
    server.pause().unwrap();
    let next = writer.batch(1);
    for _ in 0..7 {
        let start = Instant::now();
        let call = a.append(writer.stream, a.owner(), next.clone()).await;
        assert!(matches!(call, Err(LogError::Unavailable { .. })), "{call:?}");
        assert!(start.elapsed() < bound, "{:?}", start.elapsed());
    }
    assert!(a.stats().breaker_open && a.stats().breaker_opens == 1, "{:?}", a.stats());
    let start = Instant::now();
    assert!(a.append(writer.stream, a.owner(), next.clone()).await.is_err());
    server.resume().unwrap();
    // The late calls were applied by now, or not: the same again is acknowledged.
    persist(|| a.append(writer.stream, a.owner(), next.clone())).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(!a.stats().breaker_open);
    assert_eq!(writer.seen_by(&handles(&b)).await.head.tail, Index(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_starts_without_a_store_and_finds_it_later() {
    let mut server = RedisServer::start().unwrap();
    let stage = Stage::on(&server);
    server.kill().unwrap();
    let a = stage.idle("a");
    stage.run(&a);
    let away = a.renew(a.owner(), TTL, &NodeStats::default()).await;
    assert!(matches!(away, Err(LogError::Unavailable { .. })), "{away:?}");
    restart_empty(&mut server).await;
    persist(|| a.renew(a.owner(), TTL, &NOTHING)).await.unwrap();
    until(|| a.stats().subscribed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_connections_and_flushed_scripts_are_nobodys_problem() {
    let server = RedisServer::start().unwrap();
    let stage = Stage::on(&server);
    let (a, b) = (stage.node("a").await, stage.node("b").await);
    let mut writer = Writer::open(&handles(&a)).await;
    for round in 0..6 {
        server.command("CLIENT KILL TYPE normal SKIPME yes").unwrap();
        if round % 2 == 0 {
            server.command("SCRIPT FLUSH").unwrap();
        }
        // The answer of a broken connection is unknown: the second try is acknowledged.
        let next = writer.batch(1);
        persist(|| a.append(writer.stream, a.owner(), next.clone())).await.unwrap();
        writer.send(next).await.unwrap();
        assert_eq!(
            persist(|| b.read(writer.stream, Index::ZERO, 1)).await.unwrap().head.tail.0,
            round + 1
        );
    }
    writer.seal("stop").await.unwrap();
    assert!(a.stats().connects > 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evicted_text_is_a_lost_stream() {
    let server = RedisServer::start().unwrap();
    let stage = Stage::on(&server);
    let a = stage.node("a").await;
    let mut writer = Writer::open(&handles(&a)).await;
    writer.append(3).await.unwrap();
    let whole = writer.restore(&handles(&a)).await;
    let [_, text, _] = a.inner.keys.stream(writer.stream);
    server.command(&format!("DEL {text}")).unwrap();
    let next = writer.batch(1);
    let lost = a.append(writer.stream, a.owner(), next.clone()).await;
    assert_eq!(lost, Err(LogError::Gap { tail: Index::ZERO }));
    a.restore(&whole, a.owner()).await.unwrap();
    writer.send(next).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_in_tiers_goes_on_after_a_pause_of_the_store() {
    let server = RedisServer::start().unwrap();
    let stage = Stage::on(&server);
    let (a, b) = (stage.node("a").await, stage.node("b").await);
    let clock = crate::Clock::system();
    let lease = Arc::new(Lease::new(clock.clone()));
    let engine = Arc::new(a.clone());
    let tiered = Tiered::new(engine.clone(), engine, a.owner().clone(), lease, clock);
    let owner = crate::conformance::Handles { log: tiered, ..handles(&a) };
    let mut writer = Writer::open(&owner).await;
    let reader = copy(&writer);
    let write = async {
        for round in 0..20 {
            if round == 10 {
                server.pause().unwrap();
                let pause = async {
                    tokio::time::sleep(Duration::from_millis(1_500)).await;
                    server.resume().unwrap();
                };
                let next = writer.batch(1);
                let (log, stream) = (writer.handles.log.clone(), writer.stream);
                let append = persist(|| log.append(stream, a.owner(), next.clone()));
                let (done, ()) = tokio::join!(append, pause);
                done.unwrap();
                writer.send(next).await.unwrap();
            } else {
                writer.append(1).await.unwrap();
            }
        }
        writer.seal("stop").await.unwrap();
    };
    let (got, ()) = tokio::join!(timeout(SOON, followed(&b, &reader)), write);
    assert_eq!(got.unwrap().len(), 20);
}
