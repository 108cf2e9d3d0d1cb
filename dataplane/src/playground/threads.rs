//! Nodes as threads of this process, over one memory store or one Redis. Killing one is as near to
//! SIGKILL as one process allows.

use super::fleet::{Shared, WrapEngines};
use super::freezer::Freezer;
use super::life::{DRAIN_GRACE, Life, Vitals, World, shown};
use super::member::Place;
use super::redis::{RedisSwitch, RedisTask};
use crate::node::{Node, NodeConfig};
use crate::process::store::Store;
use crate::upstream::calls::CallLog;
use crate::upstream::compose::upstream;
use async_trait::async_trait;
use protocol::dev::{NodePhase, UpstreamCall};
use protocol::drain::DrainRequest;
use protocol::{DrainPhase, Incarnation};
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use streamlog::log::Owner;
use streamlog::memory::{MemoryHandle, MemoryStore};
use streamlog::redis::{RedisConfig, RedisEngine};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// A killed thread that has not ended by then is left behind; something in it blocks.
const DEATH: Duration = Duration::from_secs(1);

/// What the threads stand on.
pub(super) enum Ground {
    /// One memory store.
    Memory(MemoryStore),
    /// A Redis, while the fleet runs.
    Redis(Mutex<Option<RedisTask>>),
}

/// One store, and threads over it.
pub(super) struct Threads {
    shared: Shared,
    ground: Ground,
    calls: Arc<CallLog>,
    wrap: Option<WrapEngines>,
}

impl Threads {
    pub(super) fn new(shared: Shared, ground: Ground, wrap: Option<WrapEngines>) -> Self {
        Self { shared, ground, calls: Arc::default(), wrap }
    }

