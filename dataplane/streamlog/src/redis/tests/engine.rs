//! What this engine does beyond the contract: sharing, cleaning, places in long texts.

use super::{SOON, Stage, handles, server, until};
use crate::conformance::{Writer, text, user};
use crate::directory::{Directory, Keep, NodeStats};
use crate::error::LogError;
use crate::log::{BEYOND, StreamLog};
use crate::registry::{Key, Registry, Space};
use futures_util::future::join_all;
use protocol::Index;
use std::time::Duration;
use tokio::time::timeout;

#[tokio::test]
async fn bad_addresses_are_refused_and_good_ones_ask_nobody() {
    use crate::{Clock, RedisConfig, RedisEngine};
    let stage = Stage::shared();
    for url in ["", "http://127.0.0.1", "redis://", "rediss//x"] {
        let config = RedisConfig { url: url.to_owned(), ..RedisConfig::default() };
        let made = RedisEngine::new(config, stage.owner("a"), Clock::system());
        assert!(made.is_err(), "{url:?}");
    }
    let secret = RedisConfig { url: "redis://:hush@h".to_owned(), ..RedisConfig::default() };
    assert!(!format!("{secret:?}").contains("hush"));
    let nowhere = RedisConfig { url: "redis://127.0.0.1:1".to_owned(), ..RedisConfig::default() };
    assert!(RedisEngine::new(nowhere, stage.owner("a"), Clock::system()).is_ok());
}

#[tokio::test]
async fn everything_works_before_the_background_runs() {
    let stage = Stage::shared();
    let (a, b) = (stage.idle("a"), stage.idle("b"));
    let mut writer = Writer::open(&handles(&a)).await;
    let (_, mut watch) = b.attach(writer.stream, Index::ZERO, 1).await.unwrap();
    writer.append(2).await.unwrap();
    assert!(timeout(Duration::from_millis(100), watch.changed()).await.is_err(), "nobody tells");
    assert_eq!(text(&writer.seen_by(&handles(&b)).await).len(), 2);
    // Once subscribed, who follows attaches again and is told from then on.
    stage.run(&b);
    let woken = async { while watch.changed().await.is_ok() {} };
    timeout(SOON, woken).await.expect("closed");
    let (_, mut watch) = b.attach(writer.stream, Index(2), 1).await.unwrap();
    writer.append(1).await.unwrap();
    timeout(SOON, watch.changed()).await.expect("told").unwrap();
}

#[tokio::test]
async fn followers_woken_together_share_one_read() {
    let mut stage = Stage::shared();
    stage.config.text_in_hints = 0;
    let (a, b) = (stage.node("a").await, stage.node("b").await);
    let mut writer = Writer::open(&handles(&a)).await;
    let attach = async |_| b.attach(writer.stream, Index::ZERO, 1 << 20).await.unwrap().1;
    let mut watches = join_all((0..30).map(attach)).await;
    assert_eq!(b.stats().shared_reads, 29);
    writer.append(3).await.unwrap();
    let read = async |watch: &mut crate::TailWatch| {
        watch.changed().await.unwrap();
        b.read(writer.stream, Index::ZERO, 1 << 20).await.unwrap()
    };
    let before = b.stats();
    let pages = join_all(watches.iter_mut().map(read)).await;
    let after = b.stats();
    assert_eq!(after.shared_reads - before.shared_reads, 29, "{after:?}");
    let first = &pages[0].batches[0];
    assert!(pages.iter().all(|page| std::sync::Arc::ptr_eq(&page.batches[0], first)));
}

#[tokio::test]
async fn text_that_came_with_a_hint_is_not_read_again() {
    let stage = Stage::shared();
    let (a, b) = (stage.node("a").await, stage.node("b").await);
    let mut writer = Writer::open(&handles(&a)).await;
    writer.append(2).await.unwrap();
    let (_, mut watch) = b.attach(writer.stream, Index(2), 1 << 20).await.unwrap();
    for round in 1..=20 {
        let from = writer.tail;
        let calls = b.stats().calls;
        writer.append(3).await.unwrap();
        timeout(SOON, watch.changed()).await.unwrap().unwrap();
        let page = b.read(writer.stream, from, 1 << 20).await.unwrap();
        assert_eq!((page.head.tail, page.head.digest), (writer.tail, writer.digest));
        assert_eq!(text(&page), writer.batches.last().unwrap().chunks.to_vec());
        assert_eq!((b.stats().calls - calls, b.stats().told_reads), (0, round));
    }
    // A node that slept does not tell from memory.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let calls = b.stats().calls;
    b.read(writer.stream, Index(59), 1 << 20).await.unwrap();
    assert!(b.stats().calls > calls && b.stats().told_reads == 20);
    // What is true now is asked of the store; so is everything after any other change.
    a.mark(writer.stream, crate::directory::Mark::Cancel).await.unwrap();
    timeout(SOON, watch.changed()).await.unwrap().unwrap();
    assert!(b.read(writer.stream, Index(3), 1).await.unwrap().head.cancel);
    assert!(b.read(writer.stream, BEYOND, 1).await.unwrap().head.cancel);
    assert_eq!(b.stats().told_reads, 20);
    writer.append(20_000).await.unwrap();
    timeout(SOON, watch.changed()).await.unwrap().unwrap();
    let page = b.read(writer.stream, Index(62), 1 << 30).await.unwrap();
    assert_eq!((text(&page).len(), b.stats().told_reads), (20_000, 20), "too much for a hint");
}

