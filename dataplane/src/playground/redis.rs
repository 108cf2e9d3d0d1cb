//! The playground's own Redis, and what `/dev/redis` does to it.

use std::io;
use std::sync::Arc;
use std::time::Duration;
use streamlog::redis::server::RedisServer;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep_until};

/// Faults that may wait.
const FAULTS: usize = 16;
/// What must be installed.
const PROGRAM: &str = "redis-server";

/// What can be done to Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// SIGKILL, and an empty one on the same port.
    Restart,
    /// SIGSTOP for a while.
    Pause(Duration),
    /// Every subscriber loses its connection.
    KillPubsub,
}

/// A fault, and what is dropped when it is done.
type Order = (Fault, oneshot::Sender<()>);

/// Asks for faults, and knows where Redis is.
#[derive(Clone)]
pub(super) struct RedisSwitch {
    orders: mpsc::Sender<Order>,
    url: Arc<str>,
}

impl RedisSwitch {
    /// `redis://host:port`, the same over restarts.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The answer resolves when it is done; a pause is done when it has begun.
    pub(super) async fn apply(&self, fault: Fault) -> oneshot::Receiver<()> {
        let (done, answer) = oneshot::channel();
        // Refused only while the fleet stops, and then nothing matters any more.
        let _ = self.orders.send((fault, done)).await;
        answer
    }
}

/// A running Redis and the task that holds it. Dropping it ends Redis.
pub(super) struct RedisTask {
    switch: RedisSwitch,
    tasks: JoinSet<()>,
}

impl RedisTask {
    pub(super) async fn start() -> io::Result<Self> {
        if !is_installed() {
            let hint =
                format!("`{PROGRAM}` is not installed; on Debian: apt-get install -y {PROGRAM}");
            return Err(io::Error::new(io::ErrorKind::NotFound, hint));
        }
        let server = spawn_blocking(RedisServer::start).await.map_err(io::Error::other)??;
        let (faults, orders) = mpsc::channel(FAULTS);
        let (url, mut tasks) = (server.url().into(), JoinSet::new());
        tasks.spawn(hold(server, orders));
        Ok(Self { switch: RedisSwitch { orders: faults, url }, tasks })
    }

    pub(super) fn url(&self) -> &str {
        self.switch.url()
    }

    pub(super) fn switch(&self) -> RedisSwitch {
        self.switch.clone()
    }

    /// Ends Redis; returns when it is gone.
    pub(super) async fn end(mut self) {
        self.tasks.shutdown().await;
    }
}

fn is_installed() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(PROGRAM).is_file())
}

/// One fault after the other; the end of a pause between them.
async fn hold(mut server: RedisServer, mut orders: mpsc::Receiver<Order>) {
    let mut paused_until: Option<Instant> = None;
    loop {
        tokio::select! {
            order = orders.recv() => {
                let Some((fault, _done)) = order else { return };
                paused_until = next_pause(fault, paused_until);
                server = match apply(server, fault).await {
                    Some(server) => server,
                    None => return,
                };
            }
            () = at(paused_until) => {
                paused_until = None;
                report("going on", server.resume());
            }
        }
    }
}

/// A later end replaces an earlier one; a new process is not paused.
fn next_pause(fault: Fault, paused_until: Option<Instant>) -> Option<Instant> {
    match fault {
        Fault::Restart => None,
        Fault::Pause(time) => {
            let end = Instant::now() + time;
            Some(paused_until.map_or(end, |until| until.max(end)))
        }
        Fault::KillPubsub => paused_until,
    }
}

/// The server's own calls block. `None`: the thread was lost, and the server with it.
async fn apply(mut server: RedisServer, fault: Fault) -> Option<RedisServer> {
    let applied = spawn_blocking(move || {
        match fault {
            Fault::Restart => report("restarting", server.restart_empty()),
            Fault::Pause(_) => report("pausing", server.pause()),
            Fault::KillPubsub => {
                report("killing subscribers", server.command("CLIENT KILL TYPE pubsub").map(drop));
            }
        }
        server
    });
    applied.await.ok()
}

fn report(what: &str, outcome: io::Result<()>) {
    if let Err(error) = outcome {
        tracing::error!(%error, "{what} Redis failed");
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
