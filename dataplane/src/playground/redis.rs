//! The playground's own Redis, and what `/dev/redis` does to it.

use std::io;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Faults that may wait.
const FAULTS: usize = 16;

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

/// Asks for faults.
#[derive(Clone)]
pub(super) struct RedisSwitch(mpsc::Sender<Order>);

impl RedisSwitch {
    /// The answer resolves when it is done; a pause is done when it has begun.
    pub(super) async fn apply(&self, fault: Fault) -> oneshot::Receiver<()> {
        let (done, answer) = oneshot::channel();
        // Refused only while the fleet stops, and then nothing matters any more.
        let _ = self.0.send((fault, done)).await;
        answer
    }
}

/// A running Redis and the task that holds it.
pub(super) struct RedisTask {
    url: String,
    faults: mpsc::Sender<Order>,
}

impl RedisTask {
    pub(super) async fn start() -> io::Result<Self> {
        let (_faults, _) = mpsc::channel::<Order>(FAULTS);
        Err(io::Error::other("not in this build"))
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn switch(&self) -> RedisSwitch {
        RedisSwitch(self.faults.clone())
    }

    pub(super) async fn end(self) {}
}