#[tokio::test]
async fn appends_due_together_travel_in_one_call_and_each_has_its_answer() {
    let stage = Stage::shared();
    let (a, b) = (stage.idle("a"), stage.idle("b"));
    let handles = handles(&a);
    let mut writers = join_all((0..50).map(|_| Writer::open(&handles))).await;
    let before = a.stats();
    for done in join_all(writers.iter_mut().map(|writer| writer.append(4))).await {
        done.unwrap();
    }
    let after = a.stats();
    assert_eq!(after.calls - before.calls, 1, "one call");
    assert_eq!(after.pipelines - before.pipelines, 1, "and one write");
    let taken = writers[7].taken_by(&self::handles(&b), Keep::Tail).await.unwrap();
    let together = join_all(writers.iter_mut().map(|writer| writer.append(1))).await;
    for (at, done) in together.into_iter().enumerate() {
        let fenced = Err(LogError::Fenced { epoch: taken.epoch });
        assert_eq!(done.map(drop), if at == 7 { fenced } else { Ok(()) }, "{at}");
    }
}

#[tokio::test]
async fn a_node_that_follows_no_more_is_told_no_more() {
    let stage = Stage::shared();
    let (a, b) = (stage.node("a").await, stage.node("b").await);
    let mut writer = Writer::open(&handles(&a)).await;
    let [head, ..] = a.inner.keys.stream(writer.stream);
    let length = || server().command(&format!("STRLEN {head}")).unwrap();
    assert_eq!(length(), "46");
    let (_, watch) = b.attach(writer.stream, Index::ZERO, 1).await.unwrap();
    assert_eq!(length(), "79", "one follower");
    drop(watch);
    writer.append(1).await.unwrap();
    until(|| length() == "46").await;
    // A node that is gone is struck off with the next append.
    let idle = stage.idle("c");
    let (_, _watch) = idle.attach(writer.stream, Index::ZERO, 1).await.unwrap();
    assert_eq!(length(), "79");
    writer.append(1).await.unwrap();
    assert_eq!(length(), "46");
}

#[tokio::test]
async fn whoever_asks_for_a_stream_that_is_not_there_yet_is_told_when_it_is() {
    let stage = Stage::shared();
    let (a, b) = (stage.node("a").await, stage.idle("b"));
    let opening = crate::conformance::opening();
    let stream = opening.message;
    assert_eq!(b.attach(stream, Index::ZERO, 1).await.map(drop), Err(LogError::NotFound));
    let [head, ..] = a.inner.keys.stream(stream);
    let me = super::super::keys::Keys::follower(b.owner().incarnation);
    assert_eq!(server().command(&format!("GET {head}")).unwrap(), me, "a name is no stream");
    let ttl: i64 = server().command(&format!("TTL {head}")).unwrap().parse().unwrap();
    assert!((1..=60).contains(&ttl), "it is forgotten soon: {ttl}");
    assert_eq!(b.read(stream, Index::ZERO, 1).await.map(drop), Err(LogError::NotFound));
    let mut writer = Writer::open_with(&handles(&a), opening).await;
    writer.append(1).await.unwrap();
    let page = b.read(stream, Index::ZERO, 1_000).await.unwrap();
    assert_eq!(page.batches.len(), 1);
    let ttl: i64 = server().command(&format!("TTL {head}")).unwrap().parse().unwrap();
    assert!(ttl > 60, "a stream is kept as long as any: {ttl}");
}

