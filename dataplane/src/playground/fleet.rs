//! Several nodes and the `/dev` interface before them, as the playground and tests use them.

use super::http;
use super::life::World;
use super::member::{Command, Control, Member};
use super::ports::Port;
use super::processes::Processes;
use super::threads::{Ground, Threads};
use crate::admit::Keys;
use crate::node::Engines;
use crate::upstream::ProviderKeys;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use protocol::Settings;
use protocol::dev::{DevNode, UpstreamCall};
use protocol::drain::DrainRequest;
use protocol::settings::Upstream;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use streamlog::memory::MemoryStore;
use streamlog::{Clock, Ids};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Most nodes of one fleet: their data ports must end below the first admin port.
pub const MAX_NODES: usize = 99;
/// Node i's data port is the page's plus i, its admin port that much more.
const ADMIN_OFFSET: u16 = 100;

/// Puts something around the engines of a node (counted from 0), for example chaos.
pub type WrapEngines = Arc<dyn Fn(usize, Engines) -> Engines + Send + Sync>;

/// Which ports a fleet takes, all on 127.0.0.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Free ones.
    Ephemeral,
    /// The page's; node i's data port is i more (from 1), its admin port 100 + i more.
    From(u16),
}

/// How the nodes of a fleet live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Threads of this process.
    Threads {
        /// Over a Redis of the fleet's own; without it over one memory store.
        redis: bool,
    },
    /// Processes of their own.
    Processes {
        /// The `dataplane` binary.
        program: PathBuf,
        /// Over a Redis of the fleet's own; without it each has a memory store to itself.
        redis: bool,
    },
}

/// How a fleet is started.
#[derive(Clone)]
pub struct FleetOptions {
    /// How its nodes live.
    pub kind: Kind,
    /// How many nodes, 1 to [`MAX_NODES`].
    pub nodes: usize,
    /// Of every node. The page's origins are added where origins are checked.
    pub settings: Settings,
    /// Which ports.
    pub ports: Ports,
    /// HS256 key of the users' tokens; `None`: a random one.
    pub secret: Option<Vec<u8>>,
    /// Keys of the providers in the settings.
    pub provider_keys: ProviderKeys,
    /// Around the engines of every incarnation that is a thread.
    pub wrap: Option<WrapEngines>,
}

impl Default for FleetOptions {
    fn default() -> Self {
        Self {
            kind: Kind::Threads { redis: false },
            nodes: 3,
            settings: super::settings(),
            ports: Ports::Ephemeral,
            secret: None,
            provider_keys: ProviderKeys::default(),
            wrap: None,
        }
    }
}

/// Why a fleet did not start.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// Somebody else has the port.
    #[error("port {port} on 127.0.0.1, for {role}, is taken")]
    PortTaken {
        /// Which.
        port: u16,
        /// Whose it would be.
        role: String,
    },
    /// There are no such ports.
    #[error(
        "{nodes} nodes above port {port} do not fit: 1 to {MAX_NODES} nodes, ports up to 65535"
    )]
    NoSuchPorts {
        /// The page's port.
        port: u16,
        /// How many nodes.
        nodes: usize,
    },
    /// The machine refused something else.
    #[error("cannot start {what}")]
    Io {
        /// What.
        what: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What all nodes are told.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) keys: Keys,
    pub(super) provider_keys: ProviderKeys,
    pub(super) clock: Clock,
    pub(super) ids: Ids,
}

/// What the tasks of the fleet share.
pub(super) struct Common {
    pub(super) shared: Shared,
    pub(super) world: Box<dyn World>,
    pub(super) stop: CancellationToken,
}

/// Running nodes and the `/dev` interface before them. Dropping it kills everything and waits for
/// the end.
pub struct Fleet {
    front: SocketAddr,
    members: Arc<[Arc<Member>]>,
    common: Arc<Common>,
    store: Option<MemoryStore>,
    thread: Option<JoinHandle<()>>,
}

