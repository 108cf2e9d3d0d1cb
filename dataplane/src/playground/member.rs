//! One node of the fleet through all its incarnations, and the one task that does to it what
//! `/dev` asks for, in order.

use super::fleet::Common;
use super::life::{Life, Vitals};
use super::ports::Port;
use protocol::NodeName;
use protocol::dev::{DevNode, NodePhase};
use protocol::drain::DrainRequest;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Commands that may wait for one node; a caller waits beyond that.
const COMMANDS: usize = 64;

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

/// Where a node lives, whatever its incarnation.
pub(super) struct Place {
    /// Counted from 0.
    pub(super) at: usize,
    pub(super) name: NodeName,
    pub(super) data: Port,
    pub(super) admin: Port,
}

/// A node's place and state, for whoever asks.
pub(super) struct Member {
    pub(super) place: Place,
    alive: Mutex<Option<Arc<dyn Life>>>,
    commands: mpsc::Sender<Request>,
}

/// The receiving end of a member's commands.
pub(super) struct Commands(mpsc::Receiver<Request>);

impl Member {
    pub(super) fn new(at: usize, data: Port, admin: Port) -> (Arc<Self>, Commands) {
        let name = NodeName::new(&format!("node-{}", at + 1));
        let (commands, queue) = mpsc::channel(COMMANDS);
        let place = Place { at, name, data, admin };
        (Arc::new(Self { place, alive: Mutex::new(None), commands }), Commands(queue))
    }

    /// Hands a command over; the answer resolves when it is done.
    pub(super) async fn command(&self, command: Command) -> oneshot::Receiver<()> {
        let (done, answer) = oneshot::channel();
        // Refused only while the fleet stops, and then nothing matters any more.
        let _ = self.commands.send(Request { command, _done: done }).await;
        answer
    }

    /// One of `GET /dev/nodes`.
    pub(super) async fn view(&self) -> DevNode {
        let life = self.life();
        let vitals = match life {
            Some(life) => life.vitals().await,
            None => Vitals::DEAD,
        };
        DevNode {
            name: self.place.name.to_string(),
            base_url: self.base_url(),
            ws_url: format!("ws://{}/ws/chat", self.place.data.address()),
            admin_url: self.admin_url(),
            phase: vitals.phase,
            sessions: vitals.sessions,
            streams: vitals.streams,
        }
    }

    pub(super) fn base_url(&self) -> String {
        format!("http://{}", self.place.data.address())
    }

    pub(super) fn admin_url(&self) -> String {
        format!("http://{}", self.place.admin.address())
    }

    fn life(&self) -> Option<Arc<dyn Life>> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<dyn Life>>> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task of one member.
pub(super) struct Control {
    member: Arc<Member>,
    common: Arc<Common>,
    /// A draining node is to start again once it is done.
    start_after_drain: bool,
}

impl Control {
    pub(super) fn new(member: Arc<Member>, common: Arc<Common>) -> Self {
        Self { member, common, start_after_drain: false }
    }

    /// Obeys until the fleet stops, then kills the node.
    pub(super) async fn run(mut self, mut commands: Commands) {
        loop {
            let life = self.member.life();
            tokio::select! {
                biased;
                () = self.common.stop.cancelled() => break,
                request = commands.0.recv() => match request {
                    Some(request) => self.obey(request.command).await,
                    None => break,
                },
                () = drained(life.as_deref()), if self.start_after_drain => {
                    self.start_again().await;
                }
            }
        }
        self.kill().await;
    }

    async fn obey(&mut self, command: Command) {
        match (command, self.member.life()) {
            (Command::Kill, _) => self.kill().await,
            (Command::Start, None) => self.boot_or_say_why().await,
            (Command::Start, Some(life)) => {
                life.go_on();
                match life.vitals().await.phase {
                    NodePhase::Serving => {}
                    NodePhase::Dead => self.start_over().await,
                    _ => self.start_after_drain = true,
                }
            }
            (Command::Drain(request), Some(life)) => life.drain(request).await,
            (Command::Pause(duration), Some(life)) => life.pause(duration),
            (Command::Drain(_) | Command::Pause(_), None) => {}
        }
    }

    async fn start_again(&mut self) {
        self.start_after_drain = false;
        if let Some(life) = self.member.life()
            && life.vitals().await.phase == NodePhase::Serving
        {
            // The drain was called off.
            return;
        }
        self.start_over().await;
    }

    async fn start_over(&mut self) {
        self.kill().await;
        self.boot_or_say_why().await;
    }

    async fn kill(&mut self) {
        self.start_after_drain = false;
        let life = self.member.lock().take();
        if let Some(life) = life {
            life.kill().await;
        }
    }

    async fn boot_or_say_why(&mut self) {
        if let Err(error) = self.boot().await {
            tracing::error!(node = %self.member.place.name, %error, "the node stays dead");
        }
    }

    /// Starts a new incarnation under the same name, on the same ports.
    pub(super) async fn boot(&mut self) -> io::Result<()> {
        let life = self.common.world.boot(&self.member.place).await?;
        *self.member.lock() = Some(life);
        Ok(())
    }
}

async fn drained(life: Option<&dyn Life>) {
    if let Some(life) = life {
        life.drained().await;
    }
}
