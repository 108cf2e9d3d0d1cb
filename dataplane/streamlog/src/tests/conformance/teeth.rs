//! Each deliberate bug must turn a scenario, and the model, red; without it both are green.
//! Run with `cargo test --workspace --features streamlog/bugs teeth_`: the switch is one for the
//! whole process, so that nothing else may run beside these.

use super::Writer;
use super::model::tests::run_alone;
use super::scene::{Scene, cursor};
use crate::bugs::{self, Bug};
use crate::cursor::Cursor;
use crate::directory::Keep;
use crate::error::LogError;
use crate::log::{Opened, StreamLog};
use protocol::Epoch;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Seeds within which the model must see a bug.
const SEEDS: u64 = 500;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A bug is switched on; nothing else runs.
pub(crate) struct Bitten(#[allow(dead_code)] MutexGuard<'static, ()>);

impl Drop for Bitten {
    fn drop(&mut self) {
        bugs::activate(None);
    }
}

/// Waits until nothing else runs.
pub(crate) fn alone() -> Bitten {
    Bitten(ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner))
}

fn fails(scenario: impl Future<Output = ()>) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    catch_unwind(AssertUnwindSafe(|| runtime.block_on(scenario))).is_err()
}

fn bites<F: Future<Output = ()>>(bug: Bug, scenario: impl Fn() -> F) {
    let _one = alone();
    assert!(!fails(scenario()), "red without {}", bug.name());
    bugs::activate(Some(bug));
    assert!(fails(scenario()), "green in spite of {}", bug.name());
}

fn model_sees(bug: Bug) {
    let _one = alone();
    bugs::activate(Some(bug));
    let seen = (0..SEEDS).find(|seed| run_alone(*seed).1);
    println!("{} is seen by seed {seen:?}", bug.name());
    bugs::activate(None);
    let seed = seen.unwrap_or_else(|| panic!("{SEEDS} seeds are green with {}", bug.name()));
    assert!(!run_alone(seed).1, "seed {seed} is red without {}", bug.name());
}

async fn appended_between_read_and_subscription() {
    let scene = Scene::default();
    let (a, b) = (scene.node("a"), scene.node("b"));
    let mut writer = Writer::open(&a.handles()).await;
    let mut viewer = b.follow(&writer, Cursor::START);
    let mut held = b.control.hold_next(crate::chaos::Op::Attach, false);
    let write = async {
        held.reached().await;
        writer.append(1).await.unwrap();
        writer.seal("stop").await.unwrap();
        held.release();
    };
    tokio::join!(write, viewer.expect(&["attached 0", "batch 0..1", "sealed 1"]));
}

#[test]
fn teeth_naive_follower() {
    bites(Bug::NaiveFollower, appended_between_read_and_subscription);
    model_sees(Bug::NaiveFollower);
}

async fn joined_inside_of_a_batch() {
    let scene = Scene::default();
    let a = scene.node("a");
    let mut writer = Writer::open(&a.handles()).await;
    writer.append(4).await.unwrap();
    let mut viewer = a.follow(&writer, cursor(&writer, &a, 2).await);
    viewer.expect(&["attached 2", "batch 2..4"]).await;
}

#[test]
fn teeth_no_dedupe() {
    bites(Bug::NoDedupe, joined_inside_of_a_batch);
    model_sees(Bug::NoDedupe);
}

async fn written_by_a_zombie() {
    let scene = Scene::default();
    let (a, b) = (scene.node("a"), scene.node("b"));
    let mut writer = Writer::open(&a.handles()).await;
    writer.append(1).await.unwrap();
    b.take(&writer, Keep::Tail).await;
    let fenced = LogError::Fenced { epoch: Epoch(2) };
    assert_eq!(writer.append(1).await, Err(fenced.clone()));
    assert_eq!(writer.seal("stop").await, Err(fenced));
}

#[test]
fn teeth_no_fence() {
    bites(Bug::NoFence, written_by_a_zombie);
    model_sees(Bug::NoFence);
}

async fn sent_by_an_owner_that_dies() {
    let scene = Scene::default();
    let (a, b) = (scene.node("a"), scene.node("b"));
    let mut writer = Writer::open(&a.handles()).await;
    let mut seen = a.follow(&writer, Cursor::START);
    seen.expect(&["attached 0"]).await;
    let mut held = a.control.hold_next_append(false);
    let next = writer.batch(2);
    let append = writer.send(next);
    let script = async {
        held.reached().await;
        let _ = seen.next().await;
    };
    tokio::select! {
        done = append => panic!("held, yet answered: {done:?}"),
        () = script => {}
    }
    a.handle.cut();
    let mut taken = b.take(&writer, Keep::Tail).await;
    taken.append(1).await.unwrap();
    let log = taken.seen_by(&b.direct()).await;
    assert!(super::text(&log).starts_with(&seen.got), "seen, but in nobody's log");
}

#[test]
fn teeth_visible_before_durable() {
    bites(Bug::VisibleBeforeDurable, sent_by_an_owner_that_dies);
    model_sees(Bug::VisibleBeforeDurable);
}

async fn asked_for_twice() {
    let scene = Scene::default();
    let (a, b) = (scene.node("a"), scene.node("b"));
    let mut writer = Writer::open(&a.handles()).await;
    writer.append(2).await.unwrap();
    for node in [&a, &b] {
        let opened = node.tiered.open(writer.opening.clone(), &node.owner).await.unwrap();
        assert_eq!(opened, Opened::Exists(a.owner.clone(), writer.opening.clone()));
    }
    writer.append(1).await.unwrap();
    assert_eq!(super::text(&writer.seen_by(&b.direct()).await).len(), 3);
}

#[test]
fn teeth_reused_id() {
    bites(Bug::ReusedId, asked_for_twice);
    model_sees(Bug::ReusedId);
}

async fn read_at_a_node_that_froze() {
    let scene = Scene::default();
    let (a, b) = (scene.node_without_lease("a"), scene.node("b"));
    let ttl = Duration::from_secs(5);
    a.renew(ttl);
    let mut writer = Writer::open(&a.handles()).await;
    writer.append(3).await.unwrap();
    a.control.stall();
    tokio::time::sleep(ttl).await;
    let mut taken = b.take(&writer, Keep::Nothing).await;
    taken.append(1).await.unwrap();
    let mut viewer = a.follow(&taken, Cursor::START);
    viewer.expect(&["silent"]).await;
    a.control.resume();
    viewer.expect(&["attached 0", "batch 0..1"]).await;
    assert_eq!(viewer.got, taken.batches[0].chunks.to_vec());
}

#[test]
fn teeth_zombie_reads() {
    bites(Bug::ZombieReads, read_at_a_node_that_froze);
    model_sees(Bug::ZombieReads);
}
