//! One timer for all sockets of a node: idleness, tokens, silence, slots. A task is woken only when
//! its session said that something is due.

use super::{facts, now};
use crate::node::Node;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// How late anything that a session waits for may be.
pub const TICK: Duration = Duration::from_millis(500);

/// Runs until the node stops, then ends every socket.
pub async fn sweep(node: Arc<Node>) {
    tokio::select! {
        () = node.stop.cancelled() => {}
        () = wake_due(&node) => {}
        () = facts::keep_places(&node) => {}
        () = facts::keep_followed(&node) => {}
    }
    node.sockets.end();
}

async fn wake_due(node: &Node) {
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        node.sockets.wake_due(now(node).mono_ms);
    }
}