#[tokio::test]
async fn a_node_that_forgot_that_it_follows_is_named_once() {
    let stage = Stage::shared();
    let (a, b) = (stage.node("a").await, stage.idle("b"));
    let mut writer = Writer::open(&handles(&a)).await;
    let [head, ..] = a.inner.keys.stream(writer.stream);
    let me = super::super::keys::Keys::follower(b.owner().incarnation);
    server().command(&format!("APPEND {head} {me}")).unwrap();
    let (_, _watch) = b.attach(writer.stream, Index::ZERO, 1).await.unwrap();
    assert_eq!(server().command(&format!("STRLEN {head}")).unwrap(), "79");
    writer.append(1).await.unwrap();
}

#[tokio::test]
async fn a_sweep_finds_what_no_hint_told() {
    let stage = Stage::shared();
    let (a, b) = (stage.node("a").await, stage.node("b").await);
    let mut writer = Writer::open(&handles(&a)).await;
    let (_, mut watch) = b.attach(writer.stream, Index::ZERO, 1).await.unwrap();
    let me = super::super::keys::Keys::follower(b.owner().incarnation);
    let [head, ..] = a.inner.keys.stream(writer.stream);
    let mut unfollow = a.inner.scripts.call(super::super::scripts::Name::Unfollow, &[head]);
    unfollow.arg(me);
    a.inner.writes.ask(unfollow).await.unwrap();
    writer.append(1).await.unwrap();
    assert!(timeout(SOON, watch.changed()).await.is_ok(), "rung, or closed to attach again");
    assert!(b.stats().backfills > 0 && b.stats().hints == 0, "{:?}", b.stats());
}

#[tokio::test]
async fn a_page_of_a_long_text_is_found_without_reading_all_of_it() {
    let stage = Stage::shared();
    let (a, b) = (stage.idle("a"), stage.idle("b"));
    let mut writer = Writer::open(&handles(&a)).await;
    for _ in 0..150 {
        writer.append(300).await.unwrap();
    }
    let [_, text_key, meta] = a.inner.keys.stream(writer.stream);
    let long: usize = server().command(&format!("STRLEN {text_key}")).unwrap().parse().unwrap();
    let index: usize = server().command(&format!("HSTRLEN {meta} index")).unwrap().parse().unwrap();
    assert_eq!(index, long / (64 * 1024) * 12, "{long} bytes");
    for from in [0, 1, 299, 300, 20_000, 30_001, 44_999] {
        for limit in [0, 1_000, 100_000] {
            let page = b.read(writer.stream, Index(from), limit).await.unwrap();
            let first = page.batches.first().expect("progress");
            assert!(first.first <= Index(from) && first.end() > Index(from), "from {from}");
            let (before, all) = (page.before, writer.batches.iter());
            let mut want = all.filter(|batch| batch.end() >= Index(from));
            assert_eq!(before, want.next().and_then(|batch| batch.digest_before(Index(from))));
        }
    }
    // What a server sends for a small page in the middle is bounded by the index, not by the text.
    let sent = || {
        let info = server().command("INFO stats").unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix("total_net_output_bytes:"));
        line.and_then(|bytes| bytes.trim().parse::<usize>().ok()).unwrap()
    };
    // Other tests use this server as well: the least of some tries.
    let mut least = usize::MAX;
    for _ in 0..20 {
        let before = sent();
        b.read(writer.stream, Index(30_001), 100).await.unwrap();
        least = least.min(sent() - before);
    }
    assert!(least < long / 2, "{least} of {long} bytes");
}

#[tokio::test]
async fn a_follower_reads_only_what_is_new() {
    let stage = Stage::shared();
    let (a, b) = (stage.node("a").await, stage.node("b").await);
    let mut writer = Writer::open(&handles(&a)).await;
    writer.append(2_000).await.unwrap();
    let (page, _watch) = b.attach(writer.stream, Index::ZERO, 1 << 20).await.unwrap();
    assert_eq!(page.head.tail, Index(2_000));
    for tail in 2_000..2_010 {
        writer.append(1).await.unwrap();
        let place = b.inner.kept.place(writer.stream, Index(tail)).expect("where it read up to");
        let page = b.read(writer.stream, Index(tail), 1 << 20).await.unwrap();
        assert_eq!((page.batches.len(), page.before), (1, Some(page.batches[0].before)));
        assert!(place.offset > 10_000);
    }
}

#[tokio::test]
async fn places_of_an_earlier_life_are_not_believed() {
    let stage = Stage::shared();
    let (a, b) = (stage.node("a").await, stage.node("b").await);
    let mut writer = Writer::open(&handles(&a)).await;
    writer.append(5).await.unwrap();
    writer.append(5).await.unwrap();
    let (_, _watch) = b.attach(writer.stream, Index::ZERO, 1).await.unwrap();
    assert!(b.inner.kept.place(writer.stream, Index(5)).is_some());
    let mut taken = writer.taken_by(&handles(&a), Keep::Nothing).await.unwrap();
    taken.append(8).await.unwrap();
    let page = b.read(writer.stream, Index(5), 1 << 20).await.unwrap();
    assert_eq!(text(&page), taken.batches[0].chunks[5..]);
}

