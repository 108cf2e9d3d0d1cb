//! One timer for all sockets of a node: idleness, tokens, silence, slots. A task is woken only when
//! its session said that something is due.

use super::facts;
use crate::node::Node;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// How late anything that a session waits for may be.
pub const TICK: Duration = Duration::from_secs(1);

/// Runs until the node stops, then ends every socket.
pub async fn sweep(node: Arc<Node>) {
    tokio::select! {
        () = node.stop.cancelled() => {}
        () = wake_due(&node) => {}
        () = note_draining(&node) => {}
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
        node.sockets.wake_due(node.sockets.mono_ms(node.clock.now()));
    }
}

/// Notes when a drain begins: `drain.lingerMs` counts from there.
async fn note_draining(node: &Node) {
    let mut phase = node.drain.watch();
    loop {
        let now_ms = node.sockets.mono_ms(node.clock.now());
        node.sockets.draining_since(!node.drain.is_serving(), now_ms);
        if phase.changed().await.is_err() {
            // Without phases there is nothing to note; the other timers go on.
            return std::future::pending().await;
        }
    }
}
