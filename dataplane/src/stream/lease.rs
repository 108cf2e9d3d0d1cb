//! Keeps the node's lease: the one sign of life other nodes go by.

use crate::node::Node;
use std::sync::Arc;
use std::time::Duration;
use streamlog::LogError;
use streamlog::directory::NodeStats;
use tokio::time::MissedTickBehavior;

/// Renews until the node stops or has given its lease up, sooner where somebody asks how it is.
pub async fn keep(node: Arc<Node>) {
    let every = Duration::from_millis(node.settings.ownership.renew_ms);
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = node.stop.cancelled() => return,
            _ = ticks.tick() => {}
            () = node.speak.notified() => {}
        }
        if node.drain.gave_up_lease() {
            return;
        }
        renew(&node, every).await;
    }
}

async fn renew(node: &Node, patience: Duration) {
    let ttl = Duration::from_millis(node.settings.ownership.lease_ms);
    let sent = node.clock.now();
    let stats = NodeStats {
        accepting: node.drain.is_serving(),
        sessions: node.sockets.len(),
        streams: node.streams.len(),
    };
    let renewal = node.directory.renew(&node.owner, ttl, &stats);
    match tokio::time::timeout(patience, renewal).await {
        Ok(Ok(renewal)) if !node.drain.gave_up_lease() => {
            node.metrics.lease_renewed(true);
            node.lease.renewed(sent, ttl);
            // The lease first: what is written back needs a living owner.
            if node.contact().succeeded(node.clock.now(), renewal.run, ttl) {
                node.streams.lost.notify_one();
            }
        }
        Ok(Ok(_)) => {}
        Ok(Err(error)) => lost(node, &error.to_string()),
        Err(_) => lost(node, "no answer"),
    }
}

fn lost(node: &Node, why: &str) {
    node.contact().failed();
    node.metrics.lease_renewed(false);
    tracing::warn!(node = %node.owner.node, why, "lease not renewed; live streams pause if this lasts");
}

/// Gives the lease up: what this node still owns is orphaned at once.
///
/// # Errors
/// `Unavailable`; the lease then ends by itself.
pub async fn release(node: &Node) -> Result<(), LogError> {
    node.lease.released();
    node.directory.release(&node.owner).await
}