impl Fleet {
    /// Starts all nodes; when this returns they serve.
    ///
    /// # Errors
    /// [`FleetError`]; nothing is left running then.
    pub async fn start(options: FleetOptions) -> Result<Self, FleetError> {
        let ports = Reserved::new(options.nodes, options.ports)?;
        let front = ports.front.address();
        let (common, store) = common(options, front)?;
        let common = Arc::new(common);
        let (members, controls): (Vec<_>, Vec<_>) = ports
            .nodes
            .into_iter()
            .enumerate()
            .map(|(at, (data, admin))| {
                let (member, commands) = Member::new(at, data, admin);
                (member.clone(), (Control::new(member, common.clone()), commands))
            })
            .unzip();
        let members: Arc<[Arc<Member>]> = members.into();
        let listener = ports.front.listen().map_err(|e| refused(&ports.front, "the page", e))?;
        let (report, started) = oneshot::channel();
        let app = http::router(members.clone(), common.clone());
        let run = {
            let common = common.clone();
            move || control(controls, (listener, app), report, &common)
        };
        let spawned = std::thread::Builder::new().name("playground".to_owned()).spawn(run);
        let thread = spawned.map_err(|e| failed("the control thread", e))?;
        let fleet = Self { front, members, common, store, thread: Some(thread) };
        let died = |_| failed("the control thread", io::Error::other("it died"));
        started.await.map_err(died)??;
        Ok(fleet)
    }

    /// `http://127.0.0.1:port`: the page and `/dev`.
    pub fn front_url(&self) -> String {
        format!("http://{}", self.front)
    }

    /// `http://127.0.0.1:port` of every node's data port.
    pub fn node_urls(&self) -> Vec<String> {
        self.members.iter().map(|member| member.base_url()).collect()
    }

    /// Names of the nodes, and `http://127.0.0.1:port` of their admin ports.
    pub fn admin_urls(&self) -> Vec<(String, String)> {
        let members = self.members.iter();
        members.map(|member| (member.place.name.to_string(), member.admin_url())).collect()
    }

    /// What `GET /dev/nodes` says.
    pub async fn nodes(&self) -> Vec<DevNode> {
        http::views(&self.members).await
    }

    /// What `GET /dev/upstream/calls` says.
    pub fn calls(&self) -> Vec<UpstreamCall> {
        self.common.world.calls()
    }

    /// Who answers, for people.
    pub fn provider(&self) -> String {
        match &self.common.shared.settings.upstream {
            Upstream::Simulated => "simulated provider".to_owned(),
            Upstream::Providers(list) => {
                let urls: Vec<_> = list.iter().map(|provider| provider.url.as_str()).collect();
                format!("answers of {}", urls.join(", then "))
            }
        }
    }

    /// A token for `user`, as of `GET /dev/token`.
    pub fn token(&self, user: &str) -> String {
        self.common.token(user)
    }

    /// The memory store under all nodes, where they are threads over one.
    pub fn store(&self) -> Option<&MemoryStore> {
        self.store.as_ref()
    }

    /// Kills node `at` (from 0); returns when it is dead.
    pub async fn kill(&self, at: usize) {
        self.command(at, Command::Kill).await;
    }

    /// Freezes node `at` for a while; returns at once.
    pub async fn pause(&self, at: usize, duration: Duration) {
        self.command(at, Command::Pause(duration)).await;
    }

    /// Starts a drain of node `at`; returns at once.
    pub async fn drain(&self, at: usize, request: DrainRequest) {
        self.command(at, Command::Drain(request)).await;
    }

    /// Starts node `at` again if it is dead or drains, ends its pause if it is paused. Returns when
    /// a dead one serves; a draining one follows when it is done.
    pub async fn restart(&self, at: usize) {
        self.command(at, Command::Start).await;
    }

