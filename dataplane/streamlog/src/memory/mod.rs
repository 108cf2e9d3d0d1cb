//! The reference engine: epochs, fencing, seals, truncation on claim, trim, leases that expire, and
//! incarnations whose handle can be cut. Default of the binary and oracle of the model test.
//!
//! One [`MemoryStore`] stands for the store; each incarnation talks to it through its own
//! [`MemoryHandle`]. A cut handle hangs for ever, as a killed process would never get its answer.

mod bus;
mod directory;
mod log;
mod registry;
mod stream;

use crate::clock::Clock;
use crate::error::LogError;
use crate::log::{Owner, RUN_GRACE, RUN_RETRY};
use ahash::RandomState;
use protocol::MessageId;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// Text of a sealed stream is kept this long (protocol section 4, "Keeping").
pub const KEEP_TEXT: Duration = Duration::from_secs(30 * 60);
/// Meta without text is kept this long.
pub const KEEP_META: Duration = Duration::from_secs(24 * 60 * 60);
/// How often expired things are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// The store that all nodes of a process share.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Clock,
    state: Mutex<State>,
    hints: tokio::sync::broadcast::Sender<crate::bus::Hint>,
}

struct State {
    run: Uuid,
    streams: HashMap<MessageId, stream::Stored, RandomState>,
    /// Live streams only: what `orphans` looks through.
    live: std::collections::BTreeSet<MessageId>,
    leases: HashMap<protocol::Incarnation, directory::LeaseEntry>,
    facts: registry::Facts,
    swept: Instant,
    /// When it came back as this run; `None` in the first.
    came_back: Option<Instant>,
}

impl MemoryStore {
    /// An empty store. `run` is its run id.
    pub fn new(clock: Clock, run: Uuid) -> Self {
        let state = State::empty(run, clock.now());
        let (hints, _) = tokio::sync::broadcast::channel(crate::bus::BUS_CAPACITY);
        Self { shared: Arc::new(Shared { clock, state: Mutex::new(state), hints }) }
    }

    /// The store comes back empty, as another run: every stream, lease and fact is gone. For tests of
    /// repair.
    pub fn wipe(&self, run: Uuid) {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.shared.clock.now();
        *state = State { came_back: Some(now), ..State::empty(run, now) };
    }

    /// The store comes back as another run, with what it held. For tests of repair.
    pub fn rename_run(&self, run: Uuid) {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).run = run;
    }

    /// The handle of one incarnation.
    pub fn handle(&self, owner: Owner) -> MemoryHandle {
        MemoryHandle { shared: self.shared.clone(), owner, cut: Arc::new(AtomicBool::new(false)) }
    }
}

/// One incarnation's way to the store: every engine trait.
#[derive(Clone)]
pub struct MemoryHandle {
    shared: Arc<Shared>,
    owner: Owner,
    cut: Arc<AtomicBool>,
}

impl MemoryHandle {
    /// Every later call of this incarnation hangs for ever; none that is running will be applied
    /// after this returns.
    pub fn cut(&self) {
        let _state = self.lock();
        self.cut.store(true, Ordering::Release);
    }

    /// Whether it was cut.
    pub fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    /// Whose handle it is.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `f` on the store in one atomic step, or hangs if this incarnation was cut.
    async fn with<T>(&self, f: impl FnOnce(&mut State, Instant) -> T + Send) -> T {
        self.timeless(|state| {
            let now = self.shared.clock.now();
            state.sweep(now);
            f(state, now)
        })
        .await
    }

    /// As `with`, for what does not depend on time and happens for every chunk.
    async fn timeless<T>(&self, f: impl FnOnce(&mut State) -> T + Send) -> T {
        match self.unless_cut(f) {
            Some(result) => result,
            None => std::future::pending().await,
        }
    }

    /// Runs `f` on the store in one atomic step; `None` if this incarnation was cut.
    fn unless_cut<T>(&self, f: impl FnOnce(&mut State) -> T) -> Option<T> {
        let mut state = self.lock();
        (!self.cut.load(Ordering::Acquire)).then(|| f(&mut state))
    }
}

