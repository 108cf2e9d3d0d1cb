//! A client of the model: follows, is slow, gives up, comes back elsewhere, and checks everything it
//! is told.

use super::World;
use super::node::Node;
use super::oracle::{Oracle, Text, digest};
use crate::cursor::Cursor;
use crate::follower::{Event, FollowError, Follower, follow};
use crate::log::StreamLog;
use protocol::{Digest, Epoch, Index};
use rand::Rng;
use rand::rngs::SmallRng;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Every reader has the end this long after the seal, once the faults are over.
pub const SOON: Duration = Duration::from_secs(10);

/// What a client has.
pub struct Reader {
    name: usize,
    got: Text,
    /// Which life of the log that comes from.
    life: usize,
    /// It claims to have what nobody ever wrote.
    bogus: bool,
    rng: SmallRng,
}

/// How a follow ended.
enum End {
    Sealed,
    Expired,
    /// The client gave up waiting, or its node died.
    Again,
}

impl Reader {
    /// Starts with nothing, with a prefix of the log, or with something invented.
    pub fn new(name: usize, oracle: &Oracle, mut rng: SmallRng) -> Self {
        let log = oracle.log();
        let (n, bogus) = match rng.random_range(0..4) {
            0 => (0, false),
            1 => (log.len(), true),
            _ => (rng.random_range(0..=log.len()), false),
        };
        let mut got = log[..n].to_vec();
        if bogus {
            let invented = crate::conformance::chunks(Epoch(1 << 20), Index(n as u64), 1);
            got.extend(invented.into_iter().map(|chunk| (oracle.epoch, chunk)));
        }
        Self { name, got, life: oracle.lives.len() - 1, bogus, rng }
    }

