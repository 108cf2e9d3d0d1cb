//! The store came back as another run: what this node owns is written back at once, without waiting
//! for the next append. Live answers come first, each with the request that started it.

use super::accept::KEEP_REQUEST;
use crate::node::Node;
use crate::socket::place_all;
use futures_util::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use streamlog::{Key, LogError, Opening, Space};

/// Streams written back at the same time.
const AT_ONCE: usize = 16;
/// Longest wait between two tries.
const MAX_RETRY: Duration = Duration::from_secs(1);

/// Repairs whenever a renewal found another run of the store, until the node stops.
pub async fn watch(node: Arc<Node>) {
    loop {
        tokio::select! {
            () = node.stop.cancelled() => return,
            () = node.streams.lost.notified() => {}
        }
        let _ = node.stop.run_until_cancelled(repair(&node)).await;
    }
}

async fn repair(node: &Arc<Node>) {
    let held = node.log.held();
    tracing::warn!(streams = held.len(), "the store is another run; writing back what it lost");
    futures_util::stream::iter(held)
        .for_each_concurrent(AT_ONCE, async |opening| write_back(node, &opening).await)
        .await;
    place_all(node).await;
}

async fn write_back(node: &Arc<Node>, opening: &Opening) {
    let mut wait = Duration::from_millis(50);
    loop {
        match write_once(node, opening).await {
            Ok(()) => return,
            Err(LogError::Unavailable { retry }) => {
                tokio::time::sleep(node.ids.jitter(wait.max(retry))).await;
                wait = (wait * 2).min(MAX_RETRY);
            }
            Err(error) => {
                tracing::info!(stream = %opening.message, %error, "not written back");
                return;
            }
        }
    }
}

async fn write_once(node: &Arc<Node>, opening: &Opening) -> Result<(), LogError> {
    match node.log.write_back(opening.message).await {
        Ok(true) => {
            node.metrics.streams_repaired.inc();
        }
        Ok(false) => return Ok(()),
        // The store holds more than this node knows: nothing is lost but perhaps the request.
        Err(LogError::Gap { .. }) => {}
        Err(error) => return Err(error),
    }
    remember_request(node, opening).await
}

/// Nobody else can have started this request: while it was absent it was `Unavailable`.
async fn remember_request(node: &Node, opening: &Opening) -> Result<(), LogError> {
    let Some(id) = &opening.request_id else { return Ok(()) };
    let key = Key::of(Space::Request, &opening.user, id.as_str());
    let Ok(value) = serde_json::to_vec(opening) else { return Ok(()) };
    node.registry.put(&key, value, KEEP_REQUEST).await
}
