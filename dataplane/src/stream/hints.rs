//! Hints of other nodes that concern streams: they only make things faster.

use crate::node::Node;
use std::sync::Arc;
use streamlog::{BusEvent, Target};
use tokio::sync::broadcast::error::RecvError;

/// Listens until the node stops.
pub async fn listen(node: Arc<Node>) {
    let mut hints = node.bus.subscribe();
    loop {
        let hint = tokio::select! {
            () = node.stop.cancelled() => return,
            hint = hints.recv() => hint,
        };
        match hint {
            Ok(hint) if !is_for(hint.to, &node) => {}
            Ok(hint) => {
                // Here alone: whoever listens for sessions gets the same hints once more.
                node.metrics.bus_received(&hint.event);
                heed(&node, &hint.event);
            }
            Err(RecvError::Lagged(lost)) => {
                node.metrics.bus_lost(lost);
                node.streams.look.notify_one();
            }
            Err(RecvError::Closed) => return,
        }
    }
}

fn heed(node: &Node, event: &BusEvent) {
    match event {
        BusEvent::Cancel(stream) => node.streams.nudge(*stream),
        BusEvent::HandOver => node.streams.look.notify_one(),
        BusEvent::Goaway(_) | BusEvent::Close(..) | BusEvent::Broadcast(_) => {}
    }
}

fn is_for(target: Target, node: &Node) -> bool {
    match target {
        Target::All => true,
        Target::Node(incarnation) => incarnation == node.owner.incarnation,
    }
}