#[tokio::test]
async fn lives_of_keys_are_as_promised() {
    let stage = Stage::shared();
    let a = stage.idle("a");
    let mut writer = Writer::open(&handles(&a)).await;
    writer.append(1).await.unwrap();
    let keys = a.inner.keys.stream(writer.stream);
    let live =
        |key: &String| -> i64 { server().command(&format!("TTL {key}")).unwrap().parse().unwrap() };
    for key in &keys[..1] {
        assert!((3_500..=3_600).contains(&live(key)), "{key}: {}", live(key));
    }
    writer.seal("stop").await.unwrap();
    let [head, text, meta] = &keys;
    assert!((1_700..=1_800).contains(&live(text)));
    assert!(live(head) > 86_000 && live(meta) > 86_000);
    // Meta without text.
    server().command(&format!("DEL {text}")).unwrap();
    let page = writer.seen_by(&handles(&a)).await;
    assert_eq!((page.head.first, page.head.tail, page.batches.len()), (Index(1), Index(1), 0));
}

#[tokio::test]
async fn of_two_racers_for_one_orphan_exactly_one_wins() {
    let stage = Stage::shared();
    let (dead, a, b) = (stage.idle("dead"), stage.idle("a"), stage.idle("b"));
    for node in [&a, &b] {
        node.renew(node.owner(), SOON, &NodeStats::default()).await.unwrap();
    }
    for _ in 0..30 {
        let mut writer = Writer::open(&handles(&dead)).await;
        writer.append(1).await.unwrap();
        let race = async |node: &crate::RedisEngine| {
            let found = node.orphans(10).await.unwrap();
            let orphan = found.iter().find(|orphan| orphan.stream == writer.stream)?;
            assert_eq!(orphan.epoch, writer.epoch);
            writer.taken_by(&handles(node), Keep::Tail).await.ok()
        };
        let (one, two) = tokio::join!(race(&a), race(&b));
        let winner = one.xor(two).expect("one of them, and not both");
        winner.seal("stop").await.unwrap();
    }
    assert_eq!(a.orphans(100).await.unwrap().len(), 0);
}

#[tokio::test]
async fn what_is_over_is_cleaned_away() {
    let stage = Stage::shared();
    let (a, b) = (stage.node("a").await, stage.idle("b"));
    let own = format!("SCARD {}", a.inner.keys.owned_by(&a.owner().incarnation.to_string()));
    let owned = || server().command(&own).unwrap();
    let first = Writer::open(&handles(&a)).await;
    let second = Writer::open(&handles(&a)).await;
    assert_eq!(owned(), "2");
    // A repeat by its own node takes nothing out.
    a.open(second.opening.clone(), a.owner()).await.unwrap();
    first.seal("stop").await.unwrap();
    until(|| owned() == "1").await;
    a.release(a.owner()).await.unwrap();
    second.taken_by(&handles(&b), Keep::Tail).await.unwrap();
    assert_eq!(b.orphans(9).await.unwrap().len(), 1, "the new owner has no lease either");
    assert_eq!(owned(), "0", "found to be over by who looked for orphans");
}

#[tokio::test]
async fn facts_leave_no_names_behind() {
    let stage = Stage::shared();
    let a = stage.idle("a");
    let key = |name: &str| Key::of(Space::Session, &user(), name);
    let short = Duration::from_millis(30);
    a.put(&key("a"), b"1".to_vec(), short).await.unwrap();
    a.put(&key("b"), b"1".to_vec(), SOON).await.unwrap();
    tokio::time::sleep(short * 2).await;
    a.put(&key("c"), b"1".to_vec(), SOON).await.unwrap();
    let names = a.inner.keys.facts(Space::Session, user().as_str());
    let count = || server().command(&format!("ZCARD {names}")).unwrap();
    assert_eq!(count(), "2");
    a.take(&key("b")).await.unwrap();
    a.remove(&key("c")).await.unwrap();
    assert_eq!(count(), "0");
}

#[tokio::test]
async fn a_head_alone_costs_no_text() {
    let stage = Stage::shared();
    let a = stage.idle("a");
    let mut writer = Writer::open(&handles(&a)).await;
    writer.append(1_000).await.unwrap();
    let page = a.read(writer.stream, BEYOND, 1 << 20).await.unwrap();
    assert_eq!((page.batches.len(), page.head.tail), (0, Index(1_000)));
}
