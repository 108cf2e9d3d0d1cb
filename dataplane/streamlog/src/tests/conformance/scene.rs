//! Small stages for tests of followers and memories: nodes over one memory store, each behind its
//! own chaos, with its own lease and memory.

use super::{Handles, Writer, owner, text, user};
use crate::chaos::{Chaos, ChaosControl};
use crate::clock::{Clock, Ids};
use crate::cursor::Cursor;
use crate::directory::Keep;
use crate::follower::{Event, FollowError, Follower, follow};
use crate::lease::Lease;
use crate::log::{Owner, StreamLog};
use crate::memory::{MemoryHandle, MemoryStore};
use crate::tiered::Tiered;
use jiff::Timestamp;
use protocol::{Chunk, Index};
use std::sync::Arc;
use std::time::Duration;

/// A page no test fills.
pub(crate) const PAGE: usize = 1 << 20;

/// One store.
pub(crate) struct Scene {
    pub(crate) clock: Clock,
    ids: Ids,
    store: MemoryStore,
}

/// One node.
pub(crate) struct Stage {
    pub(crate) owner: Owner,
    pub(crate) handle: MemoryHandle,
    pub(crate) control: ChaosControl,
    pub(crate) engine: Arc<Chaos<MemoryHandle>>,
    pub(crate) lease: Arc<Lease>,
    pub(crate) tiered: Arc<Tiered>,
    clock: Clock,
}

impl Default for Scene {
    fn default() -> Self {
        let clock = Clock::starting_at(Timestamp::UNIX_EPOCH);
        let ids = Ids::seeded(clock.clone(), 1);
        let store = MemoryStore::new(clock.clone(), ids.uuid());
        Self { clock, ids, store }
    }
}

impl Scene {
    /// A node that holds its lease for an hour.
    pub(crate) fn node(&self, name: &str) -> Stage {
        let node = self.node_without_lease(name);
        node.renew(Duration::from_secs(3_600));
        node
    }

    /// The store comes back empty, as another run.
    pub(crate) fn lose_everything(&self) {
        self.store.wipe(self.ids.uuid());
    }

    /// A node that was never granted a lease.
    pub(crate) fn node_without_lease(&self, name: &str) -> Stage {
        let owner = owner(&self.ids, name);
        let handle = self.store.handle(owner.clone());
        let control = ChaosControl::seeded(1);
        let engine = Arc::new(Chaos::new(Arc::new(handle.clone()), control.clone()));
        let lease = Arc::new(Lease::new(self.clock.clone()));
        let clock = self.clock.clone();
        let tiered =
            Tiered::new(engine.clone(), engine.clone(), owner.clone(), lease.clone(), clock);
        Stage { owner, handle, control, engine, lease, tiered, clock: self.clock.clone() }
    }
}

impl Stage {
    /// The lease is renewed now.
    pub(crate) fn renew(&self, ttl: Duration) {
        self.lease.renewed(self.clock.now(), ttl);
    }

    /// Handles whose log is this node's memory.
    pub(crate) fn handles(&self) -> Handles {
        Handles { log: self.tiered.clone(), ..self.direct() }
    }

    /// Handles without a memory between.
    pub(crate) fn direct(&self) -> Handles {
        Handles {
            owner: self.owner.clone(),
            log: self.engine.clone(),
            directory: self.engine.clone(),
            registry: self.engine.clone(),
            bus: self.engine.clone(),
        }
    }

    /// Claims what `writer` owns and keeps it here.
    pub(crate) async fn take(&self, writer: &Writer, keep: Keep) -> Writer {
        let taken = writer.taken_by(&self.handles(), keep).await.unwrap();
        self.tiered.adopt(taken.stream, taken.epoch).await.unwrap();
        taken
    }

    /// Follows through this node.
    pub(crate) fn follow(&self, writer: &Writer, cursor: Cursor) -> Viewer {
        Viewer::new(self.tiered.clone(), writer, cursor)
    }
}

/// A follower, and what it delivered since the last RESET.
pub(crate) struct Viewer {
    pub(crate) follower: Follower,
    pub(crate) got: Vec<Chunk>,
}

impl Viewer {
    /// Follows as the stream's user.
    pub(crate) fn new(log: Arc<dyn StreamLog>, writer: &Writer, cursor: Cursor) -> Self {
        let follower = follow(log, writer.stream, user(), cursor, PAGE);
        Self { follower, got: Vec::new() }
    }

    /// The next event, in words; `silent` where none comes within `patience`.
    pub(crate) async fn next_within(&mut self, patience: Duration) -> String {
        let next = tokio::time::timeout(patience, self.follower.next()).await;
        let Ok(next) = next else { return "silent".to_owned() };
        match next {
            None => "end".to_owned(),
            Some(Err(FollowError::NotFound)) => "not found".to_owned(),
            Some(Err(FollowError::Expired)) => "expired".to_owned(),
            Some(Ok(event)) => self.tell(event),
        }
    }

    /// The next event, which must come without the sweep's help.
    pub(crate) async fn next(&mut self) -> String {
        self.next_within(crate::follower::SWEEP_EVERY / 2).await
    }

    fn tell(&mut self, event: Event) -> String {
        match event {
            Event::Attached(found) => format!("attached {}", found.from),
            Event::Batch(slice) => {
                self.got.extend_from_slice(slice.chunks());
                format!("batch {}..{}", slice.first(), slice.batch().end())
            }
            Event::TakenOver { epoch, from, .. } => format!("taken over {epoch} {from}"),
            Event::Reset { reason, .. } => {
                self.got.clear();
                format!("reset {reason:?}")
            }
            Event::Paused => "paused".to_owned(),
            Event::Live => "live".to_owned(),
            Event::Sealed { tail, .. } => format!("sealed {tail}"),
        }
    }

    /// Exactly these events come next.
    pub(crate) async fn expect(&mut self, events: &[&str]) {
        for event in events {
            assert_eq!(self.next().await, *event);
        }
    }
}

/// A cursor that stands at `next` in what `writer` wrote.
pub(crate) async fn cursor(writer: &Writer, reader: &Stage, next: u64) -> Cursor {
    let page = reader.handle.read(writer.stream, Index(next), 1).await.unwrap();
    let whole = writer.seen_by(&reader.direct()).await;
    let at = text(&whole).len().min(next as usize);
    let epoch = whole.batches.iter().rev().find(|batch| batch.first < Index(at as u64));
    Cursor { next: Index(next), epoch: epoch.map(|batch| batch.epoch), digest: page.before }
}
