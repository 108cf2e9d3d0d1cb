//! The composition root: settings and engines in, a running node out.

use crate::admit::{Admit, Keys};
use crate::broadcast::Kind;
use crate::drain::Drain;
use crate::hot::HotSettings;
use crate::metrics::Metrics;
use crate::socket::{NodeListener, Sockets};
use crate::stream::Streams;
use crate::stream::contact::Contact;
use crate::telemetry::Telemetry;
use crate::upstream::Upstream;
use crate::{admin, admit, api, broadcast, roster, stream};
use protocol::hot::Hot;
use protocol::{MessageId, Settings, UserId};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use streamlog::{
    Bus, Clock, Cursor, Directory, Follower, Ids, Lease, Owner, Registry, StreamLog, Tiered,
};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The engines of one incarnation.
#[derive(Clone)]
pub struct Engines {
    /// The shared log.
    pub log: Arc<dyn StreamLog>,
    /// Leases and claims.
    pub directory: Arc<dyn Directory>,
    /// Facts with a time to live.
    pub registry: Arc<dyn Registry>,
    /// Hints between nodes.
    pub bus: Arc<dyn Bus>,
}

/// Everything a node is started with.
pub struct NodeConfig {
    /// Which boot of which node.
    pub owner: Owner,
    /// All settings.
    pub settings: Settings,
    /// All secrets.
    pub keys: Keys,
    /// The engines.
    pub engines: Engines,
    /// The AI provider.
    pub upstream: Arc<dyn Upstream>,
    /// Time.
    pub clock: Clock,
    /// Ids and chance.
    pub ids: Ids,
}

/// What every part of a node shares.
pub struct Node {
    /// Which boot of which node.
    pub owner: Owner,
    /// All settings, as the node was started with.
    pub settings: Settings,
    /// Those of them that may change.
    pub hot: HotSettings,
    /// Time.
    pub clock: Clock,
    /// Ids and chance.
    pub ids: Ids,
    /// This node's memory over the shared log: what owners write and followers read.
    pub log: Arc<Tiered>,
    /// Leases and claims.
    pub directory: Arc<dyn Directory>,
    /// Facts with a time to live.
    pub registry: Arc<dyn Registry>,
    /// Hints between nodes.
    pub bus: Arc<dyn Bus>,
    /// How long this node is certainly alive.
    pub lease: Arc<Lease>,
    /// When this node was put together: zero of every coalescing window.
    pub started: tokio::time::Instant,
    contact: Mutex<Contact>,
    /// The AI provider.
    pub upstream: Arc<dyn Upstream>,
    /// Who may enter.
    pub admit: Admit,
    /// Open sockets.
    pub sockets: Sockets,
    /// Live streams this node owns.
    pub streams: Streams,
    /// Where the node stands between serving and gone.
    pub drain: Drain,
    /// Makes the node renew its lease, and say how it is, before its time.
    pub speak: Notify,
    /// Counters.
    pub metrics: Metrics,
    /// Spans, and names of users in logs.
    pub telemetry: Telemetry,
    /// Every task of the node; nothing is detached.
    pub tasks: TaskTracker,
    /// Ends every task.
    pub stop: CancellationToken,
}

impl Node {
    /// Puts a node together; nothing runs yet.
    pub fn new(config: NodeConfig) -> Arc<Self> {
        let lease = Arc::new(Lease::new(config.clock.clone()));
        let metrics = Metrics::default();
        // Nodes without a shared key have nothing in common that a name could go by.
        let own = config.owner.incarnation.to_string().into_bytes();
        let key = config.keys.resume.first().unwrap_or(&own);
        let telemetry = Telemetry::new(config.ids.clone(), key);
        Arc::new(Self {
            log: Tiered::new(
                config.engines.log,
                config.engines.directory.clone(),
                config.owner.clone(),
                lease.clone(),
                config.clock.clone(),
            ),
            directory: config.engines.directory,
            registry: config.engines.registry,
            bus: metrics.counted(config.engines.bus),
            lease,
            started: config.clock.now(),
            contact: Mutex::default(),
            upstream: config.upstream,
            admit: Admit::new(&config.settings, config.keys, config.clock.clone()),
            sockets: Sockets::default(),
            streams: Streams::new(config.settings.limits.streams),
            drain: Drain::default(),
            speak: Notify::new(),
            metrics,
            telemetry,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            owner: config.owner,
            hot: HotSettings::new(&config.settings),
            settings: config.settings,
            clock: config.clock,
            ids: config.ids,
        })
    }

    /// Takes settings up while it runs. What was let in stays.
    pub fn take_up(&self, hot: &Hot) {
        self.hot.take(&self.settings, hot);
        self.streams.bound(self.hot.now().limits.streams);
    }

    /// Contact with the store, as the lease renewals tell it.
    pub fn contact(&self) -> MutexGuard<'_, Contact> {
        self.contact.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows a message for a user, here or on any other node: the one way to read an answer.
    pub fn follow(&self, user: &UserId, message: MessageId, cursor: Cursor) -> Follower {
        let log: Arc<dyn StreamLog> = self.log.clone();
        streamlog::follow(log, message, user.clone(), cursor, self.settings.socket.page_bytes)
    }

    /// Starts the node's own tasks: lease, takeovers, hints, the sweep of its sockets, its roster;
    /// and tells the others.
    pub fn run(self: &Arc<Self>) {
        self.tasks.spawn(stream::lease::keep(self.clone()));
        self.tasks.spawn(stream::takeover::watch(self.clone()));
        self.tasks.spawn(stream::repair::watch(self.clone()));
        self.tasks.spawn(stream::hints::listen(self.clone()));
        self.tasks.spawn(stream::call_owners(self.clone()));
        self.tasks.spawn(admin::listen(self.clone()));
        self.tasks.spawn(crate::socket::sweep(self.clone()));
        self.tasks.spawn(roster::keep(self.clone()));
        self.tasks.spawn(admit::keep_keys(self.clone()));
        let node = self.clone();
        self.tasks.spawn(async move { broadcast::tell(&node, Kind::NodeStartup).await });
    }

    /// Runs the node and serves both ports until [`Node::stop`].
    ///
    /// # Errors
    /// When a listener has no address.
    pub fn serve(
        self: &Arc<Self>,
        data: TcpListener,
        admin_port: TcpListener,
    ) -> std::io::Result<RunningNode> {
        let addresses = (data.local_addr()?, admin_port.local_addr()?);
        self.run();
        self.serve_http(data, api::router(self.clone()));
        self.serve_http(admin_port, admin::router(self.clone()));
        Ok(RunningNode { node: self.clone(), data: addresses.0, admin: addresses.1 })
    }

    fn serve_http(self: &Arc<Self>, listener: TcpListener, router: axum::Router) {
        let listener = NodeListener::new(listener, self.sockets.kill_switch());
        let serving = crate::socket::serve(listener, router, self.tasks.clone(), self.stop.clone());
        self.tasks.spawn(serving);
    }
}

/// A node that serves.
pub struct RunningNode {
    /// Its parts.
    pub node: Arc<Node>,
    /// Address of the data port.
    pub data: SocketAddr,
    /// Address of the admin port.
    pub admin: SocketAddr,
}
