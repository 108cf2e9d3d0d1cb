//! How a node process ends: what signals ask for, and what is said and closed at the end.

use super::store::Store;
use crate::drain::Termination;
use crate::node::Node;
use protocol::DrainPhase;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{sleep, timeout};

/// After the drain's own budget a process that still waits for something ends anyway.
const GRACE: Duration = Duration::from_secs(2);
/// The same after a second signal: with what closing takes, 3 s in all.
const HURRY: Duration = Duration::from_millis(2_600);
/// The last spans have this long to reach their collector; nothing else waits for them.
pub(super) const FLUSH: Duration = Duration::from_secs(2);
/// The same after a second signal, and where nobody is left to be polite to.
pub(super) const HURRIED_FLUSH: Duration = Duration::from_millis(100);
/// Tasks that were told to stop have this long.
const STOP: Duration = Duration::from_millis(200);

/// SIGTERM of a supervisor, SIGINT of a terminal.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Serves until a signal, then drains; a second signal makes it quick. How long the last spans have.
pub(super) async fn until_the_end(node: &Arc<Node>, mut signals: Signals) -> Duration {
    signals.next().await;
    let budget = Duration::from_millis(node.settings.drain.sigterm_ms);
    tracing::info!(node = %node.owner.node, ?budget, "told to end; once more makes it quick");
    node.terminate(Termination::Gently);
    tokio::select! {
        () = drained(node) => return FLUSH,
        () = sleep(budget + GRACE) => {
            tracing::warn!(node = %node.owner.node, "the drain did not end in time");
            return FLUSH;
        }
        () = signals.next() => {}
    }
    tracing::info!(node = %node.owner.node, "told to end at once");
    node.terminate(Termination::AtOnce);
    let _ = timeout(HURRY, drained(node)).await;
    HURRIED_FLUSH
}

async fn drained(node: &Node) {
    // The sender lives in the node.
    let _ = node.drain.watch().wait_for(|phase| *phase == DrainPhase::Done).await;
}

/// Resolves when standard input has ended; never where nobody asked.
pub(super) async fn stdin_ended(asked: bool) {
    if !asked {
        return std::future::pending().await;
    }
    let mut input = tokio::io::stdin();
    let mut ignored = [0; 64];
    while !matches!(input.read(&mut ignored).await, Ok(0) | Err(_)) {}
}

/// Ends every task, the store's last.
pub(super) async fn close(node: &Arc<Node>, store: &Store) {
    node.stop.cancel();
    store.stop();
    node.tasks.close();
    let _ = timeout(STOP, node.tasks.wait()).await;
}
