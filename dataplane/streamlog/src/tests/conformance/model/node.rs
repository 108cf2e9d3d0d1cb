//! A node of the model: its engine behind chaos, its lease, its memory, and what it does by itself:
//! renew, look for orphans, produce.

use super::World;
use super::oracle::Checked;
use crate::batch::Batch;
use crate::chaos::{Chaos, ChaosControl};
use crate::clock::Clock;
use crate::conformance::{chunks, seal};
use crate::directory::{Claim, Directory, Keep, NodeStats, Orphan};
use crate::error::LogError;
use crate::lease::Lease;
use crate::log::{Opened, Owner, StreamLog};
use crate::tiered::Tiered;
use jiff::Timestamp;
use protocol::server_frame::TakeoverMode;
use protocol::{Digest, Epoch, Index};
use rand::Rng;
use rand::rngs::SmallRng;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::sleep;

/// Life of a node's lease.
pub const LEASE: Duration = Duration::from_secs(5);
/// How often it is renewed.
const RENEW: Duration = Duration::from_millis(1_500);
/// How often orphans are looked for.
const LOOK: Duration = Duration::from_millis(500);

/// One incarnation.
pub struct Node {
    pub owner: Owner,
    pub engine: Arc<Chaos<Checked>>,
    pub control: ChaosControl,
    pub tiered: Arc<Tiered>,
    pub lease: Arc<Lease>,
    pub dead: AtomicBool,
    /// Whether a task of this node owns the stream, or is about to.
    busy: AtomicBool,
}

impl Node {
    pub fn new(engine: Checked, control: ChaosControl, lease: Arc<Lease>, clock: Clock) -> Self {
        let owner = engine.inner.owner().clone();
        let engine = Arc::new(Chaos::new(Arc::new(engine), control.clone()));
        let tiered =
            Tiered::new(engine.clone(), engine.clone(), owner.clone(), lease.clone(), clock);
        let (dead, busy) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { owner, engine, control, tiered, lease, dead, busy }
    }

    /// As SIGKILL: nothing of this incarnation is applied any more.
    pub fn kill(&self) {
        self.dead.store(true, Ordering::Relaxed);
        self.engine.inner().inner.cut();
    }

    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }
}

/// Keeps the lease.
pub async fn renew(world: Arc<World>, node: Arc<Node>) {
    loop {
        let sent = world.clock.now();
        let stats = NodeStats::default();
        let (ttl, every) = (world.short(LEASE), world.short(RENEW));
        let renewal = node.engine.renew(&node.owner, ttl, &stats);
        if let Ok(Ok(_)) = tokio::time::timeout(every, renewal).await {
            node.lease.renewed(sent, ttl);
        }
        tokio::time::sleep_until(sent + every).await;
    }
}

/// Opens the stream and produces it.
pub async fn open(world: Arc<World>, node: Arc<Node>, mut rng: SmallRng) {
    node.busy.store(true, Ordering::Relaxed);
    let opening = world.opening.clone();
    let opened = persist(|| node.tiered.open(opening.clone(), &node.owner)).await;
    world.note(|| format!("{} opened {opened:?}", node.owner.node));
    if let Ok(Opened::Yours(epoch)) = opened {
        let start = Position { epoch, tail: Index::ZERO, digest: Digest::EMPTY };
        produce(&world, &node, start, &mut rng).await;
    }
    node.busy.store(false, Ordering::Relaxed);
}

/// Looks for the orphaned stream and takes it over.
pub async fn look(world: Arc<World>, node: Arc<Node>, mut rng: SmallRng) {
    loop {
        sleep(world.short(LOOK + Duration::from_millis(rng.random_range(0..50)))).await;
        if node.lease.certain().is_none() || node.busy.load(Ordering::Relaxed) {
            continue;
        }
        let Ok(orphans) = node.engine.orphans(10).await else { continue };
        if let Some(orphan) = orphans.first().filter(|orphan| orphan.owner != node.owner) {
            node.busy.store(true, Ordering::Relaxed);
            take(&world, &node, orphan, &mut rng).await;
            node.busy.store(false, Ordering::Relaxed);
        }
    }
}

async fn take(world: &World, node: &Node, orphan: &Orphan, rng: &mut SmallRng) {
    let keep = if rng.random_bool(0.5) { Keep::Tail } else { Keep::Nothing };
    let mode = TakeoverMode::Continue;
    let claim = Claim { stream: orphan.stream, expected: orphan.epoch, keep, mode };
    let claimed = persist(|| node.engine.claim(&claim, &node.owner)).await;
    let Ok(claimed) = claimed else { return };
    let epoch = claimed.head.epoch;
    world.note(|| format!("{} claimed epoch {epoch} {keep:?}", node.owner.node));
    let Ok(batches) = persist(|| node.tiered.adopt(orphan.stream, epoch)).await else { return };
    let last = batches.last();
    let tail = last.map_or(Index::ZERO, |batch| batch.end());
    let digest = last.map_or(Digest::EMPTY, |batch| batch.after);
    produce(world, node, Position { epoch, tail, digest }, rng).await;
}

struct Position {
    epoch: Epoch,
    tail: Index,
    digest: Digest,
}

/// Appends and seals until done or fenced.
async fn produce(world: &World, node: &Node, mut at: Position, rng: &mut SmallRng) {
    let end = write(world, node, &mut at, rng).await;
    if let Some(reason) = end {
        let (stream, log) = (world.opening.message, &node.tiered);
        let sealed = persist(|| log.seal(stream, &node.owner, at.epoch, seal(reason))).await;
        world.note(|| format!("{} sealed {reason} {sealed:?}", node.owner.node));
    }
    node.tiered.forget(world.opening.message);
}

/// `Some(reason)` where this owner ends the stream, `None` where it lost it.
async fn write(
    world: &World,
    node: &Node,
    at: &mut Position,
    rng: &mut SmallRng,
) -> Option<&'static str> {
    let stream = world.opening.message;
    while at.tail < world.target {
        let silent = if rng.random_bool(0.03) { 4_000 } else { 150 };
        sleep(world.short(Duration::from_millis(rng.random_range(0..silent)))).await;
        if rng.random_bool(0.1)
            && let Ok(head) = node.tiered.shared_head(stream).await
        {
            match () {
                () if head.epoch != at.epoch => return None,
                () if head.cancel => return Some("cancelled"),
                () => {}
            }
        }
        let text = chunks(at.epoch, at.tail, rng.random_range(1..=4));
        let batch = Batch::new(at.epoch, at.tail, Timestamp::UNIX_EPOCH, at.digest, text);
        let batch = Arc::new(batch);
        let done = persist(|| node.tiered.append(stream, &node.owner, batch.clone())).await;
        world.note(|| format!("{} appended {}.. {done:?}", node.owner.node, at.tail));
        match done {
            Ok(done) => {
                (at.tail, at.digest) = (batch.end(), batch.after);
                if done.cancel {
                    return Some("cancelled");
                }
            }
            Err(LogError::Fenced { .. }) => return None,
            Err(error) => panic!("an owner's append is never refused: {error}"),
        }
    }
    Some("stop")
}

/// Repeats a call until the store answers.
async fn persist<T, F>(mut call: impl FnMut() -> F) -> Result<T, LogError>
where
    F: Future<Output = Result<T, LogError>>,
{
    loop {
        match call().await {
            Err(LogError::Unavailable { retry }) => sleep(retry).await,
            answer => return answer,
        }
    }
}
