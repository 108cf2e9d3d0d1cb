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
use crate::log::Owner;
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
    streams: HashMap<MessageId, stream::Stored>,
    /// Live streams only: what `orphans` looks through.
    live: std::collections::BTreeSet<MessageId>,
    leases: HashMap<protocol::Incarnation, directory::LeaseEntry>,
    facts: registry::Facts,
    swept: Instant,
}

impl MemoryStore {
    /// An empty store. `run` is its run id.
    pub fn new(clock: Clock, run: Uuid) -> Self {
        let state = State {
            run,
            streams: HashMap::new(),
            live: std::collections::BTreeSet::new(),
            leases: HashMap::new(),
            facts: registry::Facts::default(),
            swept: clock.now(),
        };
        let (hints, _) = tokio::sync::broadcast::channel(crate::bus::BUS_CAPACITY);
        Self { shared: Arc::new(Shared { clock, state: Mutex::new(state), hints }) }
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

    /// Whose handle it is.
    pub fn owner(&self) -> &Owner {
        &self.owner
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
        let done = {
            let mut state = self.lock();
            (!self.cut.load(Ordering::Acquire)).then(|| f(&mut state))
        };
        match done {
            Some(result) => result,
            None => std::future::pending().await,
        }
    }
}

impl State {
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
