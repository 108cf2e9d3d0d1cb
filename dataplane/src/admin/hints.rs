//! Hints about sessions and nodes: whatever node an operator asked, the one that is meant acts.

use super::control::close_code;
use crate::broadcast;
use crate::node::Node;
use crate::socket::{Control, SocketHandle};
use protocol::{CloseCode, SessionId};
use std::sync::{Arc, Weak};
use std::time::Duration;
use streamlog::bus::Hint;
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
            Ok(hint) if is_for(&node, &hint) => heed(&node, hint),
            Ok(_) => {}
            Err(RecvError::Lagged(lost)) => {
                node.metrics.bus_lost(lost);
                tracing::warn!(lost, "hints about sessions were lost");
            }
            Err(RecvError::Closed) => return,
        }
    }
}

fn is_for(node: &Node, hint: &Hint) -> bool {
    match hint.to {
        Target::All => true,
        Target::Node(incarnation) => incarnation == node.owner.incarnation,
    }
}

fn heed(node: &Arc<Node>, hint: Hint) {
    match hint.event {
        BusEvent::Goaway(session) => move_on(node, session),
        BusEvent::Close(session, number) => {
            if let Some(code) = close_code(number) {
                tell(node, session, &Control::Close(code));
            }
        }
        BusEvent::Broadcast(text) => broadcast::heed(node, &text),
        BusEvent::Cancel(_) | BusEvent::HandOver => {}
    }
}

/// The session's sockets are told to move at once, and closed if they stay.
fn move_on(node: &Arc<Node>, session: SessionId) {
    let patience = Duration::from_millis(node.settings.drain.ignore_ms);
    let deadline_ms = node.settings.drain.ignore_ms;
    let goaway = Control::Goaway { reason: "rebalance", deadline_ms, reconnect_after_ms: 0 };
    let sockets = tell(node, session, &goaway);
    if sockets.is_empty() {
        return;
    }
    let stop = node.stop.clone();
    node.tasks.spawn(stop.run_until_cancelled_owned(async move {
        tokio::time::sleep(patience).await;
        // Only those that were told: a newer socket of the session has done nothing wrong.
        for socket in sockets.iter().filter_map(Weak::upgrade) {
            socket.tell(Control::Close(CloseCode::Rebalanced));
        }
    }));
}

fn tell(node: &Node, session: SessionId, control: &Control) -> Vec<Weak<SocketHandle>> {
    let sockets = node.sockets.of_session(session);
    for socket in &sockets {
        socket.tell(control.clone());
    }
    sockets.iter().map(Arc::downgrade).collect()
}