    /// What an incarnation is built on, and the handle that is cut when it is killed. A connection to
    /// Redis needs no cut: it ends with the runtime of its node.
    fn store(&self, owner: &Owner) -> io::Result<(Store, Option<MemoryHandle>)> {
        match &self.ground {
            Ground::Memory(store) => {
                let handle = store.handle(owner.clone());
                Ok((Store::of_memory(handle.clone()), Some(handle)))
            }
            Ground::Redis(redis) => {
                let url = lock(redis).as_ref().map(|redis| redis.url().to_owned());
                let url = url.ok_or_else(|| io::Error::other("its Redis is gone"))?;
                let config = RedisConfig { url, ..RedisConfig::default() };
                let engine = RedisEngine::new(config, owner.clone(), self.shared.clock.clone());
                Ok((Store::of_redis(engine.map_err(io::Error::other)?), None))
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl World for Threads {
    async fn begin(&self) -> io::Result<()> {
        if let Ground::Redis(redis) = &self.ground {
            let started = RedisTask::start().await?;
            *lock(redis) = Some(started);
        }
        Ok(())
    }

    async fn boot(&self, place: &Place) -> io::Result<Arc<dyn Life>> {
        let shared = &self.shared;
        let incarnation = Incarnation(shared.ids.uuid());
        let owner = Owner { node: place.name.clone(), incarnation };
        let (store, handle) = self.store(&owner)?;
        let (settings, calls) = (&shared.settings, self.calls.clone());
        let upstream = upstream(settings, &shared.provider_keys, calls, &shared.clock, &place.name);
        let engines = store.engines();
        let config = NodeConfig {
            owner,
            settings: shared.settings.clone(),
            keys: shared.keys.clone(),
            engines: match &self.wrap {
                Some(wrap) => wrap(place.at, engines),
                None => engines,
            },
            upstream: upstream.map_err(io::Error::other)?,
            clock: shared.clock.clone(),
            ids: shared.ids.clone(),
        };
        let (data, admin) = (place.data.listen()?, place.admin.listen()?);
        Ok(Arc::new(Thread::start(Boot { config, store, handle, data, admin }).await?))
    }

    fn calls(&self) -> Vec<UpstreamCall> {
        self.calls.list()
    }

    fn redis(&self) -> Option<RedisSwitch> {
        match &self.ground {
            Ground::Memory(_) => None,
            Ground::Redis(redis) => lock(redis).as_ref().map(RedisTask::switch),
        }
    }

    async fn end(&self) {
        if let Ground::Redis(redis) = &self.ground {
            let redis = lock(redis).take();
            if let Some(redis) = redis {
                redis.end().await;
            }
        }
    }
}

/// What a boot needs besides the node's own configuration.
struct Boot {
    config: NodeConfig,
    /// What is under the engines of `config`, whatever is wrapped around it.
    store: Store,
    handle: Option<MemoryHandle>,
    data: TcpListener,
    admin: TcpListener,
}

/// A node that runs: its own thread, its own runtime, its own way to the store.
struct Thread {
    node: Arc<Node>,
    freezer: Arc<Freezer>,
    runtime: Handle,
    handle: Option<MemoryHandle>,
    end: CancellationToken,
    thread: Mutex<Option<(oneshot::Receiver<()>, JoinHandle<()>)>>,
}

struct Started {
    node: Arc<Node>,
    runtime: Handle,
}

impl Thread {
    /// Starts the thread and waits until the node serves.
    async fn start(boot: Boot) -> io::Result<Self> {
        let (freezer, end) = (Arc::new(Freezer::default()), CancellationToken::new());
        let (report, started) = oneshot::channel();
        let (ending, ended) = oneshot::channel();
        let handle = boot.handle.clone();
        let name = boot.config.owner.node.to_string();
        let thread = std::thread::Builder::new().name(name).spawn({
            let (freezer, end) = (freezer.clone(), end.clone());
            move || {
                live(boot, report, &freezer, &end);
                drop(ending);
            }
        })?;
        let died = |_| io::Error::other("the node's thread died while it started");
        let Started { node, runtime } = started.await.map_err(died)??;
        Ok(Self { node, freezer, runtime, handle, end, thread: Mutex::new(Some((ended, thread))) })
    }
}

#[async_trait]
impl Life for Thread {
    async fn vitals(&self) -> Vitals {
        let phase = match self.node.drain.phase() {
            _ if self.freezer.is_frozen() => NodePhase::Paused,
            phase => shown(phase),
        };
        Vitals { phase, sessions: self.node.sockets.len(), streams: self.node.streams.len() }
    }

    /// Where the node's own tasks run.
    async fn drain(&self, mut request: DrainRequest) {
        let _context = self.runtime.enter();
        request.epoch = request.epoch.max(self.node.drain_report().epoch);
        if let Err(code) = self.node.start_drain(&request) {
            tracing::warn!(node = %self.node.owner.node, %code, "drain refused");
        }
    }

    fn pause(&self, duration: Duration) {
        self.freezer.freeze(duration);
    }

    fn go_on(&self) {
        self.freezer.thaw();
    }

    async fn drained(&self) {
        let mut phase = self.node.drain.watch();
        let left = self.node.drain_report().remaining_ms.unwrap_or_default();
        let over = phase.wait_for(|phase| matches!(phase, DrainPhase::Done | DrainPhase::Serving));
        let overdue = Duration::from_millis(left).saturating_add(DRAIN_GRACE);
        let _ = tokio::time::timeout(overdue, over).await;
    }

    /// First the store: nothing this incarnation does arrives there any more. Then the sockets are
    /// made to end with a reset, then everything is dropped where it stands.
    async fn kill(&self) {
        if let Some(handle) = &self.handle {
            handle.cut();
        }
        self.node.sockets.kill_switch().set();
        self.end.cancel();
        self.freezer.thaw();
        let thread = lock(&self.thread).take();
        let Some((ended, thread)) = thread else { return };
        let name = &self.node.owner.node;
        if tokio::time::timeout(DEATH, ended).await.is_err() {
            tracing::error!(node = %name, "the thread of a killed node blocks; it is left behind");
        } else if thread.join().is_err() {
            tracing::error!(node = %name, "the thread of a node panicked");
        }
    }
}

/// The whole life of the thread.
fn live(
    boot: Boot,
    report: oneshot::Sender<io::Result<Started>>,
    freezer: &Freezer,
    end: &CancellationToken,
) {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(report.send(Err(error))),
    };
    runtime.block_on(async {
        let node = serve(boot);
        let runtime = Handle::current();
        // Nobody listens only where the fleet is gone already.
        let _ = report.send(node.map(|node| Started { node, runtime }));
        loop {
            tokio::select! {
                biased;
                () = end.cancelled() => return,
                () = freezer.asked() => freezer.hold(),
            }
        }
    });
    // Drops every task where it stands, and waits for no blocking one.
    runtime.shutdown_background();
}

fn serve(boot: Boot) -> io::Result<Arc<Node>> {
    let data = tokio::net::TcpListener::from_std(boot.data)?;
    let admin = tokio::net::TcpListener::from_std(boot.admin)?;
    let node = Node::new(boot.config);
    node.serve(data, admin)?;
    boot.store.run(&node);
    Ok(node)
}
