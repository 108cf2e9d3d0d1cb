//! One node of the fleet through all its incarnations, and the one task that does to it what
//! `/dev` asks for, in order.

use super::fleet::Common;
use super::incarnation::{Boot, Incarnation, engines};
use super::ports::Port;
use crate::node::{Node, NodeConfig};
use crate::upstream::simulated::Simulated;
use protocol::dev::{DevNode, NodePhase};
use protocol::drain::DrainRequest;
use protocol::{DrainPhase, Incarnation as IncarnationId, NodeName};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use streamlog::log::Owner;
use tokio::sync::{mpsc, oneshot};

/// Commands that may wait for one node; a caller waits beyond that.
const COMMANDS: usize = 64;
/// After the deadline of its drain a node that is to start again has this long to close its sockets.
const DRAIN_GRACE: Duration = Duration::from_secs(2);

/// What can be done to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Kill,
    Drain(DrainRequest),
    Start,
    Pause(Duration),
}

struct Request {
    command: Command,
    /// Dropped when the command is done.
    _done: oneshot::Sender<()>,
}

/// A node's name, ports and state, for whoever asks.
pub(super) struct Member {
    pub(super) at: usize,
    pub(super) name: NodeName,
    pub(super) data: Port,
    pub(super) admin: Port,
    alive: Mutex<Option<Alive>>,
    commands: mpsc::Sender<Request>,
}

/// What is asked of a running incarnation.
#[derive(Clone)]
struct Alive {
    node: Arc<Node>,
    freezer: Arc<super::freezer::Freezer>,
}

/// The receiving end of a member's commands.
pub(super) struct Commands(mpsc::Receiver<Request>);

impl Member {
    pub(super) fn new(at: usize, data: Port, admin: Port) -> (Arc<Self>, Commands) {
        let name = NodeName::new(&format!("node-{}", at + 1));
        let (commands, queue) = mpsc::channel(COMMANDS);
        let member = Self { at, name, data, admin, alive: Mutex::new(None), commands };
        (Arc::new(member), Commands(queue))
    }

    /// Hands a command over; the answer resolves when it is done.
    pub(super) async fn command(&self, command: Command) -> oneshot::Receiver<()> {
        let (done, answer) = oneshot::channel();
        // Refused only while the fleet stops, and then nothing matters any more.
        let _ = self.commands.send(Request { command, _done: done }).await;
        answer
    }

    /// One of `GET /dev/nodes`.
    pub(super) fn view(&self) -> DevNode {
        let alive = self.lock().clone();
        let count = |f: fn(&Node) -> usize| alive.as_ref().map_or(0, |alive| f(&alive.node));
        DevNode {
            name: self.name.to_string(),
            base_url: self.base_url(),
            ws_url: format!("ws://{}/ws/chat", self.data.address()),
            admin_url: format!("http://{}", self.admin.address()),
            phase: self.phase(),
            sessions: count(|node| node.sockets.len()),
            streams: count(|node| node.streams.len()),
        }
    }

    pub(super) fn base_url(&self) -> String {
        format!("http://{}", self.data.address())
    }

    pub(super) fn phase(&self) -> NodePhase {
        match &*self.lock() {
            None => NodePhase::Dead,
            Some(alive) if alive.freezer.is_frozen() => NodePhase::Paused,
            Some(alive) => alive.node.drain.phase().into(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Alive>> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task of one member.
pub(super) struct Control {
    member: Arc<Member>,
    common: Arc<Common>,
    running: Option<Incarnation>,
    /// A draining node is to start again once it is done.
    start_after_drain: bool,
}

impl Control {
    pub(super) fn new(member: Arc<Member>, common: Arc<Common>) -> Self {
        Self { member, common, running: None, start_after_drain: false }
    }

    /// Obeys until the fleet stops, then kills the node.
    pub(super) async fn run(mut self, mut commands: Commands) {
        loop {
            tokio::select! {
                biased;
                () = self.common.stop.cancelled() => break,
                request = commands.0.recv() => match request {
                    Some(request) => self.obey(request.command).await,
                    None => break,
                },
                () = drained(self.running.as_ref()), if self.start_after_drain => {
                    self.start_again().await;
                }
            }
        }
        self.kill().await;
    }

    async fn obey(&mut self, command: Command) {
        match (command, &self.running) {
            (Command::Kill, _) => self.kill().await,
            (Command::Start, None) => self.boot_or_say_why().await,
            (Command::Start, Some(running)) => {
                running.freezer.thaw();
                self.start_after_drain = running.node.drain.phase() != DrainPhase::Serving;
            }
            (Command::Drain(request), Some(running)) => drain(running, request),
            (Command::Pause(duration), Some(running)) => running.freezer.freeze(duration),
            (Command::Drain(_) | Command::Pause(_), None) => {}
        }
    }

    async fn start_again(&mut self) {
        self.start_after_drain = false;
        let called_off = |running: &Incarnation| running.node.drain.is_serving();
        if self.running.as_ref().is_some_and(called_off) {
            return;
        }
        self.kill().await;
        self.boot_or_say_why().await;
    }

    async fn kill(&mut self) {
        self.start_after_drain = false;
        if let Some(running) = self.running.take() {
            *self.member.lock() = None;
            running.kill().await;
        }
    }

    async fn boot_or_say_why(&mut self) {
        if let Err(error) = self.boot().await {
            tracing::error!(node = %self.member.name, %error, "the node stays dead");
        }
    }

    /// Starts a new incarnation under the same name, on the same ports.
    pub(super) async fn boot(&mut self) -> io::Result<()> {
        let (member, common) = (&self.member, &self.common);
        let incarnation = IncarnationId(common.ids.uuid());
        let owner = Owner { node: member.name.clone(), incarnation };
        let handle = common.store.handle(owner.clone());
        let upstream =
            Simulated::new(common.calls.clone(), common.clock.clone(), member.name.clone());
        let config = NodeConfig {
            owner,
            settings: common.settings.clone(),
            keys: common.keys.clone(),
            engines: (common.wrap)(member.at, engines(&handle)),
            upstream: Arc::new(upstream),
            clock: common.clock.clone(),
            ids: common.ids.clone(),
        };
        let (data, admin) = (member.data.listen()?, member.admin.listen()?);
        let running = Incarnation::start(Boot { config, handle, data, admin }).await?;
        *member.lock() =
            Some(Alive { node: running.node.clone(), freezer: running.freezer.clone() });
        self.running = Some(running);
        Ok(())
    }
}

/// The playground's drains carry no epoch of their own, so none is stale.
fn drain(running: &Incarnation, mut request: DrainRequest) {
    running.inside(|node| {
        request.epoch = request.epoch.max(node.drain_report().epoch);
        if let Err(code) = node.start_drain(&request) {
            tracing::warn!(node = %node.owner.node, %code, "drain refused");
        }
    });
}

/// Waits until a drain is over, was called off, or is overdue.
async fn drained(running: Option<&Incarnation>) {
    let Some(running) = running else { return };
    let mut phase = running.node.drain.watch();
    let left = running.node.drain_report().remaining_ms.unwrap_or_default();
    let over = phase.wait_for(|phase| matches!(phase, DrainPhase::Done | DrainPhase::Serving));
    let overdue = Duration::from_millis(left).saturating_add(DRAIN_GRACE);
    let _ = tokio::time::timeout(overdue, over).await;
}
