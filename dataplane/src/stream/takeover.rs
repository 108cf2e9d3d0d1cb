//! Finds orphans and takes them over.

use crate::node::Node;
use std::sync::Arc;

/// Looks for orphans until the node stops.
pub async fn watch(node: Arc<Node>) {
    node.stop.cancelled().await;
}