    async fn command(&self, at: usize, command: Command) {
        if let Some(member) = self.members.get(at) {
            let done = member.command(command).await;
            // The sender is dropped when the command is done.
            let _ = done.await;
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.common.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}

struct Reserved {
    front: Port,
    nodes: Vec<(Port, Port)>,
}

impl Reserved {
    fn new(nodes: usize, ports: Ports) -> Result<Self, FleetError> {
        let first = match ports {
            Ports::Ephemeral => None,
            Ports::From(port) => Some(port),
        };
        let port = first.unwrap_or_default();
        let highest = u64::from(port) + u64::from(ADMIN_OFFSET) + nodes as u64;
        if !(1..=MAX_NODES).contains(&nodes) || highest > u64::from(u16::MAX) {
            return Err(FleetError::NoSuchPorts { port, nodes });
        }
        let reserve = |offset: u16, role: String| {
            let port = first.map_or(0, |first| first + offset);
            Port::reserve(port).map_err(|e| in_use(port, &role, e))
        };
        let front = reserve(0, "the page".to_owned())?;
        let node = |i: u16| {
            let data = reserve(i, format!("node-{i}"))?;
            Ok((data, reserve(ADMIN_OFFSET + i, format!("the admin port of node-{i}"))?))
        };
        let nodes = (1..=nodes as u16).map(node).collect::<Result<_, FleetError>>()?;
        Ok(Self { front, nodes })
    }
}

fn common(
    options: FleetOptions,
    front: SocketAddr,
) -> Result<(Common, Option<MemoryStore>), FleetError> {
    let clock = Clock::system();
    let ids = Ids::random(clock.clone());
    let mut settings = options.settings;
    let port = front.port();
    let origins = [format!("http://127.0.0.1:{port}"), format!("http://localhost:{port}")];
    settings.auth.allowed_origins.extend(origins);
    // As text: an environment carries no zero byte.
    let random = || URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()).into_bytes();
    let keys = Keys {
        jwt: vec![options.secret.unwrap_or_else(random)],
        resume: vec![random()],
        ..Keys::default()
    };
    let shared = Shared { settings, keys, provider_keys: options.provider_keys, clock, ids };
    let (world, store): (Box<dyn World>, _) = match options.kind {
        Kind::Threads { redis: false } => {
            let store = MemoryStore::new(shared.clock.clone(), shared.ids.uuid());
            let ground = Ground::Memory(store.clone());
            (Box::new(Threads::new(shared.clone(), ground, options.wrap)), Some(store))
        }
        Kind::Threads { redis: true } => {
            let ground = Ground::Redis(Mutex::default());
            (Box::new(Threads::new(shared.clone(), ground, options.wrap)), None)
        }
        Kind::Processes { program, redis } => {
            let processes = Processes::new(shared.clone(), program, redis);
            (Box::new(processes.map_err(|e| failed("the nodes' private folder", e))?), None)
        }
    };
    Ok((Common { shared, world, stop: CancellationToken::new() }, store))
}

/// The control thread: `/dev` and one control task a node. Processes are started here, because the
/// kernel takes the end of this thread for the end of their parent.
fn control(
    controls: Vec<(Control, super::member::Commands)>,
    (listener, app): (std::net::TcpListener, axum::Router),
    report: oneshot::Sender<Result<(), FleetError>>,
    common: &Common,
) {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(report.send(Err(failed("the control thread", error)))),
    };
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        let mut outcome = match common.world.begin().await {
            Ok(()) => boot(controls, &mut tasks).await,
            Err(error) => Err(failed("Redis", error)),
        };
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => drop(tasks.spawn(serve(listener, app, common.stop.clone()))),
            Err(error) => outcome = Err(failed("the page", error)),
        }
        // Nobody waits only where starting was given up; then the fleet is being dropped.
        let _ = report.send(outcome);
        common.stop.cancelled().await;
        tasks.join_all().await;
        common.world.end().await;
    });
    runtime.shutdown_background();
}

async fn boot(
    controls: Vec<(Control, super::member::Commands)>,
    tasks: &mut JoinSet<()>,
) -> Result<(), FleetError> {
    let mut outcome = Ok(());
    for (mut control, commands) in controls {
        if let Err(source) = control.boot().await {
            outcome = Err(failed("a node", source));
        }
        tasks.spawn(control.run(commands));
    }
    outcome
}

async fn serve(listener: tokio::net::TcpListener, app: axum::Router, stop: CancellationToken) {
    tokio::select! {
        _ = axum::serve(listener, app) => {}
        () = stop.cancelled() => {}
    }
}

fn in_use(port: u16, role: &str, error: io::Error) -> FleetError {
    match error.kind() {
        io::ErrorKind::AddrInUse => FleetError::PortTaken { port, role: role.to_owned() },
        _ => failed(&format!("{role} on port {port}"), error),
    }
}

fn refused(port: &Port, role: &str, error: io::Error) -> FleetError {
    in_use(port.address().port(), role, error)
}

fn failed(what: &str, source: io::Error) -> FleetError {
    FleetError::Io { what: what.to_owned(), source }
}
