//! One boot of one node: its own thread, its own runtime, its own handle of the store. Killing it
//! is as near to SIGKILL as one process allows.

use super::freezer::Freezer;
use crate::node::{Engines, Node, NodeConfig};
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use streamlog::memory::MemoryHandle;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// A killed thread that has not ended by then is left behind; something in it blocks.
const DEATH: Duration = Duration::from_secs(1);

/// What a boot needs besides the node's own configuration.
pub(super) struct Boot {
    pub(super) config: NodeConfig,
    /// The handle under the engines of `config`, whatever is wrapped around it.
    pub(super) handle: MemoryHandle,
    pub(super) data: TcpListener,
    pub(super) admin: TcpListener,
}

/// A node that runs.
pub(super) struct Incarnation {
    pub(super) node: Arc<Node>,
    pub(super) freezer: Arc<Freezer>,
    runtime: Handle,
    handle: MemoryHandle,
    end: CancellationToken,
    ended: oneshot::Receiver<()>,
    thread: JoinHandle<()>,
}

struct Started {
    node: Arc<Node>,
    runtime: Handle,
}

impl Incarnation {
    /// Starts the thread and waits until the node serves.
    pub(super) async fn start(boot: Boot) -> io::Result<Self> {
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
        Ok(Self { node, freezer, runtime, handle, end, ended, thread })
    }

    /// Runs `f` where the node's own tasks run.
    pub(super) fn inside<T>(&self, f: impl FnOnce(&Arc<Node>) -> T) -> T {
        let _context = self.runtime.enter();
        f(&self.node)
    }

    /// First the store: nothing this incarnation does arrives there any more. Then the sockets are
    /// made to end with a reset, then everything is dropped where it stands.
    pub(super) async fn kill(self) {
        self.handle.cut();
        self.node.sockets.kill_switch().set();
        self.end.cancel();
        self.freezer.thaw();
        let name = self.node.owner.node.clone();
        drop(self.node);
        if tokio::time::timeout(DEATH, self.ended).await.is_err() {
            tracing::error!(node = %name, "the thread of a killed node blocks; it is left behind");
        } else if self.thread.join().is_err() {
            tracing::error!(node = %name, "the thread of a node panicked");
        }
    }
}

/// The engines of one handle.
pub(super) fn engines(handle: &MemoryHandle) -> Engines {
    Engines {
        log: Arc::new(handle.clone()),
        directory: Arc::new(handle.clone()),
        registry: Arc::new(handle.clone()),
        bus: Arc::new(handle.clone()),
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
    Ok(node)
}