    /// Follows until the end, wherever a node lives.
    pub async fn run(mut self, world: Arc<World>) {
        loop {
            let Some(node) = world.a_node(&mut self.rng) else {
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            match self.follow_on(&world, &node).await {
                End::Again => {}
                End::Sealed | End::Expired => break,
            }
        }
        let oracle = world.oracle();
        let ended = oracle.sealed_at.expect("sealed").max(world.calm_since());
        let late = Instant::now().saturating_duration_since(ended);
        assert!(late <= SOON, "reader {} had the end {late:?} late", self.name);
    }

    fn cursor(&mut self) -> Cursor {
        let with_digest = self.bogus || self.rng.random_bool(0.75);
        Cursor {
            next: Index(self.got.len() as u64),
            epoch: self.got.last().map(|(epoch, _)| *epoch),
            digest: with_digest.then(|| digest(&self.got)),
        }
    }

    async fn follow_on(&mut self, world: &World, node: &Node) -> End {
        let log: Arc<dyn StreamLog> =
            if self.rng.random_bool(0.7) { node.tiered.clone() } else { node.engine.clone() };
        let cursor = self.cursor();
        let page_bytes = *[1, 40, 4_096].get(self.rng.random_range(0..3)).unwrap_or(&1);
        let (stream, user) = (world.opening.message, world.opening.user.clone());
        let mut follower = follow(log, stream, user, cursor, page_bytes);
        world.note(|| format!("r{} follows {} from {}", self.name, node.owner.node, cursor.next));
        let mut told = Told::default();
        loop {
            if !world.is_calm() && self.rng.random_bool(0.1) {
                let slow = Duration::from_millis(self.rng.random_range(0..3_000));
                sleep(world.short(slow)).await;
            }
            match self.next(world, node, &mut follower).await {
                None => return End::Again,
                Some(Ok(event)) => {
                    if self.take(world, event, &cursor, &mut told) {
                        assert!(follower.next().await.is_none(), "nothing after the end");
                        return End::Sealed;
                    }
                }
                Some(Err(error)) => {
                    assert_eq!(error, FollowError::Expired);
                    assert!(world.oracle().first > Index::ZERO, "nothing was trimmed");
                    assert!(follower.next().await.is_none(), "nothing after an error");
                    return End::Expired;
                }
            }
        }
    }

    /// The next event; `None` where this client follows again, elsewhere. Impatient: the future is
    /// dropped now and then.
    async fn next(
        &mut self,
        world: &World,
        node: &Node,
        follower: &mut Follower,
    ) -> Option<Result<Event, FollowError>> {
        loop {
            let patience = world.short(Duration::from_millis(self.rng.random_range(5..2_500)));
            if let Ok(event) = timeout(patience, follower.next()).await {
                return Some(event.expect("an end is told"));
            }
            let leaves = !world.is_calm() && self.rng.random_bool(0.1);
            if node.is_dead() || leaves {
                return None;
            }
        }
    }

    /// Checks one event; `true` at the end.
    fn take(&mut self, world: &World, event: Event, cursor: &Cursor, told: &mut Told) -> bool {
        world.note(|| format!("r{} {}", self.name, shown(&event)));
        let oracle = world.oracle();
        match event {
            Event::Attached(found) => {
                assert!(!std::mem::replace(&mut told.attached, true), "attached once");
                let (from, before) = (found.from, found.before);
                if from == cursor.next {
                    assert_eq!(before, digest(&self.got), "digest before {from}");
                } else {
                    assert_eq!((from, before), (Index::ZERO, Digest::EMPTY), "a RESET follows");
                    told.reset_due = true;
                }
            }
            Event::Batch(slice) => {
                assert!(told.attached && !told.reset_due && !self.bogus, "text too early");
                assert_eq!(slice.first(), Index(self.got.len() as u64), "contiguous");
                let epoch = slice.batch().epoch;
                self.got.extend(slice.chunks().iter().map(|chunk| (epoch, chunk.clone())));
                self.check_got(&oracle);
            }
            Event::TakenOver { epoch, .. } => {
                assert!(Some(epoch) > told.epoch, "told once, in order");
                told.epoch = Some(epoch);
            }
            Event::Reset { .. } => {
                told.reset_due = false;
                let current = self.life + 1 == oracle.lives.len();
                assert!(self.bogus || !current || self.got.is_empty(), "a RESET without a reason");
                assert!(!self.got.is_empty(), "a RESET of nothing");
                self.got.clear();
                self.bogus = false;
            }
            Event::Paused => assert!(!std::mem::replace(&mut told.paused, true), "paused once"),
            Event::Live => assert!(std::mem::take(&mut told.paused), "live after paused"),
            Event::Sealed { seal, tail, digest: end } => {
                assert_eq!(Some(seal), oracle.seal, "the seal");
                assert_eq!(self.got, oracle.log(), "the whole text");
                assert_eq!((tail, end), (oracle.tail(), digest(oracle.log())));
                return true;
            }
        }
        false
    }

    /// What this client has is a prefix of the log, now or before a restart it was not told of yet.
    fn check_got(&mut self, oracle: &Oracle) {
        let holds = |life: &Text| life.get(..self.got.len()) == Some(&self.got);
        let lives = oracle.lives.iter().enumerate().skip(self.life);
        let life = lives.filter(|(_, life)| holds(life)).map(|(at, _)| at).next();
        let last = self.got.last();
        self.life = life.unwrap_or_else(|| {
            panic!("reader {} has {last:?} at {}: not in the log", self.name, self.got.len())
        });
    }
}

#[derive(Default)]
struct Told {
    attached: bool,
    reset_due: bool,
    paused: bool,
    epoch: Option<Epoch>,
}

fn shown(event: &Event) -> String {
    match event {
        Event::Attached(found) => format!("attached {} of {}", found.from, found.head.tail),
        Event::Batch(slice) => format!("batch {}+{}", slice.first(), slice.chunks().len()),
        Event::TakenOver { epoch, from, .. } => format!("taken over {epoch} from {from}"),
        Event::Reset { reason, epoch } => format!("reset {reason:?} {epoch}"),
        Event::Paused => "paused".to_owned(),
        Event::Live => "live".to_owned(),
        Event::Sealed { tail, .. } => format!("sealed at {tail}"),
    }
}