impl State {
    fn empty(run: Uuid, now: Instant) -> Self {
        Self {
            run,
            streams: HashMap::default(),
            live: std::collections::BTreeSet::new(),
            leases: HashMap::new(),
            facts: registry::Facts::default(),
            swept: now,
            came_back: None,
        }
    }

    /// What a stream is that is not here: gone, or perhaps about to be written back.
    fn absent(&self, now: Instant) -> LogError {
        let since = self.came_back.map(|at| now.saturating_duration_since(at));
        match since {
            Some(since) if since < RUN_GRACE => LogError::Unavailable { retry: RUN_RETRY },
            _ => LogError::NotFound,
        }
    }

    /// Nobody can be called dead by a store that has forgotten who lives.
    fn is_settled(&self, now: Instant) -> Result<(), LogError> {
        match self.absent(now) {
            LogError::NotFound => Ok(()),
            away => Err(away),
        }
    }

    fn sweep(&mut self, now: Instant) {
        if now.saturating_duration_since(self.swept) < SWEEP_EVERY {
            return;
        }
        self.swept = now;
        self.streams.retain(|_, stream| {
            let age = stream.sealed_for(now).unwrap_or_default();
            if age >= KEEP_TEXT {
                stream.trim(stream.head().tail);
            }
            age < KEEP_META
        });
        self.facts.sweep(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Ids;
    use crate::conformance::{Writer, owner};
    use crate::directory::{Directory, Keep, NodeStats};
    use crate::log::{Cut, StreamLog};
    use protocol::server_frame::ResetReason;
    use protocol::{Epoch, Index};

    fn handles(handle: &MemoryHandle) -> crate::conformance::Handles {
        let shared = Arc::new(handle.clone());
        crate::conformance::Handles {
            owner: handle.owner().clone(),
            log: shared.clone(),
            directory: shared.clone(),
            registry: shared.clone(),
            bus: shared,
        }
    }

    fn store() -> (MemoryStore, Ids) {
        let clock = Clock::system();
        let ids = Ids::random(clock.clone());
        (MemoryStore::new(clock, ids.uuid()), ids)
    }

    #[tokio::test]
    async fn a_wiped_store_is_empty_and_another_run() {
        let (store, ids) = store();
        let a = store.handle(owner(&ids, "a"));
        let mut writer = Writer::open(&handles(&a)).await;
        writer.append(2).await.unwrap();
        let whole = writer.restore(&handles(&a)).await;
        let run = async || a.renew(a.owner(), KEEP_TEXT, &NodeStats::default()).await.unwrap().run;
        let before = run().await;
        let (_, mut watch) = a.attach(writer.stream, Index(2), 1).await.unwrap();
        store.wipe(ids.uuid());
        assert_ne!(run().await, before);
        watch.changed().await.unwrap_err();
        assert_eq!(writer.append(1).await, Err(LogError::Gap { tail: Index::ZERO }));
        a.restore(&whole, a.owner()).await.unwrap();
        writer.append(1).await.unwrap();
    }

    #[tokio::test]
    async fn a_claim_in_another_run_notes_a_cut() {
        let (store, ids) = store();
        let (a, b) = (store.handle(owner(&ids, "a")), store.handle(owner(&ids, "b")));
        let mut writer = Writer::open(&handles(&a)).await;
        writer.append(3).await.unwrap();
        store.rename_run(ids.uuid());
        let mut taken = writer.taken_by(&handles(&b), Keep::Tail).await.unwrap();
        let cut = |epoch, keep, reason| Cut { epoch: Epoch(epoch), keep: Index(keep), reason };
        let lost = cut(2, 3, ResetReason::RolledBack);
        assert_eq!(*taken.seen_by(&handles(&a)).await.head.cuts, [lost]);
        taken.append(1).await.unwrap();
        let third = taken.taken_by(&handles(&a), Keep::Tail).await.unwrap();
        assert_eq!(*third.seen_by(&handles(&a)).await.head.cuts, [lost], "once for each run");
        let fourth = third.taken_by(&handles(&b), Keep::Nothing).await.unwrap();
        let cuts = fourth.seen_by(&handles(&a)).await.head.cuts;
        assert_eq!(*cuts, [cut(4, 0, ResetReason::Restarted)]);
    }
}
